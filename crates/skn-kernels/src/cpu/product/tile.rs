//! A tile of a product: what one call of a kernel is given.

use crate::cpu::panels::PANEL;
use crate::cpu::view::ViewMut;

/// Rows of the largest tile: 12 x 2 accumulators of 16 numbers fill the 32 registers of AVX-512, the rest being for
/// the panel.
pub(super) const TILE: usize = 12;

/// One tile: `out[r][c] = start[c] + sum over k of left[r][k] * panel[k][c]`, or, without `start`, that added to
/// what is there. The slices are exactly as long as that needs.
pub(super) struct Tile<'a, T = f32> {
    pub(super) left: &'a [T],
    pub(super) left_stride: usize,
    pub(super) panel: &'a [T],
    /// What is multiplied soon: brought into the second-level cache meanwhile, where there is an instruction for it.
    pub(super) next: &'a [Piece],
    pub(super) start: Option<&'a [f32; PANEL]>,
    pub(super) out: ViewMut<'a>,
}

/// Where something lies that is needed soon. It is not looked at, so that its type doesn't matter.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) start: *const i8,
    pub(super) bytes: usize,
}

impl Piece {
    #[inline]
    pub(super) const fn none() -> Self {
        Self { start: std::ptr::null(), bytes: 0 }
    }

    #[inline]
    pub(super) fn of<T>(slice: &[T]) -> Self {
        Self { start: slice.as_ptr().cast(), bytes: size_of_val(slice) }
    }
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

pub(super) use by_rows;
