//! A data set on its way from the process that reads it to the one that uses it.
//!
//! Frames, each a tag and its fields, all numbers little-endian:
//!
//! | tag | fields |
//! |---|---|
//! | `S` | a split begins: length of its name u32, name |
//! | `F` | a file begins: its bytes u64, bytes when unpacked u64, length of its name u32, name; may be said again |
//! | `R` | rows: their number u32, bytes of all their texts u64; for each row label i64, and for each column of the task the length of its text u32; the texts |
//! | `N` | something to tell: length of the message u32, message |
//! | `E` | reading failed: kind of error u8, length of the message u32, message; the last frame |
//! | `.` | the end: number of all rows u64; the last frame |

// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use std::io::{self, Read, Write};
use std::mem::take;
use std::path::Path;

use skn_artifact::ArtifactError;

use crate::dataset::{Dataset, Example};
use crate::error::{DataError, Result};
use crate::frame::Frame;
use crate::rows::{Receiver, Row, check_length};
use crate::stored_rows::{RowStore, StoredRows};
use crate::task::Task;

/// Rows are sent when their texts have as many bytes,
const FRAME_BYTES: usize = 1 << 17;
/// or when there are as many.
const FRAME_ROWS: usize = 1 << 11;
/// Names and messages are not longer.
const MOST_NAME: u32 = 1 << 20;
/// Things to tell are not more.
const MOST_NOTES: usize = 1000;

/// What the errors of a [`RowWriter`] that can't write name in place of a file.
pub const PIPE: &str = "pipe to the program";

/// Sends a data set: give it to [`read_dataset_to`](crate::read_dataset_to).
///
/// ```
/// use skn_data::{RowReader, RowWriter, Task, read_dataset, read_dataset_to};
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("train.csv");
/// std::fs::write(&file, "sentence,label\na dull song,0\nso good,1\n")?;
/// let task = Task::builtin("sst2")?;
/// let mut pipe = Vec::new();
/// let mut writer = RowWriter::new(&mut pipe);
/// read_dataset_to(&file, &task, &mut writer)?;
/// writer.finish()?;
/// let received = RowReader::new(&pipe[..], &task, 1 << 20).read().unwrap();
/// assert_eq!(received, read_dataset(&file, &task)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RowWriter<W> {
    out: W,
    file: (String, u64),
    rows: u64,
    pending: u32,
    heads: Vec<u8>,
    texts: Vec<u8>,
    notes: usize,
}

impl<W: Write> RowWriter<W> {
    /// Sends to `out`, which need not be buffered.
    pub fn new(out: W) -> Self {
        Self {
            out,
            file: Default::default(),
            rows: 0,
            pending: 0,
            heads: Vec::new(),
            texts: Vec::new(),
            notes: 0,
        }
    }

    /// Says that this was all.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn finish(mut self) -> Result<()> {
        self.send_rows()?;
        let rows = self.rows;
        self.send(&[b".", &rows.to_le_bytes()])
    }

    /// Says that reading failed; `kind` is a number whose meaning sender and receiver know.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn fail(mut self, kind: u8, message: &str) -> Result<()> {
        self.send_rows()?;
        let message = cut(message);
        self.send(&[b"E", &[kind], &length(message)?, message])
    }

    fn send_rows(&mut self) -> Result<()> {
        if self.pending == 0 {
            return Ok(());
        }
        let (heads, texts) = (take(&mut self.heads), take(&mut self.texts));
        let rows = take(&mut self.pending).to_le_bytes();
        self.send(&[b"R", &rows, &(texts.len() as u64).to_le_bytes(), &heads, &texts])?;
        (self.heads, self.texts) = (heads, texts);
        self.heads.clear();
        self.texts.clear();
        Ok(())
    }

    fn send_file(&mut self, unpacked: u64) -> Result<()> {
        let (name, bytes) = take(&mut self.file);
        let length = length(name.as_bytes())?;
        self.send(&[b"F", &bytes.to_le_bytes(), &unpacked.to_le_bytes(), &length, name.as_bytes()])?;
        self.file = (name, bytes);
        Ok(())
    }

    fn send(&mut self, parts: &[&[u8]]) -> Result<()> {
        let wrong = |source| DataError::Io { file: PIPE.to_owned(), source };
        parts.iter().try_for_each(|part| self.out.write_all(part)).map_err(wrong)?;
        self.out.flush().map_err(wrong)
    }
}

