use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use crate::check::expect_f32;

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
}
