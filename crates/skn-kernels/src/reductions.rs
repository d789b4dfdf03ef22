//! Reductions of rows where they lie: what is taken of activations, so that they need not travel.
//!
//! Sums are integers, so the same bits come out in any order, on any device.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::calls::room_of;
use crate::check::expect_f32;
use crate::row_groups::{ColumnTotals, Misfit, RowGroups, RowRuns};
use crate::running::{COUNTERS, Running, RunningSums, in_order, number_at, wide_of};

/// Sums, and more, of the columns of rows, over many batches. They lie on the device until they are asked for.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use skn_kernels::{ColumnSums, Misfit, RowGroups};
///
/// let device = Device::Cpu;
/// let x = Tensor::new(&[[1f32, 2.0], [3.0, -4.0], [5.0, 0.5]], &device)?;
/// // Rows 0 and 2 in one group of two.
/// let rows = RowGroups::new(1, vec![0, 2], vec![0, 0])?;
/// let (mut sums, mut misfit) = (ColumnSums::new([1, 2], false, true, &device)?, Misfit::new(&device)?);
/// sums.add(&x, &rows, &mut misfit)?;
/// let totals = sums.totals()?;
/// assert_eq!(totals.sums, [6 << 40, 5 << 39]);
/// assert_eq!(totals.range, Some([vec![1.0, 0.5], vec![5.0, 2.0]]));
/// assert_eq!(misfit.found()?, None);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct ColumnSums {
    shape: [usize; 2],
    running: RunningSums,
}

impl ColumnSums {
    /// Of nothing yet, for `[groups, width]`: sums, and squares or ranges too where they are wanted.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(shape: [usize; 2], squares: bool, range: bool, device: &Device) -> Result<Self> {
        let places = shape[0] * shape[1];
        let extreme = |of: f32| Running::words_on(vec![in_order(of); places], device);
        let running = RunningSums {
            sums: Running::zeros_on(COUNTERS * places, device)?,
            squares: squares.then(|| Running::zeros_on(COUNTERS * places, device)).transpose()?,
            minimum: range.then(|| extreme(f32::INFINITY)).transpose()?,
            maximum: range.then(|| extreme(f32::NEG_INFINITY)).transpose()?,
        };
        Ok(Self { shape, running })
    }

    /// Adds rows of `x` `[.., width]`. A number that is NaN, infinite or beyond 2^20 is a [`Misfit`], of which nothing is added.
    ///
    /// # Errors
    /// If `x` has not these rows or another width, there is another number of groups, or the device fails, after which there are no
    /// totals.
    pub fn add(&mut self, x: &Tensor, rows: &RowGroups, misfit: &mut Misfit) -> Result<()> {
        let found = [rows.groups(), rows.check("column sums", x)?];
        if found != self.shape {
            bail!("column sums: expected [groups, width] {:?}, found {found:?}", self.shape);
        }
        if is_nothing(rows, found) {
            return Ok(());
        }
        room_of(x).add_columns(&mut self.running, x, rows, misfit)
    }

    /// `[groups, width]`
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// What was added up. Waits for the device.
    ///
    /// # Errors
    /// If the device fails, or has failed before.
    pub fn totals(&self) -> Result<ColumnTotals> {
        let RunningSums { sums, squares, minimum, maximum } = &self.running;
        let wide = |of: &Running| Ok::<_, candle_core::Error>(wide_of(&of.read_integers()?));
        let extreme = |of: &Running| -> Result<Vec<f32>> {
            // Which zero came first depends on who was quicker.
            Ok(of.read_words()?.into_iter().map(|place| number_at(place) + 0.0).collect())
        };
        let range = match (minimum, maximum) {
            (Some(minimum), Some(maximum)) => Some([extreme(minimum)?, extreme(maximum)?]),
            _ => None,
        };
        Ok(ColumnTotals { sums: wide(sums)?, squares: squares.as_ref().map(wide).transpose()?, range })
    }
}

/// How many rows of each class have a number above a threshold, column by column, over many batches. The counts lie on the device
/// until they are asked for.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use skn_kernels::{ColumnCounts, Misfit, RowGroups};
///
/// let device = Device::Cpu;
/// let x = Tensor::new(&[[1f32, 2.0], [3.0, -4.0], [5.0, 0.5]], &device)?;
/// let thresholds = Tensor::new(&[[1f32, 0.0]], &device)?;
/// let rows = RowGroups::new(1, vec![0, 1, 2], vec![0, 1, 1])?;
/// let (mut counts, mut misfit) = (ColumnCounts::new(2, [1, 2], &device)?, Misfit::new(&device)?);
/// counts.add(&x, &rows, &thresholds, &mut misfit)?;
/// assert_eq!(counts.counts()?, [0, 1, 2, 1]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct ColumnCounts {
    classes: usize,
    shape: [usize; 2],
    running: Running,
}

