use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, bail};

use crate::on_device::{DeviceRows, OnDevice};

/// Where each sequence of a packed batch starts. Rows of all sequences stand one after another, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    starts: Arc<[usize]>,
    /// Every row, made once for all clones. Not a selection, which holds its packing.
    all: OnDevice<Selected>,
}

impl Packing {
    /// Sequence `i` is rows `starts[i]..starts[i + 1]`.
    ///
    /// # Errors
    /// If `starts` is empty, does not begin with 0, or descends, or there are more rows than 32 bits count.
    pub fn from_starts(starts: &[usize]) -> Result<Self> {
        if starts.first() != Some(&0) || starts.windows(2).any(|pair| pair[0] > pair[1]) {
            bail!("packing: expected ascending starts from 0, found {starts:?}");
        }
        if starts.last().is_some_and(|&rows| rows > u32::MAX as usize) {
            bail!("packing: expected at most {} rows, found {:?}", u32::MAX, starts.last());
        }
        Ok(Self { starts: starts.into(), all: OnDevice::default() })
    }

    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of rows of all sequences together.
    pub fn rows(&self) -> usize {
        self.starts[self.len()]
    }

    /// The rows of a sequence.
    pub fn range(&self, sequence: usize) -> Range<usize> {
        self.starts[sequence]..self.starts[sequence + 1]
    }

    /// Every row. It is made once: what kernels of a GPU read of it is too.
    pub fn all_rows(&self) -> RowSelection {
        let selected = self.all.or_collect(|| self.collect(|range| range)).clone();
        RowSelection { packing: self.clone(), selected, one_each: false }
    }

    /// The first `n` rows of each sequence, or all of a shorter one.
    pub fn first_rows(&self, n: usize) -> RowSelection {
        let selected = self.collect(|range| range.start..range.end.min(range.start.saturating_add(n)));
        RowSelection { packing: self.clone(), selected, one_each: n == 1 }
    }

    /// The last `n` rows of each sequence, or all of a shorter one.
    pub fn last_rows(&self, n: usize) -> RowSelection {
        let selected = self.collect(|range| range.start.max(range.end.saturating_sub(n))..range.end);
        RowSelection { packing: self.clone(), selected, one_each: n == 1 }
    }

    fn collect(&self, part: impl Fn(Range<usize>) -> Range<usize>) -> Selected {
        let mut rows = RowList::default();
        for sequence in 0..self.len() {
            let range = self.range(sequence);
            part(range.clone()).for_each(|row| rows.push(sequence, row - range.start, row));
        }
        rows.finish()
    }

    /// The rows of the given numbers.
    ///
    /// # Errors
    /// If the numbers do not ascend, or one is not a row.
    pub fn select(&self, numbers: &[u32]) -> Result<RowSelection> {
        if numbers.windows(2).any(|pair| pair[0] >= pair[1]) {
            bail!("packing: expected ascending row numbers, found {numbers:?}");
        }
        let mut rows = RowList::default();
        let mut sequence = 0;
        for &number in numbers {
            let row = number as usize;
            if row >= self.rows() {
                bail!("packing: expected row numbers below {}, found {row}", self.rows());
            }
            while self.starts[sequence + 1] <= row {
                sequence += 1;
            }
            rows.push(sequence, row - self.starts[sequence], row);
        }
        Ok(RowSelection { packing: self.clone(), selected: rows.finish(), one_each: false })
    }
}

#[derive(Default)]
struct RowList {
    sequence: Vec<u32>,
    position: Vec<u32>,
    number: Vec<u32>,
}

impl RowList {
    fn push(&mut self, sequence: usize, position: usize, number: usize) {
        self.sequence.push(sequence as u32);
        self.position.push(position as u32);
        self.number.push(number as u32);
    }

    fn finish(self) -> Selected {
        Selected {
            sequence: self.sequence.into(),
            position: self.position.into(),
            number: self.number.into(),
            on_device: OnDevice::default(),
        }
    }
}

/// Some rows of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selected {
    sequence: Arc<[u32]>,
    position: Arc<[u32]>,
    number: Arc<[u32]>,
    /// The same for kernels of a GPU.
    on_device: OnDevice<DeviceRows>,
}

/// Some rows of a packed batch, in ascending order: for each its sequence, its position there, and its number in the
/// batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSelection {
    packing: Packing,
    selected: Selected,
    one_each: bool,
}

impl RowSelection {
    /// A place for what kernels of a GPU read.
    pub(crate) fn on_device(&self) -> &OnDevice<DeviceRows> {
        &self.selected.on_device
    }

    /// Whether these were asked for as [`Packing::first_rows(1)`](Packing::first_rows) or
    /// [`Packing::last_rows(1)`](Packing::last_rows). Others may happen to be the same rows, but with other texts in the batch they would not be: what is computed must not depend on that.
    pub(crate) fn is_one_each(&self) -> bool {
        self.one_each
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.selected.number.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.selected.number.is_empty()
    }

    /// Whether this is every row of the batch.
    pub fn is_all(&self) -> bool {
        self.len() == self.packing.rows()
    }

    /// For each row the index of its sequence.
    pub fn sequence(&self) -> &[u32] {
        &self.selected.sequence
    }

    /// For each row its position in its sequence, from 0.
    pub fn position(&self) -> &[u32] {
        &self.selected.position
    }

    /// For each row its number in the batch.
    pub fn number(&self) -> &[u32] {
        &self.selected.number
    }

    /// The batch that these are rows of.
    pub fn packing(&self) -> &Packing {
        &self.packing
    }

    /// The number of sequences of the batch, those without a row here too.
    pub fn sequences(&self) -> usize {
        self.packing.len()
    }

    /// Which of these rows belong to a sequence, as a range of their indexes here.
    pub fn of_sequence(&self, sequence: usize) -> Range<usize> {
        let start = self.sequence().partition_point(|&other| (other as usize) < sequence);
        let end = self.sequence().partition_point(|&other| (other as usize) <= sequence);
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_know_where_they_are() {
        let packing = Packing::from_starts(&[0, 3, 3, 5]).unwrap();
        assert_eq!((packing.len(), packing.rows()), (3, 5));
        let all = packing.all_rows();
        assert_eq!((all.sequence(), all.position()), (&[0, 0, 0, 2, 2][..], &[0, 1, 2, 0, 1][..]));
        assert_eq!(packing.first_rows(1).number(), [0, 3]);
        assert_eq!(packing.last_rows(1).number(), [2, 4]);
        let last = packing.last_rows(2);
        assert_eq!((last.number(), last.position()), (&[1, 2, 3, 4][..], &[1, 2, 0, 1][..]));
        assert!(packing.last_rows(9).is_all() && packing.last_rows(0).is_empty());
        assert!(packing.last_rows(1).is_one_each() && !last.is_one_each());
        let some = packing.select(&[1, 3]).unwrap();
        assert_eq!((some.sequence(), some.position(), some.is_all()), (&[0, 2][..], &[1, 0][..], false));
        assert_eq!((all.of_sequence(1), all.of_sequence(2)), (3..3, 3..5));
    }

    #[test]
    fn wrong_numbers_are_refused() {
        assert!(Packing::from_starts(&[]).is_err());
        assert!(Packing::from_starts(&[1, 2]).is_err());
        assert!(Packing::from_starts(&[0, 3, 2]).is_err());
        let packing = Packing::from_starts(&[0, 2]).unwrap();
        assert!(packing.select(&[2]).is_err() && packing.select(&[1, 0]).is_err());
    }
}
