use crate::error::{Result, StatsError, same, span};
use crate::mean::{MAX_ACTIVATION, STEPS_PER_UNIT, add_wide, checked_largest};
use crate::vectorised::{AddIntegers, Loop, vectorised};

/// Sums of squares of many rows of values, exact after each square is rounded to a multiple of 2^-40, ties to even: the same bits in
/// any order, and in any grouping into accumulators that are merged. Beside a [`MeanAccumulator`](crate::MeanAccumulator) of the same
/// values it gives their variance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SquareAccumulator {
    recent: Vec<i64>,
    /// No sum in `recent` is larger than this.
    bound: i64,
    /// Empty until `recent` had to be moved here for the first time.
    spilled: Vec<i128>,
}

/// The square of a value below this has less than 2^52 steps.
const SMALL: f32 = 64.0;

impl SquareAccumulator {
    /// Sums of 0, for so many values a row.
    pub fn new(values: usize) -> Self {
        Self { recent: vec![0; values], bound: 0, spilled: Vec::new() }
    }

    /// Makes all sums 0, in the same memory.
    pub fn clear(&mut self) {
        self.recent.fill(0);
        self.spilled.clear();
        self.bound = 0;
    }

    /// Values a row.
    pub fn len(&self) -> usize {
        self.recent.len()
    }

    /// Whether a row has no values.
    pub fn is_empty(&self) -> bool {
        self.recent.is_empty()
    }

    /// Adds the squares of `values` to the sums from `offset` on.
    ///
    /// # Errors
    /// If they do not fit in, or a value is NaN, infinite or beyond [`MAX_ACTIVATION`]; then nothing is added.
    pub fn add_row_at(&mut self, offset: usize, values: &[f32]) -> Result<()> {
        let place = span(offset, values.len(), self.recent.len())?;
        let largest = checked_largest(values)?;
        if largest < SMALL {
            self.make_room(steps(largest) as i64);
            vectorised(AddSmall, (&mut self.recent[place], values));
        } else {
            self.spilled.resize(self.recent.len(), 0);
            let sums = self.spilled[place].iter_mut().zip(values);
            sums.for_each(|(sum, &value)| *sum += steps(value) as i128);
        }
        Ok(())
    }

    /// Adds sums of squares in steps of 2^-40 to those from `offset` on, such as a device has made.
    ///
    /// # Errors
    /// If they do not fit in, or a sum leaves 127 bits; then nothing is added.
    pub fn add_sums_at(&mut self, offset: usize, sums: &[i128]) -> Result<()> {
        let place = span(offset, sums.len(), self.len())?;
        self.spilled.resize(self.len(), 0);
        add_wide(&mut self.spilled[place], sums, "sum of squares")
    }