impl ColumnCounts {
    /// Counts of 0, for `[classes, groups, width]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(classes: usize, shape: [usize; 2], device: &Device) -> Result<Self> {
        Ok(Self { classes, shape, running: Running::zeros_on(classes * shape[0] * shape[1], device)? })
    }

    /// Adds 1 for each row of `x` `[.., width]` whose number is above its threshold `[groups, width]`, in the row's class. A number that
    /// is NaN or infinite is a [`Misfit`].
    ///
    /// # Errors
    /// If `x` has not these rows or another width, a class is not there, the thresholds are of another shape, or the device fails, after
    /// which there are no counts.
    pub fn add(
        &mut self,
        x: &Tensor,
        rows: &RowGroups,
        threshold: &Tensor,
        misfit: &mut Misfit,
    ) -> Result<()> {
        let found = [rows.groups(), rows.check("counts", x)?];
        if found != self.shape {
            bail!("counts: expected [groups, width] {:?}, found {found:?}", self.shape);
        }
        check_threshold(threshold, found)?;
        rows.check_classes(self.classes)?;
        if is_nothing(rows, found) {
            return Ok(());
        }
        room_of(x).count_columns(&mut self.running, x, rows, threshold, misfit)
    }

    /// `[groups, width]`
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The counts `[classes, groups, width]`. Waits for the device.
    ///
    /// # Errors
    /// If the device fails, or has failed before.
    pub fn counts(&self) -> Result<Vec<u64>> {
        Ok(self.running.read_integers()?.into_iter().map(|count| count as u64).collect())
    }
}

/// Which numbers of rows of `x` `[.., width]` are above their thresholds `[groups, width]`: bits, U8 `[groups * rows, ceil(width / 8)]`,
/// lowest first in a byte; 0 behind the last column. A number that is NaN or infinite is a [`Misfit`].
///
/// # Errors
/// If `x` has not these rows, the thresholds are of another shape, or the device fails.
pub fn pack_above(x: &Tensor, rows: &RowGroups, threshold: &Tensor, misfit: &mut Misfit) -> Result<Tensor> {
    let shape = [rows.groups(), rows.check("bits", x)?];
    check_threshold(threshold, shape)?;
    if is_nothing(rows, shape) {
        return nothing([shape[0] * rows.rows(), shape[1].div_ceil(8)], DType::U8, x.device());
    }
    room_of(x).pack_above(x, rows, threshold, misfit)
}

/// The mean and the maximum of each column over each run of rows of `x` `[.., width]`, both `[runs, width]`, of which those wanted
/// are made. A mean is summed and divided in f64 and rounded once; of 0 and -0 the first is the maximum. A number that is NaN or infinite
/// is a [`Misfit`].
///
/// # Errors
/// If `x` has not these rows, or the device fails.
pub fn pool_rows(
    x: &Tensor,
    runs: &RowRuns,
    [mean, max]: [bool; 2],
    misfit: &mut Misfit,
) -> Result<[Option<Tensor>; 2]> {
    let width = runs.check(x)?;
    if runs.is_empty() || width == 0 {
        let none = || nothing([runs.len(), width], DType::F32, x.device());
        return Ok([mean.then(none).transpose()?, max.then(none).transpose()?]);
    }
    room_of(x).pool_rows(x, runs, [mean, max], misfit)
}

/// A matrix of which one side is 0. A card gives no memory of no bytes, so it is a part of one that has some.
pub(crate) fn nothing([rows, columns]: [usize; 2], dtype: DType, device: &Device) -> Result<Tensor> {
    let some = Tensor::zeros((rows.max(1), columns.max(1)), dtype, device)?;
    // Of one dimension first: what is cut out of two counts as not in one piece, and would be copied.
    some.flatten_all()?.narrow(0, 0, 0)?.reshape((rows, columns))
}

/// Whether there is nothing to reduce.
pub(crate) fn is_nothing(rows: &RowGroups, [groups, width]: [usize; 2]) -> bool {
    [rows.rows(), groups, width].contains(&0)
}

fn check_threshold(threshold: &Tensor, shape: [usize; 2]) -> Result<()> {
    expect_f32("thresholds", threshold)?;
    if threshold.dims() != shape {
        bail!("thresholds: expected {shape:?}, found {:?}", threshold.dims());
    }
    Ok(())
}
