use std::ops::Range;

use candle_core::{D, Device, Result, Tensor};

use crate::attention::{AttentionForm, Sees};
use crate::mask::Dropout;
use crate::packing::{Packing, RowSelection};

/// Attention inside each sequence; see [`attention`](crate::attention()).
///
/// # Errors
/// If the form is none, or the shapes do not fit together.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    packing: &Packing,
    queries: &RowSelection,
    form: &AttentionForm,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    form.check()?;
    let AttentionForm { heads, key_value_heads, head_width, scale, soft_cap, sees } = *form;
    let split = |x: &Tensor, start: usize, count: usize, heads: usize| {
        x.narrow(0, start, count)?.reshape((count, heads, head_width))?.transpose(0, 1)?.contiguous()
    };
    let group = Tensor::from_iter((0..heads).map(|head| (head / form.group()) as u32), q.device())?;
    let mut mixed = Vec::new();
    for sequence in 0..packing.len() {
        let (keys, asked) = (packing.range(sequence), queries.of_sequence(sequence));
        if asked.is_empty() {
            continue;
        }
        let q = split(q, asked.start, asked.len(), heads)?;
        let [k, v] =
            [k, v].map(|x| split(x, keys.start, keys.len(), key_value_heads)?.index_select(&group, 0));
        let (k, v) = (k?, v?);
        let mut scores = (q.matmul(&k.t()?)? * f64::from(scale))?;
        if let Some(cap) = soft_cap {
            scores = ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?;
        }
        if sees != Sees::ALL {
            scores = scores.broadcast_add(&hidden(queries, asked.clone(), keys.len(), sees, q.device())?)?;
        }
        let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let mut probabilities = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
        if let Some(dropout) = dropout {
            let factors = factors(queries, sequence, [heads, keys.len()], dropout)?;
            probabilities =
                (probabilities * Tensor::from_vec(factors, (heads, asked.len(), keys.len()), q.device())?)?;
        }
        mixed.push(probabilities.matmul(&v)?.transpose(0, 1)?.reshape((asked.len(), heads * head_width))?);
    }
    if mixed.is_empty() {
        return Tensor::zeros((0, heads * head_width), q.dtype(), q.device());
    }
    Tensor::cat(&mixed, 0)
}

/// What is added to scores `[queries, keys]`: 0 where a query sees a key, else minus infinity.
fn hidden(
    queries: &RowSelection,
    asked: Range<usize>,
    keys: usize,
    sees: Sees,
    device: &Device,
) -> Result<Tensor> {
    let mut values = vec![f32::NEG_INFINITY; asked.len() * keys];
    for (query, row) in asked.clone().zip(values.chunks_exact_mut(keys)) {
        row[sees.from(queries.position()[query] as usize, keys)].fill(0.0);
    }
    Tensor::from_vec(values, (asked.len(), keys), device)
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
