use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

/// A loop over many numbers, which [`vectorised`] compiles for several sets of vector instructions.
///
/// What it computes is the same on all of them, as long as it adds up integers, or combines numbers place by place: a sum of
/// floating-point numbers is in the order that is written.
pub trait Loop<A> {
    /// What it gives.
    type Output;

    /// Does it. Only what is inlined becomes vector code: this and what it calls need `#[inline(always)]`.
    fn run(argument: A) -> Self::Output;
}

/// Does a loop by the vector instructions that the processor has.
///
/// ```
/// use skn_stats::{Loop, vectorised};
///
/// struct CountAbove;
///
/// impl Loop<(&[f32], f32)> for CountAbove {
///     type Output = u32;
///
///     #[inline(always)]
///     fn run((values, threshold): (&[f32], f32)) -> u32 {
///         values.iter().map(|&value| u32::from(value > threshold)).sum()
///     }
/// }
/// assert_eq!(vectorised(CountAbove, (&[1.0, 3.0, 2.5][..], 2.0)), 2);
/// ```
pub fn vectorised<A, L: Loop<A>>(_: L, argument: A) -> L::Output {
    Arch::new().dispatch(Call { body: PhantomData::<L>, argument })
}

struct Call<L, A> {
    body: PhantomData<L>,
    argument: A,
}

impl<A, L: Loop<A>> WithSimd for Call<L, A> {
    type Output = L::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> L::Output {
        L::run(self.argument)
    }
}

/// The largest magnitude of some values. If one is not a number, that is what it gives: the bits of NaN are above those of all numbers.
pub(crate) struct Largest;

impl Loop<&[f32]> for Largest {
    type Output = f32;

    #[inline(always)]
    fn run(values: &[f32]) -> f32 {
        const SIGN: u32 = 1 << 31;
        f32::from_bits(values.iter().fold(0, |largest, value| largest.max(value.to_bits() & !SIGN)))
    }
}

/// Adds numbers to sums, place by place. Whoever does it knows that no sum overflows.
pub(crate) struct AddIntegers;

impl Loop<(&mut [i64], &[i64])> for AddIntegers {
    type Output = ();

    #[inline(always)]
    fn run((sums, parts): (&mut [i64], &[i64])) {
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum = sum.wrapping_add(*part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_magnitude_is_found_wherever_it_is() {
        for place in 0..40 {
            let mut values = [0.5f32; 40];
            values[place] = -3.0;
            assert_eq!(vectorised(Largest, &values[..]), 3.0, "{place}");
            values[(place + 1) % 40] = f32::NEG_INFINITY;
            assert_eq!(vectorised(Largest, &values[..]), f32::INFINITY, "{place}");
            values[(place + 2) % 40] = -f32::NAN;
            assert!(vectorised(Largest, &values[..]).is_nan(), "{place}");
        }
        assert_eq!(vectorised(Largest, &[][..]), 0.0);
    }
}
