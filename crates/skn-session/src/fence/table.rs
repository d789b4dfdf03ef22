//! All columns of a Parquet file, read by a child process: a line of JSON for each row.

use std::ffi::OsString;
use std::fs::metadata;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use skn_artifact::ErrorKind;
use skn_data::{DataError, Field, TableReceiver, read_parquet_table};
use skn_probing::Progress;

use super::child::{Child, MARKER, UP, broken_pipe};
use super::limits::{LIMITS, Limits, data_memory, seconds};
use crate::error::{Result, SessionError};
use crate::options::Size;

/// What the child is asked for.
pub(super) const TABLE: &str = "table";

/// A line between child and parent.
#[derive(Serialize, Deserialize)]
enum Line {
    /// The names of the columns, and the bytes that they unpack to.
    Columns(Vec<String>, u64),
    Row(Vec<Cell>),
    /// The file is wrong.
    Wrong(String),
    End,
}

/// A [`Field`]. Numbers are sent as text: read as JSON, they would be other numbers.
#[derive(Serialize, Deserialize)]
enum Cell {
    #[serde(rename = "t")]
    Text(String),
    #[serde(rename = "j")]
    Json(String),
    #[serde(rename = "n")]
    Null,
}

impl From<Field> for Cell {
    fn from(field: Field) -> Self {
        match field {
            Field::Text(text) => Self::Text(text),
            Field::Json(json) => Self::Json(json),
            Field::Null => Self::Null,
        }
    }
}

impl From<Cell> for Field {
    fn from(cell: Cell) -> Self {
        match cell {
            Cell::Text(text) => Self::Text(text),
            Cell::Json(json) => Self::Json(json),
            Cell::Null => Self::Null,
        }
    }
}

/// A piece of a table.
pub(crate) enum Part {
    Columns(Vec<String>),
    Row(Vec<Field>),
}

/// Reads a Parquet file behind the fence, whose columns `texts` must hold strings. `take` says whether more is wanted.
///
/// # Errors
/// If the file is missing, damaged, has no strings there or breaks a limit, or there can be no child process.
pub(crate) fn read_table(
    path: &Path,
    texts: &[String],
    progress: &dyn Progress,
    take: &mut (dyn FnMut(Part) -> bool + Send),
) -> Result<()> {
    if UP.get().is_none() {
        let read = read_parquet_table(path, texts, &mut Here { take });
        return match read {
            Err(DataError::Io { file, .. }) if file == ENOUGH => Ok(()),
            read => Ok(read?),
        };
    }
    let mut words = vec![OsString::from(TABLE), path.into()];
    words.extend(texts.iter().map(OsString::from));
    let mut child = Child::start(MARKER, &words)?;
    let (mut bytes, mut wrong, mut ended) = (0, None, false);
    let read = child.read(progress, |pipe| -> io::Result<()> {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = serde_json::from_str(&line?) else { return Ok(()) };
            let part = match line {
                Line::Columns(names, unpacked) => {
                    bytes = unpacked;
                    Part::Columns(names)
                }
                Line::Row(values) => Part::Row(values.into_iter().map(Field::from).collect()),
                Line::Wrong(reason) => {
                    wrong = Some(reason);
                    return Ok(());
                }
                Line::End => {
                    ended = true;
                    return Ok(());
                }
            };
            if !take(part) {
                ended = true;
                return Ok(());
            }
        }
        Ok(())
    })?;
    match (read, wrong) {
        (_, Some(reason)) => Err(SessionError::Input(reason)),
        (Err(error), None) if error.kind() != io::ErrorKind::InvalidData => {
            Err(broken_pipe("read from", &error))
        }
        (Ok(()), None) if ended => Ok(()),
        _ => {
            let length = metadata(path).map_or(0, |file| file.len());
            let memory = data_memory(bytes.max(length), Size::DATA.0);
            Err(child.end(progress).failure(&path.display().to_string(), seconds(length), memory))
        }
    }
}

/// What an error calls a receiver that wants no more.
const ENOUGH: &str = "enough";

/// Takes a table in this process.
struct Here<'t> {
    take: &'t mut (dyn FnMut(Part) -> bool + Send),
}

impl Here<'_> {
    fn give(&mut self, part: Part) -> skn_data::Result<()> {
        match (self.take)(part) {
            true => Ok(()),
            false => {
                let source = io::ErrorKind::BrokenPipe.into();
                Err(DataError::Io { file: ENOUGH.to_owned(), source })
            }
        }
    }
}

impl TableReceiver for Here<'_> {
    fn columns(&mut self, names: Vec<String>, _bytes: u64) -> skn_data::Result<()> {
        self.give(Part::Columns(names))
    }

    fn row(&mut self, fields: Vec<Field>) -> skn_data::Result<()> {
        self.give(Part::Row(fields))
    }
}

/// In the child: reads what the parent asks for, and sends it.
pub(super) fn send_table(path: &Path, texts: &[String], limits: Limits) -> io::Result<()> {
    let length = metadata(path).map_or(0, |file| file.len());
    limits.set(seconds(length), data_memory(length, Size::DATA.0))?;
    let mut sender = Sender { to: BufWriter::new(io::stdout()), limits, length };
    match read_parquet_table(path, texts, &mut sender) {
        Ok(()) => sender.send(&Line::End)?,
        Err(DataError::Io { file, source }) if [PIPE, LIMITS].contains(&file.as_str()) => {
            return Err(io::Error::new(source.kind(), format!("{file}: {source}")));
        }
        Err(error) if error.kind() == ErrorKind::Failed => return Err(io::Error::other(error)),
        Err(error) => sender.send(&Line::Wrong(error.to_string()))?,
    }
    sender.to.flush()
}

/// What an error calls the pipe to the parent.
const PIPE: &str = "the pipe of a reader";

/// Sends a table, and lets the limits grow with it.
struct Sender<W> {
    to: W,
    limits: Limits,
    length: u64,
}

impl<W: Write> Sender<W> {
    fn send(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.to, line)?;
        self.to.write_all(b"\n")
    }
}

impl<W: Write> TableReceiver for Sender<W> {
    fn columns(&mut self, names: Vec<String>, bytes: u64) -> skn_data::Result<()> {
        let allowed =
            self.limits.set(seconds(self.length), data_memory(bytes.max(self.length), Size::DATA.0));
        allowed.map_err(|source| DataError::Io { file: LIMITS.to_owned(), source })?;
        let sent = self.send(&Line::Columns(names, bytes));
        sent.map_err(|source| DataError::Io { file: PIPE.to_owned(), source })
    }

    fn row(&mut self, fields: Vec<Field>) -> skn_data::Result<()> {
        let sent = self.send(&Line::Row(fields.into_iter().map(Cell::from).collect()));
        sent.map_err(|source| DataError::Io { file: PIPE.to_owned(), source })
    }
}
