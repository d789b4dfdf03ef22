use std::collections::BTreeSet;
use std::{fmt, io};

use skn_artifact::did_you_mean;

use super::cell::{Cell, Cells, describe};
use super::classes::{Classes, Reference};
use super::known::Known;
use crate::builtin;
use crate::dataset::UNLABELLED;
use crate::error::{DataError, Result, RowPlace, names};
use crate::rows::{Receiver, Row};
use crate::task::Task;

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
    /// The names of 0, 1, .. that come with the split's folder.
    folder_names: Vec<String>,
    /// What the labels of the present file mean.
    classes: Classes,
    reference: &'t mut Reference,
    /// What was told of the split.
    told: BTreeSet<String>,
    /// The classes of labels that came in the present file, so that names are compared once for each and not for each row.
    known: Known,
}

impl<'t> RowDecoder<'t> {
    /// A decoder for one split; `folder_names` are the names of classes 0, 1, .. that come with its folder, if any, and
    /// `reference` is what other splits call theirs.
    ///
    /// # Errors
    ///
    /// The receiver does not want it.
    pub(crate) fn new(
        split: &'t str,
        task: &'t Task,
        folder_names: Vec<String>,
        reference: &'t mut Reference,
        receiver: &'t mut dyn Receiver,
    ) -> Result<Self> {
        receiver.split(split)?;
        let (file, classes) = (String::new(), Classes::default());
        Ok(Self {
            file,
            task,
            receiver,
            rows: 0,
            split,
            folder_names,
            classes,
            reference,
            told: BTreeSet::new(),
            known: Known::default(),
        })
    }

    /// The next rows come from `file`, which has `bytes` bytes.
    pub(crate) fn open(&mut self, file: &str, bytes: u64) -> Result<()> {
        self.file = file.to_owned();
        self.receiver.file(file, bytes)?;
        self.name_classes(Vec::new())
    }

    /// Tells something that is no error, with the file's name and the split; of many files of a split with the first alone.
    pub(crate) fn note(&mut self, message: impl fmt::Display) -> Result<()> {
        let message = message.to_string();
        if !self.told.insert(message.clone()) {
            return Ok(());
        }
        self.receiver.note(&format!("{}, split {}: {message}", self.file, self.split))
    }

    /// The file says that it unpacks to so many bytes.
    pub(crate) fn unpacked(&mut self, bytes: u64) -> Result<()> {
        self.receiver.unpacked(bytes)
    }

    /// The file names classes 0, 1, ..; used unless the folder does.
    pub(crate) fn name_classes(&mut self, names: Vec<String>) -> Result<()> {
        let names = if self.folder_names.is_empty() { names } else { self.folder_names.clone() };
        if !names.is_empty() && names == self.classes.names() {
            return Ok(());
        }
        let understood = Classes::of(names, self.task, self.reference);
        let column = || format!("column {:?}", self.task.label);
        let (classes, note) = understood.map_err(|reason| self.malformed(column(), reason))?;
        self.classes = classes;
        self.known = Known::default();
        note.map_or(Ok(()), |note| self.note(note))
    }

