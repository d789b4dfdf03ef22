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
#![allow(unsafe_code)] // vector intrinsics on pointers: the tiles

use std::ops::Range;

use crate::element::{As, Element, Pair};
use crate::memory::Aligned;
use crate::simd::Isa;

/// Columns of a panel.
pub(crate) const PANEL: usize = 32;
/// Rows of the largest tile: 12 x 2 accumulators of 16 numbers fill the 32 registers of AVX-512, the rest being for
/// the panel.
const TILE: usize = 12;
/// Steps of the inner index for which all panels are visited before the next, so that the result is loaded and stored seldom.
const SLAB: usize = 768;
/// Steps of the inner index between prefetches. Weights come from memory or the third-level cache, and the processor's
/// own prefetching ends with each page of 4 KB, after 32 steps.
const GROUP: usize = 64;
/// Elements of a piece that is fetched ahead, at most.
const PIECE: usize = 1024;
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

/// Steps of a block of 32 numbers of the inner index.
pub(crate) const fn block_steps<T: Element>() -> usize {
    PANEL / T::NUMBERS
}

/// Rows that start a multiple of so many numbers (4 KB) apart lie in the same sets of the first-level cache: the 12 of a tile
/// drive each other out of its 8 ways.
const ALIAS: usize = 1024;
/// Numbers between the rows of a copy that don't: a cache line.
const APART: usize = 16;

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
    pub(crate) fn dense(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, stride: columns }
    }

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
    pub(crate) fn dense(values: &'a mut [f32], columns: usize) -> Self {
        Self { values, columns, stride: columns }
    }

    /// Some rows and columns; neither may be none.
    fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> ViewMut<'_> {
        let range = rows.start * self.stride + columns.start..(rows.end - 1) * self.stride + columns.end;
        ViewMut { values: &mut self.values[range], columns: columns.len(), stride: self.stride }
    }
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

    /// Columns of the result.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// `finish(left x self + bias)`, without gaps; see [`Self::multiply_into`].
    pub(crate) fn multiply(
        &self,
        isa: Isa,
        left: View<'_>,
        bias: &[f32],
        finish: impl FnMut(&mut ViewMut<'_>),
    ) -> Vec<f32> {
        let mut out = vec![0f32; left.rows * self.columns];
        self.multiply_into(isa, left, bias, &mut ViewMut::dense(&mut out, self.columns), finish);
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
        T::multiply_into(Right { panels: self, transposed: false }, isa, left, bias, out, finish);
    }

    /// `left [rows, columns]` x the transpose of self: `[rows, inner]`, with the bits of the product with that transpose,
    /// packed. Parts of panels are turned as they are needed, which takes less than keeping them would take memory.
    pub(crate) fn multiply_transposed(&self, isa: Isa, left: View<'_>) -> Vec<f32> {
        let mut out = vec![0f32; left.rows * self.rows];
        let right = Right { panels: self, transposed: true };
        T::multiply_into(right, isa, left, &[], &mut ViewMut::dense(&mut out, self.rows), |_| {});
        out
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

/// The right-hand side of a product: a matrix as it was packed, or the transpose of that.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a, T> {
    panels: &'a Panels<T>,
    transposed: bool,
}

impl<'a, T: Element> Right<'a, T> {
    /// Numbers along the inner index.
    fn inner(&self) -> usize {
        if self.transposed { self.panels.columns } else { self.panels.rows }
    }

    /// Columns of the result.
    fn columns(&self) -> usize {
        if self.transposed { self.panels.rows } else { self.panels.columns }
    }

    fn columns_of(&self, panel: usize) -> Range<usize> {
        panel * PANEL..self.columns().min((panel + 1) * PANEL)
    }

    /// What some steps of a panel, counted in factors, are made of, in order: themselves, or blocks that lie in as many panels.
    fn pieces<F: Element>(
        &self,
        panel: usize,
        inner: Range<usize>,
    ) -> impl Iterator<Item = &'a [T]> + use<'a, F, T> {
        let Panels { inner: depth, ref values, .. } = *self.panels;
        let (turned, lying) = if self.transposed {
            // Steps of what was packed; a last block may have fewer.
            let steps = block_steps::<T>();
            let of_block = panel * steps..depth.min((panel + 1) * steps);
            let blocks = inner.start / block_steps::<F>()..inner.end.div_ceil(block_steps::<F>());
            let block = move |other: usize| other * depth + of_block.start..other * depth + of_block.end;
            (Some(blocks.map(block)), None)
        } else {
            let steps = packed_steps::<T, F>(inner);
            (None, Some(panel * depth + steps.start..panel * depth + steps.end))
        };
        let lying = lying.into_iter().flat_map(|steps| pieces_of(steps, PIECE / PANEL));
        let pieces = turned.into_iter().flatten().chain(lying);
        pieces.map(|steps| values.get(steps.start * PANEL..steps.end * PANEL).unwrap_or_default())
    }

    /// Some steps of a panel, counted in factors; made in `made` unless they lie somewhere.
    fn part<'m, F: Element>(
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
        let (first, steps) = (panel * self.panels.inner, packed_steps::<T, F>(inner.clone()));
        let steps = &self.panels.values[(first + steps.start) * PANEL..(first + steps.end) * PANEL];
        &T::factors(isa, steps, made)[..inner.len() * PANEL]
    }

    /// See [`Panels::multiply_into`].
    pub(crate) fn multiply_into<F: Element>(
        &self,
        isa: Isa,
        left: View<'_>,
        bias: &[f32],
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

/// The steps of a panel that hold some steps counted in factors.
fn packed_steps<T: Element, F: Element>(steps: Range<usize>) -> Range<usize> {
    let factors = T::NUMBERS / F::NUMBERS;
    steps.start / factors..steps.end.div_ceil(factors)
}

/// Cuts a range into pieces of `step`.
fn pieces_of(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(step).map(move |start| start..range.end.min(start + step))
}

/// Cuts a range into pieces of `step`; an empty one is one empty piece, in which the bias is written.
fn steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (range.start..range.end.max(range.start + 1)).step_by(step);
    starts.map(move |start| start..range.end.min(start + step))
}

/// A part of the left-hand side, from a row and a column of it on.
#[derive(Clone, Copy)]
struct Part<'a, F> {
    matrix: View<'a, F>,
    row: usize,
    column: usize,
}

