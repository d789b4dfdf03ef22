use candle_core::{Result, Tensor, bail};

use crate::backend::Backend;
use crate::check::expect_f32;
use crate::mask::Dropout;
use crate::packing::RowSelection;

/// Drops elements of `x` `[rows, width]`; the one in column `j` of the row at position `p` of its sequence is number
/// `p * width + j` of the sequence.
///
/// # Errors
/// If there are not as many `rows` as `x` has, a sequence has no key, or `x` is not f32.
pub fn dropout(x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor> {
    check(x, rows)?;
    Backend::of(x.device()).operations().dropout(x, rows, dropout)
}

/// Refuses what can't be dropped out of.
pub(crate) fn check(x: &Tensor, rows: &RowSelection) -> Result<()> {
    match x.dims() {
        [count, _] if *count == rows.len() => expect_f32("dropout", x),
        found => bail!("dropout: expected [{}, width], found {found:?}", rows.len()),
    }
}
