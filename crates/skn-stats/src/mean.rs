use crate::error::{Result, StatsError, same, span};
use crate::vectorised::{AddIntegers, Largest, Loop, vectorised};

/// Steps of the fixed point in 1: values are rounded to a multiple of 2^-40, ties to even.
pub const STEPS_PER_UNIT: f64 = (1u64 << 40) as f64;

/// The largest magnitude of a value that can be added up. Activations of trained models are below 100; beyond
/// this bound something is broken.
pub const MAX_ACTIVATION: f32 = (1u32 << 20) as f32;

/// Sums of many rows of values, exact after each value is rounded to fixed point; so the same bits in any order, and
/// in any grouping into accumulators that are merged.
///
/// Values go into 64-bit sums, which are moved into 128-bit ones before they could overflow: both steps are exact.
#[derive(Clone, Debug)]
pub struct MeanAccumulator {
    recent: Vec<i64>,
    /// No sum in `recent` is larger than this in magnitude.
    bound: i64,
    /// Empty until `recent` had to be moved here for the first time.
    spilled: Vec<i128>,
    rows: u64,
}

impl MeanAccumulator {
    /// Sums of 0, for so many values a row.
    pub fn new(values: usize) -> Self {
        Self { recent: vec![0; values], bound: 0, spilled: Vec::new(), rows: 0 }
    }

    /// Makes all sums 0, of no row, in the same memory.
    pub fn clear(&mut self) {
        self.recent.fill(0);
        self.spilled.clear();
        (self.bound, self.rows) = (0, 0);
    }

    /// Values a row.
    pub fn len(&self) -> usize {
        self.recent.len()
    }

    /// Whether a row has no values.
    pub fn is_empty(&self) -> bool {
        self.recent.is_empty()
    }

    /// Rows counted by [`Self::add_rows`].
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds `values` to the sums from `offset` on: a part of a row, which [`Self::add_rows`] counts when it is whole.
    ///
    /// # Errors
    /// If they do not fit in, or a value is NaN, infinite or beyond [`MAX_ACTIVATION`]; then nothing is added.
    pub fn add_row_at(&mut self, offset: usize, values: &[f32]) -> Result<()> {
        let place = span(offset, values.len(), self.recent.len())?;
        let largest = checked_largest(values)?;
        self.make_room(fixed(largest));
        let sums = &mut self.recent[place];
        if largest < MOST_OF_ONE_ADDITION {
            vectorised(AddSmall, (sums, values));
        } else {
            sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += fixed(value));
        }
        Ok(())
    }

    /// Counts rows whose values were added.
    ///
    /// # Errors
    /// If there are more than 2^63 - 1.
    pub fn add_rows(&mut self, rows: u64) -> Result<()> {
        let sum = self.rows.checked_add(rows).filter(|&sum| i64::try_from(sum).is_ok());
        self.rows = sum.ok_or(StatsError::Overflow { what: "rows" })?;
        Ok(())
    }

    /// Adds sums in steps of 2^-40 to those from `offset` on, such as a device has made of parts of rows.
    ///
    /// # Errors
    /// If they do not fit in, or a sum leaves 128 bits; then nothing is added.
    pub fn add_sums_at(&mut self, offset: usize, sums: &[i128]) -> Result<()> {
        let place = span(offset, sums.len(), self.len())?;
        self.spilled.resize(self.len(), 0);
        add_wide(&mut self.spilled[place], sums, "sum")
    }

    /// Adds the sums and rows of another accumulator.
    ///
    /// # Errors
    /// If it has another number of values, or a sum leaves 128 bits; then nothing is added.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        same("values of the sums to merge", self.len(), other.len())?;
        let mut rows = Self { rows: self.rows, ..Self::new(0) };
        rows.add_rows(other.rows)?;
        if other.spilled.is_empty() {
            self.make_room(other.bound);
            vectorised(AddIntegers, (&mut self.recent[..], &other.recent[..]));
        } else {
            let sums = (0..self.len()).map(|place| self.sum(place).checked_add(other.sum(place)));
            let sums: Option<Vec<i128>> = sums.collect();
            self.spilled = sums.ok_or(StatsError::Overflow { what: "sum" })?;
            self.recent.fill(0);
            self.bound = 0;
        }
        self.rows = rows.rows;
        Ok(())
    }

    /// Sum / rows of every value: a quotient in f64, rounded to f32.
    ///
    /// # Errors
    /// If there are no rows.
    pub fn mean(&self) -> Result<Vec<f32>> {
        if self.rows == 0 {
            return Err(StatsError::mismatch("rows to average", "at least 1", 0));
        }
        let rows = self.rows as f64 * STEPS_PER_UNIT;
        Ok((0..self.len()).map(|place| (self.sum(place) as f64 / rows) as f32).collect())
    }

    /// The sums in steps of 2^-40 as `high * 2^63 + low` with `0 <= low < 2^63`, and the number of rows.
    ///
    /// # Errors
    /// If a sum has no such form: no file made by adding values has one.
    pub fn parts(&self) -> Result<(Vec<i64>, Vec<i64>, i64)> {
        let overflow = || StatsError::Overflow { what: "sum" };
        let high = (0..self.len()).map(|place| i64::try_from(self.sum(place) >> 63).map_err(|_| overflow()));
        let low = (0..self.len()).map(|place| (self.sum(place) & i128::from(i64::MAX)) as i64);
        let rows = i64::try_from(self.rows).map_err(|_| overflow())?;
        Ok((high.collect::<Result<_>>()?, low.collect(), rows))
    }

    /// The accumulator that gave these [`Self::parts`].
    ///
    /// # Errors
    /// If the parts are of different lengths, or no accumulator gives them.
    pub fn from_parts(high: &[i64], low: &[i64], rows: i64) -> Result<Self> {
        same("low halves of the sums", high.len(), low.len())?;
        if let Some(low) = low.iter().find(|&&low| low < 0) {
            return Err(StatsError::mismatch("low half of a sum", "0 or more", low));
        }
        let rows = u64::try_from(rows).map_err(|_| StatsError::mismatch("rows", "0 or more", rows))?;
        let most = i128::from(rows) * i128::from(fixed(MAX_ACTIVATION));
        let sums = high.iter().zip(low).map(|(&high, &low)| (i128::from(high) << 63) | i128::from(low));
        let spilled: Vec<i128> = sums.collect();
        if let Some(sum) = spilled.iter().find(|sum| sum.unsigned_abs() > most.unsigned_abs()) {
            return Err(StatsError::mismatch("sum", format!("at most {most} for {rows} rows"), sum));
        }
        Ok(Self { spilled, rows, ..Self::new(high.len()) })
    }

    /// The exact sum, in steps of 2^-40.
    pub fn sum(&self, place: usize) -> i128 {
        self.spilled.get(place).copied().unwrap_or(0) + i128::from(self.recent[place])
    }

    /// Makes sure that numbers up to `largest` can be added to `recent`.
    fn make_room(&mut self, largest: i64) {
        self.bound = self.bound.checked_add(largest).unwrap_or_else(|| {
            self.spilled.resize(self.recent.len(), 0);
            for (spilled, recent) in self.spilled.iter_mut().zip(&mut self.recent) {
                *spilled += i128::from(std::mem::take(recent));
            }
            largest
        });
    }
}