impl<'a, F: Element> Part<'a, F> {
    /// Makes factors of some rows and columns, counted in factors, where rows are not in each other's way in the cache.
    fn spread<T: As<F>>(
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
    fn tile(&self, rows: Range<usize>, columns: Range<usize>) -> &'a [F] {
        let place = |row: usize, column: usize| (row - self.row) * self.matrix.stride + column - self.column;
        &self.matrix.values[place(rows.start, columns.start)..place(rows.end - 1, columns.end)]
    }
}

/// The operands of one product.
struct Product<'a, T, F> {
    isa: Isa,
    right: Right<'a, T>,
    left: Part<'a, F>,
    bias: &'a [f32],
}

impl<T: As<F>, F: Element> Product<'_, T, F> {
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
        if !self.bias.is_empty() {
            bias[..columns.len()].copy_from_slice(&self.bias[columns.clone()]);
        }
        let tiles = rows.len().div_ceil(TILE);
        let depth = depth(self.isa);
        for inner in steps(slab.clone(), depth) {
            let start = if inner.start == 0 { Some(&bias) } else { None };
            // What is multiplied after this part of the panel. Each tile fetches its share of it.
            let (after, steps_after) = if inner.end < slab.end {
                (panel, inner.end..slab.end.min(inner.end + depth))
            } else {
                (panel + 1, slab.start..slab.end.min(slab.start + depth))
            };
            let mut next = [const { Piece::none() }; PIECES];
            let pieces = next.iter_mut().zip(self.right.pieces::<F>(after, steps_after));
            let count = pieces.map(|(next, piece)| *next = Piece::of(piece)).count();
            let weights = self.right.part(self.isa, panel, inner.clone(), made);
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

/// Where something lies that is needed soon. It is not looked at, so that its type doesn't matter.
#[derive(Clone, Copy)]
struct Piece {
    start: *const i8,
    bytes: usize,
}

impl Piece {
    const fn none() -> Self {
        Self { start: std::ptr::null(), bytes: 0 }
    }

    fn of<T>(slice: &[T]) -> Self {
        Self { start: slice.as_ptr().cast(), bytes: size_of_val(slice) }
    }
}

/// One tile: `out[r][c] = start[c] + sum over k of left[r][k] * panel[k][c]`, or, without `start`, that added to
/// what is there. The slices are exactly as long as that needs.
pub(crate) struct Tile<'a, T = f32> {
    left: &'a [T],
    left_stride: usize,
    panel: &'a [T],
    /// What is multiplied soon: brought into the second-level cache meanwhile, where there is an instruction for it.
    next: &'a [Piece],
    start: Option<&'a [f32; PANEL]>,
    out: ViewMut<'a>,
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
    pub(crate) fn run(self, isa: Isa, rows: usize) {
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

impl Tile<'_, Pair> {
    /// # Panics
    /// If these instructions don't [multiply pairs](Isa::multiplies_bf16): then their numbers are to be the factors.
    pub(crate) fn run(self, isa: Isa, rows: usize) {
        match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has AVX-512, or there would be no such `Isa`, and the rest was looked for just now.
            Isa::Avx512 if isa.multiplies_bf16() => unsafe { x86::rows_bf16(self, rows) },
            _ => unreachable!("{rows} rows of pairs as factors on {isa:?}"),
        }
    }
}

