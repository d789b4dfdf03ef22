use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::{expect_f32, slice, with_slices};
use crate::mask::Dropout;
use crate::packing::RowSelection;

/// Drops elements of `x` `[rows, width]`; the one in column `j` of the row at position `p` of its sequence is number
/// `p * width + j` of the sequence.
///
/// # Errors
/// If there are not as many `rows` as `x` has, a sequence has no key, or `x` is not f32.
pub fn dropout(x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor> {
    Drop::new(x, rows, dropout)?.forward(x)
}

/// The factors are made again for the gradient: that takes less than keeping them would take memory.
pub(crate) struct Drop {
    rows: RowSelection,
    dropout: Dropout,
}

impl Drop {
    /// Dropout of `x` `[rows, width]`.
    pub(crate) fn new(x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Self> {
        match x.dims() {
            [count, _] if *count == rows.len() => {}
            found => bail!("dropout: expected [{}, width], found {found:?}", rows.len()),
        }
        expect_f32("dropout", x)?;
        Ok(Self { rows: rows.clone(), dropout: dropout.clone() })
    }

    pub(crate) fn forward(self, x: &Tensor) -> Result<Tensor> {
        if !x.device().is_cpu() {
            return composed::dropout(x, &self.rows, &self.dropout);
        }
        x.contiguous()?.apply_op1(self)
    }

    /// What each number is multiplied with.
    pub(crate) fn factors(&self, width: usize) -> Result<Vec<f32>> {
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
