use std::borrow::Cow;
use std::{fmt, io};

use super::cell::{Cell, Cells, describe};
use crate::dataset::UNLABELLED;
use crate::error::{DataError, Result, RowPlace, names};
use crate::rows::{Receiver, Row};
use crate::task::{OtherLabels, Task};

/// Where a row stands in its file.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// Counted from 0, over all files of the split.
    Row(u64),
    /// Counted from 1, in the file.
    Line(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(row) => write!(f, "row {row}"),
            Self::Line(line) => write!(f, "line {line}"),
        }
    }
}

/// Makes the rows of a split of the cells that readers find: checks them, gives labels their class, and hands the rows
/// on to a [`Receiver`].
pub(crate) struct RowDecoder<'t> {
    /// The file that is being read, for errors.
    pub(crate) file: String,
    /// The task whose rows these are.
    pub(crate) task: &'t Task,
    receiver: &'t mut dyn Receiver,
    /// How many rows there were so far.
    rows: u64,
    split: &'t str,
    class_names: Vec<String>,
    file_class_names: Vec<String>,
}

impl<'t> RowDecoder<'t> {
    /// A decoder for one split; `class_names` are the names of classes 0, 1, .. that come with the data, if any.
    ///
    /// # Errors
    ///
    /// The receiver does not want it.
    pub(crate) fn new(
        split: &'t str,
        task: &'t Task,
        class_names: Vec<String>,
        receiver: &'t mut dyn Receiver,
    ) -> Result<Self> {
        receiver.split(split)?;
        let (file, file_class_names) = (String::new(), Vec::new());
        Ok(Self { file, task, receiver, rows: 0, split, class_names, file_class_names })
    }

    /// The next rows come from `file`, which has `bytes` bytes.
    pub(crate) fn open(&mut self, file: &str, bytes: u64) -> Result<()> {
        self.file = file.to_owned();
        self.file_class_names.clear();
        self.receiver.file(file, bytes)
    }

    /// The file says that it unpacks to so many bytes.
    pub(crate) fn unpacked(&mut self, bytes: u64) -> Result<()> {
        self.receiver.unpacked(bytes)
    }

    /// The file names classes 0, 1, ..; used unless the data as a whole do.
    pub(crate) fn name_classes(&mut self, names: Vec<String>) {
        self.file_class_names = names;
    }

    /// The names of classes 0, 1, .., if there are any.
    fn class_names(&self) -> &[String] {
        if self.class_names.is_empty() { &self.file_class_names } else { &self.class_names }
    }

    /// The columns that are needed: one or two texts, then the label. [`RowDecoder::push`] takes them in this order.
    pub(crate) fn wanted(&self) -> Vec<&'t str> {
        self.task.text.iter().chain([&self.task.label]).map(String::as_str).collect()
    }

    /// The number of the next row of the split.
    pub(crate) fn next_row(&self) -> Place {
        Place::Row(self.rows)
    }

    /// How many rows the split has so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Where each wanted column stands among the columns of the file.
    pub(crate) fn positions(&self, columns: &[&str]) -> Result<Vec<usize>> {
        let position = |wanted: &str| {
            let mut places = columns.iter().enumerate().filter(|(_, column)| **column == wanted);
            match (places.next(), places.next()) {
                (Some((place, _)), None) => Ok(place),
                (Some(_), Some(_)) => {
                    Err(self.malformed("header", format!("two columns are named {wanted:?}")))
                }
                (None, _) => Err(DataError::MissingColumn {
                    file: self.file.clone(),
                    split: self.split.to_owned(),
                    column: wanted.to_owned(),
                    found: names(columns),
                }),
            }
        };
        self.wanted().into_iter().map(position).collect()
    }

    /// Takes a row: the cells of the wanted columns.
    pub(crate) fn push(&mut self, place: Place, cells: &Cells<'_>) -> Result<()> {
        let task = self.task;
        let text = |n: usize| task.text.get(n).map(|column| self.text(place, column, &cells[n])).transpose();
        let (text, pair) = (text(0)?.unwrap_or_default(), text(1)?);
        let label = self.label(place, &cells[task.text.len()])?;
        self.rows += 1;
        self.receiver.row(Row { text, pair, label })
    }

    fn text<'c>(&self, place: Place, column: &str, cell: &'c Cell<'_>) -> Result<&'c str> {
        match cell {
            Cell::Text(text) => Ok(text),
            other => Err(self.wrong(place, column, "a text", &describe(other))),
        }
    }

    fn label(&self, place: Place, cell: &Cell<'_>) -> Result<i64> {
        let wrong = |expected: &str| self.wrong(place, &self.task.label, expected, &describe(cell));
        let (written, number) = match cell {
            Cell::Integer(number) => (Cow::from(number.to_string()), Some(*number)),
            Cell::Text(text) => (Cow::from(text.trim()), self.number_of(text.trim())),
            Cell::Other(_) => return Err(wrong("a class")),
        };
        if !self.task.label_map.is_empty() {
            return self.mapped(&written, number).ok_or_else(|| wrong(&self.mapped_labels()));
        }
        match number {
            Some(number) if number < UNLABELLED || number >= self.task.classes() as i64 => {
                Err(DataError::LabelOutOfRange {
                    place: self.place(place),
                    label: number,
                    classes: self.task.classes(),
                })
            }
            Some(number) => Ok(number),
            None if self.class_names().is_empty() => {
                Err(wrong("a class number (or give the task a label_map)"))
            }
            None => Err(wrong(&format!("a class number or one of {}", self.class_names().join(", ")))),
        }
    }

    /// The class number that a text is, or names.
    fn number_of(&self, text: &str) -> Option<i64> {
        let named = self.class_names().iter().position(|name| name == text);
        named.map(|class| class as i64).or_else(|| text.parse().ok())
    }

    /// The class that the task's map gives a label.
    fn mapped(&self, written: &str, number: Option<i64>) -> Option<i64> {
        let by_number = || self.task.label_map.get(&number?.to_string());
        let class = self.task.label_map.get(written).or_else(by_number);
        let left_out = number == Some(UNLABELLED) || self.task.other_labels == OtherLabels::Drop;
        class.map(|class| *class as i64).or(left_out.then_some(UNLABELLED))
    }

    fn mapped_labels(&self) -> String {
        let labels: Vec<&str> = self.task.label_map.keys().map(String::as_str).collect();
        format!("one of the labels {}", labels.join(", "))
    }

    fn wrong(&self, place: Place, column: &str, expected: &str, found: &str) -> DataError {
        DataError::Cell {
            place: self.place(place),
            column: column.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    fn place(&self, place: Place) -> Box<RowPlace> {
        Box::new(RowPlace { file: self.file.clone(), split: self.split.to_owned(), row: place.to_string() })
    }

    /// The system can't read the file.
    pub(crate) fn unreadable(&self, error: &io::Error) -> DataError {
        let source = io::Error::new(error.kind(), error.to_string());
        DataError::Io { file: self.file.clone(), source }
    }

    /// An error of the file's form.
    pub(crate) fn malformed(&self, place: impl fmt::Display, reason: impl fmt::Display) -> DataError {
        DataError::Malformed {
            file: self.file.clone(),
            place: format!("split {}, {place}", self.split),
            reason: reason.to_string(),
        }
    }
}