/// The tile in plain Rust, a row at a time.
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
                *sum = crate::simd::multiply_add::<FUSED>(value, weight, *sum);
            }
        }
        out.copy_from_slice(&sums[..out.len()]);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{GROUP, PANEL, Pair, Piece, Tile};

    /// Fetches what is multiplied next, a share of it at each call.
    struct Ahead<'a> {
        pieces: std::slice::Iter<'a, Piece>,
        piece: Piece,
        each: usize,
    }

    impl<'a> Ahead<'a> {
        /// Bytes of a cache line.
        const LINE: usize = 64;

        /// To be called for each group of steps of a tile, `kernels` times over.
        fn new<T>(tile: &Tile<'a, T>, kernels: usize) -> Self {
            let lines: usize = tile.next.iter().map(|piece| piece.bytes.div_ceil(Self::LINE)).sum();
            let calls = kernels * tile.panel.len().div_ceil(GROUP * PANEL);
            let each = lines.div_ceil(calls.max(1));
            Self { pieces: tile.next.iter(), piece: Piece::none(), each }
        }

        #[inline(always)]
        fn fetch(&mut self) {
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
    fn groups(steps: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        (0..steps).step_by(GROUP).map(move |first| first..steps.min(first + GROUP))
    }

    /// Which columns of a tile there are, of each half of its panel.
    fn masks(columns: usize) -> [__mmask16; 2] {
        [columns.min(16), columns.saturating_sub(16)].map(|count| ((1u32 << count) - 1) as __mmask16)
    }

    /// What a tile's sums begin with: `start`, or what is there.
    #[target_feature(enable = "avx512f,avx2,fma")]
    #[inline]
    fn begin<const ROWS: usize, T>(tile: &Tile<'_, T>) -> [[__m512; 2]; ROWS] {
        let ([low, high], out) = (masks(tile.out.columns), tile.out.values.as_ptr());
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        for (row, sum) in sums.iter_mut().enumerate() {
            let place = row * tile.out.stride;
            // SAFETY: a `Tile` has ROWS rows of `columns` numbers, which is what the masks let through, at their stride;
            // `start` has 32 numbers.
            *sum = unsafe {
                match tile.start {
                    Some(start) => [_mm512_loadu_ps(start.as_ptr()), _mm512_loadu_ps(start.as_ptr().add(16))],
                    None => [
                        _mm512_maskz_loadu_ps(low, out.add(place)),
                        _mm512_maskz_loadu_ps(high, out.wrapping_add(place + 16)),
                    ],
                }
            };
        }
        sums
    }

    /// Writes a tile's sums.
    #[target_feature(enable = "avx512f,avx2,fma")]
    #[inline]
    fn end<const ROWS: usize, T>(tile: Tile<'_, T>, sums: &[[__m512; 2]; ROWS]) {
        let ([low, high], out) = (masks(tile.out.columns), tile.out.values.as_mut_ptr());
        for (row, sum) in sums.iter().enumerate() {
            let place = row * tile.out.stride;
            // SAFETY: as in `begin`.
            unsafe {
                _mm512_mask_storeu_ps(out.add(place), low, sum[0]);
                _mm512_mask_storeu_ps(out.wrapping_add(place + 16), high, sum[1]);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
    pub(super) fn rows_bf16(tile: Tile<'_, Pair>, rows: usize) {
        by_rows!(rows, tile, bf16, [1 2 3 4 5 6 7 8 9 10 11 12]);
    }

    /// As [`avx512`], with two multiply-adds an instruction.
    #[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
    #[inline]
    fn bf16<const ROWS: usize>(tile: Tile<'_, Pair>) {
        let left = tile.left.as_ptr().cast::<i32>();
        let panel = tile.panel.as_ptr().cast::<i32>();
        let (mut ahead, mut sums) = (Ahead::new(&tile, 1), begin::<ROWS, _>(&tile));
        // SAFETY: the slices are as long as in `avx512`, and a `Pair` has the size and alignment of an i32; vectors of
        // 512 bits are the same bits whatever they hold.
        unsafe {
            let pairs = |bits: __m512i| std::mem::transmute::<__m512i, __m512bh>(bits);
            for group in groups(tile.panel.len() / PANEL) {
                ahead.fetch();
                for k in group {
                    let weights = [
                        pairs(_mm512_loadu_epi32(panel.add(k * PANEL))),
                        pairs(_mm512_loadu_epi32(panel.add(k * PANEL + 16))),
                    ];
                    for (row, sum) in sums.iter_mut().enumerate() {
                        let value = pairs(_mm512_set1_epi32(*left.add(row * tile.left_stride + k)));
                        sum[0] = _mm512_dpbf16_ps(sum[0], value, weights[0]);
                        sum[1] = _mm512_dpbf16_ps(sum[1], value, weights[1]);
                    }
                }
            }
        }
        end(tile, &sums);
    }

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
        let left = tile.left.as_ptr();
        let panel = tile.panel.as_ptr();
        let (mut ahead, mut sums) = (Ahead::new(&tile, 1), begin::<ROWS, _>(&tile));
        // SAFETY: row r of `left` has as many numbers as `panel` has steps of 32.
        unsafe {
            for group in groups(tile.panel.len() / PANEL) {
                ahead.fetch();
                for k in group {
                    let weights =
                        [_mm512_loadu_ps(panel.add(k * PANEL)), _mm512_loadu_ps(panel.add(k * PANEL + 16))];
                    for (row, sum) in sums.iter_mut().enumerate() {
                        let value = _mm512_set1_ps(*left.add(row * tile.left_stride + k));
                        sum[0] = _mm512_fmadd_ps(value, weights[0], sum[0]);
                        sum[1] = _mm512_fmadd_ps(value, weights[1], sum[1]);
                    }
                }
            }
        }
        end(tile, &sums);
    }

    /// Up to six rows and half a panel at a time: 12 accumulators of the 16 registers. Rows are divided evenly, because
    /// a few of them have too few accumulators to hide the latency of a multiply-add.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn avx2<const ROWS: usize>(mut tile: Tile<'_>) {
        let parts = ROWS.div_ceil(6);
        let mut ahead = Ahead::new(&tile, 2 * parts);
        for part in 0..parts {
            let (first, end) = (part * ROWS / parts, (part + 1) * ROWS / parts);
            for half in [0, 16] {
                match end - first {
                    1 => avx2_half::<1>(&mut tile, &mut ahead, first, half),
                    2 => avx2_half::<2>(&mut tile, &mut ahead, first, half),
                    3 => avx2_half::<3>(&mut tile, &mut ahead, first, half),
                    4 => avx2_half::<4>(&mut tile, &mut ahead, first, half),
                    5 => avx2_half::<5>(&mut tile, &mut ahead, first, half),
                    _ => avx2_half::<6>(&mut tile, &mut ahead, first, half),
                }
            }
        }
    }

    /// Rows from `first`, columns from `half`.
    ///
    /// Where a processor runs another thread in the same core, each gets half of the places for instructions a cycle. So what is
    /// not a multiply-add is kept small: steps are written out, and the addresses of rows are one of two pointers, a
    /// multiple of the stride, and a constant.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn avx2_half<const ROWS: usize>(tile: &mut Tile<'_>, ahead: &mut Ahead<'_>, first: usize, half: usize) {
        let width = tile.out.columns.saturating_sub(half).min(16);
        if width == 0 {
            return;
        }
        const STEPS: usize = 4;
        let stride = tile.left_stride;
        let left = tile.left.as_ptr();
        let mut rows = [first, first + 3].map(|row| left.wrapping_add(row * stride));
        let mut panel = tile.panel.as_ptr().wrapping_add(half);
        let out = tile.out.values.as_mut_ptr().wrapping_add(first * tile.out.stride + half);
        let places: [_; ROWS] = std::array::from_fn(|row| out.wrapping_add(row * tile.out.stride));
        // Masked stores take many times as long as whole ones: they are for the last panel alone.
        let (full, masks) = (width == 16, avx2_masks(width));
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        // SAFETY: rows first..first + ROWS of `out` have `width` numbers from `half`, which is what the masks let
        // through, and `start` has 32; the same rows of `left` have as many numbers as `panel` has steps of 32, of which
        // `half..half + 16` are read. `rows` and `panel` go on by as many steps as were made, all together no more than that; where they
        // point past a slice (the second three rows of fewer, the end) nothing is read.
        unsafe {
            if tile.start.is_some() {
                // The result's lines come from memory while the products are made, not when they are stored.
                for place in &places {
                    _mm_prefetch::<_MM_HINT_T0>(place.cast());
                    _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(width - 1).cast());
                }
            }
            for (place, sum) in places.iter().zip(&mut sums) {
                *sum = match tile.start {
                    Some(start) => {
                        let start = start.as_ptr().add(half);
                        [_mm256_loadu_ps(start), _mm256_loadu_ps(start.add(8))]
                    }
                    None if full => [_mm256_loadu_ps(*place), _mm256_loadu_ps(place.add(8))],
                    None => [
                        _mm256_maskload_ps(*place, masks[0]),
                        _mm256_maskload_ps(place.wrapping_add(8), masks[1]),
                    ],
                };
            }
            // As a function it would be compiled with its sums in memory.
            macro_rules! step {
                ($k:expr) => {
                    let step = panel.add($k * PANEL);
                    let weights = [_mm256_loadu_ps(step), _mm256_loadu_ps(step.add(8))];
                    for row in 0..ROWS {
                        let value = _mm256_set1_ps(*rows[row / 3].add(row % 3 * stride + $k));
                        sums[row][0] = _mm256_fmadd_ps(value, weights[0], sums[row][0]);
                        sums[row][1] = _mm256_fmadd_ps(value, weights[1], sums[row][1]);
                    }
                };
            }
            for group in groups(tile.panel.len() / PANEL) {
                ahead.fetch();
                for _ in 0..group.len() / STEPS {
                    for k in 0..STEPS {
                        step!(k);
                    }
                    rows = rows.map(|row| row.wrapping_add(STEPS));
                    panel = panel.wrapping_add(STEPS * PANEL);
                }
                for _ in 0..group.len() % STEPS {
                    step!(0);
                    rows = rows.map(|row| row.wrapping_add(1));
                    panel = panel.wrapping_add(PANEL);
                }
            }
            for (place, sum) in places.iter().zip(&sums) {
                if full {
                    _mm256_storeu_ps(*place, sum[0]);
                    _mm256_storeu_ps(place.add(8), sum[1]);
                } else {
                    _mm256_maskstore_ps(*place, masks[0], sum[0]);
                    _mm256_maskstore_ps(place.wrapping_add(8), masks[1], sum[1]);
                }
            }
        }
    }

    /// Which of 16 columns there are, as [`masks`].
    #[target_feature(enable = "avx2")]
    #[inline]
    fn avx2_masks(columns: usize) -> [__m256i; 2] {
        let count = _mm256_set1_epi32(columns as i32);
        [
            _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
            _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The most rows that are not cut.
    fn at_once() -> usize {
        Isa::available().into_iter().map(rows_at_once).max().unwrap()
    }

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(next).collect()
    }

    /// `left x weight^T + bias` in f64.
    fn naive(left: View<'_>, weight: View<'_>, bias: &[f32]) -> Vec<f64> {
        let element = |row: usize, column: usize| {
            let products =
                left.row(row).iter().zip(weight.row(column)).map(|(a, b)| f64::from(*a) * f64::from(*b));
            f64::from(bias[column]) + products.sum::<f64>()
        };
        (0..left.rows * weight.rows).map(|place| element(place / weight.rows, place % weight.rows)).collect()
    }

    fn close(ours: &[f32], theirs: &[f64], tolerance: f64) -> bool {
        ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(|(ours, theirs)| (f64::from(*ours) - theirs).abs() < tolerance)
    }

    #[test]
    fn a_product_by_hand() {
        let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let left = [1.0, 10.0, -1.0, 0.5];
        for isa in Isa::available() {
            let panels = Panels::<f32>::of_transposed(View::dense(&weight, 3, 2));
            let product = panels.multiply(isa, View::dense(&left, 2, 2), &[100.0, 0.0, 0.0], |_| {});
            assert_eq!(product, [121.0, 43.0, 65.0, 100.0, -1.0, -2.0], "{isa:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn products_are_right_on_every_instruction_set(
            rows in 0usize..40, inner in 0usize..70, columns in 0usize..80, seed: u32
        ) {
            let (left, weight) = (numbers(rows * inner, seed), numbers(columns * inner, seed ^ 1));
            let (left, weight) = (View::dense(&left, rows, inner), View::dense(&weight, columns, inner));
            let bias = numbers(columns, seed ^ 2);
            let expected = naive(left, weight, &bias);
            let transposed = weight.transposed();
            prop_assert_eq!(Panels::<f32>::of_transposed(weight).transposed(), weight.values);
            let read = |rows: Range<usize>, values: &mut Vec<f32>| {
                if rows.end > 64 { return Err(rows) }
                rows.for_each(|row| values.extend_from_slice(weight.row(row)));
                Ok(())
            };
            match Panels::<f32>::of_read([columns, inner], read) {
                Ok(panels) => prop_assert_eq!(panels.transposed(), weight.values),
                Err(rows) => prop_assert_eq!(rows, 64..columns),
            }
            // As if the transpose had been packed, to the bit.
            let (back, turned) = (numbers(rows * columns, seed ^ 3), View::dense(&transposed, inner, columns));
            let back = View::dense(&back, rows, columns);
            for isa in Isa::available() {
                let expected = Panels::<f32>::of(weight).multiply(isa, back, &[], |_| {});
                prop_assert_eq!(Panels::<f32>::of(turned).multiply_transposed(isa, back), expected);
                let expected = Panels::<Pair>::of(weight).multiply(isa, back, &[], |_| {});
                prop_assert_eq!(Panels::<Pair>::of(turned).multiply_transposed(isa, back), expected);
            }
            for isa in Isa::available() {
                for panels in [Panels::<f32>::of_transposed(weight), Panels::<f32>::of(View::dense(&transposed, inner, columns))] {
                    let product = panels.multiply(isa, left, &bias, |_| {});
                    prop_assert!(close(&product, &expected, 1e-4), "{:?}", isa);
                    // A row alone has the bits that it has among others.
                    for row in 0..rows.min(14) {
                        let alone = panels.multiply(isa, View::dense(left.row(row), 1, inner), &bias, |_| {});
                        prop_assert_eq!(&alone, &product[row * columns..(row + 1) * columns]);
                    }
                }
            }
        }
    }

    #[test]
    fn long_products_are_cut_without_a_trace() {
        let (rows, inner, columns) = (2 * at_once() + 7, SLAB + 261, 33);
        let (left, weight) = (numbers(rows * inner, 3), numbers(columns * inner, 4));
        let (left, weight) = (View::dense(&left, rows, inner), View::dense(&weight, columns, inner));
        let expected = naive(left, weight, &vec![0.0; columns]);
        for isa in Isa::available() {
            let product = Panels::<f32>::of_transposed(weight).multiply(isa, left, &[], |_| {});
            assert!(close(&product, &expected, 1e-3), "{isa:?}");
            let turned = Panels::<f32>::of(weight).multiply_transposed(isa, left);
            assert!(turned == product, "{isa:?}");
            let [turned, product] = [
                Panels::<Pair>::of(weight).multiply_transposed(isa, left),
                Panels::<Pair>::of_transposed(weight).multiply(isa, left, &[], |_| {}),
            ];
            assert!(turned == product, "{isa:?}");
        }
    }

    #[test]
    fn rows_that_share_cache_sets_are_copied_without_a_trace() {
        let (rows, inner, columns) = (at_once() + 14, ALIAS, 70);
        let apart = ALIAS + 3;
        let values = numbers(rows * apart, 11);
        let dense: Vec<f32> = values.chunks(apart).flat_map(|row| row[..inner].to_vec()).collect();
        let left = View { values: &values, rows, columns: inner, stride: apart };
        let weight = numbers(columns * inner, 12);
        let panels = Panels::<f32>::of_transposed(View::dense(&weight, columns, inner));
        let bias = numbers(columns, 13);
        for isa in Isa::available() {
            let product = panels.multiply(isa, View::dense(&dense, rows, inner), &bias, |_| {});
            assert!(product == panels.multiply(isa, left, &bias, |_| {}), "{isa:?}");
        }
    }

    #[test]
    fn pairs_of_16_bits_are_the_product_of_rounded_numbers() {
        for (rows, inner, columns) in
            [(1, 1, 1), (3, 2, 31), (13, 7, 33), (at_once() + 2, 2 * SLAB + 5, 70), (0, 4, 4), (2, 0, 5)]
        {
            let round = |value: f32| {
                let mut pair = [Pair::default()];
                Pair::of_row(&mut pair, &[value]);
                pair[0].numbers()[0]
            };
            let (left, weight) = (numbers(rows * inner, 21), numbers(columns * inner, 22));
            let bias = numbers(columns, 23);
            let [rounded_left, rounded_weight]: [Vec<f32>; 2] =
                [&left, &weight].map(|values| values.iter().map(|&value| round(value)).collect());
            let expected = naive(
                View::dense(&rounded_left, rows, inner),
                View::dense(&rounded_weight, columns, inner),
                &bias,
            );
            let transposed = View::dense(&weight, columns, inner).transposed();
            for isa in Isa::available() {
                let panels = Panels::<Pair>::of_transposed(View::dense(&weight, columns, inner));
                let product = panels.multiply(isa, View::dense(&left, rows, inner), &bias, |_| {});
                assert!(close(&product, &expected, 1e-4), "{isa:?} {rows} {inner} {columns}");
                if !isa.multiplies_bf16() {
                    let rounded = View::dense(&rounded_weight, columns, inner);
                    let left = View::dense(&rounded_left, rows, inner);
                    let expected = Panels::<f32>::of_transposed(rounded).multiply(isa, left, &bias, |_| {});
                    assert!(product == expected, "{isa:?} {rows} {inner} {columns}");
                }
                let panels = Panels::<Pair>::of(View::dense(&transposed, inner, columns));
                assert!(product == panels.multiply(isa, View::dense(&left, rows, inner), &bias, |_| {}));
                // A row alone has the bits it has among others.
                for row in [0, rows / 2, rows.saturating_sub(1)].into_iter().filter(|&row| row < rows) {
                    let alone = View::dense(&left[row * inner..][..inner], 1, inner);
                    let alone = panels.multiply(isa, alone, &bias, |_| {});
                    assert!(alone == product[row * columns..][..columns], "{isa:?} row {row}");
                }
            }
        }
    }

    #[test]
    fn every_element_is_finished_once() {
        let (rows, inner, columns) = (at_once() + 1, SLAB + 1, 65);
        let (left, weight) = (vec![0f32; rows * inner], vec![0f32; columns * inner]);
        let panels = Panels::<f32>::of_transposed(View::dense(&weight, columns, inner));
        let product = panels.multiply(Isa::best(), View::dense(&left, rows, inner), &[], |part| {
            for row in part.values.chunks_mut(part.stride) {
                row[..part.columns].iter_mut().for_each(|value| *value += 1.0);
            }
        });
        assert!(product.iter().all(|&value| value == 1.0));
    }

    #[test]
    fn parts_of_matrices_are_left_alone_outside() {
        // With 8 bits of precision, so that pairs give the same.
        let numbers =
            |count, seed| numbers(count, seed).iter().map(|value| (value * 64.0).round() / 64.0).collect();
        let [values, weight]: [Vec<f32>; 2] = [numbers(4 * 10, 8), numbers(4 * 5, 9)];
        let left = View { values: &values[3..], rows: 3, columns: 5, stride: 10 };
        let weight = View::dense(&weight, 4, 5);
        let expected = naive(left, weight, &[0.0; 4]);
        for isa in Isa::available() {
            let products: [&dyn Fn(&mut ViewMut<'_>); 2] = [
                &|out| Panels::<f32>::of_transposed(weight).multiply_into(isa, left, &[], out, |_| {}),
                &|out| Panels::<Pair>::of_transposed(weight).multiply_into(isa, left, &[], out, |_| {}),
            ];
            for product in products {
                let mut out = [7f32; 3 * 9];
                product(&mut ViewMut { values: &mut out[2..], columns: 4, stride: 9 });
                let found: Vec<f32> = out.chunks(9).flat_map(|row| row[2..6].to_vec()).collect();
                assert!(close(&found, &expected, 1e-5), "{isa:?}");
                assert!(out.chunks(9).all(|row| row[..2] == [7.0; 2] && row[6..] == [7.0; 3]), "{isa:?}");
            }
        }
    }

    #[test]
    fn vector_sets_agree_in_every_bit() {
        let (left, weight) = (numbers(25 * 100, 5), numbers(50 * 100, 6));
        let panels = Panels::<f32>::of_transposed(View::dense(&weight, 50, 100));
        let products = Isa::available().into_iter().filter(|isa| *isa != Isa::Portable);
        let products: Vec<_> =
            products.map(|isa| panels.multiply(isa, View::dense(&left, 25, 100), &[], |_| {})).collect();
        assert!(products.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