impl<W: Write> Receiver for RowWriter<W> {
    fn split(&mut self, name: &str) -> Result<()> {
        self.send_rows()?;
        self.send(&[b"S", &length(name.as_bytes())?, name.as_bytes()])
    }

    fn file(&mut self, name: &str, bytes: u64) -> Result<()> {
        self.send_rows()?;
        self.file = (name.to_owned(), bytes);
        self.send_file(bytes)
    }

    fn unpacked(&mut self, bytes: u64) -> Result<()> {
        self.send_rows()?;
        self.send_file(bytes)
    }

    fn note(&mut self, message: &str) -> Result<()> {
        self.send_rows()?;
        // More are of no use to anybody, and the receiver takes no more.
        if self.notes == MOST_NOTES {
            return Ok(());
        }
        self.notes += 1;
        let message = cut(message);
        self.send(&[b"N", &length(message)?, message])
    }

    fn row(&mut self, row: Row<'_>) -> Result<()> {
        let bytes = check_length(row, self.rows)?;
        if self.texts.len() + bytes > FRAME_BYTES || self.pending as usize == FRAME_ROWS {
            self.send_rows()?;
        }
        self.heads.extend_from_slice(&row.label.to_le_bytes());
        for text in row.texts() {
            self.heads.extend_from_slice(&length(text.as_bytes())?);
            self.texts.extend_from_slice(text.as_bytes());
        }
        self.pending += 1;
        self.rows += 1;
        Ok(())
    }
}

/// A message, not longer than one may be.
fn cut(message: &str) -> &[u8] {
    let most = message.len().min(MOST_NAME as usize);
    (0..=most).rev().find_map(|end| message.get(..end)).unwrap_or_default().as_bytes()
}

/// The length of something, as frames have it.
fn length(bytes: &[u8]) -> Result<[u8; 4]> {
    let length = u32::try_from(bytes.len()).map_err(|_| DataError::Io {
        file: "(pipe)".to_owned(),
        source: io::Error::other(format!("a name or text of {} bytes", bytes.len())),
    })?;
    Ok(length.to_le_bytes())
}

/// Receives what a [`RowWriter`] sends, and trusts nothing in it.
pub struct RowReader<'t, R> {
    input: R,
    task: &'t Task,
    left: u64,
    keep: Keep,
    split: Option<String>,
    count: u64,
    files: u64,
    file: Option<(String, u64)>,
    notes: Vec<String>,
}

/// Where rows are kept.
enum Keep {
    /// In memory: those of the splits that have ended, and of the one that has not.
    Here(Dataset, Vec<Example>),
    Store(Box<RowStore>),
}

impl Keep {
    /// How many rows the split has that has not ended.
    fn rows(&self) -> usize {
        match self {
            Self::Here(_, rows) => rows.len(),
            Self::Store(store) => store.rows(),
        }
    }

