//! Records that are to be answered, read by a thread of its own.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

use skn_artifact::open_regular;
use skn_data::{BadRecord, CsvLayout, Field, Record, RecordFormat, RecordReader};
use skn_probing::Progress;

use super::classify::Classifier;
use crate::error::{Result, SessionError};
use crate::fence::{self, Part};
use crate::options::Predict;

/// Where records come from.
pub enum Records {
    /// A file.
    File(PathBuf),
    /// Anything that is read to its end, with what messages call it.
    Stream(String, Box<dyn Read + Send>),
}

impl Records {
    /// The same, with a count of the bytes that were read of a file. That of a table is not known.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub(super) fn counted(self, format: RecordFormat, bytes: &Arc<AtomicU64>) -> Result<Self> {
        match self {
            Self::File(path) if format != RecordFormat::Parquet => {
                let file = Counted { file: open(&path)?, bytes: Arc::clone(bytes) };
                Ok(Self::Stream(path.display().to_string(), Box::new(file)))
            }
            other => Ok(other),
        }
    }

    /// What messages call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stream(name, _) => name.clone(),
        }
    }
}

/// Records that were read and nobody has taken yet, at most: each may be as long as a line may.
pub(super) const READ_AHEAD: usize = 16;

/// The bytes of a record, about.
pub(super) fn bytes_of(record: &Record) -> usize {
    let of_field = |field: &Field| match field {
        Field::Text(text) | Field::Json(text) => text.len(),
        Field::Null => 0,
    };
    record.fields.iter().map(of_field).sum::<usize>() + record.object.as_ref().map_or(0, String::len)
}

/// What comes from the thread that reads.
pub(super) enum Came {
    Record(std::result::Result<Record, BadRecord>),
    /// All records came.
    End,
    Failed(SessionError),
}

/// How records are read.
#[derive(Clone)]
pub(super) struct Form {
    pub(super) format: RecordFormat,
    layout: CsvLayout,
    /// The columns of the texts.
    pub(super) columns: Vec<String>,
    /// Whether an option names them.
    pub(super) are_named: bool,
}

impl Form {
    pub(super) fn of(classifier: &Classifier<'_>, options: &Predict, records: &Records) -> Result<Self> {
        let usual = match records {
            Records::File(path) => RecordFormat::of_path(path),
            Records::Stream(..) => RecordFormat::Text,
        };
        let format = options.input_format.unwrap_or(usual);
        let (of_task, named) = (classifier.columns(), &options.columns);
        if !named.is_empty() && format == RecordFormat::Text {
            return Err(SessionError::usage(format!(
                "option `columns` {}: lines of text have no columns; option `input_format` csv or jsonl says that they are others",
                named.join(",")
            )));
        }
        if !named.is_empty() && named.len() != of_task.len().max(1) {
            let expected = match of_task.len() {
                0 | 1 => "one column".to_owned(),
                many => format!("{many} columns (for {})", of_task.join(", ")),
            };
            return Err(SessionError::usage(format!(
                "option `columns` {}: task {}: expected {expected}, found {}",
                named.join(","),
                classifier.task().name,
                named.len()
            )));
        }
        if let (RecordFormat::Parquet, Records::Stream(name, _)) = (format, records) {
            return Err(SessionError::usage(format!(
                "{name}: Parquet is read from a file, not from a stream"
            )));
        }
        let delimiter = match options.delimiter {
            None => None,
            Some(letter) => Some(delimiter(letter, format)?),
        };
        let task = classifier.task();
        let of_name = match records {
            Records::File(path) if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("tsv")) => {
                b'\t'
            }
            _ => b',',
        };
        let usual = task.delimiter.and_then(|letter| u8::try_from(letter).ok()).unwrap_or(of_name);
        let columns = if named.is_empty() { of_task.to_vec() } else { named.clone() };
        let names = (!task.header).then(|| task.columns.clone());
        let layout = CsvLayout { delimiter, usual, names, wanted: columns.clone() };
        Ok(Self { format, layout, columns, are_named: !named.is_empty() })
    }

    /// In a thread of its own: reads records until their end, or until nobody wants more.
    pub(super) fn read(self, records: Records, progress: &dyn Progress, send: &SyncSender<Came>) {
        let read = match (records, self.format) {
            (Records::File(path), RecordFormat::Parquet) => read_table(&path, &self.columns, progress, send),
            (Records::File(path), _) => open(&path).map(|file| self.read_stream(file, send)),
            (Records::Stream(_, stream), _) => {
                self.read_stream(stream, send);
                Ok(())
            }
        };
        let last = read.map_or_else(Came::Failed, |()| Came::End);
        // Nobody waits for it any more where that fails.
        send.send(last).ok();
    }

    fn read_stream(self, stream: impl Read, send: &SyncSender<Came>) {
        let records = RecordReader::new(self.format, BufReader::with_capacity(1 << 16, stream), self.layout);
        for record in records {
            if send.send(Came::Record(record)).is_err() {
                break;
            }
        }
    }
}

fn open(path: &Path) -> Result<File> {
    open_regular(path).map_err(|error| {
        SessionError::input(format!("{}: {error}; expected a file of texts", path.display()))
    })
}

/// A file that counts what is read of it.
struct Counted {
    file: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn read_table(path: &Path, texts: &[String], progress: &dyn Progress, send: &SyncSender<Came>) -> Result<()> {
    let (mut columns, mut row): (Arc<[String]>, u64) = (Vec::new().into(), 0);
    fence::read_table(path, texts, progress, &mut |part| match part {
        Part::Columns(names) => {
            columns = names.into();
            true
        }
        Part::Row(fields) => {
            row += 1;
            let record = Record { line: row, columns: Arc::clone(&columns), fields, object: None };
            send.send(Came::Record(Ok(record))).is_ok()
        }
    })
}

fn delimiter(letter: char, format: RecordFormat) -> Result<u8> {
    let wrong = |said: &str| Err(SessionError::usage(format!("option `delimiter` {letter:?}: {said}")));
    match u8::try_from(letter) {
        _ if format != RecordFormat::Csv => wrong("goes with CSV alone"),
        Ok(byte) if letter.is_ascii_punctuation() && letter != '"' || matches!(letter, '\t' | ' ') => {
            Ok(byte)
        }
        _ => wrong("expected a tab, a blank or a sign of ASCII, and no quote"),
    }
}
