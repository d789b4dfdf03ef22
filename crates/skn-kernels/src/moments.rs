//! Reductions of rows by the classes and numbers of their texts, where the rows lie: what rankings are made of.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::calls::room_of;
use crate::check::expect_f32;
use crate::reductions::{is_nothing, nothing};
use crate::row_groups::{ColumnNumbers, Misfit, MomentTotals, RowGroups, RowNumbers};
use crate::running::{BINS, COUNTERS, Running, RunningMoments, SharesOf, wide_of};
use crate::upload::zeros_on;

/// Sums of the columns of rows, by the class of the row if wanted, of their products with a number of the row, and of their squares,
/// over many batches. They lie on the device until they are asked for.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use skn_kernels::{ColumnMoments, Misfit, RowGroups, RowNumbers};
///
/// let device = Device::Cpu;
/// let x = Tensor::new(&[[1f32, 2.0], [3.0, -4.0], [5.0, 0.5]], &device)?;
/// // All three in one group; the last one is of another class.
/// let rows = RowGroups::new(1, vec![0, 1, 2], vec![0, 0, 1])?;
/// let mut misfit = Misfit::new(&device)?;
/// let mut sums = ColumnMoments::new(Some(2), [1, 2], [false, true], &device)?;
/// sums.add(&x, &rows, None, &mut misfit)?;
/// let totals = sums.totals()?;
/// assert_eq!(totals.sums, [4 << 40, -2 << 40, 5 << 40, 1 << 39]);
/// assert_eq!(totals.squares, Some(vec![35 << 40, 81 << 38]));
/// let mut products = ColumnMoments::new(None, [1, 2], [true, false], &device)?;
/// products.add(&x, &rows, Some(&RowNumbers::new(vec![1.0, 0.5, -1.0])), &mut misfit)?;
/// assert_eq!(products.totals()?.products, Some(vec![-5 << 39, -1 << 39]));
/// assert_eq!(misfit.found()?, None);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct ColumnMoments {
    shape: [usize; 2],
    running: RunningMoments,
}

impl ColumnMoments {
    /// Of nothing yet, for `[groups, width]`: sums, for each of so many classes or for all rows together, and products or squares of all
    /// rows too where they are wanted.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(
        classes: Option<usize>,
        shape: [usize; 2],
        [products, squares]: [bool; 2],
        device: &Device,
    ) -> Result<Self> {
        let counters = COUNTERS * shape[0] * shape[1];
        let of_all = |wanted: bool| wanted.then(|| Running::zeros_on(counters, device)).transpose();
        let running = RunningMoments {
            classes,
            sums: Running::zeros_on(classes.unwrap_or(1) * counters, device)?,
            products: of_all(products)?,
            squares: of_all(squares)?,
        };
        Ok(Self { shape, running })
    }

    /// Adds rows of `x` `[.., width]`; `numbers` are what products are made with, each rounded to f32. A number that is NaN, infinite or
    /// beyond 2^20, itself or multiplied, is a [`Misfit`], of which nothing is added.
    ///
    /// # Errors
    /// If `x` has not these rows or another width, there is another number of groups, a class is not there, there are numbers and no
    /// products or the other way round, or the device fails, after which there are no totals.
    pub fn add(
        &mut self,
        x: &Tensor,
        rows: &RowGroups,
        numbers: Option<&RowNumbers>,
        misfit: &mut Misfit,
    ) -> Result<()> {
        let found = [rows.groups(), rows.check("moments", x)?];
        if found != self.shape {
            bail!("moments: expected [groups, width] {:?}, found {found:?}", self.shape);
        }
        if let Some(classes) = self.running.classes {
            rows.check_classes(classes)?;
        }
        if numbers.is_some() != self.running.products.is_some() {
            bail!("moments: expected numbers of rows for products, and for nothing else");
        }
        numbers.map_or(Ok(()), |numbers| numbers.check(rows))?;
        if is_nothing(rows, found) {
            return Ok(());
        }
        room_of(x).add_moments(&mut self.running, x, rows, numbers, misfit)
    }

    /// `[groups, width]`
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// What was added up. Waits for the device.
    ///
    /// # Errors
    /// If the device fails, or has failed before.
    pub fn totals(&self) -> Result<MomentTotals> {
        let RunningMoments { sums, products, squares, .. } = &self.running;
        let wide = |of: &Running| Ok::<_, candle_core::Error>(wide_of(&of.read_integers()?));
        Ok(MomentTotals {
            sums: wide(sums)?,
            products: products.as_ref().map(wide).transpose()?,
            squares: squares.as_ref().map(wide).transpose()?,
        })
    }
}

