use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::{expect_f32, slice, with_slices};
use crate::mask::Dropout;
use crate::packing::{Packing, RowSelection};
use crate::panels::Panels;
use crate::simd::{Isa, LANES, exp, for_each_chunk, lane_max, lane_sum, lane_sum_pairs, multiversioned};
use crate::view::{View, ViewMut};

/// Scaled dot-product attention (Vaswani et al., 2017, equation 1) of several heads, inside each sequence:
/// `softmax(q k^T / sqrt(width of a head)) v`.
///
/// `k` and `v` are `[all rows, hidden]`, `q` and the result `[queries, hidden]`. Dropout falls on the probabilities;
/// the one of head `h` between the query at position `p` and key `j` of `n` is number `(p * heads + h) * n + j` of
/// its sequence.
///
/// # Errors
/// If the shapes do not fit together, a sequence has no key for its dropout, or a tensor is not f32.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    packing: &Packing,
    queries: &RowSelection,
    heads: usize,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    let hidden = match k.dims() {
        [rows, hidden] if *rows == packing.rows() => *hidden,
        found => bail!("attention: expected k [{}, hidden], found {found:?}", packing.rows()),
    };
    if v.dims() != k.dims() || q.dims() != [queries.len(), hidden] {
        bail!(
            "attention: expected v [{}, {hidden}] and q [{}, {hidden}], found {:?} and {:?}",
            packing.rows(),
            queries.len(),
            v.dims(),
            q.dims()
        );
    }
    if heads == 0 || hidden % heads != 0 {
        bail!("attention: expected a number of heads that divides {hidden}, found {heads}");
    }
    if queries.packing() != packing {
        bail!("attention: expected queries of the batch of {} rows, found others", packing.rows());
    }
    for tensor in [q, k, v] {
        expect_f32("attention", tensor)?;
    }
    if !q.device().is_cpu() {
        return composed::attention(q, k, v, packing, queries, heads, dropout);
    }
    let op = Attention {
        packing: packing.clone(),
        queries: queries.clone(),
        heads,
        width: hidden / heads,
        scale: 1.0 / ((hidden / heads) as f32).sqrt(),
        queries_per_row: 1,
        dropout: dropout.cloned(),
    };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// `softmax(scale q x^T) x` inside each sequence: keys and values are the rows themselves, `x` `[all rows, width]`, and
/// each row of `queries` asks `per_row` times, `q` being `[queries * per_row, width]`.
pub(crate) fn attention_of_rows(
    q: &Tensor,
    x: &Tensor,
    queries: &RowSelection,
    per_row: usize,
    scale: f32,
) -> Result<Tensor> {
    let op = Attention {
        packing: queries.packing().clone(),
        queries: queries.clone(),
        heads: 1,
        width: x.dim(1)?,
        scale,
        queries_per_row: per_row,
        dropout: None,
    };
    let x = x.contiguous()?;
    q.contiguous()?.apply_op3(&x, &x, op)
}

struct Attention {
    packing: Packing,
    queries: RowSelection,
    heads: usize,
    /// Numbers of a key of one head.
    width: usize,
    scale: f32,
    /// Rows of `q` for each row that asks.
    queries_per_row: usize,
    dropout: Option<Dropout>,
}

/// One head of one sequence: which parts of the matrices it works on.
struct Head<'a> {
    queries: Range<usize>,
    keys: Range<usize>,
    columns: Range<usize>,
    hidden: usize,
    scale: f32,
    /// Factors of dropout, for each query the first one of this head, and how far the next query's are.
    factors: Option<(&'a [f32], usize)>,
}

