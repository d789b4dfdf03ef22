//! Which rows of a matrix are reduced, and what says that one of them can't be.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};

use crate::on_device::OnDevice;
use crate::running::Running;
use crate::upload::upload;

/// Rows of a matrix in groups of as many each, such as those of the texts of a batch at each position of a prompt. Clones share what
/// was made of it on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowGroups {
    /// `[groups, rows]`
    numbers: Arc<[u32]>,
    groups: usize,
    /// `[rows]`
    classes: Arc<[u32]>,
    most: Most,
    /// Shared by whoever has the same rows.
    numbers_there: OnDevice<Tensor>,
    classes_there: OnDevice<Tensor>,
}

/// What is behind the largest number of a row, and of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Most {
    rows: usize,
    classes: usize,
}

/// As kernels read them.
pub(crate) struct DeviceGroups<'a> {
    pub(crate) numbers: &'a Tensor,
    pub(crate) classes: &'a Tensor,
}

impl RowGroups {
    /// The numbers of the rows `[groups, rows]`, and the class of row `i` of each group `[rows]`. Rows are counted quickest where they
    /// stand in the order of their classes.
    ///
    /// # Errors
    /// If there are not as many numbers as groups of so many rows have.
    pub fn new(groups: usize, numbers: Vec<u32>, classes: Vec<u32>) -> Result<Self> {
        if groups.checked_mul(classes.len()) != Some(numbers.len()) {
            bail!("row groups: expected {groups} x {} row numbers, found {}", classes.len(), numbers.len());
        }
        let behind = |of: &[u32]| of.iter().max().map_or(0, |&most| most as usize + 1);
        let most = Most { rows: behind(&numbers), classes: behind(&classes) };
        let (numbers, classes) = (numbers.into(), classes.into());
        let (numbers_there, classes_there) = (OnDevice::default(), OnDevice::default());
        Ok(Self { numbers, groups, classes, most, numbers_there, classes_there })
    }

    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The number of rows of each.
    pub fn rows(&self) -> usize {
        self.classes.len()
    }

    /// The same rows in two classes: in 1 those of this class, in 0 the others.
    ///
    /// ```
    /// # use skn_kernels::RowGroups;
    /// let rows = RowGroups::new(2, vec![0, 4, 2, 1, 5, 3], vec![0, 2, 1])?;
    /// assert_eq!(rows.one_against_others(2), RowGroups::new(2, vec![0, 4, 2, 1, 5, 3], vec![0, 1, 0])?);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    #[must_use]
    pub fn one_against_others(&self, class: u32) -> Self {
        let classes: Arc<[u32]> = self.classes.iter().map(|&of| u32::from(of == class)).collect();
        let most = Most { classes: classes.iter().max().map_or(0, |&most| most as usize + 1), ..self.most };
        Self { classes, most, classes_there: OnDevice::default(), ..self.clone() }
    }

    /// One of the groups alone.
    ///
    /// ```
    /// # use skn_kernels::RowGroups;
    /// let rows = RowGroups::new(2, vec![0, 4, 2, 1, 5, 3], vec![0, 2, 1])?;
    /// assert_eq!(rows.group(1)?, RowGroups::new(1, vec![1, 5, 3], vec![0, 2, 1])?);
    /// assert!(rows.group(2).is_err());
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are not so many.
    pub fn group(&self, group: usize) -> Result<Self> {
        if group >= self.groups {
            bail!("row groups: expected a group below {}, found {group}", self.groups);
        }
        let of_group = &self.numbers[group * self.rows()..][..self.rows()];
        Self::new(1, of_group.to_vec(), self.classes.to_vec())
    }

    pub(crate) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    pub(crate) fn classes(&self) -> &[u32] {
        &self.classes
    }

    pub(crate) fn on(&self, device: &Device) -> Result<DeviceGroups<'_>> {
        let of = |numbers: &[u32]| upload(numbers.to_vec(), numbers.len(), device);
        Ok(DeviceGroups {
            numbers: self.numbers_there.or_make(device, || of(&self.numbers))?,
            classes: self.classes_there.or_make(device, || of(&self.classes))?,
        })
    }

    /// Checks that `x` has these rows, and gives its width.
    pub(crate) fn check(&self, what: &str, x: &Tensor) -> Result<usize> {
        crate::check::expect_f32(what, x)?;
        match *x.dims() {
            [rows, width] if rows >= self.most.rows => Ok(width),
            _ => bail!("{what}: expected [{} rows or more, width], found {:?}", self.most.rows, x.dims()),
        }
    }

    pub(crate) fn check_classes(&self, classes: usize) -> Result<()> {
        match self.most.classes <= classes {
            true => Ok(()),
            false => bail!("counts: expected classes below {classes}, found {}", self.most.classes - 1),
        }
    }
}

/// A number for each row of a group of [`RowGroups`], such as one that a text has. Clones share what was made of it on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct RowNumbers {
    numbers: Arc<[f32]>,
    on_device: OnDevice<Tensor>,
}

impl RowNumbers {
    /// Those of row 0, 1, ..
    pub fn new(numbers: Vec<f32>) -> Self {
        Self { numbers: numbers.into(), on_device: OnDevice::default() }
    }

    pub(crate) fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    pub(crate) fn on(&self, device: &Device) -> Result<&Tensor> {
        self.on_device.or_make(device, || upload(self.numbers.to_vec(), self.numbers.len(), device))
    }

    pub(crate) fn check(&self, rows: &RowGroups) -> Result<()> {
        match self.numbers.len() == rows.rows() {
            true => Ok(()),
            false => {
                bail!(
                    "numbers of rows: expected one for each of {}, found {}",
                    rows.rows(),
                    self.numbers.len()
                )
            }
        }
    }
}