/// How many rows of each class have a number in each of 32 bins, column by column, over many batches. The counts lie on the device until
/// they are asked for.
pub struct ColumnBins {
    classes: usize,
    shape: [usize; 2],
    ends: Tensor,
    running: Running,
}

impl ColumnBins {
    /// Bins of a place.
    pub const BINS: usize = BINS;

    /// Counts of 0, for `[classes, groups, width]`. `ends` `[5, groups, width]` says where bins end: the smallest number that is expected,
    /// a mean and the largest one; then what 15 is divided by the way from the smallest to the mean, and 1 by that from there to the
    /// largest, 0 where there is no way. Of `n` from 1 to 15, the `n`-th bin below the mean ends at `n / 15` of the way, and the `n`-th
    /// above it at `(n / 15)^2`.
    ///
    /// # Errors
    /// If the ends are of another shape, or the device fails.
    pub fn new(classes: usize, shape: [usize; 2], ends: Tensor) -> Result<Self> {
        expect_f32("ends of bins", &ends)?;
        let expected = [5, shape[0], shape[1]];
        if ends.dims() != expected {
            bail!("ends of bins: expected {expected:?}, found {:?}", ends.dims());
        }
        let running = Running::zero_words_on(shape[0] * shape[1] * classes * BINS, ends.device())?;
        Ok(Self { classes, shape, ends, running })
    }

    /// Adds 1 for each row of `x` `[.., width]` and each column, in the bin of its number, in the row's class. A number that is NaN or
    /// infinite is a [`Misfit`].
    ///
    /// # Errors
    /// If `x` has not these rows or another width, a class is not there, or the device fails, after which there are no counts.
    pub fn add(&mut self, x: &Tensor, rows: &RowGroups, misfit: &mut Misfit) -> Result<()> {
        let found = [rows.groups(), rows.check("bins", x)?];
        if found != self.shape {
            bail!("bins: expected [groups, width] {:?}, found {found:?}", self.shape);
        }
        rows.check_classes(self.classes)?;
        if is_nothing(rows, found) {
            return Ok(());
        }
        room_of(x).count_bins(&mut self.running, self.classes, x, rows, &self.ends, misfit)
    }

    /// `[groups, width]`
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The counts `[groups, width, classes, 32]`, modulo 2^32. Waits for the device.
    ///
    /// # Errors
    /// If the device fails, or has failed before.
    pub fn counts(&self) -> Result<Vec<u32>> {
        self.running.read_words()
    }
}

/// Sums of the shares that the columns have in what a row comes to elsewhere: of a number `|number| * factor of its column / norm of its
/// row`, over many batches. They lie on the device until they are asked for.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use skn_kernels::{ColumnShares, Misfit, RowGroups, row_norms};
///
/// let device = Device::Cpu;
/// let x = Tensor::new(&[[1f32, -2.0], [3.0, 4.0]], &device)?;
/// let norms = row_norms(&Tensor::new(&[[3f32, 4.0], [0.0, 2.0]], &device)?)?;
/// assert_eq!(norms.to_vec1::<f32>()?, [5.0, 2.0]);
/// let rows = RowGroups::new(1, vec![0, 1], vec![0, 0])?;
/// let (mut shares, mut misfit) =
///     (ColumnShares::new(1, Tensor::new(&[10f32, 2.5], &device)?)?, Misfit::new(&device)?);
/// shares.add(&x, &rows, Some(&norms), &mut misfit)?;
/// assert_eq!(shares.sums()?, [17 << 40, 6 << 40]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct ColumnShares {
    shape: [usize; 2],
    columns: Tensor,
    running: Running,
}

