use candle_core::{Result, Tensor, bail};

use crate::activation::Activation;
use crate::backend::Backend;
use crate::check::expect_f32;

/// `activation(gate) * up`, element by element (Shazeer, 2020): the neurons of a gated FFN.
///
/// # Errors
/// If the shapes differ, or one is not f32.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    if gate.dims() != up.dims() {
        bail!("gated: expected gate and up of one shape, found {:?} and {:?}", gate.dims(), up.dims());
    }
    expect_f32("gated", gate)?;
    expect_f32("gated", up)?;
    Backend::of(gate.device()).operations().gated(gate, up, activation)
}