impl Head<'_> {
    fn view<'a>(&self, matrix: &'a [f32], rows: &Range<usize>) -> View<'a> {
        let values = &matrix[rows.start * self.hidden + self.columns.start..];
        View { values, rows: rows.len(), columns: self.columns.len(), stride: self.hidden }
    }

    fn view_mut<'a>(&self, matrix: &'a mut [f32], rows: &Range<usize>) -> ViewMut<'a> {
        let values = &mut matrix[rows.start * self.hidden + self.columns.start..];
        ViewMut { values, columns: self.columns.len(), stride: self.hidden }
    }

    /// Numbers from one query's probabilities to the next one's: whole vectors, the rest being 0.
    fn stride(&self) -> usize {
        self.keys.len().next_multiple_of(LANES)
    }

    fn scores<'a>(&self, values: &'a [f32]) -> View<'a> {
        View { values, rows: self.queries.len(), columns: self.keys.len(), stride: self.stride() }
    }

    /// `left right^T`, a number for each query and key.
    fn products(&self, isa: Isa, left: View<'_>, right: View<'_>) -> Vec<f32> {
        let mut scores = vec![0f32; self.queries.len() * self.stride()];
        let mut out = ViewMut { values: &mut scores, columns: self.keys.len(), stride: self.stride() };
        Panels::<f32>::of_transposed(right).multiply_into(isa, left, &[], &mut out, |_| {});
        scores
    }

    /// The softmax of the scores, and the same after dropout if there is any.
    fn probabilities(&self, isa: Isa, q: &[f32], k: &[f32]) -> (Vec<f32>, Option<Vec<f32>>) {
        let mut scores = self.products(isa, self.view(q, &self.queries), self.view(k, &self.keys));
        softmax(isa, &mut scores, self.stride(), self.keys.len(), self.scale);
        let dropped = self.factors.map(|(factors, step)| {
            let mut dropped = scores.clone();
            for (row, factors) in dropped.chunks_exact_mut(self.stride()).zip(factors.chunks(step)) {
                row.iter_mut().zip(&factors[..self.keys.len()]).for_each(|(p, factor)| *p *= factor);
            }
            dropped
        });
        (scores, dropped)
    }

    fn forward(&self, isa: Isa, [q, k, v]: [&[f32]; 3], out: &mut [f32]) {
        let (probabilities, dropped) = self.probabilities(isa, q, k);
        let left = self.scores(dropped.as_deref().unwrap_or(&probabilities));
        let mut out = self.view_mut(out, &self.queries);
        Panels::<f32>::of(self.view(v, &self.keys)).multiply_into(isa, left, &[], &mut out, |_| {});
    }

    /// With `p` the probabilities, `m` the factors of dropout and `g` the gradient of the result:
    /// `dv_j = sum over queries of p_j m_j g`, `ds_j = p_j (m_j g . v_j - sum over i of p_i m_i g . v_i)`,
    /// `dq = scale * sum over j of ds_j k_j`, `dk_j = scale * sum over queries of ds_j q`.
    fn backward(&self, isa: Isa, [q, k, v, g]: [&[f32]; 4], [dq, dk, dv]: [&mut [f32]; 3]) {
        let (probabilities, dropped) = self.probabilities(isa, q, k);
        let dropped = dropped.as_deref().unwrap_or(&probabilities);
        let g = self.view(g, &self.queries);
        let mut scores = self.products(isa, g, self.view(v, &self.keys));
        softmax_gradient(isa, &mut scores, &probabilities, dropped, self.stride(), self.scale);
        let of_queries = |queries: View<'_>, weights: &[f32], out: &mut [f32]| {
            let weights = self.scores(weights).transposed();
            let left = View::dense(&weights, self.keys.len(), self.queries.len());
            Panels::<f32>::of(queries).multiply_into(
                isa,
                left,
                &[],
                &mut self.view_mut(out, &self.keys),
                |_| {},
            );
        };
        of_queries(g, dropped, dv);
        of_queries(self.view(q, &self.queries), &scores, dk);
        let mut dq = self.view_mut(dq, &self.queries);
        Panels::<f32>::of(self.view(k, &self.keys)).multiply_into(
            isa,
            self.scores(&scores),
            &[],
            &mut dq,
            |_| {},
        );
    }
}

