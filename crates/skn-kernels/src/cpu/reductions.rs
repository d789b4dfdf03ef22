//! Reductions of rows. Plain loops: probing on a processor reads rows itself, while they are in its caches, and these are what others are
//! compared with.

use candle_core::{Result, Tensor};

use super::slices::with_slices;
use crate::row_groups::{Misfit, RowGroups, RowRuns};
use crate::running::{Running, RunningSums, add_wide, in_order};

/// The largest magnitude that is added up.
const MOST: f32 = (1u32 << 20) as f32;

/// Steps of a sum in 1.
const STEPS_PER_UNIT: f64 = (1u64 << 40) as f64;

/// Each group's rows of a matrix.
fn each_row<'x>(
    x: &'x [f32],
    width: usize,
    rows: &RowGroups,
) -> impl Iterator<Item = (usize, usize, &'x [f32])> {
    let of_group = rows.numbers().chunks_exact(rows.rows().max(1)).enumerate();
    let numbered = of_group.flat_map(|(group, numbers)| {
        numbers.iter().enumerate().map(move |(place, &number)| (group, place, number as usize))
    });
    let found: Vec<_> = numbered.collect();
    found.into_iter().map(move |(group, place, number)| (group, place, &x[number * width..][..width]))
}

/// See [`ColumnSums::add`](crate::ColumnSums::add).
pub(super) fn add_columns(
    sums: &mut RunningSums,
    x: &Tensor,
    rows: &RowGroups,
    misfit: &mut Misfit,
) -> Result<()> {
    let (width, mut fit) = (x.dim(1)?, true);
    let places = rows.groups() * width;
    with_slices([x], |[x]| {
        for (group, _, row) in each_row(x, width, rows) {
            for (column, &value) in row.iter().enumerate() {
                // NaN is not below it either.
                let fits = value.abs() <= MOST;
                fit &= fits;
                if !fits {
                    continue;
                }
                let place = group * width + column;
                let steps = |number: f64| (number * STEPS_PER_UNIT).round_ties_even() as i128;
                add_wide(sums.sums.integers()?, places, place, steps(value.into()));
                if let Some(squares) = &mut sums.squares {
                    let square = f64::from(value) * f64::from(value);
                    add_wide(squares.integers()?, places, place, steps(square));
                }
                if let Some(minimum) = &mut sums.minimum {
                    let least = &mut minimum.places()?[place];
                    *least = in_order(value).min(*least);
                }
                if let Some(maximum) = &mut sums.maximum {
                    let most = &mut maximum.places()?[place];
                    *most = in_order(value).max(*most);
                }
            }
        }
        Ok(())
    })?;
    if fit { Ok(()) } else { misfit.note() }
}

/// See [`ColumnCounts::add`](crate::ColumnCounts::add).
pub(super) fn count_columns(
    counts: &mut Running,
    x: &Tensor,
    rows: &RowGroups,
    threshold: &Tensor,
    misfit: &mut Misfit,
) -> Result<()> {
    let (width, mut fit) = (x.dim(1)?, true);
    let places = rows.groups() * width;
    let counts = counts.integers()?;
    with_slices([x, threshold], |[x, threshold]| {
        for (group, place, row) in each_row(x, width, rows) {
            fit &= row.iter().all(|value| value.is_finite());
            let of_class = &mut counts[rows.classes()[place] as usize * places + group * width..][..width];
            for ((count, value), threshold) in of_class.iter_mut().zip(row).zip(&threshold[group * width..]) {
                *count += i64::from(value > threshold);
            }
        }
        Ok(())
    })?;
    if fit { Ok(()) } else { misfit.note() }
}

/// See [`pack_above`](crate::pack_above()).
pub(super) fn pack_above(
    x: &Tensor,
    rows: &RowGroups,
    threshold: &Tensor,
    misfit: &mut Misfit,
) -> Result<Tensor> {
    let (width, mut fit) = (x.dim(1)?, true);
    let bytes = width.div_ceil(8);
    let mut bits = vec![0u8; rows.groups() * rows.rows() * bytes];
    with_slices([x, threshold], |[x, threshold]| {
        for ((group, _, row), bits) in each_row(x, width, rows).zip(bits.chunks_exact_mut(bytes)) {
            fit &= row.iter().all(|value| value.is_finite());
            for (column, (value, threshold)) in row.iter().zip(&threshold[group * width..]).enumerate() {
                bits[column / 8] |= u8::from(value > threshold) << (column % 8);
            }
        }
        Ok(())
    })?;
    if !fit {
        misfit.note()?;
    }
    Tensor::from_vec(bits, (rows.groups() * rows.rows(), bytes), x.device())
}

/// See [`pool_rows`](crate::pool_rows()).
pub(super) fn pool_rows(
    x: &Tensor,
    runs: &RowRuns,
    [mean, max]: [bool; 2],
    misfit: &mut Misfit,
) -> Result<[Option<Tensor>; 2]> {
    let (width, mut fit) = (x.dim(1)?, true);
    let (mut means, mut maxima) = (Vec::new(), Vec::new());
    with_slices([x], |[x]| {
        for run in runs.ranges() {
            let (mut sum, mut most) = (vec![0f64; width], vec![f32::NEG_INFINITY; width]);
            let rows = run.len() as f64;
            for row in x[run.start * width..run.end * width].chunks_exact(width) {
                for ((sum, most), &value) in sum.iter_mut().zip(&mut most).zip(row) {
                    fit &= value.is_finite();
                    *sum += f64::from(value);
                    *most = if value > *most { value } else { *most };
                }
            }
            means.extend(sum.into_iter().map(|sum| (sum / rows) as f32));
            maxima.extend(most);
        }
        Ok(())
    })?;
    if !fit {
        misfit.note()?;
    }
    let made = |values| Tensor::from_vec(values, (runs.len(), width), x.device());
    Ok([mean.then(|| made(means)).transpose()?, max.then(|| made(maxima)).transpose()?])
}