/// Adds sums place by place, all or none.
pub(crate) fn add_wide(to: &mut [i128], sums: &[i128], what: &'static str) -> Result<()> {
    let added = to.iter().zip(sums).map(|(sum, part)| sum.checked_add(*part));
    let added: Option<Vec<i128>> = added.collect();
    to.copy_from_slice(&added.ok_or(StatsError::Overflow { what })?);
    Ok(())
}

/// The largest magnitude of values that can be added up.
///
/// # Errors
/// If a value is NaN, infinite or beyond [`MAX_ACTIVATION`].
pub(crate) fn checked_largest(values: &[f32]) -> Result<f32> {
    let largest = vectorised(Largest, values);
    // Which NaN is not.
    if largest <= MAX_ACTIVATION {
        return Ok(largest);
    }
    let place = values.iter().position(|value| !matches!(value.abs(), 0.0..=MAX_ACTIVATION)).unwrap_or(0);
    Err(StatsError::Value { place, found: values[place] })
}

/// Adds values below [`MOST_OF_ONE_ADDITION`], for whose sums [`MeanAccumulator::make_room`] has made room.
struct AddSmall;

impl Loop<(&mut [i64], &[f32])> for AddSmall {
    type Output = ();

    #[inline(always)]
    fn run((sums, values): (&mut [i64], &[f32])) {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum = sum.wrapping_add(fixed_by_addition(value));
        }
    }
}

/// A value in steps of 2^-40. The product is exact: f32 has 24 significant bits, f64 53.
fn fixed(value: f32) -> i64 {
    (f64::from(value) * STEPS_PER_UNIT).round_ties_even() as i64
}

/// Values below this are less than 2^51 steps.
const MOST_OF_ONE_ADDITION: f32 = (1u32 << 11) as f32;

