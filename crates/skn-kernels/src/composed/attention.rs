use candle_core::{D, Result, Tensor};

use crate::attention::AttentionForm;
use crate::mask::Dropout;
use crate::packing::{Packing, RowSelection};

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
    form: &AttentionForm,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    let AttentionForm { heads, head_width, scale } = *form;
    let hidden = heads * head_width;
    let split = |x: &Tensor, start: usize, count: usize| {
        x.narrow(0, start, count)?.reshape((count, heads, head_width))?.transpose(0, 1)?.contiguous()
    };
    let mut mixed = Vec::new();
    for sequence in 0..packing.len() {
        let (keys, asked) = (packing.range(sequence), queries.of_sequence(sequence));
        if asked.is_empty() {
            continue;
        }
        let q = split(q, asked.start, asked.len())?;
        let (k, v) = (split(k, keys.start, keys.len())?, split(v, keys.start, keys.len())?);
        let scores = (q.matmul(&k.t()?)? * f64::from(scale))?;
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
