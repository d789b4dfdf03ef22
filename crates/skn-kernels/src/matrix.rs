//! Matrix products with prepacked weights.
//!
//! The weight of a layer is packed once into panels of 32 columns; a tile of up to 12 rows times one panel is
//! accumulated in registers, the activations being broadcast from memory as they lie. Every element of the result is
//! one chain of multiply-adds in ascending order of the inner index, whatever the number of rows, so a row's bits do
//! not depend on the rows beside it.
#![allow(unsafe_code)] // vector intrinsics on pointers: the tiles

use crate::simd::Isa;

/// Columns of a panel.
const PANEL: usize = 32;
/// Rows of the largest tile: 12 x 2 accumulators of 16 numbers fill the 32 registers of AVX-512, the rest being for
/// the panel.
const TILE: usize = 12;
/// Steps of the inner index between two visits to memory: the part of a panel that is in use, 96 KB, stays in the
/// second-level cache.
const DEPTH: usize = 768;
/// Bytes of activations that stay in the second-level cache beside it.
const BLOCK_BYTES: usize = 384 * 1024;

/// The right-hand side `[inner, columns]` of a product, packed.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    inner: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Panels {
    /// Packs the transpose of a row-major matrix `[columns, inner]`, such as the weight of a linear layer.
    pub(crate) fn of_transposed(matrix: &[f32], columns: usize, inner: usize) -> Self {
        Self::pack(columns, inner, |k, column| matrix[column * inner + k])
    }

    /// Packs a row-major matrix `[inner, columns]`.
    pub(crate) fn of(matrix: &[f32], inner: usize, columns: usize) -> Self {
        Self::pack(columns, inner, |k, column| matrix[k * columns + column])
    }

    #[inline(always)]
    fn pack(columns: usize, inner: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let panels = columns.div_ceil(PANEL);
        let mut values = vec![0f32; panels * inner * PANEL];
        for panel in 0..panels {
            let width = PANEL.min(columns - panel * PANEL);
            for k in 0..inner {
                let place = (panel * inner + k) * PANEL;
                for lane in 0..width {
                    values[place + lane] = value(k, panel * PANEL + lane);
                }
            }
        }
        Self { inner, columns, values }
    }

    /// Columns of the result.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// `left [rows, inner] x self + bias`, row-major, with `finish` applied to every stretch of a row when it is
    /// complete.
    pub(crate) fn multiply(
        &self,
        isa: Isa,
        rows: usize,
        left: &[f32],
        bias: Option<&[f32]>,
        mut finish: impl FnMut(&mut [f32]),
    ) -> Vec<f32> {
        let (inner, columns) = (self.inner, self.columns);
        let mut out = vec![0f32; rows * columns];
        if let Some(bias) = bias {
            out.chunks_exact_mut(columns.max(1)).for_each(|row| row.copy_from_slice(bias));
        }
        let block = (BLOCK_BYTES / (4 * DEPTH.min(inner).max(1)) / TILE).max(1) * TILE;
        for first in (0..rows).step_by(block) {
            let last = rows.min(first + block);
            self.multiply_block(isa, left, &mut out, first..last);
            for row in first..last {
                finish(&mut out[row * columns..(row + 1) * columns]);
            }
        }
        out
    }

    fn multiply_block(&self, isa: Isa, left: &[f32], out: &mut [f32], rows: std::ops::Range<usize>) {
        for from in (0..self.inner).step_by(DEPTH) {
            let to = self.inner.min(from + DEPTH);
            for panel in 0..self.columns.div_ceil(PANEL) {
                for row in rows.clone().step_by(TILE) {
                    self.multiply_tile(isa, left, out, (row, rows.end.min(row + TILE)), (from, to), panel);
                }
            }
        }
    }

    /// Adds the products of inner indexes `from..to` to one tile of `out`.
    fn multiply_tile(
        &self,
        isa: Isa,
        left: &[f32],
        out: &mut [f32],
        rows: (usize, usize),
        (from, to): (usize, usize),
        panel: usize,
    ) {
        let width = PANEL.min(self.columns - panel * PANEL);
        let tile = Tile {
            left: &left[rows.0 * self.inner + from..(rows.1 - 1) * self.inner + to],
            left_stride: self.inner,
            panel: &self.values[(panel * self.inner + from) * PANEL..(panel * self.inner + to) * PANEL],
            out: &mut out
                [rows.0 * self.columns + panel * PANEL..(rows.1 - 1) * self.columns + panel * PANEL + width],
            out_stride: self.columns,
            width,
        };
        tile.run(isa, rows.1 - rows.0);
    }
}

/// One tile: `out[r][c] += sum over k of left[r][k] * panel[k][c]`, for `c` below `width`. The slices are exactly as
/// long as that needs.
struct Tile<'a> {
    left: &'a [f32],
    left_stride: usize,
    panel: &'a [f32],
    out: &'a mut [f32],
    out_stride: usize,
    width: usize,
}

