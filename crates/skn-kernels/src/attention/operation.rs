//! Attention on candle's graph, a head of a sequence at a time.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::form::AttentionForm;
use super::softmax::{softmax, softmax_gradient};
use crate::cpu::{slice, with_slices};
use crate::mask::Dropout;
use crate::packing::RowSelection;
use crate::panels::Panels;
use crate::simd::{Isa, LANES};
use crate::view::{View, ViewMut};

/// Attention of `queries`, whose batch the keys are of.
pub(super) struct Attention {
    pub(super) queries: RowSelection,
    pub(super) form: AttentionForm,
    /// Rows of `q` for each row that asks.
    pub(super) queries_per_row: usize,
    pub(super) dropout: Option<Dropout>,
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
        let (packing, form) = (self.queries.packing(), &self.form);
        for sequence in 0..packing.len() {
            let (queries, keys) = (self.queries.of_sequence(sequence), packing.range(sequence));
            if queries.is_empty() {
                continue;
            }
            let factors = self.factors(sequence, &queries, keys.len())?;
            let queries = queries.start * self.queries_per_row..queries.end * self.queries_per_row;
            for head in 0..form.heads {
                let factors =
                    factors.as_deref().map(|all| (&all[head * keys.len()..], form.heads * keys.len()));
                each(&Head {
                    queries: queries.clone(),
                    keys: keys.clone(),
                    columns: head * form.head_width..(head + 1) * form.head_width,
                    hidden: form.heads * form.head_width,
                    scale: form.scale,
                    factors,
                });
            }
        }
        Ok(())
    }

    /// Factors of dropout of a sequence, `[queries, heads, keys]`.
    fn factors(&self, sequence: usize, queries: &Range<usize>, keys: usize) -> Result<Option<Vec<f32>>> {
        let Some(dropout) = &self.dropout else { return Ok(None) };
        let width = self.form.heads * keys;
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
        if self.form.head_width > 0 {
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
            if self.form.head_width == 0 {
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
