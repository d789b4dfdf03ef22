//! Whole numbers of any size: fractions of files with different totals, brought to one denominator, outgrow
//! 128 bits at five or six files.

use std::cmp::Ordering;

/// A whole number from 0, in base 2^64, the lowest digit first, without zeros at the high end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole(Vec<u64>);

impl Whole {
    pub(crate) fn new(value: u64) -> Self {
        Self(if value == 0 { Vec::new() } else { vec![value] })
    }

    pub(crate) fn times(&self, factor: u64) -> Self {
        if factor == 0 {
            return Self::new(0);
        }
        let mut digits = Vec::with_capacity(self.0.len() + 1);
        let mut carry = 0;
        for &digit in &self.0 {
            let product = u128::from(digit) * u128::from(factor) + carry;
            digits.push(product as u64);
            carry = product >> 64;
        }
        if carry > 0 {
            digits.push(carry as u64);
        }
        Self(digits)
    }

    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        let mut carry = 0;
        for (place, digit) in self.0.iter_mut().enumerate() {
            let sum = u128::from(*digit) + u128::from(other.digit(place)) + carry;
            *digit = sum as u64;
            carry = sum >> 64;
        }
        if carry > 0 {
            self.0.push(carry as u64);
        }
        self
    }

    /// `self / whole`, for a quotient that is no larger than 1. It depends on the two numbers alone, so equal
    /// fractions of one denominator give the same bits.
    pub(crate) fn over(&self, whole: &Self) -> f64 {
        let places = whole.0.len();
        // Divided by the same power of 2^64, neither overflows.
        let scaled = |number: &Self| {
            (0..places).fold(0.0, |low, place| low / 2f64.powi(64) + number.digit(place) as f64)
        };
        scaled(self) / scaled(whole)
    }

    fn digit(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or(0)
    }
}

impl Ord for Whole {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

impl PartialOrd for Whole {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(value: u128) -> Whole {
        let mut digits = vec![value as u64, (value >> 64) as u64];
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Whole(digits)
    }

    #[test]
    fn numbers_of_three_digits() {
        let big = Whole::new(u64::MAX).times(u64::MAX).times(u64::MAX);
        // (2^64 - 1)^3 = 2^192 - 3 * 2^128 + 3 * 2^64 - 1
        assert_eq!(big.0, [u64::MAX, 2, u64::MAX - 2]);
        assert_eq!(big.clone().plus(&Whole::new(1)).0, [0, 3, u64::MAX - 2]);
        assert_eq!(big.times(3).over(&big.times(4)), 0.75);
        assert_eq!(Whole::new(0).over(&big), 0.0);
        assert_eq!(Whole(vec![u64::MAX; 3]).plus(&Whole::new(1)).0, [0, 0, 0, 1]);
    }

    proptest! {
        #[test]
        fn it_is_arithmetic(a in any::<u128>(), b in any::<u128>(), small in 0..1u128 << 64, factor: u64) {
            // 127 bits, so that the sum fits.
            prop_assert_eq!(whole(a >> 1).plus(&whole(b >> 1)), whole((a >> 1) + (b >> 1)));
            prop_assert_eq!(whole(small).times(factor), whole(small * u128::from(factor)));
            prop_assert_eq!(whole(a).cmp(&whole(b)), a.cmp(&b));
            prop_assert_eq!(whole(small).cmp(&whole(a)), small.cmp(&a));
            let (low, high) = (a.min(b), a.max(b).max(1));
            let quotient = whole(low).over(&whole(high));
            prop_assert!((quotient - low as f64 / high as f64).abs() <= 4.0 * f64::EPSILON * quotient);
        }
    }
}
