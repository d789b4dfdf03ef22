use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use crate::backend::Backend;
use crate::check::expect_f32;
use crate::dropout;
use crate::mask::Dropout;
use crate::packing::RowSelection;

/// Layer normalisation (Ba et al., 2016): `(x - mean) / sqrt(variance + epsilon) * weight + bias` of each row.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) epsilon: f64,
    pub(crate) frozen: Option<Arc<Frozen>>,
}

/// The parameters of a layer that is not trained.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) epsilon: f32,
}

impl LayerNorm {
    /// With weight and bias `[width]` (0 if there is none).
    ///
    /// # Errors
    /// If their shapes differ, or one is not f32.
    pub fn new(weight: Tensor, bias: Option<Tensor>, epsilon: f64) -> Result<Self> {
        let bias = match bias {
            Some(bias) => bias,
            None => Tensor::zeros(weight.shape(), weight.dtype(), weight.device())?,
        };
        if weight.rank() != 1 || weight.dims() != bias.dims() {
            bail!(
                "layer norm: expected weight and bias of one length, found {:?} and {:?}",
                weight.dims(),
                bias.dims()
            );
        }
        expect_f32("layer norm weight", &weight)?;
        expect_f32("layer norm bias", &bias)?;
        let frozen = if weight.track_op() || bias.track_op() {
            None
        } else {
            Some(Arc::new(Frozen {
                weight: weight.to_vec1()?,
                bias: bias.to_vec1()?,
                epsilon: epsilon as f32,
            }))
        };
        Ok(Self { weight, bias, epsilon, frozen })
    }

    /// The normalised rows of `x` `[rows, width]`.
    ///
    /// # Errors
    /// If `x` has another width or is not f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        Backend::of(x.device()).operations().layer_norm(self, x)
    }

    /// The normalised rows of `x + residual`, both `[rows, width]`; `x` after [`dropout`](crate::dropout()) of these rows, if
    /// there is any.
    ///
    /// # Errors
    /// If one has another width or is not f32, they have different numbers of rows, or a sequence has no key for its dropout.
    pub fn forward_residual(
        &self,
        x: &Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor> {
        self.check(x)?;
        if x.dims() != residual.dims() {
            bail!("layer norm: expected a residual {:?}, found {:?}", x.dims(), residual.dims());
        }
        expect_f32("layer norm residual", residual)?;
        if let Some((rows, _)) = dropped {
            dropout::check(x, rows)?;
        }
        Backend::of(x.device()).operations().layer_norm_of_sum(self, x, residual, dropped)
    }

    /// What [`Self::forward_residual`] is, step by step.
    pub(crate) fn of_made_sum(
        &self,
        x: &Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor> {
        match dropped {
            None => self.forward(&(x + residual)?),
            Some((rows, mask)) => self.forward(&(dropout::dropout(x, rows, mask)? + residual)?),
        }
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let width = self.weight.elem_count();
        match x.dims() {
            [_, found] if *found == width => expect_f32("layer norm", x),
            found => bail!("layer norm: expected [rows, {width}], found {found:?}"),
        }
    }
}
