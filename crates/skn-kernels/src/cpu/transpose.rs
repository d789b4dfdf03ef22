//! Blocks of packed panels, turned for the product with the transpose of what was packed.
//!
//! A block is 32 numbers of the inner index by the 32 columns of a panel: `from` has its steps one after another, 32 elements
//! each, and so has `to`, with the columns as inner index. `from` may have fewer steps; then what they would give is 0.
#![allow(unsafe_code)] // vector intrinsics on pointers

use crate::cpu::element::{Element, Pair};
use crate::cpu::panels::{PANEL, block_steps};
use crate::cpu::simd::Isa;

/// A block of numbers: `to[column][k] = from[k][column]`.
pub(crate) fn transpose(isa: Isa, from: &[f32], to: &mut [f32]) {
    match (isa, from.try_into(), (&mut *to).try_into()) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2 | Isa::Avx512, Ok(from), Ok(to)) => {
            // SAFETY: the CPU has the instructions, or there would be no such `Isa`.
            unsafe { x86::transpose(from, to) }
        }
        _ => {
            to.fill(0.0);
            for (k, step) in from.as_chunks::<PANEL>().0.iter().enumerate() {
                to.iter_mut().skip(k).step_by(PANEL).zip(step).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

/// A block of pairs: of `from[k][column]`, numbers 2 k and 2 k + 1 of the inner index, number 2 k of the columns 2 c and 2 c + 1
/// is the pair `to[c][2 k]`, and so on.
pub(crate) fn transpose_pairs(isa: Isa, from: &[Pair], to: &mut [Pair]) {
    match (isa, from.try_into(), (&mut *to).try_into()) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2 | Isa::Avx512, Ok(from), Ok(to)) => {
            // SAFETY: as above.
            unsafe { x86::transpose_pairs(from, to) }
        }
        _ => {
            to.fill(Pair::default());
            for (k, step) in from.as_chunks::<PANEL>().0.iter().enumerate() {
                for (to, [first, second]) in to.chunks_exact_mut(PANEL).zip(step.as_chunks::<2>().0) {
                    to[2 * k] = Pair(first.0 & 0xffff | second.0 << 16);
                    to[2 * k + 1] = Pair(first.0 >> 16 | second.0 & 0xffff_0000);
                }
            }
        }
    }
}

