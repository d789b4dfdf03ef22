//! What matrices are packed as: numbers of 32 bits, or pairs of numbers of 16.
#![allow(unsafe_code)] // a promise about bits

/// An element of a packed matrix: one or two numbers that follow each other along the inner index.
///
/// # Safety
/// Plain bits that need no dropping, and all zeros are an element, the default one.
pub(crate) unsafe trait Element: Copy + Default + Send + Sync + 'static {
    /// Numbers an element holds, 1 or 2.
    const NUMBERS: usize;

    /// Elements of numbers that lie one after another; what the last one lacks is 0.
    fn of_row(out: &mut [Self], numbers: &[f32]);

    /// Elements whose first numbers are in one slice and whose second, if they have one, in another as long (or empty:
    /// they are 0).
    fn of_columns(out: &mut [Self], first: &[f32], second: &[f32]);
}

// SAFETY: 0.0 has no bit that is set.
unsafe impl Element for f32 {
    const NUMBERS: usize = 1;

    fn of_row(out: &mut [Self], numbers: &[f32]) {
        out.copy_from_slice(numbers);
    }

    fn of_columns(out: &mut [Self], first: &[f32], _: &[f32]) {
        out.copy_from_slice(first);
    }
}

/// Two numbers in bfloat16, the first in the low half: what VDPBF16PS multiplies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Pair(pub(crate) u32);

impl Pair {
    #[inline(always)]
    fn new(first: f32, second: f32) -> Self {
        Self(to_bf16(first) | to_bf16(second) << 16)
    }

    /// Both numbers.
    #[inline(always)]
    pub(crate) fn numbers(self) -> [f32; 2] {
        [f32::from_bits(self.0 << 16), f32::from_bits(self.0 & 0xffff_0000)]
    }
}

/// The nearest number in bfloat16, of two as near the even one, as its 16 bits. What is not a number stays so.
#[inline(always)]
pub(crate) fn to_bf16(number: f32) -> u32 {
    let bits = number.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if number.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

// SAFETY: as above, twice.
unsafe impl Element for Pair {
    const NUMBERS: usize = 2;

    fn of_row(out: &mut [Self], numbers: &[f32]) {
        let (pairs, last) = numbers.as_chunks::<2>();
        for (out, [first, second]) in out.iter_mut().zip(pairs) {
            *out = Self::new(*first, *second);
        }
        if let ([.., out], [last]) = (out, last) {
            *out = Self::new(*last, 0.0);
        }
    }

    fn of_columns(out: &mut [Self], first: &[f32], second: &[f32]) {
        if second.is_empty() {
            out.iter_mut().zip(first).for_each(|(out, first)| *out = Self::new(*first, 0.0));
        } else {
            let pairs = first.iter().zip(second);
            out.iter_mut().zip(pairs).for_each(|(out, (first, second))| *out = Self::new(*first, *second));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        // bfloat16 has 8 bits of precision: between 1 and 2 its numbers are 1/128 apart.
        let rounded = |number: f32| Pair::new(number, 0.0).numbers()[0];
        for (number, expected) in [
            (1.0, 1.0),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 1.0 / 64.0),
            (1.0 + 1.01 / 256.0, 1.0 + 1.0 / 128.0),
            (-3.0, -3.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
            (0.0, 0.0),
        ] {
            assert_eq!(rounded(number), expected, "{number}");
        }
        assert!(rounded(f32::NAN).is_nan() && rounded(f32::from_bits(0x7f80_0001)).is_nan());
        assert_eq!(Pair::new(1.0, -2.0).numbers(), [1.0, -2.0]);
    }

    #[test]
    fn rows_and_columns_of_odd_length_end_with_0() {
        let mut out = [Pair::default(); 2];
        Pair::of_row(&mut out, &[1.0, 2.0, 3.0]);
        assert_eq!(out.map(Pair::numbers), [[1.0, 2.0], [3.0, 0.0]]);
        Pair::of_columns(&mut out, &[1.0, 2.0], &[3.0, 4.0]);
        assert_eq!(out.map(Pair::numbers), [[1.0, 3.0], [2.0, 4.0]]);
        Pair::of_columns(&mut out, &[1.0, 2.0], &[]);
        assert_eq!(out.map(Pair::numbers), [[1.0, 0.0], [2.0, 0.0]]);
    }
}
