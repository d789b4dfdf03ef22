//! Counting bits of many rows against many masks, by the instructions that the processor has.

use pulp::{Arch, WithSimd};

use crate::fire_bits::PositionBits;

/// Rows that are counted at once: their sums stay in registers.
pub(crate) const LANES: usize = 32;

/// Some rows, word by word: word `w` of row `r` is at `w * LANES + r`. What is behind the last row is 0.
#[derive(Debug)]
pub(crate) struct Tile {
    words: usize,
    bits: Vec<u64>,
}

impl Tile {
    /// Of at most [`LANES`] neurons.
    pub(crate) fn new(bits: &PositionBits, neurons: &[usize]) -> Self {
        let words = bits.words();
        let mut tile = vec![0; words * LANES];
        for (lane, &neuron) in neurons.iter().enumerate() {
            for (word, &value) in bits.row(neuron).iter().enumerate() {
                tile[word * LANES + lane] = value;
            }
        }
        Self { words, bits: tile }
    }

    /// For each mask in turn, how many bits each row has in common with it.
    pub(crate) fn each<'a>(&self, masks: impl Iterator<Item = &'a [u64]>, see: impl FnMut(&[u64; LANES])) {
        Arch::new().dispatch(Each { tile: self, masks, see });
    }
}

struct Each<'t, M, S> {
    tile: &'t Tile,
    masks: M,
    see: S,
}

impl<'a, M: Iterator<Item = &'a [u64]>, S: FnMut(&[u64; LANES])> WithSimd for Each<'_, M, S> {
    type Output = ();

    // Inlined as a whole into code for the processor at hand, where counting bits becomes instructions of its own.
    #[inline(always)]
    fn with_simd<I: pulp::Simd>(self, _: I) {
        let Self { tile, masks, mut see } = self;
        for mask in masks {
            let mut sums = [0u64; LANES];
            for (row, &mask) in tile.bits.chunks_exact(LANES).zip(mask).take(tile.words) {
                for (sum, bits) in sums.iter_mut().zip(row) {
                    *sum += u64::from((bits & mask).count_ones());
                }
            }
            see(&sums);
        }
    }
}
