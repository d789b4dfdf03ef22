//! Rows on their way from a reader to whoever keeps them.

use std::sync::Arc;

use crate::dataset::{Dataset, Example};
use crate::error::{DataError, Result};
use crate::shared::MOST_SHARED;
use crate::text::Text;

/// A row as a reader has just read it; its texts are the reader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'r> {
    /// The text, or the first of a pair.
    pub text: &'r str,
    /// The second text of a pair.
    pub pair: Option<&'r str>,
    /// The class, or [`UNLABELLED`](crate::UNLABELLED).
    pub label: i64,
}

/// Takes a data set row by row, so that one who reads need not keep; see [`read_dataset_to`](crate::read_dataset_to).
pub trait Receiver {
    /// A split begins, which may turn out to be empty. A name comes once.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being taken; reading ends with it. So with the other functions.
    fn split(&mut self, name: &str) -> Result<()>;

    /// A file of `bytes` bytes begins, from which the next rows come.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::split`].
    fn file(&mut self, _name: &str, _bytes: u64) -> Result<()> {
        Ok(())
    }

    /// The file says that it unpacks to so many bytes. Files that are not packed say nothing.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::split`].
    fn unpacked(&mut self, _bytes: u64) -> Result<()> {
        Ok(())
    }

    /// The next row of the split.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::split`].
    fn row(&mut self, row: Row<'_>) -> Result<()>;
}

/// As many bytes of text share a string.
const SHARED: usize = 1 << 20;

/// Keeps what it receives, as a data set.
#[derive(Default)]
pub(crate) struct Collector {
    dataset: Dataset,
    split: String,
    rows: Vec<Example>,
    shared: String,
    /// The rows whose texts are in `shared`: where the texts end, and the label.
    pending: Vec<(usize, Option<usize>, i64)>,
}

impl Collector {
    /// All that was received.
    pub(crate) fn finish(mut self) -> Dataset {
        self.end_split();
        self.dataset
    }

    fn end_split(&mut self) {
        self.share();
        if !self.split.is_empty() {
            self.dataset.splits.insert(std::mem::take(&mut self.split), std::mem::take(&mut self.rows));
        }
    }

    /// Makes rows of what is pending.
    fn share(&mut self) {
        let all = Arc::new(std::mem::take(&mut self.shared).into_boxed_str());
        let mut start = 0;
        let mut text = |end: usize| {
            let text = Text::within(&all, start, end).unwrap_or_default();
            start = end;
            text
        };
        self.rows.extend(self.pending.drain(..).map(|(end, pair, label)| Example {
            text: text(end),
            pair: pair.map(&mut text),
            label,
        }));
    }
}

impl Receiver for Collector {
    fn split(&mut self, name: &str) -> Result<()> {
        self.end_split();
        self.split = name.to_owned();
        Ok(())
    }

    fn row(&mut self, row: Row<'_>) -> Result<()> {
        let bytes = check_length(row, self.rows.len() + self.pending.len())?;
        if self.shared.len() + bytes > SHARED {
            self.share();
        }
        self.shared.push_str(row.text);
        let end = self.shared.len();
        let pair = row.pair.map(|pair| {
            self.shared.push_str(pair);
            self.shared.len()
        });
        self.pending.push((end, pair, row.label));
        Ok(())
    }
}

/// The bytes of a row's texts, which must fit into one shared string.
pub(crate) fn check_length(row: Row<'_>, number: usize) -> Result<usize> {
    let bytes = row.text.len() + row.pair.map_or(0, str::len);
    if bytes <= MOST_SHARED {
        return Ok(bytes);
    }
    let reason = format!("its texts have {bytes} bytes; at most {MOST_SHARED} are read");
    Err(DataError::Row { row: number as u64, reason })
}
