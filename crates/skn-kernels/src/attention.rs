use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::{slice, with_slice};
use crate::dropout::Dropout;
use crate::packing::{Packing, Rows};
use crate::simd::{Isa, exp, lane_sum, multiply_add, multiversioned};

/// Scaled dot-product attention (Vaswani et al., 2017, equation 1) of several heads, inside each sequence:
/// `softmax(q k^T / sqrt(width of a head)) v`.
///
/// `k` and `v` are `[all rows, hidden]`, `q` and the result `[queries, hidden]`. Dropout falls on the probabilities;
/// the one of head `h` between the query at position `p` and key `j` of `n` is number `(p * heads + h) * n + j` of
/// its sequence.
///
/// # Errors
/// If the shapes do not fit together.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    packing: &Packing,
    queries: &Rows,
    heads: usize,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    let (rows, hidden) = k.dims2()?;
    let fits = rows == packing.rows()
        && v.dims() == k.dims()
        && q.dims() == [queries.len(), hidden]
        && heads > 0
        && hidden % heads == 0
        && queries.packing() == packing;
    if !fits {
        bail!(
            "attention: expected k and v [{}, hidden] and q [{}, hidden] of {heads} heads, found {:?}, {:?} and {:?}",
            packing.rows(),
            queries.len(),
            k.dims(),
            v.dims(),
            q.dims()
        );
    }
    if !q.device().is_cpu() {
        return composed::attention(q, k, v, packing, queries, heads, dropout);
    }
    let op = Attention {
        packing: packing.clone(),
        queries: queries.clone(),
        heads,
        width: hidden / heads,
        dropout: dropout.cloned(),
    };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

struct Attention {
    packing: Packing,
    queries: Rows,
    heads: usize,
    width: usize,
    dropout: Option<Dropout>,
}

/// What one head of one sequence works with. Keys and values are stored column by column, so that the inner loops
/// run over keys.
struct Head {
    keys: usize,
    width: usize,
    scale: f32,
    k: Vec<f32>,
    v: Vec<f32>,
    probabilities: Vec<f32>,
    factors: Vec<f32>,
}

/// One row of one head in a packed matrix.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    hidden: usize,
    head: usize,
    width: usize,
}

impl Place {
    fn range(self) -> std::ops::Range<usize> {
        let start = self.row * self.hidden + self.head * self.width;
        start..start + self.width
    }
}

impl Attention {
    fn hidden(&self) -> usize {
        self.heads * self.width
    }

    fn place(&self, row: usize, head: usize) -> Place {
        Place { row, hidden: self.hidden(), head, width: self.width }
    }

    /// Calls `each` for every head of every sequence that has queries.
    fn for_each_head(
        &self,
        k: &[f32],
        v: &[f32],
        mut each: impl FnMut(&mut Head, usize, usize) -> Result<()>,
    ) -> Result<()> {
        for sequence in 0..self.packing.len() {
            if self.queries.of_sequence(sequence).is_empty() {
                continue;
            }
            for number in 0..self.heads {
                let mut head = self.head(k, v, sequence, number);
                each(&mut head, sequence, number)?;
            }
        }
        Ok(())
    }

    fn head(&self, k: &[f32], v: &[f32], sequence: usize, number: usize) -> Head {
        let rows = self.packing.range(sequence);
        let keys = rows.len();
        let columns = |matrix: &[f32]| {
            let mut columns = vec![0f32; self.width * keys];
            for (key, row) in rows.clone().enumerate() {
                for (column, value) in matrix[self.place(row, number).range()].iter().enumerate() {
                    columns[column * keys + key] = *value;
                }
            }
            columns
        };
        Head {
            keys,
            width: self.width,
            scale: 1.0 / (self.width as f32).sqrt(),
            k: columns(k),
            v: columns(v),
            probabilities: vec![0.0; keys],
            factors: vec![1.0; keys],
        }
    }

