//! Rows on their way from a reader to whoever keeps them.

use crate::error::{DataError, Result};
use crate::shared::MOST_SHARED;

/// A row as a reader has just read it; its texts are the reader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'r> {
    /// The text, or the first of a pair.
    pub text: &'r str,
    /// The second text of a pair.
    pub pair: Option<&'r str>,
    /// The texts of further columns that a template names.
    pub more: &'r [&'r str],
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

    /// Something that who reads should know, and that is no error: how a file was understood, what in it is not used.
    /// Each is said once. By default it is logged.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::split`].
    fn note(&mut self, message: &str) -> Result<()> {
        tracing::info!("{message}");
        Ok(())
    }

    /// The next row of the split.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::split`].
    fn row(&mut self, row: Row<'_>) -> Result<()>;
}

impl<'r> Row<'r> {
    /// All its texts, in the order of the task's columns.
    pub fn texts(self) -> impl Iterator<Item = &'r str> {
        std::iter::once(self.text).chain(self.pair).chain(self.more.iter().copied())
    }
}

/// The bytes of a row's texts, which must fit into one shared string.
pub(crate) fn check_length(row: Row<'_>, number: u64) -> Result<usize> {
    let bytes = row.texts().map(str::len).sum();
    if bytes <= MOST_SHARED {
        return Ok(bytes);
    }
    let reason = format!("its texts have {bytes} bytes; at most {MOST_SHARED} are read");
    Err(DataError::Row { row: number, reason })
}
