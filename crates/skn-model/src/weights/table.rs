use std::sync::OnceLock;

use candle_core::Tensor;
use skn_kernels::rows_of;

use super::stored::Stored;
use crate::error::Result;

/// A matrix whose rows are looked up: in memory, or in its file until all of it is asked for.
pub(crate) enum Table {
    Tensor(Tensor),
    Stored(Stored, OnceLock<Tensor>),
}

impl Table {
    /// The number of rows.
    pub(crate) fn len(&self) -> Result<usize> {
        Ok(match self {
            Self::Tensor(tensor) => tensor.dim(0)?,
            Self::Stored(stored, _) => stored.shape()[0],
        })
    }

    /// Some rows, `[rows, width]`.
    pub(crate) fn rows(&self, rows: &[u32]) -> Result<Tensor> {
        let tensor = match self {
            Self::Tensor(tensor) => tensor,
            Self::Stored(stored, read) => match read.get() {
                Some(tensor) => tensor,
                None => return stored.rows(rows),
            },
        };
        Ok(rows_of(tensor, rows)?)
    }

    /// One row, `[1, width]`, which goes on being that of a table that trains.
    pub(crate) fn row(&self, row: u32) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.narrow(0, row as usize, 1)?),
            Self::Stored(..) => self.rows(&[row]),
        }
    }

    /// All rows, which stay in memory from then on.
    pub(crate) fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Stored(stored, read) => match read.get() {
                Some(tensor) => Ok(tensor.clone()),
                None => {
                    let tensor = stored.read()?;
                    Ok(read.get_or_init(|| tensor).clone())
                }
            },
        }
    }
}
