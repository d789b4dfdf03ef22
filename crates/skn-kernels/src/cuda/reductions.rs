//! Reductions of rows: `kernels/pool.cu`.

use candle_core::{DType, Result, Tensor, bail};

use super::launch::{Launch, Made};
use crate::row_groups::{ColumnNumbers, Misfit, RowGroups, RowNumbers, RowRuns};
use crate::running::{Running, RunningMoments, RunningSums, SharesOf};

/// Threads of a block, and the columns that it takes.
const THREADS: u32 = 128;

/// Rows of a slice: enough that what a block adds at its end costs little, and few enough that there are blocks for all of a card.
const ROWS_OF_SLICE: usize = 64;

/// The most that a grid has beside its first side.
const MOST_BLOCKS: usize = 65_535;

fn blocks_of(columns: usize) -> u32 {
    columns.div_ceil(THREADS as usize) as u32
}

/// Blocks of columns, groups and slices.
fn sliced(rows: &RowGroups, width: usize) -> Result<[u32; 3]> {
    if rows.groups() > MOST_BLOCKS {
        bail!("reductions: expected at most {MOST_BLOCKS} groups, found {}", rows.groups());
    }
    let slices = rows.rows().div_ceil(ROWS_OF_SLICE).min(MOST_BLOCKS);
    Ok([blocks_of(width), rows.groups() as u32, slices as u32])
}

impl Running {
    /// For a launch.
    fn lend(&mut self) -> Result<Made> {
        Ok(Made { shape: self.len().into(), storage: self.take()? })
    }

    /// Has back what was lent.
    fn keep(&mut self, made: Option<Made>) {
        if let Some(made) = made {
            self.put(made.storage);
        }
    }
}

fn lend_if(running: Option<&mut Running>) -> Result<Option<Made>> {
    running.map(Running::lend).transpose()
}

fn keep_if(running: Option<&mut Running>, made: Option<Made>) {
    if let Some(running) = running {
        running.keep(made);
    }
}

/// See [`ColumnSums::add`](crate::ColumnSums::add).
pub(super) fn add_columns(
    sums: &mut RunningSums,
    x: &Tensor,
    rows: &RowGroups,
    misfit: &mut Misfit,
) -> Result<()> {
    let (width, device) = (x.dim(1)?, x.device());
    let RunningSums { sums, squares, minimum, maximum } = sums;
    let launch = Launch::new("add_statistics", sliced(rows, width)?, THREADS)
        .goes_on(Some(sums.lend()?))
        .goes_on(lend_if(squares.as_mut())?)
        .goes_on(lend_if(minimum.as_mut())?)
        .goes_on(lend_if(maximum.as_mut())?)
        .goes_on(Some(misfit.found.lend()?))
        .tensor(x)?
        .tensor(rows.on(device)?.numbers)?
        .u32(rows.rows())?
        .u32(width)?
        .u64(misfit.mark() as usize);
    let [of_sums, of_squares, of_minimum, of_maximum, found] = launch.run::<5>(device)?;
    sums.keep(of_sums);
    keep_if(squares.as_mut(), of_squares);
    keep_if(minimum.as_mut(), of_minimum);
    keep_if(maximum.as_mut(), of_maximum);
    misfit.found.keep(found);
    Ok(())
}

/// See [`ColumnCounts::add`](crate::ColumnCounts::add).
pub(super) fn count_columns(
    counts: &mut Running,
    x: &Tensor,
    rows: &RowGroups,
    threshold: &Tensor,
    misfit: &mut Misfit,
) -> Result<()> {
    let (width, device) = (x.dim(1)?, x.device());
    let of_rows = rows.on(device)?;
    let launch = Launch::new("count_above", sliced(rows, width)?, THREADS)
        .goes_on(Some(counts.lend()?))
        .goes_on(Some(misfit.found.lend()?))
        .tensor(x)?
        .tensor(threshold)?
        .tensor(of_rows.classes)?
        .tensor(of_rows.numbers)?
        .u32(rows.rows())?
        .u32(width)?
        .u64(misfit.mark() as usize);
    let [of_counts, found] = launch.run::<2>(device)?;
    counts.keep(of_counts);
    misfit.found.keep(found);
    Ok(())
}

/// See [`pack_above`](crate::pack_above()).
pub(super) fn pack_above(
    x: &Tensor,
    rows: &RowGroups,
    threshold: &Tensor,
    misfit: &mut Misfit,
) -> Result<Tensor> {
    let (width, device) = (x.dim(1)?, x.device());
    let (all, bytes) = (rows.groups() * rows.rows(), width.div_ceil(8));
    let launch = Launch::new("pack_above", [blocks_of(bytes), all.min(MOST_BLOCKS) as u32, 1], THREADS)
        .output_of(DType::U8, (all, bytes))
        .goes_on(Some(misfit.found.lend()?))
        .tensor(x)?
        .tensor(threshold)?
        .tensor(rows.on(device)?.numbers)?
        .u32(rows.groups())?
        .u32(rows.rows())?
        .u32(width)?
        .u64(misfit.mark() as usize);
    let [bits, found] = launch.run::<2>(device)?;
    misfit.found.keep(found);
    match bits {
        Some(bits) => Ok(bits.tensor()),
        None => bail!("pack_above: expected a result"),
    }
}