    /// Adds the sums of another accumulator.
    ///
    /// # Errors
    /// If it has another number of values, or a sum leaves 127 bits; then nothing is added.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        same("values of the squares to merge", self.len(), other.len())?;
        if other.spilled.is_empty() {
            self.make_room(other.bound);
            vectorised(AddIntegers, (&mut self.recent[..], &other.recent[..]));
            return Ok(());
        }
        let sums = (0..self.len()).map(|place| self.sum(place).checked_add(other.sum(place)));
        let sums: Option<Vec<i128>> = sums.collect();
        self.spilled = sums.ok_or(StatsError::Overflow { what: "sum of squares" })?;
        self.recent.fill(0);
        self.bound = 0;
        Ok(())
    }

    /// The exact sum of a value's squares, in steps of 2^-40.
    pub fn sum(&self, place: usize) -> i128 {
        self.spilled.get(place).copied().unwrap_or(0) + i128::from(self.recent[place])
    }

    /// The sums as `high * 2^63 + low` with `0 <= low < 2^63`.
    ///
    /// # Errors
    /// If a sum has no such form: no file made by adding values has one.
    pub fn parts(&self) -> Result<(Vec<i64>, Vec<i64>)> {
        let overflow = || StatsError::Overflow { what: "sum of squares" };
        let high = (0..self.len()).map(|place| i64::try_from(self.sum(place) >> 63).map_err(|_| overflow()));
        let low = (0..self.len()).map(|place| (self.sum(place) & i128::from(i64::MAX)) as i64);
        Ok((high.collect::<Result<_>>()?, low.collect()))
    }

    /// The accumulator that gave these [`Self::parts`] of so many rows.
    ///
    /// # Errors
    /// If the parts are of different lengths, or no accumulator gives them.
    pub fn from_parts(high: &[i64], low: &[i64], rows: i64) -> Result<Self> {
        same("low halves of the squares", high.len(), low.len())?;
        let most = (i128::from(rows.max(0))).checked_mul(steps(MAX_ACTIVATION) as i128).unwrap_or(i128::MAX);
        if let Some(half) = high.iter().chain(low).find(|&&half| half < 0) {
            return Err(StatsError::mismatch("half of a sum of squares", "0 or more", half));
        }
        let sums = high.iter().zip(low).map(|(&high, &low)| (i128::from(high) << 63) | i128::from(low));
        let spilled: Vec<i128> = sums.collect();
        if let Some(sum) = spilled.iter().find(|&&sum| sum > most) {
            let expected = format!("at most {most} for {rows} rows");
            return Err(StatsError::mismatch("sum of squares", expected, sum));
        }
        Ok(Self { spilled, ..Self::new(high.len()) })
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

/// The variance of `rows` values, the mean of squares less the square of the mean, of their sum and the sum of their squares in steps
/// of 2^-40. In f64; not below 0.
pub fn variance(sum: i128, squares: i128, rows: u64) -> f64 {
    let rows = rows as f64 * STEPS_PER_UNIT;
    let mean = sum as f64 / rows;
    (squares as f64 / rows - mean * mean).max(0.0)
}

/// The least [`variance`] that says something: 2^-36, of a deviation of 3.8e-6. Each square is off by at most 2^-41, and so is their mean;
/// below this that may be more than 3 % of the variance. A correlation with such values, or a number that is divided by their
/// deviation, is not known.
pub const LEAST_VARIANCE: f64 = 1.0 / (1u64 << 36) as f64;

/// The square of a value in steps of 2^-40, rounded to an integer. The product of two f32 is exact in f64, which has 53
/// significant bits.
fn steps(value: f32) -> f64 {
    (f64::from(value) * f64::from(value) * STEPS_PER_UNIT).round_ties_even()
}

/// Adds the squares of values below [`SMALL`], for whose sums [`SquareAccumulator::make_room`] has made room.
struct AddSmall;

impl Loop<(&mut [i64], &[f32])> for AddSmall {
    type Output = ();

    #[inline(always)]
    fn run((sums, values): (&mut [i64], &[f32])) {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum = sum.wrapping_add(steps_by_addition(value));
        }
    }
}

