use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::cpu::slices::{slice, with_slices};
use crate::mask::Dropout;
use crate::packing::RowSelection;

/// See [`dropout`](crate::dropout()).
pub(super) fn forward(x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Drop::new(rows, dropout))
}

/// The factors are made again for the gradient: that takes less than keeping them would take memory.
pub(super) struct Drop {
    rows: RowSelection,
    dropout: Dropout,
}

impl Drop {
    pub(super) fn new(rows: &RowSelection, dropout: &Dropout) -> Self {
        Self { rows: rows.clone(), dropout: dropout.clone() }
    }

    /// What each number is multiplied with.
    pub(super) fn factors(&self, width: usize) -> Result<Vec<f32>> {
        self.dropout.row_factors(&self.rows, width)
    }

    fn apply(&self, x: &[f32], width: usize) -> Result<Vec<f32>> {
        let mut values = self.factors(width)?;
        values.iter_mut().zip(x).for_each(|(value, x)| *value *= x);
        Ok(values)
    }
}

impl CustomOp1 for Drop {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = self.apply(slice(x, layout)?, layout.shape().dims2()?.1)?;
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let width = x.dim(1)?;
        let values = with_slices([gradient], |[gradient]| self.apply(gradient, width))?;
        Ok(Some(Tensor::from_vec(values, x.shape(), x.device())?))
    }
}
