//! Reductions of rows. Plain loops: probing on a processor reads rows itself, while they are in its caches, and these are what others are
//! compared with.

use candle_core::{Result, Tensor};

use super::slices::with_slices;
use crate::row_groups::{ColumnNumbers, Misfit, RowGroups, RowNumbers, RowRuns};
use crate::running::{BINS, Running, RunningMoments, RunningSums, SharesOf, add_wide, in_order};

/// The largest magnitude that is added up.
const MOST: f32 = (1u32 << 20) as f32;

/// Steps of a sum in 1.
const STEPS_PER_UNIT: f64 = (1u64 << 40) as f64;

fn steps(number: f64) -> i128 {
    (number * STEPS_PER_UNIT).round_ties_even() as i128
}

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
                add_wide(sums.sums.integers()?, places, place, steps(value.into()));
                if let Some(squares) = &mut sums.squares {
                    let square = f64::from(value) * f64::from(value);
                    add_wide(squares.integers()?, places, place, steps(square));
                }
                if let Some(minimum) = &mut sums.minimum {
                    let least = &mut minimum.words()?[place];
                    *least = in_order(value).min(*least);
                }
                if let Some(maximum) = &mut sums.maximum {
                    let most = &mut maximum.words()?[place];
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

/// See [`ColumnMoments::add`](crate::ColumnMoments::add).
pub(super) fn add_moments(
    moments: &mut RunningMoments,
    x: &Tensor,
    rows: &RowGroups,
    numbers: Option<&RowNumbers>,
    misfit: &mut Misfit,
) -> Result<()> {
    let (width, mut fit) = (x.dim(1)?, true);
    let places = rows.groups() * width;
    let classes = moments.classes.unwrap_or(1);
    with_slices([x], |[x]| {
        for (group, of_row, row) in each_row(x, width, rows) {
            let class = if moments.classes.is_some() { rows.classes()[of_row] as usize } else { 0 };
            for (column, &value) in row.iter().enumerate() {
                let fits = value.abs() <= MOST;
                fit &= fits;
                if !fits {
                    continue;
                }
                let place = group * width + column;
                let sums = moments.sums.integers()?;
                add_wide(sums, classes * places, class * places + place, steps(value.into()));
                if let Some(squares) = &mut moments.squares {
                    add_wide(squares.integers()?, places, place, steps(f64::from(value) * f64::from(value)));
                }
                if let (Some(products), Some(numbers)) = (&mut moments.products, numbers) {
                    let product = value * numbers.numbers()[of_row];
                    let fits = product.abs() <= MOST;
                    fit &= fits;
                    if fits {
                        add_wide(products.integers()?, places, place, steps(product.into()));
                    }
                }
            }
        }
        Ok(())
    })?;
    if fit { Ok(()) } else { misfit.note() }
}

/// The bin of a number between ends; see [`ColumnBins::new`](crate::ColumnBins::new).
fn bin(value: f32, [least, mean, most, below, above]: [f32; 5]) -> usize {
    const SIDE: f32 = (BINS / 2 - 1) as f32;
    let low = ((value - least) * below).min(SIDE - 1.0);
    let way = ((value - mean) * above).max(0.0);
    let high = (way.sqrt() * SIDE).min(SIDE - 1.0) + SIDE;
    let inner = 1.0 + if value < mean { low } else { high };
    let number = if value < least { 0.0 } else { inner };
    let number = if value > most { BINS as f32 - 1.0 } else { number };
    // Without what is behind its point: numbers from 2^23 on are 1 apart.
    let whole = ((number - 0.499_999).max(0.0) + (1u32 << 23) as f32).to_bits();
    whole as usize % BINS
}

/// See [`ColumnBins::add`](crate::ColumnBins::add).
pub(super) fn count_bins(
    counts: &mut Running,
    classes: usize,
    x: &Tensor,
    rows: &RowGroups,
    ends: &Tensor,
    misfit: &mut Misfit,
) -> Result<()> {
    let (width, mut fit) = (x.dim(1)?, true);
    let places = rows.groups() * width;
    let counts = counts.words()?;
    with_slices([x, ends], |[x, ends]| {
        for (group, of_row, row) in each_row(x, width, rows) {
            for (column, &value) in row.iter().enumerate() {
                fit &= value.is_finite();
                let place = group * width + column;
                let of_place = [0, 1, 2, 3, 4].map(|end| ends[end * places + place]);
                let class = rows.classes()[of_row] as usize;
                let count = &mut counts[(place * classes + class) * BINS + bin(value, of_place)];
                *count = count.wrapping_add(1);
            }
        }
        Ok(())
    })?;
    if fit { Ok(()) } else { misfit.note() }
}

/// See [`pick_columns`](crate::pick_columns()).
pub(super) fn pick_columns(
    x: &Tensor,
    rows: &RowGroups,
    columns: &ColumnNumbers,
    misfit: &mut Misfit,
) -> Result<Tensor> {
    let (width, mut fit, mut picked) = (x.dim(1)?, true, Vec::new());
    with_slices([x], |[x]| {
        for (_, _, row) in each_row(x, width, rows) {
            fit &= row.iter().all(|value| value.is_finite());
            picked.extend(columns.numbers().iter().map(|&column| row[column as usize]));
        }
        Ok(())
    })?;
    if !fit {
        misfit.note()?;
    }
    Tensor::from_vec(picked, (rows.groups() * rows.rows(), columns.len()), x.device())
}

/// See [`ColumnShares::add`](crate::ColumnShares::add).
pub(super) fn add_shares(
    sums: &mut Running,
    x: &Tensor,
    rows: &RowGroups,
    of: SharesOf<'_>,
    misfit: &mut Misfit,
) -> Result<()> {
    let (width, mut fit) = (x.dim(1)?, true);
    let places = rows.groups() * width;
    let sums = sums.integers()?;
    // Without norms every share is 0.
    let norms = of.norms.map_or_else(|| Ok(vec![0.0; x.dim(0)?]), Tensor::to_vec1::<f32>)?;
    with_slices([x, of.columns], |[x, columns]| {
        for ((group, _, row), &number) in each_row(x, width, rows).zip(rows.numbers()) {
            let norm = norms[number as usize];
            for (column, (&value, of_column)) in row.iter().zip(columns).enumerate() {
                let share = if norm > 0.0 { value.abs() * of_column / norm } else { 0.0 };
                let fits = value.is_finite() && share.abs() <= MOST;
                fit &= fits;
                if fits {
                    add_wide(sums, places, group * width + column, steps(share.into()));
                }
            }
        }
        Ok(())
    })?;
    if fit { Ok(()) } else { misfit.note() }
}

/// See [`row_norms`](crate::row_norms()).
pub(super) fn row_norms(x: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let norms = with_slices([x], |[x]| {
        let norm =
            |row: &[f32]| row.iter().map(|&it| f64::from(it) * f64::from(it)).sum::<f64>().sqrt() as f32;
        Ok(x.chunks_exact(width).map(norm).collect::<Vec<_>>())
    })?;
    Tensor::from_vec(norms, rows, x.device())
}
