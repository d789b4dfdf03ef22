//! Queries of a sequence in blocks, so that no time is spent on keys that none of a block sees, and memory stays small.

use std::ops::Range;

use crate::attention::Sees;
use crate::cpu::panels::PANEL;
use crate::cpu::simd::LANES;
use crate::cpu::view::View;

/// Some queries that follow each other.
pub(super) struct Block {
    /// The rows that ask, as they are numbered among all that ask.
    pub(super) asking: Range<usize>,
    /// Their rows of `q`.
    pub(super) queries: Range<usize>,
    /// The keys that one of them sees, as positions in the sequence, from the first one of a panel on. So a key is in the same
    /// place of a vector in every block, and sums over keys have the same bits.
    pub(super) keys: Range<usize>,
    /// For each query the keys that it sees, from the block's first one on.
    pub(super) seen: Vec<Range<usize>>,
}

impl Block {
    /// Numbers from one query's scores to the next one's: whole vectors.
    pub(super) fn stride(&self) -> usize {
        self.keys.len().next_multiple_of(LANES)
    }

    /// A number for each query and key.
    pub(super) fn scores<'a>(&self, values: &'a [f32]) -> View<'a> {
        View { values, rows: self.queries.len(), columns: self.keys.len(), stride: self.stride() }
    }
}

/// The most scores of a block: 1 MB of them. A text of 512 rows whose rows see all is one block.
const SCORES: usize = 512 * 512;

/// The most rows of a block of which not every row sees all. More would compute more scores that nobody sees, fewer would use
/// each key too seldom.
const ROWS: usize = 48;

/// The rows of `q` that a block may have whatever it sees: those of a tile of a product.
const TILE: usize = 12;

/// Cuts the rows `asking`, at ascending `positions` of a sequence of `keys` rows, into blocks. Each row has `per_row` queries.
pub(super) fn blocks(
    asking: Range<usize>,
    positions: &[u32],
    keys: usize,
    per_row: usize,
    sees: Sees,
) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let most = if sees == Sees::ALL { usize::MAX } else { ROWS };
    for row in asking {
        let seen = sees.from(positions[row] as usize, keys);
        let own = row * per_row..(row + 1) * per_row;
        let fits = |block: &&mut Block| {
            let rows = block.queries.len() + per_row;
            let scores = rows * (seen.end - block.keys.start).next_multiple_of(LANES);
            // Behind a gap between what they see begins another block.
            rows <= most && seen.start <= block.keys.end && (rows <= TILE || scores <= SCORES)
        };
        match blocks.last_mut().filter(fits) {
            Some(block) => {
                block.asking.end = row + 1;
                block.queries.end = own.end;
                block.keys.end = block.keys.end.max(seen.end);
                let seen = seen.start - block.keys.start..seen.end - block.keys.start;
                block.seen.extend(std::iter::repeat_n(seen, per_row));
            }
            None => {
                let first = seen.start / PANEL * PANEL;
                blocks.push(Block {
                    asking: row..row + 1,
                    queries: own,
                    keys: first..seen.end,
                    seen: vec![seen.start - first..seen.end - first; per_row],
                });
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_in_one_block_with_all_that_it_sees() {
        let positions: Vec<u32> = (0..700).filter(|position| position % 7 != 3).collect();
        for sees in [Sees::ALL, Sees::CAUSAL, Sees { before: Some(20), after: Some(5) }] {
            for per_row in [1, 9] {
                let blocks = blocks(0..positions.len(), &positions, 700, per_row, sees);
                let mut next = 0;
                for block in &blocks {
                    assert_eq!(block.asking.start, next);
                    assert_eq!(block.queries, next * per_row..block.asking.end * per_row);
                    assert_eq!(block.seen.len(), block.queries.len());
                    assert!(block.keys.start % PANEL == 0 && block.keys.end <= 700);
                    assert!(block.queries.len() * block.stride() <= SCORES);
                    for (row, seen) in block.asking.clone().zip(block.seen.chunks(per_row)) {
                        let expected = sees.from(positions[row] as usize, 700);
                        assert!(seen.iter().all(|seen| {
                            seen.start + block.keys.start == expected.start
                                && seen.end + block.keys.start == expected.end
                        }));
                    }
                    next = block.asking.end;
                }
                assert_eq!(next, positions.len());
            }
        }
    }

    #[test]
    fn work_and_memory_stay_near_what_is_seen() {
        let count = |rows: usize, sees: Sees| -> usize {
            let positions: Vec<u32> = (0..rows as u32).collect();
            let all = blocks(0..rows, &positions, rows, 1, sees);
            assert!(all.iter().all(|block| block.queries.len() * block.stride() <= SCORES.max(TILE * rows)));
            all.iter().map(|block| block.queries.len() * block.keys.len()).sum()
        };
        let (rows, window) = (2048, Sees { before: Some(64), after: Some(64) });
        assert!(count(rows, Sees::CAUSAL) < rows * (rows + ROWS + PANEL) / 2);
        assert!(count(rows, window) < rows * (129 + ROWS + PANEL));
        assert_eq!(blocks(0..512, &(0..512).collect::<Vec<_>>(), 512, 1, Sees::ALL).len(), 1);
        assert_eq!(count(100_000, window) / 100_000, count(10_000, window) / 10_000);
        // Two rows far apart don't read what lies between.
        assert_eq!(blocks(0..3, &[0, 1, 5000], 9000, 1, window).len(), 2);
        // Of a long text the first tile of rows is one block, whatever it sees.
        assert_eq!(blocks(0..13, &(0..13).collect::<Vec<_>>(), 1_000_000, 1, Sees::ALL).len(), 2);
    }
}
