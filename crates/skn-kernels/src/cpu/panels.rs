//! Matrices packed for products: panels of 32 columns, whose steps of the inner index lie one after another.

use std::ops::Range;

use crate::cpu::element::Element;
use crate::cpu::memory::Aligned;
use crate::cpu::view::View;

/// Columns of a panel.
pub(crate) const PANEL: usize = 32;

/// Steps of a block of 32 numbers of the inner index.
pub(crate) const fn block_steps<T: Element>() -> usize {
    PANEL / T::NUMBERS
}

/// The right-hand side `[inner, columns]` of a product, packed: for each panel, for each inner index, 32 elements.
#[derive(Debug)]
pub(crate) struct Panels<T = f32> {
    /// Numbers along the inner index.
    rows: usize,
    /// Elements along the inner index.
    inner: usize,
    columns: usize,
    values: Aligned<T>,
}

impl<T: Element> Panels<T> {
    /// Panels of zeros, in memory that `zeros` gives.
    fn zeros(rows: usize, columns: usize, zeros: impl Fn(usize) -> Aligned<T>) -> Self {
        let inner = rows.div_ceil(T::NUMBERS);
        Self { rows, inner, columns, values: zeros(columns.div_ceil(PANEL) * inner * PANEL) }
    }

    /// Packs a matrix `[inner, columns]`.
    pub(crate) fn of(matrix: View<'_>) -> Self {
        let mut packed = Self::zeros(matrix.rows, matrix.columns, Aligned::zeros);
        let (inner, columns) = (packed.inner, matrix.columns);
        for (place, step) in packed.values.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let (first, k) = (place / inner * PANEL, place % inner * T::NUMBERS);
            let columns = first..columns.min(first + PANEL);
            let other = if T::NUMBERS > 1 && k + 1 < matrix.rows { matrix.row(k + 1) } else { &[] };
            let other = other.get(columns.clone()).unwrap_or_default();
            T::of_columns(&mut step[..columns.len()], &matrix.row(k)[columns], other);
        }
        packed
    }

    /// Packs the transpose of a matrix `[columns, inner]`, such as the weight of a linear layer.
    pub(crate) fn of_transposed(matrix: View<'_>) -> Self {
        let mut packed = Self::zeros(matrix.columns, matrix.rows, Aligned::zeros);
        packed.for_each_panel(|rows, steps| pack_rows(|row| matrix.row(rows.start + row), rows.len(), steps));
        packed
    }

    /// As [`Self::of_transposed`], of a matrix that is kept, of which `read` gives some rows at a time. So they are packed before
    /// they leave the caches.
    pub(crate) fn of_read<E>(
        [rows, columns]: [usize; 2],
        read: impl Fn(Range<usize>, &mut Vec<f32>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut packed = Self::zeros(columns, rows, Aligned::kept);
        let (mut values, mut result) = (Vec::new(), Ok(()));
        packed.for_each_panel(|rows, steps| {
            if result.is_ok() {
                values.clear();
                result = read(rows.clone(), &mut values);
            }
            if result.is_ok() {
                let matrix = View::dense(&values, rows.len(), columns);
                pack_rows(|row| matrix.row(row), rows.len(), steps);
            }
        });
        result.map(|()| packed)
    }

    /// Calls `each` with the columns and the steps of every panel.
    fn for_each_panel(&mut self, mut each: impl FnMut(Range<usize>, &mut [[T; PANEL]])) {
        let steps = self.values.as_chunks_mut::<PANEL>().0;
        for (panel, steps) in steps.chunks_mut(self.inner.max(1)).enumerate() {
            each(panel * PANEL..self.columns.min((panel + 1) * PANEL), steps);
        }
    }

    /// The transpose of what was packed, `[columns, inner]`, without gaps.
    pub(crate) fn transposed(&self) -> Vec<T> {
        /// Steps whose columns are written one after the other while they stay in the first-level cache.
        const STEPS: usize = 64;
        let mut out = vec![T::default(); self.columns * self.inner];
        let panels = self.values.as_chunks::<PANEL>().0.chunks(self.inner.max(1));
        for (rows, steps) in out.chunks_mut((PANEL * self.inner).max(1)).zip(panels) {
            for (part, steps) in steps.chunks(STEPS).enumerate() {
                for (lane, row) in rows.chunks_exact_mut(self.inner).enumerate() {
                    let row = &mut row[part * STEPS..][..steps.len()];
                    row.iter_mut().zip(steps).for_each(|(to, step)| *to = step[lane]);
                }
            }
        }
        out
    }

    /// Numbers along the inner index.
    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the result.
    #[inline]
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Steps of each panel: elements along the inner index.
    #[inline]
    pub(crate) fn steps(&self) -> usize {
        self.inner
    }

    /// All panels, one after another.
    #[inline]
    pub(crate) fn elements(&self) -> &[T] {
        &self.values
    }
}

/// Fills the steps of a panel, of which each row is a column.
fn pack_rows<'a, T: Element>(row: impl Fn(usize) -> &'a [f32], rows: usize, steps: &mut [[T; PANEL]]) {
    /// Steps that are filled column by column while they stay in a cache. Fewer of them make shorter runs of the weight, which
    /// the processor fetches later.
    const STEPS: usize = 512;
    let mut elements = [T::default(); STEPS];
    for (part, steps) in steps.chunks_mut(STEPS).enumerate() {
        for lane in 0..rows {
            let numbers = &row(lane)[part * STEPS * T::NUMBERS..];
            let numbers = &numbers[..numbers.len().min(steps.len() * T::NUMBERS)];
            T::of_row(&mut elements[..steps.len()], numbers);
            steps.iter_mut().zip(&elements).for_each(|(step, value)| step[lane] = *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::element::Pair;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn what_is_packed_is_there_again(inner in 0usize..70, columns in 0usize..80) {
            // Small whole numbers, which bfloat16 has too.
            let weight: Vec<f32> = (0..columns * inner).map(|place| (place % 251) as f32).collect();
            let weight = View::dense(&weight, columns, inner);
            let transposed = weight.transposed();
            let turned = View::dense(&transposed, inner, columns);
            prop_assert_eq!(Panels::<f32>::of_transposed(weight).transposed(), weight.values);
            prop_assert_eq!(Panels::<f32>::of(turned).transposed(), weight.values);
            let pairs = Panels::<Pair>::of_transposed(weight).transposed();
            prop_assert_eq!(&pairs, &Panels::<Pair>::of(turned).transposed());
            for (row, pairs) in pairs.chunks(inner.div_ceil(2).max(1)).enumerate() {
                let numbers: Vec<f32> = pairs.iter().flat_map(|pair| pair.numbers()).collect();
                prop_assert_eq!(&numbers[..inner], weight.row(row));
            }
            let read = |rows: Range<usize>, values: &mut Vec<f32>| {
                if rows.end > 64 { return Err(rows) }
                rows.for_each(|row| values.extend_from_slice(weight.row(row)));
                Ok(())
            };
            match Panels::<f32>::of_read([columns, inner], read) {
                Ok(panels) => prop_assert_eq!(panels.transposed(), weight.values),
                Err(rows) => prop_assert_eq!(rows, 64..columns),
            }
        }
    }
}