/// See [`pool_rows`](crate::pool_rows()).
pub(super) fn pool_rows(
    x: &Tensor,
    runs: &RowRuns,
    [mean, max]: [bool; 2],
    misfit: &mut Misfit,
) -> Result<[Option<Tensor>; 2]> {
    let (width, device) = (x.dim(1)?, x.device());
    let (texts, of_runs) = (runs.len(), runs.on(device)?);
    let launch = Launch::new("pool_rows", [texts as u32, blocks_of(width), 1], THREADS)
        .output_if(mean, (texts, width))
        .output_if(max, (texts, width))
        .goes_on(Some(misfit.found.lend()?))
        .tensor(x)?
        .tensor(&of_runs.first)?
        .tensor(&of_runs.count)?
        .u32(texts)?
        .u32(width)?
        .u64(misfit.mark() as usize);
    let [mean, max, found] = launch.run::<3>(device)?;
    misfit.found.keep(found);
    Ok([mean.map(Made::tensor), max.map(Made::tensor)])
}

/// See [`ColumnMoments::add`](crate::ColumnMoments::add).
pub(super) fn add_moments(
    moments: &mut RunningMoments,
    x: &Tensor,
    rows: &RowGroups,
    numbers: Option<&RowNumbers>,
    misfit: &mut Misfit,
) -> Result<()> {
    let (width, device, of_rows) = (x.dim(1)?, x.device(), rows.on(x.device())?);
    let RunningMoments { classes, sums, products, squares } = moments;
    let launch = Launch::new("add_moments", sliced(rows, width)?, THREADS)
        .goes_on(Some(sums.lend()?))
        .goes_on(lend_if(products.as_mut())?)
        .goes_on(lend_if(squares.as_mut())?)
        .goes_on(Some(misfit.found.lend()?))
        .tensor(x)?
        .tensor_if(numbers.map(|numbers| numbers.on(device)).transpose()?)?
        .tensor_if(classes.map(|_| of_rows.classes))?
        .tensor(of_rows.numbers)?
        .u32(classes.unwrap_or(1))?
        .u32(rows.rows())?
        .u32(width)?
        .u64(misfit.mark() as usize);
    let [of_sums, of_products, of_squares, found] = launch.run::<4>(device)?;
    sums.keep(of_sums);
    keep_if(products.as_mut(), of_products);
    keep_if(squares.as_mut(), of_squares);
    misfit.found.keep(found);
    Ok(())
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
    let (width, device, of_rows) = (x.dim(1)?, x.device(), rows.on(x.device())?);
    let launch = Launch::new("count_bins", sliced(rows, width)?, THREADS)
        .goes_on(Some(counts.lend()?))
        .goes_on(Some(misfit.found.lend()?))
        .tensor(x)?
        .tensor(ends)?
        .tensor(of_rows.classes)?
        .tensor(of_rows.numbers)?
        .u32(classes)?
        .u32(rows.rows())?
        .u32(width)?
        .u64(misfit.mark() as usize);
    let [of_counts, found] = launch.run::<2>(device)?;
    counts.keep(of_counts);
    misfit.found.keep(found);
    Ok(())
}

/// See [`pick_columns`](crate::pick_columns()).
pub(super) fn pick_columns(
    x: &Tensor,
    rows: &RowGroups,
    columns: &ColumnNumbers,
    misfit: &mut Misfit,
) -> Result<Tensor> {
    let (width, device, all) = (x.dim(1)?, x.device(), rows.groups() * rows.rows());
    let launch = Launch::new("pick_columns", [all.min(MOST_BLOCKS) as u32, 1, 1], THREADS)
        .output((all, columns.len()))
        .goes_on(Some(misfit.found.lend()?))
        .tensor(x)?
        .tensor(columns.on(device)?)?
        .tensor(rows.on(device)?.numbers)?
        .u32(columns.len())?
        .u64(all)
        .u32(width)?
        .u64(misfit.mark() as usize);
    let [picked, found] = launch.run::<2>(device)?;
    misfit.found.keep(found);
    match picked {
        Some(picked) => Ok(picked.tensor()),
        None => bail!("pick_columns: expected a result"),
    }
}

/// See [`ColumnShares::add`](crate::ColumnShares::add).
pub(super) fn add_shares(
    sums: &mut Running,
    x: &Tensor,
    rows: &RowGroups,
    of: SharesOf<'_>,
    misfit: &mut Misfit,
) -> Result<()> {
    let (width, device) = (x.dim(1)?, x.device());
    let launch = Launch::new("add_shares", sliced(rows, width)?, THREADS)
        .goes_on(Some(sums.lend()?))
        .goes_on(Some(misfit.found.lend()?))
        .tensor(x)?
        .tensor(of.columns)?
        .tensor_if(of.norms)?
        .tensor(rows.on(device)?.numbers)?
        .u32(rows.rows())?
        .u32(width)?
        .u64(misfit.mark() as usize);
    let [of_sums, found] = launch.run::<2>(device)?;
    sums.keep(of_sums);
    misfit.found.keep(found);
    Ok(())
}

/// See [`row_norms`](crate::row_norms()).
pub(super) fn row_norms(x: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let launch = Launch::new("row_norms", [blocks_of(rows), 1, 1], THREADS).output(rows);
    Ok(launch.tensor(x)?.u32(rows)?.u32(width)?.run_one(x.device())?.tensor())
}