    /// Fills in the factors of dropout for a query; all are 1 without dropout.
    fn drop(&self, head: &mut Head, sequence: usize, number: usize, query: usize) -> Result<()> {
        let Some(dropout) = &self.dropout else { return Ok(()) };
        let position = self.queries.position()[query] as u64;
        let first = (position * self.heads as u64 + number as u64) * head.keys as u64;
        dropout.factors(sequence, first, &mut head.factors)
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "skn-attention"
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
        let q = slice(q, lq)?;
        let isa = Isa::best();
        let mut out = vec![0f32; q.len()];
        self.for_each_head(slice(k, lk)?, slice(v, lv)?, |head, sequence, number| {
            for query in self.queries.of_sequence(sequence) {
                let place = self.place(query, number).range();
                self.drop(head, sequence, number, query)?;
                probabilities(isa, head, &q[place.clone()]);
                mix(isa, head, &mut out[place]);
            }
            Ok(())
        })?;
        Ok((CpuStorage::F32(out), Shape::from((self.queries.len(), self.hidden()))))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [q_values, k_values, v_values, gradient_values] =
            [q, k, v, gradient].map(|tensor| with_slice(tensor, <[f32]>::to_vec));
        let (q_values, k_values, v_values, g) = (q_values?, k_values?, v_values?, gradient_values?);
        let isa = Isa::best();
        let (mut dq, mut dk, mut dv) =
            (vec![0f32; g.len()], vec![0f32; k_values.len()], vec![0f32; v_values.len()]);
        self.for_each_head(&k_values, &v_values, |head, sequence, number| {
            let mut sums = HeadGradients::new(head);
            for query in self.queries.of_sequence(sequence) {
                let place = self.place(query, number).range();
                self.drop(head, sequence, number, query)?;
                probabilities(isa, head, &q_values[place.clone()]);
                head_gradient(
                    isa,
                    head,
                    &mut sums,
                    &q_values[place.clone()],
                    &g[place.clone()],
                    &mut dq[place],
                );
            }
            for (key, row) in self.packing.range(sequence).enumerate() {
                let place = self.place(row, number).range();
                for column in 0..self.width {
                    dk[place.start + column] = sums.k[column * head.keys + key];
                    dv[place.start + column] = sums.v[column * head.keys + key];
                }
            }
            Ok(())
        })?;
        let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        Ok((Some(tensor(dq, q)?), Some(tensor(dk, k)?), Some(tensor(dv, v)?)))
    }
}

/// Gradients of a head's keys and values, column by column, and room for those of the scores.
struct HeadGradients {
    k: Vec<f32>,
    v: Vec<f32>,
    scores: Vec<f32>,
}

impl HeadGradients {
    fn new(head: &Head) -> Self {
        Self { k: vec![0.0; head.k.len()], v: vec![0.0; head.v.len()], scores: vec![0.0; head.keys] }
    }
}

/// The softmax of a query's scores, before dropout.
#[inline(always)]
fn probabilities_body<const FUSED: bool>(head: &mut Head, q: &[f32]) {
    let scores = &mut head.probabilities;
    scores.fill(0.0);
    for (column, q) in head.k.chunks_exact(head.keys).zip(q) {
        let q = q * head.scale;
        for (score, k) in scores.iter_mut().zip(column) {
            *score = multiply_add::<FUSED>(q, *k, *score);
        }
    }
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = exp::<FUSED>(*score - highest);
    }
    let total = lane_sum(scores.len(), |i| scores[i]);
    scores.iter_mut().for_each(|score| *score /= total);
}

#[inline(always)]
fn mix_body<const FUSED: bool>(head: &Head, out: &mut [f32]) {
    for (column, out) in head.v.chunks_exact(head.keys).zip(out) {
        *out = lane_sum(head.keys, |i| head.probabilities[i] * head.factors[i] * column[i]);
    }
}

/// The gradients that one query contributes. With `p` the probabilities, `m` the factors of dropout and `g` the
/// gradient of the result: `dv_j += p_j m_j g`, `dp_j = m_j (g . v_j)`, `ds_j = p_j (dp_j - sum_i p_i dp_i)`,
/// `dq = scale * sum_j ds_j k_j`, `dk_j += scale * ds_j q`.
#[inline(always)]
fn head_gradient_body<const FUSED: bool>(
    head: &Head,
    sums: &mut HeadGradients,
    q: &[f32],
    g: &[f32],
    dq: &mut [f32],
) {
    let keys = head.keys;
    let (p, m) = (&head.probabilities, &head.factors);
    sums.scores.fill(0.0);
    for column in 0..head.width {
        let (v, dv) = (&head.v[column * keys..][..keys], &mut sums.v[column * keys..][..keys]);
        for key in 0..keys {
            sums.scores[key] = multiply_add::<FUSED>(g[column], v[key], sums.scores[key]);
            dv[key] = multiply_add::<FUSED>(p[key] * m[key], g[column], dv[key]);
        }
    }
    let scores = &mut sums.scores;
    let mean = lane_sum(keys, |i| p[i] * m[i] * scores[i]);
    for key in 0..keys {
        scores[key] = head.scale * p[key] * (m[key] * scores[key] - mean);
    }
    for column in 0..head.width {
        let (k, dk) = (&head.k[column * keys..][..keys], &mut sums.k[column * keys..][..keys]);
        dq[column] = lane_sum(keys, |i| scores[i] * k[i]);
        for key in 0..keys {
            dk[key] = multiply_add::<FUSED>(scores[key], q[column], dk[key]);
        }
    }
}

multiversioned!(probabilities = probabilities_body(head: &mut Head, q: &[f32]));
multiversioned!(mix = mix_body(head: &Head, out: &mut [f32]));
multiversioned!(
    head_gradient = head_gradient_body(head: &Head, sums: &mut HeadGradients, q: &[f32], g: &[f32], dq: &mut [f32])
);
