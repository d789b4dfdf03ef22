//! Attention on candle's graph: a block of queries of a head of a sequence at a time.

mod blocks;
mod softmax;

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use crate::attention::AttentionForm;
use crate::cpu::panels::Panels;
use crate::cpu::simd::Isa;
use crate::cpu::slices::{slice, with_slices};
use crate::cpu::view::{View, ViewMut};
use crate::mask::Dropout;
use crate::packing::RowSelection;

use blocks::{Block, blocks};
use softmax::{cap_gradient, cap_scores, softmax, softmax_gradient};

/// See [`attention`](crate::attention()).
pub(super) fn forward(
    [q, k, v]: [&Tensor; 3],
    queries: &RowSelection,
    form: &AttentionForm,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    let op =
        Attention { queries: queries.clone(), form: *form, queries_per_row: 1, dropout: dropout.cloned() };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// `softmax(scale q x^T) x` inside each sequence: keys and values are the rows themselves, `x` `[all rows, width]`, and
/// each row of `queries` asks `per_row` times, `q` being `[queries * per_row, width]`. Of the form it has the scale and what
/// is seen.
pub(super) fn attention_of_rows(
    q: &Tensor,
    x: &Tensor,
    queries: &RowSelection,
    per_row: usize,
    form: &AttentionForm,
) -> Result<Tensor> {
    let form = AttentionForm { heads: 1, key_value_heads: 1, head_width: x.dim(1)?, soft_cap: None, ..*form };
    let op = Attention { queries: queries.clone(), form, queries_per_row: per_row, dropout: None };
    let x = x.contiguous()?;
    q.contiguous()?.apply_op3(&x, &x, op)
}

/// Attention of `queries`, whose batch the keys are of.
struct Attention {
    queries: RowSelection,
    form: AttentionForm,
    /// Rows of `q` for each row that asks.
    queries_per_row: usize,
    dropout: Option<Dropout>,
}

/// The keys and values of one head of a sequence, and who asks for them.
struct KeyHead<'a> {
    form: &'a AttentionForm,
    /// Its number among the heads of keys.
    number: usize,
    /// The rows of keys.
    keys: Range<usize>,
    blocks: &'a [Block],
    factors: &'a Factors<'a>,
}

/// Factors of dropout of a sequence.
struct Factors<'a> {
    dropout: Option<&'a Dropout>,
    queries: &'a RowSelection,
    sequence: usize,
    heads: usize,
    keys: usize,
    /// `[queries, heads, keys]`, if all queries are one block: made at once they take less time, but for a long text too much
    /// memory.
    all: Option<Vec<f32>>,
}

/// The softmax of the scores of a block.
struct Probabilities {
    plain: Vec<f32>,
    /// After dropout, if there is any.
    dropped: Option<Vec<f32>>,
    /// The scores after their soft cap, if they have one.
    capped: Option<Vec<f32>>,
}

impl Probabilities {
    fn dropped(&self) -> &[f32] {
        self.dropped.as_deref().unwrap_or(&self.plain)
    }
}

/// Some rows and the columns of one head of a matrix with so many heads.
fn part<'a>(matrix: &'a [f32], rows: &Range<usize>, head: usize, heads: usize, width: usize) -> View<'a> {
    let values = &matrix[(rows.start * heads + head) * width..];
    View { values, rows: rows.len(), columns: width, stride: heads * width }
}

/// As [`part`], to write to.
fn part_mut<'a>(
    matrix: &'a mut [f32],
    rows: &Range<usize>,
    head: usize,
    heads: usize,
    width: usize,
) -> ViewMut<'a> {
    let values = &mut matrix[(rows.start * heads + head) * width..];
    ViewMut { values, columns: width, stride: heads * width }
}

