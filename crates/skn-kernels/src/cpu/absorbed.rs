//! Keys and values absorbed into the queries; see [`SelfAttention`](crate::SelfAttention).

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use crate::attention::AttentionForm;
use crate::check::expect_cpu_precision;
use crate::cpu::attention::attention_of_rows;
use crate::cpu::operand::{Operand, made};
use crate::cpu::slices::{slice, with_slices};
use crate::cpu::view::{View, ViewMut};
use crate::linear::Linear;
use crate::packing::RowSelection;
use crate::precision::Precision;

/// Key and value layers cut into heads, made when they are first needed.
#[derive(Debug)]
pub(crate) struct Absorbed {
    key: Arc<Heads>,
    value: Arc<Heads>,
}

impl Absorbed {
    pub(crate) fn new(key: &Linear, value: &Linear, form: &AttentionForm) -> Self {
        let heads = |layer| Arc::new(Heads::new(layer, form.heads));
        Self { key: heads(key), value: heads(value) }
    }

    /// Bytes that the heads take in memory now, beside the layers that they are of.
    pub(crate) fn bytes(&self) -> usize {
        let packed = [&self.key.spread, &self.key.gather, &self.value.spread, &self.value.gather];
        packed.into_iter().filter_map(OnceLock::get).flatten().map(Operand::bytes).sum()
    }

    pub(crate) fn pack(&self) -> Result<()> {
        self.key.pack(&self.key.spread, Operand::of)?;
        self.value.pack(&self.value.gather, Operand::of_transposed)
    }

    /// What the asking rows attend to, `query` `[queries, hidden]` being their queries.
    pub(crate) fn forward(
        &self,
        query: &Tensor,
        x: &Tensor,
        queries: &RowSelection,
        form: &AttentionForm,
    ) -> Result<Tensor> {
        let (weight, bias) = self.key.parameters()?;
        let asked = query.contiguous()?.apply_op3(&weight, &bias, Spread(Arc::clone(&self.key)))?;
        let mixed = attention_of_rows(&asked, x, queries, form.heads, form)?;
        let (weight, bias) = self.value.parameters()?;
        mixed.apply_op3(&weight, &bias, Gather(Arc::clone(&self.value)))
    }
}

/// A layer `[hidden, hidden]` cut into the rows of its heads, `W_h` `[width, hidden]`.
#[derive(Debug)]
struct Heads {
    layer: Linear,
    count: usize,
    /// The heads of a frozen weight, packed when they are first needed.
    spread: OnceLock<Vec<Operand>>,
    gather: OnceLock<Vec<Operand>>,
}

impl Heads {
    fn new(layer: &Linear, count: usize) -> Self {
        Self { layer: layer.clone(), count, spread: OnceLock::new(), gather: OnceLock::new() }
    }

    /// Weight and bias as inputs of an operation, which gives them gradients if they train. A frozen weight is in the operation
    /// itself, and nothing stands for it.
    fn parameters(&self) -> Result<(Tensor, Tensor)> {
        let bias = self.layer.bias().contiguous()?;
        let weight = if self.layer.is_packed() {
            Tensor::zeros(0, bias.dtype(), bias.device())?
        } else {
            self.layer.weight()?
        };
        Ok((weight, bias))
    }

