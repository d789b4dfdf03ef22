//! The left-hand side of a product: as it lies, or copied.

use std::ops::Range;

use super::factor::As;
use crate::cpu::element::Element;
use crate::cpu::simd::Isa;
use crate::cpu::view::View;

/// Rows that start a multiple of so many numbers (4 KB) apart lie in the same sets of the first-level cache: the 12 of a tile
/// drive each other out of its 8 ways.
pub(super) const ALIAS: usize = 1024;

/// Numbers between the rows of a copy that don't: a cache line.
const APART: usize = 16;

/// A part of the left-hand side, from a row and a column of it on.
#[derive(Clone, Copy)]
pub(super) struct Part<'a, F> {
    pub(super) matrix: View<'a, F>,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<'a, F: Element> Part<'a, F> {
    /// Makes factors of some rows and columns, counted in factors, where rows are not in each other's way in the cache.
    pub(super) fn spread<T: As<F>>(
        isa: Isa,
        left: View<'_>,
        rows: Range<usize>,
        columns: Range<usize>,
        copy: &'a mut Vec<F>,
    ) -> Self {
        let (row, column, stride) = (rows.start, columns.start, columns.len() + APART);
        let numbers = columns.start * F::NUMBERS..left.columns.min(columns.end * F::NUMBERS);
        copy.resize(rows.len() * stride, F::default());
        for (to, from) in copy.chunks_exact_mut(stride).zip(rows.clone()) {
            T::left(isa, &mut to[..columns.len()], &left.row(from)[numbers.clone()]);
        }
        let matrix = View { values: copy, rows: rows.len(), columns: columns.len(), stride };
        Self { matrix, row, column }
    }

    /// The numbers from the first one of a tile to its last.
    #[inline]
    pub(super) fn tile(&self, rows: Range<usize>, columns: Range<usize>) -> &'a [F] {
        let place = |row: usize, column: usize| (row - self.row) * self.matrix.stride + column - self.column;
        &self.matrix.values[place(rows.start, columns.start)..place(rows.end - 1, columns.end)]
    }
}
