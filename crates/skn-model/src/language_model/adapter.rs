use candle_core::Tensor;
use skn_kernels::{Activation, Linear, Precision};

use super::norm::{Norm, add};
use super::supply::TensorSupply;
use crate::error::Result;

/// Pfeiffer's bottleneck (Pfeiffer et al., 2021) after the FFN.
pub(super) struct Adapter {
    down: Linear,
    up: Linear,
}

impl Adapter {
    /// The adapter of this name, if the tuning has one.
    pub(super) fn new(supply: &mut TensorSupply<'_>, name: &str) -> Result<Option<Self>> {
        let down = format!("{name}.adapter_down.0");
        if supply.tuning().tensor(&format!("{down}.weight")).is_none() {
            return Ok(None);
        }
        let down = supply.linear(&down)?;
        Ok(Some(Self { down, up: supply.linear(&format!("{name}.adapter_up"))? }))
    }

    pub(super) fn set_precision(&mut self, precision: Precision) {
        [&mut self.down, &mut self.up].into_iter().for_each(|linear| linear.set_precision(precision));
    }

    /// Bytes that its matrices take now.
    pub(super) fn weight_bytes(&self) -> usize {
        self.down.weight_bytes() + self.up.weight_bytes()
    }

    /// `LN(up(relu(down(LN(x + residual)))) + x + residual)`, both times with the layer's own LayerNorm.
    pub(super) fn forward(&self, x: &Tensor, residual: &Tensor, norm: &Norm) -> Result<Tensor> {
        let sum = add(x, residual, None)?;
        let down = self.down.forward(&norm.forward(&sum)?, Activation::Relu)?;
        norm.forward_residual(&self.up.forward(&down, Activation::Identity)?, &sum, None)
    }
}
