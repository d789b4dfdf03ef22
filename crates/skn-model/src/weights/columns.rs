use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::stored::Stored;
use crate::error::{ModelError, Result};

/// The columns of a matrix in a file as rows. They lie apart there, so all of them are read with the first and kept up to the last: who
/// packs a matrix asks for one after another.
pub(crate) struct Columns {
    stored: Stored,
    /// One past the last that is asked for.
    end: usize,
    held: Mutex<Option<Vec<f32>>>,
}

impl Columns {
    /// Those of a matrix up to `end`.
    pub(crate) fn new(stored: Stored, end: usize) -> Self {
        Self { stored, end, held: Mutex::new(None) }
    }

    /// Appends some of them.
    ///
    /// # Errors
    /// If they can't be read.
    pub(crate) fn read_rows(&self, columns: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        let [rows, _] = self.stored.shape();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let all = match held.take() {
            Some(all) => all,
            None => self.stored.read()?.t()?.flatten_all()?.to_vec1()?,
        };
        let read = all.get(columns.start * rows..columns.end * rows);
        let expected = || format!("at most {}", all.len() / rows.max(1));
        values.extend_from_slice(read.ok_or_else(|| ModelError::input("columns", expected(), columns.end))?);
        if columns.end < self.end {
            *held = Some(all);
        }
        Ok(())
    }
}