/// [`steps`] of a value below [`SMALL`], without a call for each. From 2^52 to 2^53 numbers in f64 are 1 apart, so that a sum in that
/// range is rounded to an integer, and its bits count up by 1 as it does.
#[inline(always)]
fn steps_by_addition(value: f32) -> i64 {
    const FIRST: f64 = (1u64 << 52) as f64;
    let sum = f64::from(value) * f64::from(value) * STEPS_PER_UNIT + FIRST;
    sum.to_bits().wrapping_sub(FIRST.to_bits()) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn squares_by_hand_in_any_order_and_grouping() {
        let rows = [[1.5f32, -3.0, 0.0], [0.5, 1000.0, 1e-9], [-2.0, -70.0, 2e-6], [63.0, 1.0, 0.25]];
        let of = |rows: &[[f32; 3]]| {
            let mut sums = SquareAccumulator::new(3);
            rows.iter().for_each(|row| sums.add_row_at(0, row).unwrap());
            sums
        };
        let whole = of(&rows);
        let steps = |value: f64| (value * STEPS_PER_UNIT) as i128;
        assert_eq!(whole.sum(0), steps(2.25 + 0.25 + 4.0 + 3969.0));
        assert_eq!(whole.sum(1), steps(9.0 + 1e6 + 4900.0 + 1.0));
        // 1e-18 is less than half a step, and 4e-12 is 4.4 steps.
        assert_eq!(whole.sum(2), 4 + steps(0.0625));
        let mut merged = of(&rows[2..]);
        merged.merge(&of(&rows[..1])).unwrap();
        let (high, low) = of(&rows[1..2]).parts().unwrap();
        merged.merge(&SquareAccumulator::from_parts(&high, &low, 1).unwrap()).unwrap();
        assert_eq!(merged.parts(), whole.parts());
    }

    #[test]
    fn many_small_ones_do_not_overflow() {
        let mut sums = SquareAccumulator::new(1);
        for _ in 0..5000 {
            sums.add_row_at(0, &[63.5]).unwrap();
        }
        assert_eq!(sums.sum(0), 5000 * ((63.5 * 63.5 * STEPS_PER_UNIT) as i128));
        assert!(!sums.spilled.is_empty(), "5000 x 2^52 do not fit into 63 bits");
    }

    #[test]
    fn squares_made_elsewhere_are_added() {
        let (mut sums, one) = (SquareAccumulator::new(2), 1i128 << 40);
        sums.add_row_at(0, &[3.0, 1.0]).unwrap();
        sums.add_sums_at(1, &[7 * one]).unwrap();
        assert_eq!([sums.sum(0), sums.sum(1)], [9 * one, 8 * one]);
        assert!(sums.add_sums_at(1, &[1, 1]).is_err());
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let mut sums = SquareAccumulator::new(2);
        for bad in [f32::NAN, f32::INFINITY, MAX_ACTIVATION * 2.0] {
            assert!(matches!(sums.add_row_at(0, &[1.0, bad]), Err(StatsError::Value { place: 1, .. })));
        }
        assert!(sums.add_row_at(1, &[1.0, 1.0]).is_err() && sums.merge(&SquareAccumulator::new(1)).is_err());
        assert_eq!(sums, SquareAccumulator::new(2));
        assert!(SquareAccumulator::from_parts(&[-1], &[0], 1).is_err());
        assert!(SquareAccumulator::from_parts(&[0], &[0, 0], 1).is_err());
        assert!(SquareAccumulator::from_parts(&[i64::MAX], &[0], 1).is_err(), "one row can't have that");
    }

    #[test]
    fn variances_of_a_few_numbers() {
        let numbers = [1.0f32, 2.0, 4.0, 9.0];
        let mut squares = SquareAccumulator::new(1);
        numbers.iter().for_each(|&number| squares.add_row_at(0, &[number]).unwrap());
        let sum = (16.0 * STEPS_PER_UNIT) as i128;
        assert_eq!(variance(sum, squares.sum(0), 4), 9.5, "as numpy.var says");
        assert_eq!(variance(sum, squares.sum(0) / 2, 4), 0.0, "what can't be is none");
    }

    /// Numbers that alternate around 0, whose squares are all off to the same side, as far as a square can be.
    #[test]
    fn from_the_least_variance_on_it_is_known() {
        for (deviation, known) in [(LEAST_VARIANCE.sqrt() as f32, true), (7e-7, false)] {
            let (mut squares, mut sum) = (SquareAccumulator::new(1), 0.0);
            for row in 0..100 {
                let value = if row % 2 == 0 { deviation } else { -deviation };
                squares.add_row_at(0, &[value]).unwrap();
                sum += f64::from(value);
            }
            assert_eq!(sum, 0.0);
            let (found, expected) = (variance(0, squares.sum(0), 100), f64::from(deviation).powi(2));
            let off = (found - expected).abs() / expected;
            assert_eq!(off <= 0.035, known, "{deviation}: {off}");
            assert_eq!(found >= LEAST_VARIANCE * (1.0 - 0.035), known);
        }
    }

    #[test]
    fn the_ends_of_what_is_rounded_by_addition() {
        let ends = [SMALL.next_down(), -SMALL.next_down(), 0.0, -0.0, f32::from_bits(1)];
        assert_eq!(ends.map(steps_by_addition), ends.map(|of| steps(of) as i64));
        // 2.25 and 6.25 steps; no square of an f32 is half a step from one.
        let root = |of: f64| (of / STEPS_PER_UNIT).sqrt() as f32;
        assert_eq!([2.25, 6.25, 0.5625].map(|of| steps_by_addition(root(of))), [2, 6, 1]);
    }

    proptest! {
        #[test]
        fn both_ways_of_rounding_agree(value in -SMALL..SMALL, scale in 0i32..40) {
            let value = value * 0.5f32.powi(scale);
            prop_assert_eq!(steps_by_addition(value), steps(value) as i64);
        }
    }
}