/// Calls `$function::<R>` for the tile's number of rows.
macro_rules! by_rows {
    ($rows:expr, $tile:expr, $function:ident, [$($count:literal)*]) => {
        match $rows {
            $($count => $function::<$count>($tile),)*
            _ => {}
        }
    };
}

impl Tile<'_> {
    fn run(self, isa: Isa, rows: usize) {
        match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the instructions, or there would be no such `Isa`.
            Isa::Avx512 => unsafe { x86::rows_avx512(self, rows) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { x86::rows_avx2(self, rows) },
            _ => by_rows!(rows, self, portable, [1 2 3 4 5 6 7 8 9 10 11 12]),
        }
    }
}

/// The tile in plain Rust, one row and half a panel of accumulators at a time.
fn portable<const ROWS: usize>(tile: Tile<'_>) {
    const FUSED: bool = cfg!(target_arch = "aarch64");
    let steps = tile.panel.as_chunks::<PANEL>().0;
    for row in 0..ROWS {
        let out = &mut tile.out[row * tile.out_stride..][..tile.width];
        let mut sums = [0f32; PANEL];
        sums[..tile.width].copy_from_slice(out);
        let left = &tile.left[row * tile.left_stride..][..steps.len()];
        for (step, &value) in steps.iter().zip(left) {
            for (sum, &weight) in sums.iter_mut().zip(step) {
                *sum = crate::simd::multiply_add::<FUSED>(value, weight, *sum);
            }
        }
        out.copy_from_slice(&sums[..tile.width]);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{PANEL, Tile};

    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) fn rows_avx512(tile: Tile<'_>, rows: usize) {
        by_rows!(rows, tile, avx512, [1 2 3 4 5 6 7 8 9 10 11 12]);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn rows_avx2(tile: Tile<'_>, rows: usize) {
        by_rows!(rows, tile, avx2, [1 2 3 4 5 6 7 8 9 10 11 12]);
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    #[inline]
    fn avx512<const ROWS: usize>(tile: Tile<'_>) {
        let low: __mmask16 = ((1u32 << tile.width.min(16)) - 1) as __mmask16;
        let high: __mmask16 = ((1u32 << tile.width.saturating_sub(16)) - 1) as __mmask16;
        let out = tile.out.as_mut_ptr();
        let left = tile.left.as_ptr();
        let panel = tile.panel.as_ptr();
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        // SAFETY: a `Tile`'s slices hold ROWS rows at their strides: row r of `out` has `width` numbers, which is what
        // the masks let through; row r of `left` has as many numbers as `panel` has steps of 32.
        unsafe {
            for (row, sum) in sums.iter_mut().enumerate() {
                sum[0] = _mm512_maskz_loadu_ps(low, out.add(row * tile.out_stride));
                sum[1] = _mm512_maskz_loadu_ps(high, out.wrapping_add(row * tile.out_stride + 16));
            }
            for k in 0..tile.panel.len() / PANEL {
                let weights =
                    [_mm512_loadu_ps(panel.add(k * PANEL)), _mm512_loadu_ps(panel.add(k * PANEL + 16))];
                for (row, sum) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*left.add(row * tile.left_stride + k));
                    sum[0] = _mm512_fmadd_ps(value, weights[0], sum[0]);
                    sum[1] = _mm512_fmadd_ps(value, weights[1], sum[1]);
                }
            }
            for (row, sum) in sums.iter().enumerate() {
                _mm512_mask_storeu_ps(out.add(row * tile.out_stride), low, sum[0]);
                _mm512_mask_storeu_ps(out.wrapping_add(row * tile.out_stride + 16), high, sum[1]);
            }
        }
    }

    /// Six rows and half a panel at a time: 12 accumulators of the 16 registers.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn avx2<const ROWS: usize>(mut tile: Tile<'_>) {
        for half in [0, 16] {
            for first in (0..ROWS).step_by(6) {
                match ROWS - first {
                    1 => avx2_half::<1>(&mut tile, first, half),
                    2 => avx2_half::<2>(&mut tile, first, half),
                    3 => avx2_half::<3>(&mut tile, first, half),
                    4 => avx2_half::<4>(&mut tile, first, half),
                    5 => avx2_half::<5>(&mut tile, first, half),
                    _ => avx2_half::<6>(&mut tile, first, half),
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn avx2_half<const ROWS: usize>(tile: &mut Tile<'_>, first: usize, half: usize) {
        let width = tile.width.saturating_sub(half).min(16);
        let left = tile.left.as_ptr();
        let panel = tile.panel.as_ptr();
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        let mut edge = [[0f32; 16]; ROWS];
        for (row, edge) in edge.iter_mut().enumerate() {
            let start = ((first + row) * tile.out_stride + half).min(tile.out.len());
            edge[..width].copy_from_slice(&tile.out[start..][..width]);
        }
        // SAFETY: `edge` has 16 numbers a row; rows first..first + ROWS of `left` have as many numbers as `panel` has
        // steps of 32, of which `half..half + 16` are read.
        unsafe {
            for (sum, edge) in sums.iter_mut().zip(&edge) {
                *sum = [_mm256_loadu_ps(edge.as_ptr()), _mm256_loadu_ps(edge.as_ptr().add(8))];
            }
            for k in 0..tile.panel.len() / PANEL {
                let step = panel.add(k * PANEL + half);
                let weights = [_mm256_loadu_ps(step), _mm256_loadu_ps(step.add(8))];
                for (row, sum) in sums.iter_mut().enumerate() {
                    let value = _mm256_set1_ps(*left.add((first + row) * tile.left_stride + k));
                    sum[0] = _mm256_fmadd_ps(value, weights[0], sum[0]);
                    sum[1] = _mm256_fmadd_ps(value, weights[1], sum[1]);
                }
            }
            for (sum, edge) in sums.iter().zip(&mut edge) {
                _mm256_storeu_ps(edge.as_mut_ptr(), sum[0]);
                _mm256_storeu_ps(edge.as_mut_ptr().add(8), sum[1]);
            }
        }
        for (row, edge) in edge.iter().enumerate() {
            let start = ((first + row) * tile.out_stride + half).min(tile.out.len());
            tile.out[start..][..width].copy_from_slice(&edge[..width]);
        }
    }
}

/// The transpose of a row-major matrix `[rows, columns]`.
pub(crate) fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0f32; rows * columns];
    for row in 0..rows {
        for column in 0..columns {
            out[column * rows + row] = matrix[row * columns + column];
        }
    }
    out
}

/// The sum of each column of a row-major matrix `[rows, columns]`, rows in ascending order.
pub(crate) fn column_sums(matrix: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0f32; columns];
    for row in matrix.chunks_exact(columns.max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(next).collect()
    }

    fn naive(left: &[f32], weight: &[f32], bias: &[f32], [rows, inner, columns]: [usize; 3]) -> Vec<f64> {
        let element = |row: usize, column: usize| -> f64 {
            let products =
                (0..inner).map(|k| f64::from(left[row * inner + k]) * f64::from(weight[column * inner + k]));
            f64::from(bias[column]) + products.sum::<f64>()
        };
        (0..rows * columns).map(|place| element(place / columns, place % columns)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn products_are_right_on_every_instruction_set(rows in 0usize..40, inner in 1usize..70, columns in 1usize..80, seed: u32) {
            let (left, weight) = (numbers(rows * inner, seed), numbers(columns * inner, seed ^ 1));
            let bias = numbers(columns, seed ^ 2);
            let expected = naive(&left, &weight, &bias, [rows, inner, columns]);
            let transposed = transpose(&weight, columns, inner);
            for isa in Isa::available() {
                for panels in [Panels::of_transposed(&weight, columns, inner), Panels::of(&transposed, inner, columns)] {
                    let product = panels.multiply(isa, rows, &left, Some(&bias), |_| {});
                    for (ours, theirs) in product.iter().zip(&expected) {
                        prop_assert!((f64::from(*ours) - theirs).abs() < 1e-4, "{:?}: {} and {}", isa, ours, theirs);
                    }
                    // A row alone has the bits that it has among others.
                    for row in 0..rows.min(14) {
                        let alone = panels.multiply(isa, 1, &left[row * inner..(row + 1) * inner], Some(&bias), |_| {});
                        prop_assert_eq!(&alone, &product[row * columns..(row + 1) * columns]);
                    }
                }
            }
        }
    }

    #[test]
    fn long_inner_dimensions_are_cut_without_a_trace() {
        let (rows, inner, columns) = (30, 2 * DEPTH + 5, 33);
        let (left, weight) = (numbers(rows * inner, 3), numbers(columns * inner, 4));
        let expected = naive(&left, &weight, &vec![0.0; columns], [rows, inner, columns]);
        for isa in Isa::available() {
            let product =
                Panels::of_transposed(&weight, columns, inner).multiply(isa, rows, &left, None, |_| {});
            for (ours, theirs) in product.iter().zip(&expected) {
                assert!((f64::from(*ours) - theirs).abs() < 1e-3, "{isa:?}");
            }
        }
    }

    #[test]
    fn vector_sets_agree_in_every_bit() {
        let (left, weight) = (numbers(25 * 100, 5), numbers(50 * 100, 6));
        let panels = Panels::of_transposed(&weight, 50, 100);
        let products = Isa::available().into_iter().filter(|isa| *isa != Isa::Portable);
        let products: Vec<_> = products.map(|isa| panels.multiply(isa, 25, &left, None, |_| {})).collect();
        assert!(products.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