impl KeyHead<'_> {
    /// Keys, or values.
    fn of_keys<'a>(&self, matrix: &'a [f32]) -> View<'a> {
        part(matrix, &self.keys, self.number, self.form.key_value_heads, self.form.head_width)
    }

    /// A block of what is shaped as queries.
    fn of_queries<'a>(&self, matrix: &'a [f32], head: usize, block: &Block) -> View<'a> {
        part(matrix, &block.queries, head, self.form.heads, self.form.head_width)
    }

    fn of_queries_mut<'a>(&self, matrix: &'a mut [f32], head: usize, block: &Block) -> ViewMut<'a> {
        part_mut(matrix, &block.queries, head, self.form.heads, self.form.head_width)
    }

    /// The heads that ask for these keys.
    fn heads(&self) -> Range<usize> {
        self.number * self.form.group()..(self.number + 1) * self.form.group()
    }

    /// `left` times keys or values, transposed: a number for each query and key of a block.
    fn products(&self, isa: Isa, left: View<'_>, right: &Panels, block: &Block) -> Vec<f32> {
        let mut scores = vec![0f32; block.queries.len() * block.stride()];
        let mut out = ViewMut { values: &mut scores, columns: block.keys.len(), stride: block.stride() };
        right.multiply_part(isa, left, [0..self.form.head_width, block.keys.clone()], &mut out);
        scores
    }

    fn probabilities(
        &self,
        isa: Isa,
        q: &[f32],
        keys: &Panels,
        head: usize,
        block: &Block,
    ) -> Result<Probabilities> {
        let mut plain = self.products(isa, self.of_queries(q, head, block), keys, block);
        let (stride, seen, mut scale, mut capped) = (block.stride(), &block.seen, self.form.scale, None);
        if let Some(cap) = self.form.soft_cap {
            cap_scores(isa, &mut plain, stride, seen, scale, cap);
            (scale, capped) = (1.0, Some(plain.clone()));
        }
        softmax(isa, &mut plain, stride, seen, scale);
        let dropped = self.factors.apply(&plain, head, block)?;
        Ok(Probabilities { plain, dropped, capped })
    }

    fn forward(&self, isa: Isa, [q, k, v]: [&[f32]; 3], out: &mut [f32]) -> Result<()> {
        let keys = Panels::<f32>::of_transposed(self.of_keys(k));
        let values = Panels::<f32>::of(self.of_keys(v));
        for head in self.heads() {
            for block in self.blocks {
                let probabilities = self.probabilities(isa, q, &keys, head, block)?;
                let (left, part) = (block.scores(probabilities.dropped()), block.keys.clone());
                let mut out = self.of_queries_mut(out, head, block);
                values.multiply_part(isa, left, [part, 0..self.form.head_width], &mut out);
            }
        }
        Ok(())
    }

    /// With `p` the probabilities, `m` the factors of dropout and `g` the gradient of the result:
    /// `dv_j = sum over queries of p_j m_j g`, `ds_j = p_j (m_j g . v_j - sum over i of p_i m_i g . v_i)`,
    /// `dq = scale * sum over j of ds_j k_j`, `dk_j = scale * sum over queries of ds_j q`. A soft cap takes `ds_j` times its
    /// slope. Queries are those of all heads that ask for these keys, a block after the other.
    fn backward(&self, isa: Isa, [q, k, v, g]: [&[f32]; 4], [dq, dk, dv]: [&mut [f32]; 3]) -> Result<()> {
        let keys = Panels::<f32>::of_transposed(self.of_keys(k));
        let values = Panels::<f32>::of_transposed(self.of_keys(v));
        let rows = Panels::<f32>::of(self.of_keys(k));
        for head in self.heads() {
            for block in self.blocks {
                let probabilities = self.probabilities(isa, q, &keys, head, block)?;
                let gradient = self.of_queries(g, head, block);
                let mut scores = self.products(isa, gradient, &values, block);
                let scale = if self.form.soft_cap.is_some() { 1.0 } else { self.form.scale };
                let both = [&probabilities.plain[..], probabilities.dropped()];
                softmax_gradient(isa, &mut scores, both, block.stride(), &block.seen, scale);
                if let (Some(cap), Some(capped)) = (self.form.soft_cap, &probabilities.capped) {
                    cap_gradient(isa, &mut scores, capped, self.form.scale, cap);
                }
                self.add_to_keys(isa, gradient, probabilities.dropped(), block, dv);
                self.add_to_keys(isa, self.of_queries(q, head, block), &scores, block, dk);
                let part = [block.keys.clone(), 0..self.form.head_width];
                let mut dq = self.of_queries_mut(dq, head, block);
                rows.multiply_part(isa, block.scores(&scores), part, &mut dq);
            }
        }
        Ok(())
    }

    /// Adds the queries, each as often as a key's weight says, to each key of a block.
    fn add_to_keys(&self, isa: Isa, queries: View<'_>, weights: &[f32], block: &Block, out: &mut [f32]) {
        let weights = block.scores(weights).transposed();
        let left = View::dense(&weights, block.keys.len(), block.queries.len());
        let keys = self.keys.start + block.keys.start..self.keys.start + block.keys.end;
        let heads = self.form.key_value_heads;
        let mut out = part_mut(out, &keys, self.number, heads, self.form.head_width);
        Panels::<f32>::of(queries).multiply_adding(isa, left, &mut out);
    }
}

