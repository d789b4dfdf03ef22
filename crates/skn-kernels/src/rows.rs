//! Rows of matrices.

use candle_core::{Result, Tensor, bail};

use crate::backend::Backend;
use crate::cuda::{at_positions, of_numbers, of_selection};
use crate::packing::RowSelection;

/// The given rows of `x`, which has all rows of the batch. Differentiable.
///
/// # Errors
/// If `x` is not `[all rows, width]`.
pub fn select_rows(x: &Tensor, rows: &RowSelection) -> Result<Tensor> {
    match x.dims() {
        [count, _] if *count == rows.packing().rows() => {}
        found => {
            bail!("select rows: expected [{}, width], found {found:?}", rows.packing().rows())
        }
    }
    if rows.is_all() {
        return Ok(x.clone());
    }
    match Backend::of(x.device()) {
        Backend::Cuda => of_selection(x, rows),
        Backend::Cpu | Backend::Composed => picked(x, rows.number()),
    }
}

/// For each of some rows of a batch the row of `table` `[positions, width]` for its position in its sequence. Differentiable.
///
/// # Errors
/// If the table has fewer positions.
pub fn rows_at_positions(table: &Tensor, rows: &RowSelection) -> Result<Tensor> {
    expect_rows("rows at positions", table, rows.position())?;
    match Backend::of(table.device()) {
        Backend::Cuda => at_positions(table, rows),
        Backend::Cpu | Backend::Composed => picked(table, rows.position()),
    }
}

/// The rows of these numbers of `table` `[rows, ..]`, which may be none. Differentiable.
///
/// # Errors
/// If it has no such row.
pub fn rows_of(table: &Tensor, numbers: &[u32]) -> Result<Tensor> {
    expect_rows("rows of a table", table, numbers)?;
    match Backend::of(table.device()) {
        Backend::Cuda => of_numbers(table, numbers),
        Backend::Cpu | Backend::Composed => picked(table, numbers),
    }
}

/// Refuses a number that no row of a table has, where the numbers still are on the host: a card would tell nothing, or end every
/// later launch.
fn expect_rows(what: &str, table: &Tensor, numbers: &[u32]) -> Result<()> {
    let Some(&most) = numbers.iter().max() else { return Ok(()) };
    match table.dim(0)? {
        rows if (most as usize) < rows => Ok(()),
        rows => bail!("{what}: expected numbers of rows below {rows}, found {most}"),
    }
}

fn picked(x: &Tensor, numbers: &[u32]) -> Result<Tensor> {
    x.index_select(&Tensor::new(numbers, x.device())?, 0)
}