impl ColumnShares {
    /// Of nothing yet, for so many groups, with the factors of the columns `[width]`.
    ///
    /// # Errors
    /// If these are no list, or the device fails.
    pub fn new(groups: usize, columns: Tensor) -> Result<Self> {
        expect_f32("factors of columns", &columns)?;
        let shape = [groups, columns.dims1()?];
        let running = Running::zeros_on(COUNTERS * shape[0] * shape[1], columns.device())?;
        Ok(Self { shape, columns, running })
    }

    /// Adds the shares of rows of `x` `[.., width]`, of which row `i` has norm `i`, each rounded to f32. Where a norm is not above 0, or there
    /// are none, shares are 0. A number that is NaN or infinite, and a share that is or is beyond 2^20, is a [`Misfit`], of which nothing
    /// is added.
    ///
    /// # Errors
    /// If `x` has not these rows or another width, there is another number of groups or of norms, or the device fails, after which there
    /// are no sums.
    pub fn add(
        &mut self,
        x: &Tensor,
        rows: &RowGroups,
        norms: Option<&Tensor>,
        misfit: &mut Misfit,
    ) -> Result<()> {
        let found = [rows.groups(), rows.check("shares", x)?];
        if found != self.shape {
            bail!("shares: expected [groups, width] {:?}, found {found:?}", self.shape);
        }
        if let Some(norms) = norms {
            expect_f32("norms of rows", norms)?;
            if norms.dims() != [x.dim(0)?] {
                bail!("norms of rows: expected [{}], found {:?}", x.dim(0)?, norms.dims());
            }
        }
        if is_nothing(rows, found) {
            return Ok(());
        }
        let of = SharesOf { columns: &self.columns, norms };
        room_of(x).add_shares(&mut self.running, x, rows, of, misfit)
    }

    /// `[groups, width]`
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The exact sums `[groups, width]` of shares that are each rounded to a multiple of 2^-40, in such steps. Waits for the device.
    ///
    /// # Errors
    /// If the device fails, or has failed before.
    pub fn sums(&self) -> Result<Vec<i128>> {
        Ok(wide_of(&self.running.read_integers()?))
    }
}

/// The Euclidean norm of each row of `x` `[rows, width]`: `[rows]`. Squares are summed in f64 in the order of the columns, and the root is
/// rounded to f32. It has no gradient.
///
/// # Errors
/// If `x` is no matrix or not f32, or the device fails.
pub fn row_norms(x: &Tensor) -> Result<Tensor> {
    expect_f32("norms of rows", x)?;
    let (rows, width) = x.dims2()?;
    if rows == 0 || width == 0 {
        return zeros_on(rows, x.device());
    }
    room_of(x).row_norms(&x.detach())
}

/// Some columns of rows of `x` `[.., width]`: `[groups * rows, columns]`. A number of these rows that is NaN or infinite is a [`Misfit`], in
/// whichever column.
///
/// # Errors
/// If `x` has not these rows or columns, or the device fails.
pub fn pick_columns(
    x: &Tensor,
    rows: &RowGroups,
    columns: &ColumnNumbers,
    misfit: &mut Misfit,
) -> Result<Tensor> {
    let shape = [rows.groups(), rows.check("picked columns", x)?];
    columns.check(shape[1])?;
    if is_nothing(rows, shape) || columns.is_empty() {
        return nothing([shape[0] * rows.rows(), columns.len()], DType::F32, x.device());
    }
    room_of(x).pick_columns(x, rows, columns, misfit)
}