/// Some columns of matrices, by their indexes. Clones share what was made of it on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnNumbers {
    numbers: Arc<[u32]>,
    on_device: OnDevice<Tensor>,
}

impl ColumnNumbers {
    /// In any order.
    pub fn new(numbers: Vec<u32>) -> Self {
        Self { numbers: numbers.into(), on_device: OnDevice::default() }
    }

    /// The number of them.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub(crate) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    pub(crate) fn on(&self, device: &Device) -> Result<&Tensor> {
        self.on_device.or_make(device, || upload(self.numbers.to_vec(), self.numbers.len(), device))
    }

    pub(crate) fn check(&self, width: usize) -> Result<()> {
        match self.numbers.iter().max() {
            Some(&most) if most as usize >= width => {
                bail!("columns: expected indexes below {width}, found {most}")
            }
            _ => Ok(()),
        }
    }
}

/// Rows of a matrix that stand together, such as those of each text of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRuns {
    first: Arc<[u32]>,
    count: Arc<[u32]>,
    /// What is behind the last row of all.
    end: usize,
    on_device: OnDevice<DeviceRuns>,
}

/// As kernels read them.
pub(crate) struct DeviceRuns {
    pub(crate) first: Tensor,
    pub(crate) count: Tensor,
}

impl RowRuns {
    /// The rows of each run.
    ///
    /// # Errors
    /// If one has no rows, or its rows are more than 32 bits count.
    pub fn new(runs: &[Range<usize>]) -> Result<Self> {
        let number = |run: &Range<usize>| match (u32::try_from(run.start), u32::try_from(run.end)) {
            (Ok(first), Ok(end)) if first < end => Ok((first, end - first)),
            _ => bail!("row runs: expected rows below 2^32, at least one, found {run:?}"),
        };
        let (first, count): (Vec<_>, Vec<_>) =
            runs.iter().map(number).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let end = runs.iter().map(|run| run.end).max().unwrap_or(0);
        Ok(Self { first: first.into(), count: count.into(), end, on_device: OnDevice::default() })
    }

    /// The number of runs.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The rows of each.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let both = self.first.iter().zip(self.count.iter());
        both.map(|(&first, &count)| first as usize..first as usize + count as usize)
    }

    pub(crate) fn on(&self, device: &Device) -> Result<&DeviceRuns> {
        self.on_device.or_make(device, || {
            let of = |numbers: &[u32]| upload(numbers.to_vec(), numbers.len(), device);
            Ok(DeviceRuns { first: of(&self.first)?, count: of(&self.count)? })
        })
    }

    pub(crate) fn check(&self, x: &Tensor) -> Result<usize> {
        crate::check::expect_f32("pooled rows", x)?;
        match *x.dims() {
            [rows, width] if rows >= self.end => Ok(width),
            _ => bail!("pooled rows: expected [{} rows or more, width], found {:?}", self.end, x.dims()),
        }
    }
}

/// Whether a number that was reduced is none that can be: NaN, infinite, or too large to be added up. Reductions go on all the same, and
/// what they come to is of no use. It is known when somebody looks, so that nobody waits for a device.
pub struct Misfit {
    /// The least mark of all at which there was one; the largest number of all where there was none.
    pub(crate) found: Running,
    mark: u64,
}

/// No mark: i64's largest number, since the kernels' u64 are kept as i64.
const NONE: i64 = i64::MAX;

impl Misfit {
    /// Nothing is wrong yet.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(device: &Device) -> Result<Self> {
        Ok(Self { found: Running::integers_on(vec![NONE], device)?, mark: 0 })
    }

    /// What the reductions that follow are called, such as the number of their batch. At most 2^63 - 2.
    pub fn set_mark(&mut self, mark: u64) {
        self.mark = mark.min(NONE as u64 - 1);
    }

    pub(crate) fn mark(&self) -> u64 {
        self.mark
    }

    /// The least mark of reductions in which a number could not be taken; nothing if all could. Waits for the device.
    ///
    /// # Errors
    /// If the device fails, or has failed in a reduction.
    pub fn found(&self) -> Result<Option<u64>> {
        let found = self.found.read_integers()?.first().copied().unwrap_or(NONE);
        Ok((found != NONE).then_some(found as u64))
    }

    /// Notes one, on the host.
    pub(crate) fn note(&mut self) -> Result<()> {
        let mark = self.mark as i64;
        self.found.integers()?.iter_mut().for_each(|found| *found = mark.min(*found));
        Ok(())
    }
}

/// What columns of rows come to; each `[groups, width]`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ColumnTotals {
    /// Exact sums of numbers that are each rounded to a multiple of 2^-40, ties to even: in such steps.
    pub sums: Vec<i128>,
    /// The same of their squares.
    pub squares: Option<Vec<i128>>,
    /// The smallest numbers, and the largest; infinity and -infinity where nothing was added. 0 has no sign.
    pub range: Option<[Vec<f32>; 2]>,
}

/// What columns of rows come to by [`ColumnMoments`](crate::ColumnMoments): exact sums of numbers that are each rounded to a multiple of
/// 2^-40, ties to even, in such steps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MomentTotals {
    /// `[classes, groups, width]`, or of all rows together `[groups, width]`.
    pub sums: Vec<i128>,
    /// Sums of products `[groups, width]`.
    pub products: Option<Vec<i128>>,
    /// Sums of squares `[groups, width]`.
    pub squares: Option<Vec<i128>>,
}
