use candle_core::Tensor;
use skn_kernels::{Activation, Dropout, LayerNorm, Linear, RmsNorm, RowSelection, dropout};

use crate::error::Result;

/// The norm of a model's family.
pub(super) enum Norm {
    Layer(LayerNorm),
    Rms(RmsNorm),
}

impl Norm {
    /// The normed rows of `x` `[rows, width]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Layer(norm) => norm.forward(x)?,
            Self::Rms(norm) => norm.forward(x)?,
        })
    }

    /// The normed rows of `x + residual`, `x` after dropout.
    pub(super) fn forward_residual(
        &self,
        x: &Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor> {
        Ok(match self {
            Self::Layer(norm) => norm.forward_residual(x, residual, dropped)?,
            Self::Rms(norm) => norm.forward(&add(x, residual, dropped)?)?,
        })
    }
}

/// How what a part of a layer gives is added to its input.
pub(super) struct Join {
    /// The norm of what is added.
    pub(super) end: Option<Norm>,
    /// The norm of the sum.
    pub(super) sum: Option<Norm>,
}

impl Join {
    /// `x` and `residual`, both `[rows, hidden]`, as one; `x` after dropout.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor> {
        let normed = self.end.as_ref().map(|norm| norm.forward(x)).transpose()?;
        let x = normed.as_ref().unwrap_or(x);
        match &self.sum {
            Some(norm) => norm.forward_residual(x, residual, dropped),
            None => add(x, residual, dropped),
        }
    }

    /// The same of what a linear layer gives for `x` `[rows, in]`, to the bit.
    pub(super) fn forward_linear(
        &self,
        layer: &Linear,
        x: Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor> {
        if let (None, Some(Norm::Layer(norm))) = (&self.end, &self.sum) {
            return Ok(norm.forward_linear_residual(layer, x, residual, dropped)?);
        }
        let y = layer.forward(&x, Activation::Identity)?;
        drop(x);
        self.forward(&y, residual, dropped)
    }
}

/// `x + residual`, `x` after dropout.
pub(super) fn add(
    x: &Tensor,
    residual: &Tensor,
    dropped: Option<(&RowSelection, &Dropout)>,
) -> Result<Tensor> {
    let x = match dropped {
        Some((rows, mask)) => dropout(x, rows, mask)?,
        None => x.clone(),
    };
    // A card launches nothing for no elements.
    if x.elem_count() == 0 {
        return Ok(x);
    }
    Ok((x + residual)?)
}