/// [`fixed`] of a small value, without a call for each. From 2^52 to 2^53 numbers in f64 are 1 apart, so that a sum in that range
/// is rounded to an integer, ties to even, and its bits count up by 1 as it does.
#[inline(always)]
fn fixed_by_addition(value: f32) -> i64 {
    const MIDDLE: f64 = (3u64 << 51) as f64;
    let sum = f64::from(value) * STEPS_PER_UNIT + MIDDLE;
    sum.to_bits().wrapping_sub(MIDDLE.to_bits()) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(rows: &[Vec<f32>]) -> MeanAccumulator {
        let mut sums = MeanAccumulator::new(rows.first().map_or(0, Vec::len));
        for row in rows {
            sums.add_row_at(0, row).unwrap();
        }
        sums.add_rows(rows.len() as u64).unwrap();
        sums
    }

    #[test]
    fn means_by_hand() {
        let sums = of(&[vec![1.0, -2.0, 0.0], vec![2.0, -2.5, 1e-38]]);
        assert_eq!(sums.mean().unwrap(), [1.5, -2.25, 0.0]);
        assert!(MeanAccumulator::new(2).mean().is_err(), "no rows");
    }

    #[test]
    fn parts_of_rows_are_added_where_they_belong() {
        let mut sums = MeanAccumulator::new(4);
        sums.add_row_at(2, &[5.0]).unwrap();
        sums.add_rows(1).unwrap();
        assert_eq!(sums.mean().unwrap(), [0.0, 0.0, 5.0, 0.0]);
        assert!(sums.add_row_at(3, &[1.0, 1.0]).is_err());
        assert!(sums.add_row_at(usize::MAX, &[1.0]).is_err());
    }

    #[test]
    fn sums_made_elsewhere_are_added() {
        let (mut sums, one) = (of(&[vec![1.0, 2.0, 4.0]]), 1i128 << 40);
        sums.add_sums_at(1, &[3 * one, -one]).unwrap();
        sums.add_row_at(1, &[0.5]).unwrap();
        assert_eq!([0, 1, 2].map(|place| sums.sum(place)), [one, 11 * one / 2, 3 * one]);
        assert!(sums.add_sums_at(2, &[1, 1]).is_err());
        sums.add_sums_at(0, &[i128::MAX - 5 * one]).unwrap();
        let overflow = StatsError::Overflow { what: "sum" };
        assert_eq!(sums.add_sums_at(0, &[9 * one, 0]), Err(overflow));
        assert_eq!(sums.sum(1), 11 * one / 2, "nothing is added");
    }

    #[test]
    fn sums_beyond_64_bits_stay_exact() {
        let rows = vec![vec![MAX_ACTIVATION, -MAX_ACTIVATION, 1.0]; 40];
        let sums = of(&rows);
        assert!(!sums.spilled.is_empty(), "40 * 2^60 does not fit into 64 bits");
        assert_eq!(sums.mean().unwrap(), [MAX_ACTIVATION, -MAX_ACTIVATION, 1.0]);
        let (high, low, rows) = sums.parts().unwrap();
        assert_eq!(MeanAccumulator::from_parts(&high, &low, rows).unwrap().mean(), sums.mean());
    }

    #[test]
    fn what_can_not_be_added_is_refused_and_changes_nothing() {
        let above = f32::from_bits(MAX_ACTIVATION.to_bits() + 1);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, above, -above, f32::MAX] {
            let mut sums = of(&[vec![1.0, 1.0]]);
            let error = sums.add_row_at(0, &[3.0, bad]).unwrap_err();
            assert!(matches!(error, StatsError::Value { place: 1, .. }), "{error}");
            assert_eq!(sums.mean().unwrap(), [1.0, 1.0]);
        }
    }

    #[test]
    fn impossible_parts_are_refused() {
        assert!(MeanAccumulator::from_parts(&[0], &[-1], 1).is_err());
        assert!(MeanAccumulator::from_parts(&[0], &[0], -1).is_err());
        assert!(MeanAccumulator::from_parts(&[0, 0], &[0], 1).is_err());
        assert!(MeanAccumulator::from_parts(&[i64::MAX], &[0], 1).is_err(), "one row can't sum up to that");
        assert!(of(&[vec![1.0]]).merge(&of(&[vec![1.0, 2.0]])).is_err());
    }

    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            -100f32..100.0,
            Just(MAX_ACTIVATION),
            Just(-MAX_ACTIVATION),
            Just(1e-45),
            Just(0.0),
            -1e-12f32..1e-12
        ]
    }

    #[test]
    fn halves_of_a_step_are_rounded_to_the_even_one() {
        let steps = |steps: f64| fixed_by_addition((steps / STEPS_PER_UNIT) as f32);
        let found = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.75, -0.75].map(steps);
        assert_eq!(found, [0, 2, 2, 0, -2, -2, 1, -1]);
        let most = MOST_OF_ONE_ADDITION.next_down();
        assert_eq!([most, -most].map(fixed_by_addition), [most, -most].map(fixed));
    }

    proptest! {
        #[test]
        fn both_ways_of_rounding_agree(value in -MOST_OF_ONE_ADDITION..MOST_OF_ONE_ADDITION, scale in 0i32..60) {
            let value = value * 0.5f32.powi(scale);
            prop_assert_eq!(fixed_by_addition(value), fixed(value));
        }

        #[test]
        fn any_order_and_any_tree_give_the_same_bits(
            rows in prop::collection::vec(prop::collection::vec(value(), 3), 1..60),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let whole = of(&rows);
            let mut backwards = rows.clone();
            backwards.reverse();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rows.len())).collect();
            cuts.extend([0, rows.len()]);
            cuts.sort_unstable();
            let shard = |cut: &[usize]| match &backwards[cut[0]..cut[1]] {
                [] => MeanAccumulator::new(3),
                some => of(some),
            };
            let mut merged = MeanAccumulator::new(3);
            for cut in cuts.windows(2).rev() {
                let part = shard(cut);
                let (high, low, rows) = part.parts().unwrap();
                merged.merge(&MeanAccumulator::from_parts(&high, &low, rows).unwrap()).unwrap();
            }
            prop_assert_eq!(whole.parts(), merged.parts());
            prop_assert_eq!(whole.mean(), merged.mean());
        }
    }
}