    fn has(&self, split: &str) -> bool {
        match self {
            Self::Here(dataset, _) => dataset.splits.contains_key(split),
            Self::Store(store) => store.has(split),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Here(dataset, _) => dataset.splits.is_empty(),
            Self::Store(store) => store.is_empty(),
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<(), ArtifactError> {
        match self {
            Self::Here(_, rows) => rows.extend(frame.examples()),
            Self::Store(store) => store.add(frame)?,
        }
        Ok(())
    }

    fn end_split(&mut self, name: String) {
        match self {
            Self::Here(dataset, rows) => {
                rows.shrink_to_fit();
                dataset.splits.insert(name, take(rows));
            }
            Self::Store(store) => store.end_split(name),
        }
    }
}

/// Why a data set did not arrive.
#[derive(Debug)]
#[non_exhaustive]
pub enum Broken {
    /// The sender says why: the message of an error, and of which kind it is.
    Reported {
        /// What the sender gave to [`RowWriter::fail`].
        kind: u8,
        /// The error.
        message: String,
    },
    /// Nothing more comes, and the last frame has not come.
    Ended(io::Error),
    /// It is more than the receiver wants.
    TooLarge,
    /// It is not what a [`RowWriter`] sends.
    Invalid(&'static str),
    /// It can't be kept.
    Unkept(Box<ArtifactError>),
}

impl<'t, R: Read> RowReader<'t, R> {
    /// Receives rows of `task`, of at most `most` bytes: those of the texts, and 64 for each row.
    pub fn new(input: R, task: &'t Task, most: u64) -> Self {
        Self {
            input,
            task,
            left: most,
            keep: Keep::Here(Dataset::default(), Vec::new()),
            split: None,
            count: 0,
            files: 0,
            file: None,
            notes: Vec::new(),
        }
    }

    /// Receives everything.
    ///
    /// # Errors
    ///
    /// See [`Broken`].
    pub fn read(&mut self) -> Result<Dataset, Broken> {
        while self.frame()? {}
        match &mut self.keep {
            Keep::Here(dataset, _) => Ok(take(dataset)),
            Keep::Store(_) => Err(Broken::Invalid("rows that are stored")),
        }
    }

    /// Receives everything, of which memory holds some thousands of rows at a time: where there are many, all lie in a file without a name, which
    /// takes room in this folder.
    ///
    /// ```
    /// use skn_data::{Receiver, Row, RowReader, RowWriter, StoredSplits, Task, part_hash, split};
    ///
    /// let task = Task::builtin("sst2")?;
    /// let mut pipe = Vec::new();
    /// let mut writer = RowWriter::new(&mut pipe);
    /// for name in ["train", "validation"] {
    ///     writer.split(name)?;
    ///     for row in 0..40_000 {
    ///         writer.row(Row { text: &format!("text {row} of {name}"), pair: None, more: &[], label: row % 2 })?;
    ///     }
    /// }
    /// writer.finish()?;
    /// let folder = std::env::temp_dir();
    /// let stored = RowReader::new(&pipe[..], &task, u64::MAX).store(&folder).unwrap();
    /// let stored = StoredSplits::new(stored, &task, 3)?;
    /// let splits = split(RowReader::new(&pipe[..], &task, u64::MAX).read().unwrap(), &task, 3)?;
    /// assert_eq!(*stored.source(), splits.source);
    /// assert_eq!(stored.hashes()[1], part_hash(&splits.dev));
    /// let mut dev = stored.part(&stored.source().dev);
    /// assert!(dev.by_ref().eq(splits.dev));
    /// dev.end()?;
    /// # Ok::<(), skn_data::DataError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Broken`].
    pub fn store(&mut self, folder: &Path) -> Result<StoredRows, Broken> {
        let columns = self.columns();
        self.keep = Keep::Store(Box::new(RowStore::new(folder, columns, self.task.classes())));
        while self.frame()? {}
        match std::mem::replace(&mut self.keep, Keep::Here(Dataset::default(), Vec::new())) {
            Keep::Store(store) => store.finish().map_err(unkept),
            Keep::Here(..) => Err(Broken::Invalid("rows that are not stored")),
        }
    }

    /// The texts of a row.
    fn columns(&self) -> usize {
        self.task.text_columns().len().max(1)
    }

    /// Where it is: the file, the split and the number of rows received, as far as they are known.
    pub fn place(&self) -> String {
        let file = self.file.as_ref().map(|(file, _)| file.as_str());
        match (file, &self.split) {
            (Some(file), Some(split)) => format!("{file}, split {split}, after row {}", self.keep.rows()),
            (Some(file), None) => file.to_owned(),
            _ => "before the first file".to_owned(),
        }
    }

    /// The bytes of all files so far.
    pub fn file_bytes(&self) -> u64 {
        self.files
    }

    /// The bytes that the present file unpacks to, by what it says.
    pub fn unpacked_bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |(_, bytes)| *bytes)
    }

    /// What the sender told ([`Receiver::note`]).
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Takes a frame; whether more follow.
    fn frame(&mut self) -> Result<bool, Broken> {
        match self.number::<1>()? {
            [b'S'] => self.begin_split()?,
            [b'F'] => self.begin_file()?,
            [b'R'] => self.take_rows()?,
            [b'N'] if self.notes.len() < MOST_NOTES => {
                let note = self.name()?;
                self.notes.push(note);
            }
            [b'N'] => return Err(Broken::Invalid("too many notes")),
            [b'E'] => {
                let [kind] = self.number()?;
                return Err(Broken::Reported { kind, message: self.name()? });
            }
            [b'.'] => {
                self.end_split();
                let told = u64::from_le_bytes(self.number()?);
                return if told == self.count { Ok(false) } else { Err(Broken::Invalid("rows are missing")) };
            }
            _ => return Err(Broken::Invalid("an unknown frame")),
        }
        Ok(true)
    }

    fn begin_split(&mut self) -> Result<(), Broken> {
        self.end_split();
        let name = self.name()?;
        let known = self.task.split_names().contains(&name.as_str()) || self.keep.is_empty();
        if !known || self.keep.has(&name) {
            return Err(Broken::Invalid("a split that nobody asked for"));
        }
        self.split = Some(name);
        Ok(())
    }

    fn end_split(&mut self) {
        if let Some(split) = self.split.take() {
            self.keep.end_split(split);
        }
    }

    fn begin_file(&mut self) -> Result<(), Broken> {
        let (bytes, unpacked) = (u64::from_le_bytes(self.number()?), u64::from_le_bytes(self.number()?));
        let name = self.name()?;
        // A file that says how large it is unpacked comes again.
        if self.file.as_ref().is_none_or(|(file, _)| *file != name) {
            self.files = self.files.saturating_add(bytes);
        }
        self.file = Some((name, unpacked));
        Ok(())
    }

    fn take_rows(&mut self) -> Result<(), Broken> {
        let rows = u32::from_le_bytes(self.number()?) as usize;
        let bytes = u64::from_le_bytes(self.number()?);
        // One without a row would cost nothing, and be kept.
        if rows == 0 || rows > FRAME_ROWS || self.split.is_none() {
            return Err(Broken::Invalid("rows out of place"));
        }
        let cost = bytes.saturating_add(64 * rows as u64);
        self.left = self.left.checked_sub(cost).ok_or(Broken::TooLarge)?;
        let columns = self.columns();
        let heads = self.bytes(Frame::head_bytes(rows, columns) as u64)?;
        let texts = self.bytes(bytes)?;
        let frame = Frame::new(heads, texts, columns, self.task.classes()).map_err(Broken::Invalid)?;
        self.keep.take(&frame).map_err(unkept)?;
        self.count += rows as u64;
        Ok(())
    }

    fn name(&mut self) -> Result<String, Broken> {
        let length = u32::from_le_bytes(self.number()?);
        if length > MOST_NAME {
            return Err(Broken::Invalid("a name that is too long"));
        }
        let bytes = self.bytes(u64::from(length))?;
        String::from_utf8(bytes).map_err(|_| Broken::Invalid("a name that is not UTF-8"))
    }

    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, Broken> {
        // Memory is asked for as bytes come, not as they are promised.
        const MOST: usize = 2 * FRAME_BYTES;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(MOST).min(MOST));
        self.input.by_ref().take(length).read_to_end(&mut bytes).map_err(Broken::Ended)?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(Broken::Ended(ended())) }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(Broken::Ended)?;
        Ok(bytes)
    }
}

