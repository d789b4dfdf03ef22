use candle_core::Tensor;
use skn_kernels::{ColumnNumbers, Misfit, pick_columns, with_values};

use crate::error::Result;
use crate::statistic::Block;

/// The activations of some neurons of a layer for the texts of a batch, on a device.
#[derive(Clone, Debug)]
pub(crate) struct Picked {
    /// Which text of the batch each row of a position is of.
    texts: Vec<usize>,
    /// `[positions * texts, neurons]`
    values: Tensor,
}

impl Picked {
    /// Those of a block.
    pub(crate) fn of(block: &Block<'_>, columns: &ColumnNumbers, misfit: &mut Misfit) -> Result<Self> {
        let values = pick_columns(block.values, block.rows, columns, misfit)?;
        Ok(Self { texts: block.texts.to_vec(), values })
    }

    /// Brings them to the host: position, text and the neurons' activations.
    pub(crate) fn each(&self, mut take: impl FnMut(usize, usize, &[f32])) -> Result<()> {
        let neurons = self.values.dim(1)?;
        if self.values.elem_count() == 0 {
            return Ok(());
        }
        Ok(with_values(&self.values, |values: &[f32]| {
            for (row, activations) in values.chunks_exact(neurons).enumerate() {
                take(row / self.texts.len(), self.texts[row % self.texts.len()], activations);
            }
        })?)
    }
}