    /// The columns that are needed: those of the texts, then that of the label. [`RowDecoder::push`] takes them in this order.
    pub(crate) fn wanted(&self) -> Vec<&'t str> {
        self.task.text_columns().iter().chain([&self.task.label]).map(String::as_str).collect()
    }

    /// The number of the next row of the split.
    pub(crate) fn next_row(&self) -> Place {
        Place::Row(self.rows)
    }

    /// How many rows the split has so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Where each wanted column stands among the columns of the file. Rows without a label are not scored, so all splits but
    /// train may lack that column, which is then told.
    pub(crate) fn positions(&mut self, columns: &[&str]) -> Result<Vec<usize>> {
        let mut positions = Vec::new();
        for wanted in self.wanted() {
            let mut places = columns.iter().enumerate().filter(|(_, column)| **column == wanted);
            match (places.next(), places.next()) {
                (Some((place, _)), None) => positions.push(place),
                (Some(_), Some(_)) => {
                    return Err(self.malformed("header", format!("two columns are named {wanted:?}")));
                }
                (None, _) if wanted == self.task.label && self.split != self.task.splits.train => {
                    let found = names(columns);
                    self.note(format!("no column {wanted:?} among {found}; its rows have no label"))?;
                }
                (None, _) => return Err(self.lacks(wanted, columns)),
            }
        }
        Ok(positions)
    }

    fn lacks(&self, column: &str, columns: &[&str]) -> DataError {
        let shown = columns.iter().map(|name| match name.trim() == *name {
            true => (*name).to_owned(),
            false => format!("{name:?}"),
        });
        let shown: Vec<String> = shown.collect();
        let near = did_you_mean(column, columns.iter().copied());
        let near = near.map_or_else(String::new, |near| format!("; {near}"));
        // Who has columns of his own may not know that a task was taken for him.
        let name = &self.task.name;
        let hint = match builtin::find(name).filter(|_| !self.task.numbers) {
            Some(_) => {
                format!("{near}; task {name} reads that column, a task file says which columns yours are")
            }
            None => near,
        };
        DataError::MissingColumn {
            file: self.file.clone(),
            split: self.split.to_owned(),
            column: column.to_owned(),
            // A blank around a name is easily overlooked.
            found: names(&shown.iter().map(String::as_str).collect::<Vec<_>>()) + &hint,
        }
    }

    /// Takes a row: the cells of the wanted columns.
    pub(crate) fn push(&mut self, place: Place, cells: &Cells<'_>) -> Result<()> {
        let task = self.task;
        let columns = task.text_columns();
        if task.numbers {
            return self.push_number(place, cells);
        }
        let text = |n: usize| -> Result<Option<&str>> {
            let named = columns.get(n).zip(cells.get(n));
            named.map(|(column, cell)| self.text(place, column, cell)).transpose()
        };
        let (first, pair) = (text(0)?.unwrap_or_default(), text(1)?);
        let more = (2..columns.len()).filter_map(|n| text(n).transpose()).collect::<Result<Vec<&str>>>()?;
        let label = self.label(place, cells.get(columns.len()).unwrap_or(&Cell::Missing))?;
        self.rows += 1;
        self.receiver.row(Row { text: first, pair, more: &more, label })
    }

    /// Takes a row of a number and a label. Of a row without a label the number is of no account.
    fn push_number(&mut self, place: Place, cells: &Cells<'_>) -> Result<()> {
        let label = self.label(place, cells.get(1).unwrap_or(&Cell::Missing))?;
        let cell = cells.first().unwrap_or(&Cell::Missing);
        let number = match cell {
            #[allow(clippy::cast_precision_loss, reason = "a number as far as f64 tells it")]
            Cell::Integer(number) => Some(*number as f64),
            Cell::Float(number) => Some(*number),
            Cell::Text(text) => text.trim().parse().ok(),
            Cell::Boolean(_) | Cell::Null | Cell::Missing | Cell::Other(_) => None,
        };
        let number = match number.filter(|number: &f64| number.is_finite()) {
            Some(number) => number,
            None if label == UNLABELLED => 0.0,
            None => {
                let column = self.task.text.first().map_or("", String::as_str);
                return Err(self.wrong(place, column, "a number", &describe(cell)));
            }
        };
        self.rows += 1;
        self.receiver.row(Row { text: &format!("{number:?}"), pair: None, more: &[], label })
    }

    fn text<'c>(&self, place: Place, column: &str, cell: &'c Cell<'_>) -> Result<&'c str> {
        match cell {
            Cell::Text(text) => Ok(text),
            other => Err(self.wrong(place, column, "a text", &describe(other))),
        }
    }

    fn label(&mut self, place: Place, cell: &Cell<'_>) -> Result<i64> {
        if let Some(class) = self.known.class(cell) {
            return Ok(class);
        }
        let task = self.task;
        let class = match cell {
            Cell::Null | Cell::Missing => Some(UNLABELLED),
            // A gap among numbers, as pandas writes it.
            Cell::Float(number) if number.is_nan() => Some(UNLABELLED),
            Cell::Float(number) => self.classes.of_text(&format!("{number:?}"), task),
            Cell::Integer(number) => self.classes.of_number(*number, task),
            Cell::Boolean(value) => self.classes.of_truth(*value, task),
            Cell::Text(text) => self.classes.of_text(text, task),
            Cell::Other(_) => None,
        };
        let is_bare = || self.classes.names().is_empty() && class.is_some_and(|class| class != UNLABELLED);
        if !self.reference.bare_numbers && is_bare() {
            self.reference.bare_numbers |= match cell {
                Cell::Text(text) => text.trim().parse::<f64>().is_ok(),
                _ => true,
            };
        }
        let class = class.ok_or_else(|| self.no_class(place, cell))?;
        self.known.note(cell, class);
        Ok(class)
    }

    /// What is said of a label that is no class.
    fn no_class(&self, place: Place, cell: &Cell<'_>) -> DataError {
        let (task, names) = (self.task, self.classes.names());
        let number = match cell {
            Cell::Integer(number) => Some(*number),
            Cell::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        let other_order = self.classes.other_order().filter(|_| task.label_map.is_empty());
        let expected = match cell {
            _ if other_order.is_some() => format!(
                "a class by its name: the data read before it number them {}, otherwise than the task",
                other_order.unwrap_or_default()
            ),
            Cell::Other(_) => "a class".to_owned(),
            _ if !task.label_map.is_empty() => self.mapped_labels(),
            _ if names.is_empty() && task.names.is_empty() && number.is_some() => {
                return DataError::LabelOutOfRange {
                    place: self.place(place),
                    label: number.unwrap_or_default(),
                    classes: task.classes(),
                };
            }
            _ if names.is_empty() => {
                format!("a class number, or one of {} (or give the task a label_map)", task.shown_names())
            }
            _ => format!("a class number or one of {}", names.join(", ")),
        };
        self.wrong(place, &task.label, &expected, &describe(cell))
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