impl Factors<'_> {
    /// The number in its sequence of the first factor of a query's head.
    fn first(&self, query: usize, head: usize) -> u64 {
        (u64::from(self.queries.position()[query]) * self.heads as u64 + head as u64) * self.keys as u64
    }

    /// Makes all of them, if there are any.
    fn make_all(&mut self, asking: Range<usize>) -> Result<()> {
        let Some(dropout) = self.dropout else { return Ok(()) };
        let width = self.heads * self.keys;
        let mut factors = vec![0f32; asking.len() * width];
        for (query, factors) in asking.zip(factors.chunks_exact_mut(width)) {
            dropout.factors(self.sequence, self.first(query, 0), factors)?;
        }
        self.all = Some(factors);
        Ok(())
    }

    /// The probabilities of a head of a block after dropout, if there is any.
    fn apply(&self, probabilities: &[f32], head: usize, block: &Block) -> Result<Option<Vec<f32>>> {
        let Some(dropout) = self.dropout else { return Ok(None) };
        let (mut dropped, keys) = (probabilities.to_vec(), block.keys.clone());
        let drop = |row: &mut [f32], factors: &[f32]| {
            row[..keys.len()].iter_mut().zip(factors).for_each(|(p, factor)| *p *= factor);
        };
        let rows = dropped.chunks_exact_mut(block.stride());
        if let Some(all) = &self.all {
            let of_head = all.get(head * self.keys..).unwrap_or_default().chunks(self.heads * self.keys);
            rows.zip(of_head).for_each(|(row, factors)| drop(row, &factors[keys.clone()]));
            return Ok(Some(dropped));
        }
        let mut factors = vec![0f32; keys.len()];
        for (query, row) in block.asking.clone().zip(rows) {
            dropout.factors(self.sequence, self.first(query, head) + keys.start as u64, &mut factors)?;
            drop(row, &factors);
        }
        Ok(Some(dropped))
    }
}

impl Attention {
    /// Calls `each` for every head of keys of every sequence that has queries.
    fn for_each_head(&self, mut each: impl FnMut(&KeyHead<'_>) -> Result<()>) -> Result<()> {
        let (packing, form) = (self.queries.packing(), &self.form);
        for sequence in 0..packing.len() {
            let (asking, keys) = (self.queries.of_sequence(sequence), packing.range(sequence));
            if asking.is_empty() {
                continue;
            }
            let (positions, per_row) = (self.queries.position(), self.queries_per_row);
            let blocks = blocks(asking.clone(), positions, keys.len(), per_row, form.sees);
            let (queries, dropout) = (&self.queries, self.dropout.as_ref());
            let mut factors =
                Factors { dropout, queries, sequence, heads: form.heads, keys: keys.len(), all: None };
            if blocks.len() == 1 {
                factors.make_all(asking)?;
            }
            for number in 0..form.key_value_heads {
                each(&KeyHead { form, number, keys: keys.clone(), blocks: &blocks, factors: &factors })?;
            }
        }
        Ok(())
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
