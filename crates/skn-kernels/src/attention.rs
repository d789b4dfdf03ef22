mod form;

use candle_core::{Result, Tensor, bail};

use crate::backend::Backend;
use crate::check::expect_f32;
use crate::mask::Dropout;
use crate::packing::{Packing, RowSelection};
pub use form::{AttentionForm, Sees};

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
    Backend::of(q.device()).operations().attention([q, k, v], queries, form, dropout)
}
