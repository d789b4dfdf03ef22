//! Every operation of this crate from candle's own differentiable ones: what runs on devices that have no kernels
//! here, and what the kernels are tested against.
//!
//! candle's fused `layer_norm` and `softmax_last_dim` are not used: they have no backward pass and cut the graph
//! without a word.

mod attention;
mod room;

use candle_core::{D, Result, Tensor, bail};

use crate::activation::Activation;
use crate::mask::Dropout;
use crate::packing::RowSelection;
use crate::rotary::{Rotary, Turned};
pub use attention::attention;
pub(crate) use room::Composed;

/// `activation(x weight^T + bias)`.
///
/// # Errors
/// If the shapes do not fit together.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
    let y = if weight.elem_count() == 0 {
        // A layer whose neurons are all pruned: candle has no product without inner elements.
        Tensor::zeros((x.dim(0)?, weight.dim(0)?), x.dtype(), x.device())?
    } else {
        x.matmul(&weight.t()?)?
    };
    activate(&y.broadcast_add(bias)?, activation)
}

/// An activation of each element.
fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Identity => Ok(x.clone()),
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Relu => x.relu(),
        Activation::Silu => x.silu(),
    }
}

/// `activation(gate) * up`, element by element; see [`gated`](crate::gated()).
///
/// # Errors
/// If the shapes differ.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    activate(gate, activation)? * up
}

/// Layer normalisation of each row of `x`.
///
/// # Errors
/// If the shapes do not fit together.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normalised = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
    normalised.broadcast_mul(weight)?.broadcast_add(bias)
}

/// Root mean square normalisation of as many numbers at a time as there are weights; see [`RmsNorm`](crate::RmsNorm).
///
/// # Errors
/// If the width of `x` is no multiple of the weight's.
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    let width = weight.dim(0)?;
    if width == 0 || columns % width != 0 {
        bail!("rms norm: expected [rows, a multiple of {width}], found [{rows}, {columns}]");
    }
    let heads = x.reshape((rows, columns / width, width))?;
    let mean = heads.sqr()?.mean_keepdim(D::Minus1)?;
    heads.broadcast_div(&(mean + epsilon)?.sqrt()?)?.broadcast_mul(weight)?.reshape((rows, columns))
}

/// Rotary positions; see [`Rotary::apply`](crate::Rotary::apply).
///
/// # Errors
/// If the shapes do not fit together.
pub fn rotary(x: &Tensor, rows: &RowSelection, rotary: &Rotary) -> Result<Tensor> {
    turn(&rotary.turned(x, rows)?, x)
}

/// A rotation of certain rows.
pub(crate) fn turn(turned: &Turned, x: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let (head_width, angles) = (turned.head_width, turned.table.angles);
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for &position in turned.rows.position() {
        let of_row = turned.table.of(position);
        cos.extend_from_slice(of_row.0);
        sin.extend_from_slice(of_row.1);
    }
    let cos = Tensor::from_vec(cos, (rows, 1, angles), x.device())?;
    let sin = Tensor::from_vec(sin, (rows, 1, angles), x.device())?;
    let heads = x.reshape((rows, width / head_width, head_width))?;
    let (a, b) = (heads.narrow(2, 0, angles)?, heads.narrow(2, angles, angles)?);
    let parts = [
        (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?,
        (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?,
        heads.narrow(2, 2 * angles, head_width - 2 * angles)?,
    ];
    Tensor::cat(&parts, 2)?.reshape((rows, width))
}

/// Dropout; see [`dropout`](crate::dropout()).
///
/// # Errors
/// If a sequence has no key, or the shapes do not fit together.
pub fn dropout(x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor> {
    let factors = dropout.row_factors(rows, x.dim(1)?)?;
    x * Tensor::from_vec(factors, x.shape(), x.device())?
}
