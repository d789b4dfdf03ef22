//! The tile for AVX-512: rows times both halves of a panel, two accumulators a row.
#![allow(unsafe_code)] // vector intrinsics on pointers

use std::arch::x86_64::*;

use super::ahead::{Ahead, groups};
use super::tile::{Tile, by_rows};
use crate::cpu::element::Pair;
use crate::cpu::panels::PANEL;

/// Which columns of a tile there are, of each half of its panel.
fn masks(columns: usize) -> [__mmask16; 2] {
    [columns.min(16), columns.saturating_sub(16)].map(|count| ((1u32 << count) - 1) as __mmask16)
}

/// What a tile's sums begin with: `start`, or what is there.
#[target_feature(enable = "avx512f,avx2,fma")]
#[inline]
fn begin<const ROWS: usize, T>(tile: &Tile<'_, T>) -> [[__m512; 2]; ROWS] {
    let ([low, high], out) = (masks(tile.out.columns), tile.out.values.as_ptr());
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for (row, sum) in sums.iter_mut().enumerate() {
        let place = row * tile.out.stride;
        // SAFETY: a `Tile` has ROWS rows of `columns` numbers, which is what the masks let through, at their stride;
        // `start` has 32 numbers.
        *sum = unsafe {
            match tile.start {
                Some(start) => [_mm512_loadu_ps(start.as_ptr()), _mm512_loadu_ps(start.as_ptr().add(16))],
                None => [
                    _mm512_maskz_loadu_ps(low, out.add(place)),
                    _mm512_maskz_loadu_ps(high, out.wrapping_add(place + 16)),
                ],
            }
        };
    }
    sums
}

/// Writes a tile's sums.
#[target_feature(enable = "avx512f,avx2,fma")]
#[inline]
fn end<const ROWS: usize, T>(tile: Tile<'_, T>, sums: &[[__m512; 2]; ROWS]) {
    let ([low, high], out) = (masks(tile.out.columns), tile.out.values.as_mut_ptr());
    for (row, sum) in sums.iter().enumerate() {
        let place = row * tile.out.stride;
        // SAFETY: as in `begin`.
        unsafe {
            _mm512_mask_storeu_ps(out.add(place), low, sum[0]);
            _mm512_mask_storeu_ps(out.wrapping_add(place + 16), high, sum[1]);
        }
    }
}

/// A tile of so many rows of pairs.
#[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
pub(super) fn rows_bf16(tile: Tile<'_, Pair>, rows: usize) {
    by_rows!(rows, tile, bf16, [1 2 3 4 5 6 7 8 9 10 11 12]);
}

/// As [`avx512`], with two multiply-adds an instruction.
#[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
#[inline]
fn bf16<const ROWS: usize>(tile: Tile<'_, Pair>) {
    let left = tile.left.as_ptr().cast::<i32>();
    let panel = tile.panel.as_ptr().cast::<i32>();
    let (mut ahead, mut sums) = (Ahead::new(&tile, 1), begin::<ROWS, _>(&tile));
    // SAFETY: the slices are as long as in `avx512`, and a `Pair` has the size and alignment of an i32; vectors of
    // 512 bits are the same bits whatever they hold.
    unsafe {
        let pairs = |bits: __m512i| std::mem::transmute::<__m512i, __m512bh>(bits);
        for group in groups(tile.panel.len() / PANEL) {
            ahead.fetch();
            for k in group {
                let weights = [
                    pairs(_mm512_loadu_epi32(panel.add(k * PANEL))),
                    pairs(_mm512_loadu_epi32(panel.add(k * PANEL + 16))),
                ];
                for (row, sum) in sums.iter_mut().enumerate() {
                    let value = pairs(_mm512_set1_epi32(*left.add(row * tile.left_stride + k)));
                    sum[0] = _mm512_dpbf16_ps(sum[0], value, weights[0]);
                    sum[1] = _mm512_dpbf16_ps(sum[1], value, weights[1]);
                }
            }
        }
    }
    end(tile, &sums);
}

/// A tile of so many rows.
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) fn rows_avx512(tile: Tile<'_>, rows: usize) {
    by_rows!(rows, tile, avx512, [1 2 3 4 5 6 7 8 9 10 11 12]);
}

#[target_feature(enable = "avx512f,avx2,fma")]
#[inline]
fn avx512<const ROWS: usize>(tile: Tile<'_>) {
    let left = tile.left.as_ptr();
    let panel = tile.panel.as_ptr();
    let (mut ahead, mut sums) = (Ahead::new(&tile, 1), begin::<ROWS, _>(&tile));
    // SAFETY: row r of `left` has as many numbers as `panel` has steps of 32.
    unsafe {
        for group in groups(tile.panel.len() / PANEL) {
            ahead.fetch();
            for k in group {
                let weights =
                    [_mm512_loadu_ps(panel.add(k * PANEL)), _mm512_loadu_ps(panel.add(k * PANEL + 16))];
                for (row, sum) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*left.add(row * tile.left_stride + k));
                    sum[0] = _mm512_fmadd_ps(value, weights[0], sum[0]);
                    sum[1] = _mm512_fmadd_ps(value, weights[1], sum[1]);
                }
            }
        }
    }
    end(tile, &sums);
}