    /// Gives `read` each head's right-hand side: packed once and for all if the weight is frozen, else anew, in f32.
    fn with<T>(
        &self,
        packed: &OnceLock<Vec<Operand>>,
        pack: impl Fn(View<'_>, Precision) -> Operand,
        read: impl FnOnce(&[Operand]) -> T,
    ) -> Result<T> {
        let cut = |precision| {
            expect_cpu_precision(precision)?;
            let hidden = self.layer.in_features();
            let width = hidden / self.count;
            with_slices([&self.layer.weight()?], |[values]| {
                let heads = values.chunks_exact((width * hidden).max(1));
                Ok(heads
                    .map(|values| pack(View::dense(values, width, hidden), precision))
                    .collect::<Vec<_>>())
            })
        };
        if !self.layer.is_packed() {
            return Ok(read(&cut(Precision::F32)?));
        }
        Ok(read(made(packed, || cut(self.layer.precision()))?))
    }

    fn pack(&self, packed: &OnceLock<Vec<Operand>>, pack: fn(View<'_>, Precision) -> Operand) -> Result<()> {
        self.with(packed, pack, |_| ())
    }

    /// `q` `[rows, hidden]` to `[rows * heads, hidden]`: `q_h W_h` for each head.
    fn spread(&self, q: View<'_>) -> Result<Vec<f32>> {
        let (hidden, width) = (q.columns, q.columns / self.count);
        let stride = self.count * hidden;
        let mut out = vec![0f32; q.rows * stride];
        if q.rows > 0 {
            self.with(&self.spread, Operand::of, |heads| {
                for (head, weight) in heads.iter().enumerate() {
                    let left = View { values: &q.values[head * width..], columns: width, ..q };
                    let values = &mut out[head * hidden..];
                    weight.multiply_into(left, &[], &mut ViewMut { values, columns: hidden, stride });
                }
            })?;
        }
        Ok(out)
    }

    /// `m` `[rows, heads * hidden]` to `[rows, hidden]`: `m_h W_h^T` for each head, plus its part of the bias.
    fn gather(&self, m: View<'_>, bias: &[f32]) -> Result<Vec<f32>> {
        let hidden = m.columns / self.count;
        let width = hidden / self.count;
        let mut out = vec![0f32; m.rows * hidden];
        if m.rows > 0 {
            self.with(&self.gather, Operand::of_transposed, |heads| {
                for (head, weight) in heads.iter().enumerate() {
                    let left = View { values: &m.values[head * hidden..], columns: hidden, ..m };
                    let bias = bias.get(head * width..(head + 1) * width).unwrap_or_default();
                    let values = &mut out[head * width..];
                    weight.multiply_into(left, bias, &mut ViewMut { values, columns: width, stride: hidden });
                }
            })?;
        }
        Ok(out)
    }

    /// The weight's gradient, `n_h^T w_h` for each head of `narrow` `[rows, hidden]` and `wide` `[rows * heads, hidden]`.
    fn weight_gradient(&self, narrow: &Tensor, wide: &Tensor) -> Result<Tensor> {
        let (rows, hidden) = narrow.dims2()?;
        let mut heads = Vec::with_capacity(self.count);
        let (narrow, wide) = (narrow.contiguous()?, wide.contiguous()?.reshape((rows, self.count, hidden))?);
        for head in 0..self.count {
            let width = hidden / self.count;
            let narrow = narrow.narrow(1, head * width, width)?.t()?.contiguous()?;
            heads.push(narrow.matmul(&wide.narrow(1, head, 1)?.squeeze(1)?.contiguous()?)?);
        }
        Tensor::cat(&heads, 0)
    }
}

/// The queries of heads `[rows, hidden]`, taken through the keys' weight: `[rows * heads, hidden]`. The keys' bias is an
/// input so that it has a gradient: 0, because it falls out of the softmax.
struct Spread(Arc<Heads>);

impl CustomOp3 for Spread {
    fn name(&self) -> &'static str {
        "queries through keys"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, hidden) = layout.shape().dims2()?;
        let values = self.0.spread(View::dense(slice(q, layout)?, rows, hidden))?;
        Ok((CpuStorage::F32(values), Shape::from((rows * self.0.count, hidden))))
    }

    fn bwd(
        &self,
        q: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dq = wanted(q, || {
            let (rows, hidden) = q.dims2()?;
            let back = with_slices([gradient], |[values]| {
                self.0.gather(View::dense(values, rows, self.0.count * hidden), &[])
            })?;
            Tensor::from_vec(back, q.shape(), q.device())
        })?;
        let dw = wanted(weight, || self.0.weight_gradient(q, gradient))?;
        Ok((dq, dw, wanted(bias, || bias.zeros_like())?))
    }
}

/// What heads attend to `[rows * heads, hidden]`, taken through the values' weight, plus bias: `[rows, hidden]`.
struct Gather(Arc<Heads>);

impl CustomOp3 for Gather {
    fn name(&self) -> &'static str {
        "rows through values"
    }

    fn cpu_fwd(
        &self,
        m: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, hidden) = layout.shape().dims2()?;
        let rows = rows / self.0.count;
        let m = View::dense(slice(m, layout)?, rows, self.0.count * hidden);
        let values = self.0.gather(m, slice(bias, of_bias)?)?;
        Ok((CpuStorage::F32(values), Shape::from((rows, hidden))))
    }

    fn bwd(
        &self,
        m: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dm = wanted(m, || {
            let (rows, hidden) = gradient.dims2()?;
            let back = with_slices([gradient], |[values]| self.0.spread(View::dense(values, rows, hidden)))?;
            Tensor::from_vec(back, m.shape(), m.device())
        })?;
        Ok((dm, wanted(weight, || self.0.weight_gradient(gradient, m))?, wanted(bias, || gradient.sum(0))?))
    }
}

/// The gradient of an input, if anybody wants it.
fn wanted(input: &Tensor, gradient: impl FnOnce() -> Result<Tensor>) -> Result<Option<Tensor>> {
    input.track_op().then(gradient).transpose()
}
