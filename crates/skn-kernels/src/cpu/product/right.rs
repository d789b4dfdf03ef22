//! The right-hand side of a product, a part of a panel at a time.

use std::ops::Range;

use super::cut::pieces_of;
use super::factor::As;
use crate::cpu::element::Element;
use crate::cpu::memory::Aligned;
use crate::cpu::panels::{PANEL, Panels, block_steps};
use crate::cpu::simd::Isa;

/// Elements of a piece that is fetched ahead, at most.
const PIECE: usize = 1024;

/// The right-hand side of a product: a matrix as it was packed, a part of it, or its transpose.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a, T> {
    panels: &'a Panels<T>,
    transposed: bool,
    first_panel: usize,
    columns: usize,
    first_step: usize,
    inner: usize,
}

impl<'a, T: Element> Right<'a, T> {
    /// The matrix as it was packed.
    pub(super) fn whole(panels: &'a Panels<T>) -> Self {
        let (columns, inner) = (panels.columns(), panels.rows());
        Self { panels, transposed: false, first_panel: 0, columns, first_step: 0, inner }
    }

    /// Its transpose.
    pub(super) fn transpose(panels: &'a Panels<T>) -> Self {
        let (columns, inner) = (panels.rows(), panels.columns());
        Self { panels, transposed: true, first_panel: 0, columns, first_step: 0, inner }
    }

    /// Numbers along the inner index.
    #[inline]
    pub(super) fn inner(&self) -> usize {
        self.inner
    }

    /// Columns of the result.
    #[inline]
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Columns of the result that a panel gives.
    #[inline]
    pub(super) fn columns_of(&self, panel: usize) -> Range<usize> {
        panel * PANEL..self.columns().min((panel + 1) * PANEL)
    }

    /// What some steps of a panel, counted in factors, are made of, in order: themselves, or blocks that lie in as many panels.
    #[inline]
    pub(super) fn pieces<F: Element>(
        &self,
        panel: usize,
        inner: Range<usize>,
    ) -> impl Iterator<Item = &'a [T]> + use<'a, F, T> {
        let (depth, values) = (self.panels.steps(), self.panels.elements());
        let (turned, lying) = if self.transposed {
            // Steps of what was packed; a last block may have fewer.
            let steps = block_steps::<T>();
            let of_block = panel * steps..depth.min((panel + 1) * steps);
            let blocks = inner.start / block_steps::<F>()..inner.end.div_ceil(block_steps::<F>());
            let block = move |other: usize| other * depth + of_block.start..other * depth + of_block.end;
            (Some(blocks.map(block)), None)
        } else {
            let steps = packed_steps::<T, F>(inner);
            let first = (self.first_panel + panel) * depth + self.first_step;
            (None, Some(first + steps.start..first + steps.end))
        };
        let lying = lying.into_iter().flat_map(|steps| pieces_of(steps, PIECE / PANEL));
        let pieces = turned.into_iter().flatten().chain(lying);
        pieces.map(|steps| values.get(steps.start * PANEL..steps.end * PANEL).unwrap_or_default())
    }

    /// Some steps of a panel, counted in factors; made in `made` unless they lie somewhere.
    #[inline]
    pub(super) fn steps<'m, F: Element>(
        &self,
        isa: Isa,
        panel: usize,
        inner: Range<usize>,
        made: &'m mut Aligned<F>,
    ) -> &'m [F]
    where
        T: As<F>,
        'a: 'm,
    {
        if self.transposed {
            let block = block_steps::<F>() * PANEL;
            let blocks =
                made.at_least(inner.len().div_ceil(block_steps::<F>()) * block).chunks_exact_mut(block);
            for (from, to) in self.pieces::<F>(panel, inner.clone()).zip(blocks) {
                T::turn(isa, from, to);
            }
            return &made[..inner.len() * PANEL];
        }
        let first = (self.first_panel + panel) * self.panels.steps() + self.first_step;
        let steps = packed_steps::<T, F>(inner.clone());
        let steps = &self.panels.elements()[(first + steps.start) * PANEL..(first + steps.end) * PANEL];
        &T::factors(isa, steps, made)[..inner.len() * PANEL]
    }
}

impl<'a> Right<'a, f32> {
    /// Some numbers of the inner index and some columns, which start with those of a panel.
    pub(super) fn part(panels: &'a Panels<f32>, inner: Range<usize>, columns: Range<usize>) -> Self {
        let whole = Self::whole(panels);
        assert!(columns.start.is_multiple_of(PANEL));
        assert!(inner.end <= whole.inner && columns.end <= whole.columns);
        Self {
            first_panel: columns.start / PANEL,
            columns: columns.len(),
            first_step: inner.start,
            inner: inner.len(),
            ..whole
        }
    }
}

/// The steps of a panel that hold some steps counted in factors.
fn packed_steps<T: Element, F: Element>(steps: Range<usize>) -> Range<usize> {
    let factors = T::NUMBERS / F::NUMBERS;
    steps.start / factors..steps.end.div_ceil(factors)
}
