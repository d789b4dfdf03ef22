//! The tile for AVX2 and FMA.
#![allow(unsafe_code)] // vector intrinsics on pointers

use std::arch::x86_64::*;

use super::ahead::{Ahead, groups};
use super::tile::{Tile, by_rows};
use crate::cpu::panels::PANEL;

/// A tile of so many rows.
#[target_feature(enable = "avx2,fma")]
pub(super) fn rows_avx2(tile: Tile<'_>, rows: usize) {
    by_rows!(rows, tile, avx2, [1 2 3 4 5 6 7 8 9 10 11 12]);
}

/// Up to six rows and half a panel at a time: 12 accumulators of the 16 registers. Rows are divided evenly, because
/// a few of them have too few accumulators to hide the latency of a multiply-add.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn avx2<const ROWS: usize>(mut tile: Tile<'_>) {
    let parts = ROWS.div_ceil(6);
    let mut ahead = Ahead::new(&tile, 2 * parts);
    for part in 0..parts {
        let (first, end) = (part * ROWS / parts, (part + 1) * ROWS / parts);
        for half in [0, 16] {
            match end - first {
                1 => avx2_half::<1>(&mut tile, &mut ahead, first, half),
                2 => avx2_half::<2>(&mut tile, &mut ahead, first, half),
                3 => avx2_half::<3>(&mut tile, &mut ahead, first, half),
                4 => avx2_half::<4>(&mut tile, &mut ahead, first, half),
                5 => avx2_half::<5>(&mut tile, &mut ahead, first, half),
                _ => avx2_half::<6>(&mut tile, &mut ahead, first, half),
            }
        }
    }
}

/// Rows from `first`, columns from `half`.
///
/// Where a processor runs another thread in the same core, each gets half of the places for instructions a cycle. So what is
/// not a multiply-add is kept small: steps are written out, and the addresses of rows are one of two pointers, a
/// multiple of the stride, and a constant.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn avx2_half<const ROWS: usize>(tile: &mut Tile<'_>, ahead: &mut Ahead<'_>, first: usize, half: usize) {
    let width = tile.out.columns.saturating_sub(half).min(16);
    if width == 0 {
        return;
    }
    const STEPS: usize = 4;
    let stride = tile.left_stride;
    let left = tile.left.as_ptr();
    let mut rows = [first, first + 3].map(|row| left.wrapping_add(row * stride));
    let mut panel = tile.panel.as_ptr().wrapping_add(half);
    let out = tile.out.values.as_mut_ptr().wrapping_add(first * tile.out.stride + half);
    let places: [_; ROWS] = std::array::from_fn(|row| out.wrapping_add(row * tile.out.stride));
    // Masked stores take many times as long as whole ones: they are for the last panel alone.
    let (full, masks) = (width == 16, avx2_masks(width));
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    // SAFETY: rows first..first + ROWS of `out` have `width` numbers from `half`, which is what the masks let
    // through, and `start` has 32; the same rows of `left` have as many numbers as `panel` has steps of 32, of which
    // `half..half + 16` are read. `rows` and `panel` go on by as many steps as were made, all together no more than that; where they
    // point past a slice (the second three rows of fewer, the end) nothing is read.
    unsafe {
        if tile.start.is_some() {
            // The result's lines come from memory while the products are made, not when they are stored.
            for place in &places {
                _mm_prefetch::<_MM_HINT_T0>(place.cast());
                _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(width - 1).cast());
            }
        }
        for (place, sum) in places.iter().zip(&mut sums) {
            *sum = match tile.start {
                Some(start) => {
                    let start = start.as_ptr().add(half);
                    [_mm256_loadu_ps(start), _mm256_loadu_ps(start.add(8))]
                }
                None if full => [_mm256_loadu_ps(*place), _mm256_loadu_ps(place.add(8))],
                None => [
                    _mm256_maskload_ps(*place, masks[0]),
                    _mm256_maskload_ps(place.wrapping_add(8), masks[1]),
                ],
            };
        }
        // As a function it would be compiled with its sums in memory.
        macro_rules! step {
            ($k:expr) => {
                let step = panel.add($k * PANEL);
                let weights = [_mm256_loadu_ps(step), _mm256_loadu_ps(step.add(8))];
                for row in 0..ROWS {
                    let value = _mm256_set1_ps(*rows[row / 3].add(row % 3 * stride + $k));
                    sums[row][0] = _mm256_fmadd_ps(value, weights[0], sums[row][0]);
                    sums[row][1] = _mm256_fmadd_ps(value, weights[1], sums[row][1]);
                }
            };
        }
        for group in groups(tile.panel.len() / PANEL) {
            ahead.fetch();
            for _ in 0..group.len() / STEPS {
                for k in 0..STEPS {
                    step!(k);
                }
                rows = rows.map(|row| row.wrapping_add(STEPS));
                panel = panel.wrapping_add(STEPS * PANEL);
            }
            for _ in 0..group.len() % STEPS {
                step!(0);
                rows = rows.map(|row| row.wrapping_add(1));
                panel = panel.wrapping_add(PANEL);
            }
        }
        for (place, sum) in places.iter().zip(&sums) {
            if full {
                _mm256_storeu_ps(*place, sum[0]);
                _mm256_storeu_ps(place.add(8), sum[1]);
            } else {
                _mm256_maskstore_ps(*place, masks[0], sum[0]);
                _mm256_maskstore_ps(place.wrapping_add(8), masks[1], sum[1]);
            }
        }
    }
}

/// Which of 16 columns there are, as masks of 8 each.
#[target_feature(enable = "avx2")]
#[inline]
fn avx2_masks(columns: usize) -> [__m256i; 2] {
    let count = _mm256_set1_epi32(columns as i32);
    [
        _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
        _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)),
    ]
}