impl Attention {
    /// Calls `each` for every head of every sequence that has queries.
    fn for_each_head(&self, mut each: impl FnMut(&Head<'_>)) -> Result<()> {
        for sequence in 0..self.packing.len() {
            let (queries, keys) = (self.queries.of_sequence(sequence), self.packing.range(sequence));
            if queries.is_empty() {
                continue;
            }
            let factors = self.factors(sequence, &queries, keys.len())?;
            let queries = queries.start * self.queries_per_row..queries.end * self.queries_per_row;
            for head in 0..self.heads {
                let factors =
                    factors.as_deref().map(|all| (&all[head * keys.len()..], self.heads * keys.len()));
                each(&Head {
                    queries: queries.clone(),
                    keys: keys.clone(),
                    columns: head * self.width..(head + 1) * self.width,
                    hidden: self.heads * self.width,
                    scale: self.scale,
                    factors,
                });
            }
        }
        Ok(())
    }

    /// Factors of dropout of a sequence, `[queries, heads, keys]`.
    fn factors(&self, sequence: usize, queries: &Range<usize>, keys: usize) -> Result<Option<Vec<f32>>> {
        let Some(dropout) = &self.dropout else { return Ok(None) };
        let width = self.heads * keys;
        let mut factors = vec![0f32; queries.len() * width];
        for (query, factors) in queries.clone().zip(factors.chunks_exact_mut(width)) {
            let first = u64::from(self.queries.position()[query]) * width as u64;
            dropout.factors(sequence, first, factors)?;
        }
        Ok(Some(factors))
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let inputs = [slice(q, lq)?, slice(k, lk)?, slice(v, lv)?];
        let mut out = vec![0f32; inputs[0].len()];
        if self.width > 0 {
            self.for_each_head(|head| head.forward(Isa::best(), inputs, &mut out))?;
        }
        Ok((CpuStorage::F32(out), lq.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [mut dq, mut dk, mut dv] = [q, k, v].map(|input| vec![0f32; input.elem_count()]);
        with_slices([q, k, v, gradient], |inputs| {
            if self.width == 0 {
                return Ok(());
            }
            self.for_each_head(|head| head.backward(Isa::best(), inputs, [&mut dq, &mut dk, &mut dv]))
        })?;
        let made = |values: Vec<f32>, input: &Tensor| {
            let tracked = input.track_op();
            tracked.then(|| Tensor::from_vec(values, input.shape(), input.device())).transpose()
        };
        Ok((made(dq, q)?, made(dk, k)?, made(dv, v)?))
    }
}

/// The softmax of `scale` times the first `keys` numbers of every `stride`; the others become 0.
#[inline(always)]
fn softmax_body<const FUSED: bool>(scores: &mut [f32], stride: usize, keys: usize, scale: f32) {
    for row in scores.chunks_exact_mut(stride) {
        row[keys..].fill(f32::NEG_INFINITY);
        let highest = lane_max(row);
        for_each_chunk(row, |chunk| {
            for score in chunk {
                *score = exp::<FUSED>((*score - highest) * scale);
            }
        });
        row[keys..].fill(0.0);
        let share = 1.0 / lane_sum(row, |value| value);
        row.iter_mut().for_each(|value| *value *= share);
    }
}

/// Turns gradients of probabilities into gradients of scores, `p` being the probabilities and `dropped` the same
/// after dropout.
#[inline(always)]
fn softmax_gradient_body<const FUSED: bool>(
    gradient: &mut [f32],
    p: &[f32],
    dropped: &[f32],
    stride: usize,
    scale: f32,
) {
    let rows =
        gradient.chunks_exact_mut(stride).zip(p.chunks_exact(stride).zip(dropped.chunks_exact(stride)));
    for (row, (p, dropped)) in rows {
        let mean = lane_sum_pairs(row, dropped, |gradient, p| gradient * p);
        for ((value, p), dropped) in row.iter_mut().zip(p).zip(dropped) {
            *value = scale * (*value * dropped - p * mean);
        }
    }
}

multiversioned!(softmax = softmax_body(scores: &mut [f32], stride: usize, keys: usize, scale: f32));
multiversioned!(
    softmax_gradient =
        softmax_gradient_body(gradient: &mut [f32], p: &[f32], dropped: &[f32], stride: usize, scale: f32)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_by_hand_on_every_instruction_set() {
        for isa in Isa::available() {
            let mut scores = vec![9f32; LANES];
            scores[..3].copy_from_slice(&[0.0, 2.0 * 2f32.ln(), 2.0 * 5f32.ln()]);
            softmax(isa, &mut scores, LANES, 3, 0.5);
            for (found, expected) in scores.iter().zip([0.125, 0.25, 0.625]) {
                assert!((found - expected).abs() < 1e-6, "{isa:?}: {found} and {expected}");
            }
            assert!(scores[3..].iter().all(|&value| value == 0.0), "{isa:?}");
        }
    }

    #[test]
    fn scores_out_of_range_stay_right() {
        for isa in Isa::available() {
            let mut scores = vec![0f32; LANES];
            scores[..3].copy_from_slice(&[-1e30, 1e30, -3e38]);
            softmax(isa, &mut scores, LANES, 3, 1.0);
            assert!((scores[1] - 1.0).abs() < 1e-6 && scores[0] < 1e-30 && scores[2] < 1e-30, "{isa:?}");
            scores[..3].copy_from_slice(&[0.0, f32::NAN, 1.0]);
            softmax(isa, &mut scores, LANES, 3, 1.0);
            assert!(scores[0].is_nan(), "{isa:?}");
        }
    }
}
