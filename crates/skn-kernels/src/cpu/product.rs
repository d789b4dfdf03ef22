//! Matrix products with packed right-hand sides.
//!
//! The right-hand side is packed into panels of 32 columns; a tile of up to 12 rows times one panel is accumulated in
//! registers, the left-hand side being broadcast from memory as it lies. Every element of the result is one chain of
//! multiply-adds that starts from the bias and goes through the inner index in ascending order, whatever the number
//! of rows: a row's bits do not depend on the rows beside it.
//!
//! What is packed is numbers of 32 bits, or pairs of numbers of 16 bits along the inner index ([`Element`]). What a tile
//! multiplies, its factors, is the same, or the numbers of the pairs, which parts of a panel are widened to as they are needed.
//! With pairs as factors, all that is said of the inner index is said of pairs. A left-hand side for pairs is rounded as
//! it is copied.
//!
//! Here is the order in which things are multiplied. `right` and `left` give parts of the operands, as `factor` makes them;
//! `kernel` computes one tile with the instructions that there are.

#[cfg(target_arch = "x86_64")]
mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod cut;
mod factor;
mod kernel;
mod left;
mod portable;
mod right;
mod tile;

use std::ops::Range;

use cut::{pieces_of, steps};
use factor::As;
use kernel::Factor;
use left::{ALIAS, Part};
use right::Right;
use tile::{Piece, TILE, Tile};

use crate::cpu::element::{Element, Pair};
use crate::cpu::memory::Aligned;
use crate::cpu::panels::{PANEL, Panels};
use crate::cpu::simd::Isa;
use crate::cpu::view::{View, ViewMut};

/// Steps of the inner index for which all panels are visited before the next, so that the result is loaded and stored seldom.
const SLAB: usize = 768;

/// The most pieces of a part of a panel: one has 32 steps, or 16 of pairs, of which AVX-512 takes a third of a slab.
const PIECES: usize = SLAB / 32;

/// Steps of the inner index of a tile. With AVX-512 the part of a panel in use, 32 KB, stays in the first-level cache while
/// the rows go by. With AVX2 (and portably, which nothing was tuned for) it would not: a tile goes over half of the panel at a time, and it is the loads
/// and stores of sums in between that cost.
fn depth(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 256,
        _ => SLAB,
    }
}

/// Rows that a part of a panel is multiplied with before the next part. With AVX-512 what a slab has of them, 405 KB, stays in
/// the second-level cache. With AVX2, which takes twice as long for a row, rows come from the third-level cache in time, while
/// weights, to which all cores share the way, come from memory a fourth as often; nor are they turned or widened as often. A copy of
/// these rows, where one is made ([`Part::spread`]), has 1.7 MB.
fn rows_at_once(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 11 * TILE,
        _ => 44 * TILE,
    }
}

