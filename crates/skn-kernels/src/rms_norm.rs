use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use crate::check::expect_f32;

/// Root mean square normalisation (Zhang and Sennrich, 2019): `x / sqrt(mean(x^2) + epsilon) * weight`, of each row or of
/// each head of it.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    pub(crate) weight: Tensor,
    pub(crate) epsilon: f64,
    /// The weight, if it does not train.
    pub(crate) frozen: Option<Arc<[f32]>>,
}

impl RmsNorm {
    /// With weight `[width]`.
    ///
    /// # Errors
    /// If it has another shape, no element, or is not f32.
    pub fn new(weight: Tensor, epsilon: f64) -> Result<Self> {
        if weight.rank() != 1 || weight.elem_count() == 0 {
            bail!("rms norm: expected a weight [width], found {:?}", weight.dims());
        }
        expect_f32("rms norm weight", &weight)?;
        let frozen = if weight.track_op() { None } else { Some(weight.to_vec1::<f32>()?.into()) };
        Ok(Self { weight, epsilon, frozen })
    }

    /// Numbers that are normalised together.
    pub fn width(&self) -> usize {
        self.weight.elem_count()
    }
}
