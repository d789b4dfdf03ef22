use std::ops::Range;
use std::sync::Arc;

use super::source::Source;
use crate::error::Result;
use candle_core::{Device, Tensor};
use skn_kernels::numbers_on;

/// A tensor in a file. It has been read once, so shape and values are known to be right.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(super) file: Arc<Source>,
    pub(super) name: String,
    pub(super) shape: [usize; 2],
}

impl Stored {
    /// `[rows, width]`.
    pub(crate) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Whether its file holds its transpose.
    pub(crate) fn is_turned(&self) -> bool {
        self.file.is_turned(&self.name)
    }

    /// Appends some of its rows; those of its transpose, if its file holds that.
    pub(crate) fn read_rows(&self, rows: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        self.file.append_rows(&self.name, self.shape, rows, values)
    }

    /// Some of its rows, `[rows, width]`, on the CPU.
    pub(crate) fn rows(&self, rows: &[u32]) -> Result<Tensor> {
        let mut values = Vec::with_capacity(rows.len() * self.shape[1]);
        rows.iter().map(|&row| row as usize).try_for_each(|row| self.read_rows(row..row + 1, &mut values))?;
        Ok(Tensor::from_vec(values, (rows.len(), self.shape[1]), &Device::Cpu)?)
    }

    /// All of it, on the CPU.
    pub(crate) fn read(&self) -> Result<Tensor> {
        self.read_to(&Device::Cpu)
    }

    /// All of it, on a device.
    pub(crate) fn read_to(&self, device: &Device) -> Result<Tensor> {
        Ok(numbers_on(self.file.whole(&self.name, &self.shape)?, &self.shape, device)?)
    }
}
