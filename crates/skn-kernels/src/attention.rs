mod blocks;
mod form;
mod operation;
mod softmax;

use candle_core::{Result, Tensor, bail};

use crate::composed;
use crate::cpu::expect_f32;
use crate::mask::Dropout;
use crate::packing::{Packing, RowSelection};
pub use form::{AttentionForm, Sees};
use operation::Attention;

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
    if !q.device().is_cpu() {
        return composed::attention(q, k, v, packing, queries, form, dropout);
    }
    let op =
        Attention { queries: queries.clone(), form: *form, queries_per_row: 1, dropout: dropout.cloned() };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// `softmax(scale q x^T) x` inside each sequence: keys and values are the rows themselves, `x` `[all rows, width]`, and
/// each row of `queries` asks `per_row` times, `q` being `[queries * per_row, width]`. Of the form it has the scale and what
/// is seen.
pub(crate) fn attention_of_rows(
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