/// Elements of packed matrices that products are made with.
pub(crate) trait Multiply: Element {
    /// The product of [`Panels::multiply_into`] with the factors that there are instructions for.
    fn multiply_into(
        right: Right<'_, Self>,
        isa: Isa,
        left: View<'_>,
        bias: &[f32],
        out: &mut ViewMut<'_>,
        finish: impl FnMut(&mut ViewMut<'_>),
    );
}

impl Multiply for f32 {
    fn multiply_into(
        right: Right<'_, Self>,
        isa: Isa,
        left: View<'_>,
        bias: &[f32],
        out: &mut ViewMut<'_>,
        finish: impl FnMut(&mut ViewMut<'_>),
    ) {
        right.multiply_into::<f32>(isa, left, Some(bias), out, finish);
    }
}

impl Multiply for Pair {
    /// As pairs where there is an instruction for them; elsewhere their numbers are multiplied, which gives the same but for
    /// the order of sums, and numbers below the smallest normal one, which that instruction takes as 0.
    fn multiply_into(
        right: Right<'_, Self>,
        isa: Isa,
        left: View<'_>,
        bias: &[f32],
        out: &mut ViewMut<'_>,
        finish: impl FnMut(&mut ViewMut<'_>),
    ) {
        if isa.multiplies_bf16() {
            right.multiply_into::<Pair>(isa, left, Some(bias), out, finish);
        } else {
            right.multiply_into::<f32>(isa, left, Some(bias), out, finish);
        }
    }
}

impl<T: Multiply> Panels<T> {
    /// `finish(left x self + bias)`, without gaps; see [`Self::multiply_into`].
    pub(crate) fn multiply(
        &self,
        isa: Isa,
        left: View<'_>,
        bias: &[f32],
        finish: impl FnMut(&mut ViewMut<'_>),
    ) -> Vec<f32> {
        let mut out = vec![0f32; left.rows * self.columns()];
        self.multiply_into(isa, left, bias, &mut ViewMut::dense(&mut out, self.columns()), finish);
        out
    }

    /// Writes `left [rows, inner] x self + bias` to `out` `[rows, columns]`, an empty bias being 0. `finish` gets
    /// every part of it once, complete and still in a cache.
    pub(crate) fn multiply_into(
        &self,
        isa: Isa,
        left: View<'_>,
        bias: &[f32],
        out: &mut ViewMut<'_>,
        finish: impl FnMut(&mut ViewMut<'_>),
    ) {
        T::multiply_into(Right::whole(self), isa, left, bias, out, finish);
    }

    /// `left [rows, columns]` x the transpose of self: `[rows, inner]`, with the bits of the product with that transpose,
    /// packed. Parts of panels are turned as they are needed, which takes less than keeping them would take memory.
    pub(crate) fn multiply_transposed(&self, isa: Isa, left: View<'_>) -> Vec<f32> {
        let mut out = vec![0f32; left.rows * self.rows()];
        let right = Right::transpose(self);
        T::multiply_into(right, isa, left, &[], &mut ViewMut::dense(&mut out, self.rows()), |_| {});
        out
    }
}

impl Panels<f32> {
    /// Writes `left` x some numbers of the inner index and some columns of self to `out`. The columns start with those of a
    /// panel.
    pub(crate) fn multiply_part(
        &self,
        isa: Isa,
        left: View<'_>,
        [inner, columns]: [Range<usize>; 2],
        out: &mut ViewMut<'_>,
    ) {
        Right::part(self, inner, columns).multiply_into::<f32>(isa, left, Some(&[]), out, |_| {});
    }

    /// Adds `left x self` to `out`. Each of its numbers goes on with the chain that it is, so that a product in parts, which
    /// begins with zeros, has the bits of the whole one.
    pub(crate) fn multiply_adding(&self, isa: Isa, left: View<'_>, out: &mut ViewMut<'_>) {
        Right::whole(self).multiply_into::<f32>(isa, left, None, out, |_| {});
    }
}

impl<T: Element> Right<'_, T> {
    /// See [`Panels::multiply_into`]; without a bias the product is added to what is there.
    fn multiply_into<F: Factor>(
        &self,
        isa: Isa,
        left: View<'_>,
        bias: Option<&[f32]>,
        out: &mut ViewMut<'_>,
        mut finish: impl FnMut(&mut ViewMut<'_>),
    ) where
        T: As<F>,
    {
        let (panels, inner) = (self.columns().div_ceil(PANEL), self.inner().div_ceil(F::NUMBERS));
        let (mut spread, mut made) = (Vec::new(), Aligned::zeros(0));
        for rows in pieces_of(0..left.rows, rows_at_once(isa)) {
            for slab in steps(0..inner, SLAB) {
                let in_the_way = left.stride.is_multiple_of(ALIAS) && rows.len() > 1 && panels > 1;
                let part = match T::lent(left).filter(|_| !in_the_way) {
                    Some(matrix) => Part { matrix, row: 0, column: 0 },
                    None => Part::spread::<T>(isa, left, rows.clone(), slab.clone(), &mut spread),
                };
                let product = Product { isa, right: *self, left: part, bias };
                for panel in 0..panels {
                    product.column_of_tiles(out, rows.clone(), slab.clone(), panel, &mut made);
                    if slab.end == inner {
                        finish(&mut out.part(rows.clone(), self.columns_of(panel)));
                    }
                }
            }
        }
    }
}

/// The operands of one product.
struct Product<'a, T, F> {
    isa: Isa,
    right: Right<'a, T>,
    left: Part<'a, F>,
    bias: Option<&'a [f32]>,
}

impl<T: As<F>, F: Factor> Product<'_, T, F> {
    /// Some rows of one panel's columns, for the steps of one slab, counted in factors.
    fn column_of_tiles(
        &self,
        out: &mut ViewMut<'_>,
        rows: Range<usize>,
        slab: Range<usize>,
        panel: usize,
        made: &mut Aligned<F>,
    ) {
        let columns = self.right.columns_of(panel);
        let mut bias = [0f32; PANEL];
        if let Some(values) = self.bias.filter(|values| !values.is_empty()) {
            bias[..columns.len()].copy_from_slice(&values[columns.clone()]);
        }
        let tiles = rows.len().div_ceil(TILE);
        let depth = depth(self.isa);
        for inner in steps(slab.clone(), depth) {
            let start = (inner.start == 0 && self.bias.is_some()).then_some(&bias);
            // What is multiplied after this part of the panel. Each tile fetches its share of it.
            let (after, steps_after) = if inner.end < slab.end {
                (panel, inner.end..slab.end.min(inner.end + depth))
            } else {
                (panel + 1, slab.start..slab.end.min(slab.start + depth))
            };
            let mut next = [const { Piece::none() }; PIECES];
            let pieces = next.iter_mut().zip(self.right.pieces::<F>(after, steps_after));
            let count = pieces.map(|(next, piece)| *next = Piece::of(piece)).count();
            let weights = self.right.steps(self.isa, panel, inner.clone(), made);
            for (place, tile) in steps(rows.clone(), TILE).enumerate() {
                let tile_rows = tile.len();
                let tile = Tile {
                    left: self.left.tile(tile.clone(), inner.clone()),
                    left_stride: self.left.matrix.stride,
                    panel: weights,
                    next: &next[place * count / tiles..(place + 1) * count / tiles],
                    start,
                    out: out.part(tile, columns.clone()),
                };
                F::run(tile, self.isa, tile_rows);
            }
        }
    }
}

#[cfg(test)]
mod tests;
