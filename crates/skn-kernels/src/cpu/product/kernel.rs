//! Which code computes a tile: chosen by the instructions that there are when the program runs.
#![allow(unsafe_code)] // calls of code compiled for instructions that were found at run time

use super::portable::rows_portable;
use super::tile::Tile;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::cpu::element::{Element, Pair};
use crate::cpu::simd::Isa;

/// An element that tiles are computed of.
pub(super) trait Factor: Element {
    /// Computes a tile of so many rows.
    fn run(tile: Tile<'_, Self>, isa: Isa, rows: usize);
}

impl Factor for f32 {
    fn run(tile: Tile<'_>, isa: Isa, rows: usize) {
        match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the instructions, or there would be no such `Isa`.
            Isa::Avx512 => unsafe { avx512::rows_avx512(tile, rows) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::rows_avx2(tile, rows) },
            _ => rows_portable(tile, rows),
        }
    }
}

impl Factor for Pair {
    /// # Panics
    /// If these instructions don't [multiply pairs](Isa::multiplies_bf16): then their numbers are to be the factors.
    fn run(tile: Tile<'_, Self>, isa: Isa, rows: usize) {
        match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has AVX-512, or there would be no such `Isa`, and the rest was looked for just now.
            Isa::Avx512 if isa.multiplies_bf16() => unsafe { avx512::rows_bf16(tile, rows) },
            _ => unreachable!("{rows} rows of pairs as factors on {isa:?}"),
        }
    }
}
