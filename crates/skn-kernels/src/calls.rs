//! What callers ask for: arguments are checked, and the room of their device computes.

use candle_core::{DType, Result, Tensor, bail};

use crate::activation::Activation;
use crate::attention::AttentionForm;
use crate::backend::Backend;
use crate::check::expect_f32;
use crate::composed::Composed;
use crate::cpu::Cpu;
use crate::cuda::{Cuda, rounded};
use crate::linear::Linear;
use crate::mask::Dropout;
use crate::norm::LayerNorm;
use crate::operations::Operations;
use crate::packing::{Packing, RowSelection};
use crate::rms_norm::RmsNorm;
use crate::rotary::Rotary;

/// The room of a tensor's device.
pub(crate) fn room_of(x: &Tensor) -> &'static dyn Operations {
    match Backend::of(x.device()) {
        Backend::Cpu => &Cpu,
        Backend::Cuda => &Cuda,
        Backend::Composed => &Composed,
    }
}

impl Linear {
    fn check(&self, x: &Tensor) -> Result<()> {
        match x.dims() {
            [_, inputs] if *inputs == self.in_features() => match x.dtype() {
                DType::BF16 if self.reads_rounded() => Ok(()),
                _ => expect_f32("linear", x),
            },
            found => bail!("linear: expected [rows, {}], found {found:?}", self.in_features()),
        }
    }

    /// `activation(x W^T + b)` of `x` `[rows, in]`: `[rows, out]`.
    ///
    /// # Errors
    /// If `x` has another width or is not f32, nor what [`Self::rounded`] makes of that.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.forward_for(x, activation, None)
    }

    /// The same for another layer that reads it, and nobody else does. Where [`Self::rounded`] of the reader rounds, it may come rounded
    /// already, in bf16, if an operation does that on its way; the reader makes the same of either.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_for(&self, x: &Tensor, activation: Activation, reader: Option<&Linear>) -> Result<Tensor> {
        self.check(x)?;
        room_of(x).linear(self, x, activation, reader.is_some_and(Self::reads_rounded))
    }

    /// `x` `[rows, in]` as the product of this layer reads it, so that it is made once for several layers that read the same: on a GPU
    /// where a frozen weight is multiplied in bf16 the numbers rounded to that, unless `x` needs a gradient. Elsewhere `x`. The result of
    /// [`Self::forward`] is the same to the bit.
    ///
    /// # Errors
    /// If the device fails.
    pub fn rounded(&self, x: &Tensor) -> Result<Tensor> {
        match self.reads_rounded() && !x.track_op() && x.elem_count() > 0 {
            true => rounded(x),
            false => Ok(x.clone()),
        }
    }

    /// `activation(gate) * up`, element by element, of this layer's result `gate` and another layer's result `up` for the
    /// same `x` `[rows, in]`: `[rows, out]`. It has the bits of [`gated`](crate::gated()) of both results; if nothing trains
    /// in either layer it is one operation, with one tensor less.
    ///
    /// # Errors
    /// If the layers have different shapes, `x` has another width, or is not f32.
    pub fn forward_gated(&self, up: &Linear, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.forward_gated_for(up, x, activation, None)
    }

    /// The same for another layer that reads it, as [`Self::forward_for`].
    ///
    /// # Errors
    /// As [`Self::forward_gated`].
    pub fn forward_gated_for(
        &self,
        up: &Linear,
        x: &Tensor,
        activation: Activation,
        reader: Option<&Linear>,
    ) -> Result<Tensor> {
        if self.features() != up.features() {
            bail!(
                "linear: expected a gate and an up layer of one shape, found {:?} and {:?}",
                [self.out_features(), self.in_features()],
                [up.out_features(), up.in_features()]
            );
        }
        self.check(x)?;
        up.check(x)?;
        let x = if up.reads_rounded() { self.rounded(x)? } else { x.clone() };
        room_of(&x).gated_linear([self, up], &x, activation, reader.is_some_and(Self::reads_rounded))
    }
}

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
    room_of(gate).gated(gate, up, activation, false)
}

