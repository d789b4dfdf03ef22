//! Row-major matrices, and parts of them, as slices.

use std::ops::Range;

/// A row-major matrix whose rows start `stride` numbers apart.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T = f32> {
    pub(crate) values: &'a [T],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
}

impl<'a> View<'a> {
    /// A matrix without gaps between its rows.
    #[inline]
    pub(crate) fn dense(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, stride: columns }
    }

    /// The numbers of a row.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.columns]
    }

    /// The transpose, without gaps.
    pub(crate) fn transposed(&self) -> Vec<f32> {
        let mut out = vec![0f32; self.rows * self.columns];
        for row in 0..self.rows {
            let column = out.iter_mut().skip(row).step_by(self.rows);
            column.zip(self.row(row)).for_each(|(out, value)| *out = *value);
        }
        out
    }

    /// The sum of each column, rows in ascending order.
    pub(crate) fn column_sums(&self) -> Vec<f32> {
        let mut sums = vec![0f32; self.columns];
        for row in 0..self.rows {
            sums.iter_mut().zip(self.row(row)).for_each(|(sum, value)| *sum += value);
        }
        sums
    }
}

/// A part of a row-major matrix to write to: the first `columns` numbers of every `stride`.
pub(crate) struct ViewMut<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) columns: usize,
    pub(crate) stride: usize,
}

impl<'a> ViewMut<'a> {
    /// A matrix without gaps between its rows.
    #[inline]
    pub(crate) fn dense(values: &'a mut [f32], columns: usize) -> Self {
        Self { values, columns, stride: columns }
    }

    /// Some rows and columns; neither may be none.
    #[inline]
    pub(crate) fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> ViewMut<'_> {
        let range = rows.start * self.stride + columns.start..(rows.end - 1) * self.stride + columns.end;
        ViewMut { values: &mut self.values[range], columns: columns.len(), stride: self.stride }
    }
}