fn unkept(error: ArtifactError) -> Broken {
    Broken::Unkept(Box::new(error))
}

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_dataset_to;
    use crate::{golden, read_dataset};

    fn sent(form: &str) -> Vec<u8> {
        let mut pipe = Vec::new();
        let mut writer = RowWriter::new(&mut pipe);
        read_dataset_to(&golden::path("data").join(form), &golden::task(), &mut writer).unwrap();
        writer.finish().unwrap();
        pipe
    }

    fn received(bytes: &[u8], most: u64) -> Result<Dataset, Broken> {
        RowReader::new(bytes, &golden::task(), most).read()
    }

    #[test]
    fn what_is_sent_arrives() {
        let data = golden::path("data");
        for form in ["arrow", "csv", "jsonl", "parquet"] {
            let read = read_dataset(&data.join(form), &golden::task()).unwrap();
            assert_eq!(received(&sent(form), u64::MAX).unwrap(), read, "{form}");
        }
    }

    #[test]
    fn pairs_and_long_texts_arrive() {
        let mut task = golden::task();
        task.text.push("second".into());
        let long = "é".repeat(FRAME_BYTES);
        let mut pipe = Vec::new();
        let mut writer = RowWriter::new(&mut pipe);
        writer.split("train").unwrap();
        for text in [long.as_str(), "", "x"] {
            writer.row(Row { text, pair: Some(&long[..4]), more: &[], label: 1 }).unwrap();
        }
        writer.finish().unwrap();
        let data = RowReader::new(&pipe[..], &task, u64::MAX).read().unwrap();
        let rows = &data.splits["train"];
        assert_eq!((rows.len(), rows[0].text.as_str(), rows[1].text.as_str()), (3, long.as_str(), ""));
        assert!(rows.iter().all(|row| row.pair.as_deref() == Some("éé") && row.label == 1));
    }

    #[test]
    fn as_many_texts_arrive_as_a_template_names() {
        let mut task = golden::task();
        task.template = Some("{c}{a}{b}{d}".parse().unwrap());
        let (lines, folder) =
            (br#"{"a": "A", "b": "B", "c": "", "d": "DD", "label": 1}"#, tempfile::tempdir().unwrap());
        task.text.clear();
        let table = "d,label,b,a,c,e\nDD,1,B,A,,E\n";
        for (name, bytes) in [("train.jsonl", &lines[..]), ("train.csv", table.as_bytes())] {
            let file = folder.path().join(name);
            skn_artifact::write_file(&file, skn_artifact::Overwrite::Refuse, bytes).unwrap();
            let mut pipe = Vec::new();
            let mut writer = RowWriter::new(&mut pipe);
            read_dataset_to(&file, &task, &mut writer).unwrap();
            writer.finish().unwrap();
            let data = RowReader::new(&pipe[..], &task, u64::MAX).read().unwrap();
            assert_eq!(data, read_dataset(&file, &task).unwrap());
            let texts: Vec<&str> = data.splits["train"][0].texts().map(|text| text.as_str()).collect();
            assert_eq!((texts, data.splits["train"][0].label), (vec!["", "A", "B", "DD"], 1), "{name}");
        }
    }

    #[test]
    fn notes_arrive() {
        let mut pipe = Vec::new();
        let mut writer = RowWriter::new(&mut pipe);
        writer.split("train").unwrap();
        writer.row(Row { text: "a", pair: None, more: &[], label: 0 }).unwrap();
        (0..2 * MOST_NOTES).for_each(|_| writer.note("separated by ;").unwrap());
        writer.row(Row { text: "b", pair: None, more: &[], label: 1 }).unwrap();
        writer.finish().unwrap();
        let task = golden::task();
        let mut reader = RowReader::new(&pipe[..], &task, u64::MAX);
        assert_eq!(reader.read().unwrap().splits["train"].len(), 2);
        assert_eq!(reader.notes(), ["separated by ;"; MOST_NOTES]);
    }

    #[test]
    fn too_much_is_refused() {
        let bytes = sent("csv");
        assert!(matches!(received(&bytes, 1000), Err(Broken::TooLarge)));
    }

    #[test]
    fn a_frame_without_rows_is_refused() {
        let mut pipe = Vec::new();
        let mut writer = RowWriter::new(&mut pipe);
        writer.split("train").unwrap();
        writer.send(&[b"R", &0u32.to_le_bytes(), &0u64.to_le_bytes()]).unwrap();
        writer.finish().unwrap();
        assert!(matches!(received(&pipe, u64::MAX), Err(Broken::Invalid("rows out of place"))));
    }

    #[test]
    fn an_error_arrives_with_its_kind() {
        let mut pipe = Vec::new();
        RowWriter::new(&mut pipe).fail(3, "no").unwrap();
        let broken = received(&pipe, 0).unwrap_err();
        assert!(matches!(broken, Broken::Reported { kind: 3, message } if message == "no"));
    }

    #[test]
    fn anything_else_is_noticed() {
        let bytes = sent("csv");
        for length in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            assert!(received(&bytes[..length], u64::MAX).is_err(), "{length}");
        }
        for place in 0..bytes.len().min(3000) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x80;
            let _ = received(&damaged, u64::MAX);
        }
    }
}
