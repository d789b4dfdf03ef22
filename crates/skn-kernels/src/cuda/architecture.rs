//! What kernels are compiled for, and what a card must be of for a precision.

use crate::precision::Precision;

/// Whether cards of a compute capability multiply in a precision: bf16 began with Ampere, of which candle has no kernels for older ones
/// either. tf32 is f32 there.
pub(super) fn multiplies_in((major, _): (i32, i32), precision: Precision) -> bool {
    precision != Precision::Bf16 || major >= 8
}

/// The newest architecture that a compiler knows and a card of this compute capability runs: PTX for an older one is translated by
/// the driver. Where it knows none such it is the card's own, so that the compiler says what it lacks.
pub(super) fn newest((major, minor): (i32, i32), known: &[i32]) -> i32 {
    let own = 10 * major + minor;
    known.iter().copied().filter(|&known| known <= own).max().unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_began_with_ampere() {
        let bf16 =
            [(6, 1), (7, 5), (8, 0), (8, 9), (9, 0), (12, 0)].map(|it| multiplies_in(it, Precision::Bf16));
        assert_eq!(bf16, [false, false, true, true, true, true]);
        for precision in [Precision::F32, Precision::Tf32] {
            assert!(multiplies_in((7, 0), precision), "{precision:?}");
        }
    }

    #[test]
    fn a_card_newer_than_the_compiler_gets_what_that_knows() {
        let known = [75, 80, 86, 89, 90];
        assert_eq!(newest((9, 0), &known), 90);
        assert_eq!(newest((12, 0), &known), 90);
        assert_eq!(newest((8, 7), &known), 86);
        assert_eq!(newest((7, 0), &known), 70, "older than all");
        assert_eq!(newest((10, 3), &[]), 103, "it doesn't say");
    }
}
