//! Fetching what is multiplied next, while a tile is computed.
#![allow(unsafe_code)] // a hint on a pointer

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

use super::tile::{Piece, Tile};
use crate::cpu::panels::PANEL;

/// Steps of the inner index between prefetches. Weights come from memory or the third-level cache, and the processor's
/// own prefetching ends with each page of 4 KB, after 32 steps.
const GROUP: usize = 64;

/// Fetches what is multiplied next, a share of it at each call.
pub(super) struct Ahead<'a> {
    pieces: std::slice::Iter<'a, Piece>,
    piece: Piece,
    each: usize,
}

impl<'a> Ahead<'a> {
    /// Bytes of a cache line.
    const LINE: usize = 64;

    /// To be called for each group of steps of a tile, `kernels` times over.
    #[inline]
    pub(super) fn new<T>(tile: &Tile<'a, T>, kernels: usize) -> Self {
        let lines: usize = tile.next.iter().map(|piece| piece.bytes.div_ceil(Self::LINE)).sum();
        let calls = kernels * tile.panel.len().div_ceil(GROUP * PANEL);
        let each = lines.div_ceil(calls.max(1));
        Self { pieces: tile.next.iter(), piece: Piece::none(), each }
    }

    /// Fetches a share.
    #[inline(always)]
    pub(super) fn fetch(&mut self) {
        let mut left = self.each;
        while left > 0 {
            if self.piece.bytes == 0 {
                let Some(piece) = self.pieces.next() else { return };
                self.piece = *piece;
            }
            let lines = left.min(self.piece.bytes.div_ceil(Self::LINE));
            left -= lines;
            for _ in 0..lines {
                // SAFETY: a hint, which reads nothing and can't fail, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(self.piece.start) };
                self.piece.start = self.piece.start.wrapping_add(Self::LINE);
            }
            self.piece.bytes = self.piece.bytes.saturating_sub(lines * Self::LINE);
        }
    }
}

/// The steps of a tile in groups, between which something is fetched.
#[inline]
pub(super) fn groups(steps: usize) -> impl Iterator<Item = Range<usize>> {
    (0..steps).step_by(GROUP).map(move |first| first..steps.min(first + GROUP))
}