impl LayerNorm {
    /// The normalised rows of `x` `[rows, width]`.
    ///
    /// # Errors
    /// If `x` has another width or is not f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        room_of(x).layer_norm(self, x)
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
            check_rows(x, rows)?;
        }
        room_of(x).layer_norm_of_sum(self, x, residual, dropped)
    }

    /// The normalised rows of `layer`'s result for `x` `[rows, in]` and `residual` `[rows, width]`: [`Self::forward_residual`] of
    /// [`Linear::forward`], to the bit. What comes in is let go as soon as it is multiplied.
    ///
    /// # Errors
    /// As those two.
    pub fn forward_linear_residual(
        &self,
        layer: &Linear,
        x: Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor> {
        layer.check(&x)?;
        self.check(residual)?;
        let (expected, found) = ([x.dim(0)?, layer.out_features()], residual.dims());
        if found != expected {
            bail!("layer norm: expected a residual {expected:?}, found {found:?}");
        }
        if let Some((rows, _)) = dropped {
            check_rows(residual, rows)?;
        }
        let y = layer.forward(&x, Activation::Identity)?;
        drop(x);
        self.forward_residual(&y, residual, dropped)
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let width = self.weight.elem_count();
        match x.dims() {
            [_, found] if *found == width => expect_f32("layer norm", x),
            found => bail!("layer norm: expected [rows, {width}], found {found:?}"),
        }
    }
}

impl RmsNorm {
    /// The normalised rows of `x` `[rows, width]`.
    ///
    /// # Errors
    /// If `x` has another width or is not f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_heads(x, 1)
    }

    /// The rows of `x` `[rows, heads * width]`, each head of them normalised for itself, all by the same weight.
    ///
    /// # Errors
    /// If `x` has another width or is not f32.
    pub fn forward_heads(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        match x.dims() {
            [_, found] if Some(*found) == self.width().checked_mul(heads) => expect_f32("rms norm", x)?,
            found => bail!("rms norm: expected [rows, {heads} * {}], found {found:?}", self.width()),
        }
        room_of(x).rms_norm(self, x)
    }
}

impl Rotary {
    /// `x` `[rows, heads * head width]`, of which row `i` stands at the position of `rows[i]`, with each head turned.
    ///
    /// # Errors
    /// If there are not as many `rows` as `x` has, its width is no multiple of the head width, or it is not f32.
    pub fn apply(&self, x: &Tensor, rows: &RowSelection) -> Result<Tensor> {
        let turned = self.turned(x, rows)?;
        room_of(x).rotary(turned, x)
    }
}

/// Scaled dot-product attention (Vaswani et al., 2017, equation 1) of several heads, inside each sequence:
/// `softmax(scale q k^T) v`, over the keys that each query sees; see [`AttentionForm`] for what else there is.
///
/// `k` and `v` are `[all rows, key/value heads * head width]`, `q` and the result `[queries, heads * head width]`. Queries are
/// computed in blocks, without the keys that none of a block sees. A query's result does not depend on which others are
/// asked. Dropout falls on the probabilities; the one of head `h` between the query at position `p` and key `j` of `n` is number
/// `(p * heads + h) * n + j` of its sequence.
///
/// # Errors
/// If the form is none ([`AttentionForm`]), the shapes do not fit together, a sequence has no key for its dropout, or a
/// tensor is not f32.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    packing: &Packing,
    queries: &RowSelection,
    form: &AttentionForm,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    attention_for([q, k, v], packing, queries, form, dropout, None)
}

/// The same for a layer that reads the result, as [`Linear::forward_for`].
pub(crate) fn attention_for(
    [q, k, v]: [&Tensor; 3],
    packing: &Packing,
    queries: &RowSelection,
    form: &AttentionForm,
    dropout: Option<&Dropout>,
    reader: Option<&Linear>,
) -> Result<Tensor> {
    form.check()?;
    let (of_query, of_key) = (form.query_width(), form.key_width());
    let expected = [
        ("q", q, [queries.len(), of_query]),
        ("k", k, [packing.rows(), of_key]),
        ("v", v, [packing.rows(), of_key]),
    ];
    for (name, tensor, expected) in expected {
        if tensor.dims() != expected {
            bail!("attention: expected {name} {expected:?}, found {:?}", tensor.dims());
        }
        expect_f32("attention", tensor)?;
    }
    if queries.packing() != packing {
        bail!("attention: expected queries of the batch of {} rows, found others", packing.rows());
    }
    room_of(q).attention([q, k, v], queries, form, dropout, reader.is_some_and(Linear::reads_rounded))
}

/// Drops elements of `x` `[rows, width]`; the one in column `j` of the row at position `p` of its sequence is number
/// `p * width + j` of the sequence.
///
/// # Errors
/// If there are not as many `rows` as `x` has, a sequence has no key, or `x` is not f32.
pub fn dropout(x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor> {
    check_rows(x, rows)?;
    room_of(x).dropout(x, rows, dropout)
}

/// Refuses what can't be dropped out of.
fn check_rows(x: &Tensor, rows: &RowSelection) -> Result<()> {
    match x.dims() {
        [count, _] if *count == rows.len() => expect_f32("dropout", x),
        found => bail!("dropout: expected [{}, width], found {found:?}", rows.len()),
    }
}
