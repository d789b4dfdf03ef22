//! Every operation of this crate from candle's own differentiable ones: what runs on devices that have no kernels
//! here, and what the kernels are tested against.
//!
//! candle's fused `layer_norm` and `softmax_last_dim` are not used: they have no backward pass and cut the graph
//! without a word.

use candle_core::{D, Result, Tensor};

use crate::activation::Activation;
use crate::mask::Dropout;
use crate::packing::{Packing, RowSelection};

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
    let y = y.broadcast_add(bias)?;
    match activation {
        Activation::Identity => Ok(y),
        Activation::Gelu => y.gelu_erf(),
        Activation::GeluTanh => y.gelu(),
        Activation::Relu => y.relu(),
    }
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

/// Attention inside each sequence; see [`attention`](crate::attention()).
///
/// # Errors
/// If the shapes do not fit together.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    packing: &Packing,
    queries: &RowSelection,
    heads: usize,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    let hidden = k.dim(1)?;
    let split = |x: &Tensor, start: usize, count: usize| {
        x.narrow(0, start, count)?.reshape((count, heads, hidden / heads))?.transpose(0, 1)?.contiguous()
    };
    let mut mixed = Vec::new();
    for sequence in 0..packing.len() {
        let (keys, asked) = (packing.range(sequence), queries.of_sequence(sequence));
        if asked.is_empty() {
            continue;
        }
        let q = split(q, asked.start, asked.len())?;
        let (k, v) = (split(k, keys.start, keys.len())?, split(v, keys.start, keys.len())?);
        let scores = (q.matmul(&k.t()?)? / ((hidden / heads) as f64).sqrt())?;
        let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let mut probabilities = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
        if let Some(dropout) = dropout {
            let factors = factors(queries, sequence, [heads, keys.len()], dropout)?;
            probabilities =
                (probabilities * Tensor::from_vec(factors, (heads, asked.len(), keys.len()), q.device())?)?;
        }
        mixed.push(probabilities.matmul(&v)?.transpose(0, 1)?.reshape((asked.len(), hidden))?);
    }
    if mixed.is_empty() {
        return Tensor::zeros((0, hidden), q.dtype(), q.device());
    }
    Tensor::cat(&mixed, 0)
}

/// Dropout; see [`dropout`](crate::dropout()).
///
/// # Errors
/// If a sequence has no key, or the shapes do not fit together.
pub fn dropout(x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor> {
    let factors = dropout.row_factors(rows, x.dim(1)?)?;
    x * Tensor::from_vec(factors, x.shape(), x.device())?
}

/// Factors of dropout `[heads, queries, keys]` of a sequence.
fn factors(
    queries: &RowSelection,
    sequence: usize,
    [heads, keys]: [usize; 2],
    dropout: &Dropout,
) -> Result<Vec<f32>> {
    let mut factors = Vec::new();
    for head in 0..heads {
        for query in queries.of_sequence(sequence) {
            let mut row = vec![0f32; keys];
            let first = (u64::from(queries.position()[query]) * heads as u64 + head as u64) * keys as u64;
            dropout.factors(sequence, first, &mut row)?;
            factors.extend(row);
        }
    }
    Ok(factors)
}
