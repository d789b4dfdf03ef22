//! The tile in plain Rust.

use super::tile::{Tile, by_rows};
use crate::cpu::panels::PANEL;
use crate::cpu::simd::multiply_add;

/// A tile of so many rows.
pub(super) fn rows_portable(tile: Tile<'_>, rows: usize) {
    by_rows!(rows, tile, portable, [1 2 3 4 5 6 7 8 9 10 11 12]);
}

/// A row at a time.
fn portable<const ROWS: usize>(tile: Tile<'_>) {
    const FUSED: bool = cfg!(target_arch = "aarch64");
    let steps = tile.panel.as_chunks::<PANEL>().0;
    for row in 0..ROWS {
        let out = &mut tile.out.values[row * tile.out.stride..][..tile.out.columns];
        let mut sums = [0f32; PANEL];
        match tile.start {
            Some(start) => sums = *start,
            None => sums[..out.len()].copy_from_slice(out),
        }
        let left = &tile.left[row * tile.left_stride..][..steps.len()];
        for (step, &value) in steps.iter().zip(left) {
            for (sum, &weight) in sums.iter_mut().zip(step) {
                *sum = multiply_add::<FUSED>(value, weight, *sum);
            }
        }
        out.copy_from_slice(&sums[..out.len()]);
    }
}