/// Elements of a block.
pub(crate) const fn block<T: Element>() -> usize {
    block_steps::<T>() * PANEL
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{PANEL, Pair, block};

    #[target_feature(enable = "avx2")]
    pub(super) fn transpose(from: &[f32; block::<f32>()], to: &mut [f32; block::<f32>()]) {
        for k in (0..PANEL).step_by(8) {
            for column in (0..PANEL).step_by(8) {
                // SAFETY: 8 numbers from a multiple of 8 in each of 8 of the 32 steps of 32 numbers, here and below.
                let rows = std::array::from_fn(|row| unsafe {
                    _mm256_loadu_ps(from.as_ptr().add((k + row) * PANEL + column))
                });
                for (row, values) in transposed(rows).into_iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { _mm256_storeu_ps(to.as_mut_ptr().add((column + row) * PANEL + k), values) };
                }
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn transpose_pairs(from: &[Pair; block::<Pair>()], to: &mut [Pair; block::<Pair>()]) {
        let (from, to) = (from.as_ptr().cast::<f32>(), to.as_mut_ptr().cast::<__m256i>());
        for k in (0..PANEL / 2).step_by(8) {
            for column in (0..PANEL).step_by(8) {
                // SAFETY: 8 pairs from a multiple of 8 in each of 8 of the 16 steps of 32 pairs, whose bits are moved only.
                let rows = std::array::from_fn(|row| unsafe {
                    _mm256_loadu_ps(from.add((k + row) * PANEL + column))
                });
                let columns = transposed(rows).map(|row| _mm256_castps_si256(row));
                for (row, [first, second]) in columns.as_chunks::<2>().0.iter().enumerate() {
                    let low = _mm256_blend_epi16::<0xaa>(*first, _mm256_slli_epi32::<16>(*second));
                    let high = _mm256_blend_epi16::<0xaa>(_mm256_srli_epi32::<16>(*first), *second);
                    let (a, b) = (_mm256_unpacklo_epi32(low, high), _mm256_unpackhi_epi32(low, high));
                    // In vectors of 8: step `column / 2 + row` has 4 of them, and each pair of `from` became two.
                    let place = (column / 2 + row) * (PANEL / 8) + k / 4;
                    // SAFETY: two vectors of the 4 in each of the 16 steps of `to`.
                    unsafe {
                        _mm256_storeu_si256(to.add(place), _mm256_permute2x128_si256::<0x20>(a, b));
                        _mm256_storeu_si256(to.add(place + 1), _mm256_permute2x128_si256::<0x31>(a, b));
                    }
                }
            }
        }
    }

    /// The transpose of 8 by 8 numbers.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn transposed(rows: [__m256; 8]) -> [__m256; 8] {
        // Pairs of rows, then fours, then the halves of all.
        let [a, b, c, d, e, f, g, h] = rows;
        let low = [
            _mm256_unpacklo_ps(a, b),
            _mm256_unpackhi_ps(a, b),
            _mm256_unpacklo_ps(c, d),
            _mm256_unpackhi_ps(c, d),
        ];
        let high = [
            _mm256_unpacklo_ps(e, f),
            _mm256_unpackhi_ps(e, f),
            _mm256_unpacklo_ps(g, h),
            _mm256_unpackhi_ps(g, h),
        ];
        let fours = |[a, b, c, d]: [__m256; 4]| {
            [
                _mm256_shuffle_ps::<0x44>(a, c),
                _mm256_shuffle_ps::<0xee>(a, c),
                _mm256_shuffle_ps::<0x44>(b, d),
                _mm256_shuffle_ps::<0xee>(b, d),
            ]
        };
        let (low, high) = (fours(low), fours(high));
        std::array::from_fn(|row| {
            let (low, high) = (low[row % 4], high[row % 4]);
            if row < 4 {
                _mm256_permute2f128_ps::<0x20>(low, high)
            } else {
                _mm256_permute2f128_ps::<0x31>(low, high)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_turned_on_every_instruction_set() {
        for isa in Isa::available() {
            for steps in [32, 31, 1, 0] {
                let from: Vec<f32> = (0..steps * PANEL).map(|place| place as f32 + 1.0).collect();
                let mut to = [7f32; block::<f32>()];
                transpose(isa, &from, &mut to);
                for (place, &found) in to.iter().enumerate() {
                    let (column, k) = (place / PANEL, place % PANEL);
                    let expected = if k < steps { from[k * PANEL + column] } else { 0.0 };
                    assert_eq!(found, expected, "{isa:?}, {steps} steps, column {column}, number {k}");
                }
            }
            for steps in [16, 15, 1, 0] {
                let number = |k: usize, column: usize| (k * PANEL + column + 1) as u32;
                let from: Vec<Pair> = (0..steps * PANEL)
                    .map(|place| (place / PANEL, place % PANEL))
                    .map(|(step, column)| Pair(number(2 * step, column) | number(2 * step + 1, column) << 16))
                    .collect();
                let mut to = [Pair(7); block::<Pair>()];
                transpose_pairs(isa, &from, &mut to);
                for (place, &found) in to.iter().enumerate() {
                    let (pair, k) = (place / PANEL, place % PANEL);
                    let expected = number(k, 2 * pair) | number(k, 2 * pair + 1) << 16;
                    let expected = if k < 2 * steps { expected } else { 0 };
                    assert_eq!(found, Pair(expected), "{isa:?}, {steps} steps, pair {pair}, number {k}");
                }
            }
        }
    }
}
