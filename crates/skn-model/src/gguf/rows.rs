//! In which order the rows of a matrix are stored.

use std::ops::Range;

/// In which order the rows of a matrix, or the numbers of a bias, are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOrder {
    /// As the model has them.
    Same,
    /// Rows i and i + width / 2 of each head lie beside each other.
    Neighbours { width: usize },
    /// All queries, all keys, all values; the model has query, key and value of each head.
    Thirds { heads: usize, width: usize },
}

/// Rows of a model that lie in a file at even distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    first: usize,
    count: usize,
    /// How far the next row is.
    pub(super) step: usize,
}

impl Run {
    /// All rows from the first to the last.
    pub(super) fn span(self) -> Range<usize> {
        self.first..self.first + self.count.saturating_sub(1) * self.step + 1
    }
}

impl RowOrder {
    /// Where a row of the model is in the file.
    fn stored(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Neighbours { width } => {
                let half = (width / 2).max(1);
                let (pair, within) = (row / half, row % half);
                pair / 2 * width + 2 * within + pair % 2
            }
            Self::Thirds { heads, width } => {
                let width = width.max(1);
                let (block, within) = (row / width, row % width);
                (block % 3 * heads + block / 3) * width + within
            }
        }
    }

    /// Where some rows of the model are, in their order.
    pub(super) fn runs(self, rows: Range<usize>) -> Vec<Run> {
        let step = if matches!(self, Self::Neighbours { .. }) { 2 } else { 1 };
        let mut runs: Vec<Run> = Vec::new();
        for row in rows {
            let stored = self.stored(row);
            match runs.last_mut() {
                Some(run) if run.first + run.count * step == stored => run.count += 1,
                _ => runs.push(Run { first: stored, count: 1, step }),
            }
        }
        runs
    }

    /// The rows of a matrix as the model has them, of all that are stored.
    pub(super) fn arranged(self, values: Vec<f32>, rows: usize, width: usize) -> Vec<f32> {
        if self == Self::Same {
            return values;
        }
        let row = |row| values.chunks(width).nth(self.stored(row)).unwrap_or_default();
        (0..rows).map(row).collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The converter's own words, of numpy: reshape(heads, 2, width / 2).swapaxes(1, 2).
    fn neighbours(heads: usize, width: usize) -> Vec<usize> {
        let mut stored = Vec::new();
        for head in 0..heads {
            for within in 0..width / 2 {
                stored.extend([0, 1].map(|half| head * width + half * width / 2 + within));
            }
        }
        stored
    }

    /// Likewise: cat of [:, 0], [:, 1], [:, 2] of reshape(heads, 3, width).
    fn thirds(heads: usize, width: usize) -> Vec<usize> {
        let rows = |place| {
            (0..heads).flat_map(move |head| (0..width).map(move |within| (head * 3 + place) * width + within))
        };
        (0..3).flat_map(rows).collect()
    }

    #[test]
    fn orders_are_the_converters_turned_round() {
        for (order, stored) in [
            (RowOrder::Neighbours { width: 6 }, neighbours(3, 6)),
            (RowOrder::Neighbours { width: 2 }, neighbours(3, 2)),
            (RowOrder::Thirds { heads: 3, width: 4 }, thirds(3, 4)),
            (RowOrder::Thirds { heads: 1, width: 5 }, thirds(1, 5)),
            (RowOrder::Same, (0..9).collect()),
        ] {
            let rows = stored.len();
            let values: Vec<f32> = stored.iter().flat_map(|row| [*row as f32, 0.5]).collect();
            let expected: Vec<f32> = (0..rows).flat_map(|row| [row as f32, 0.5]).collect();
            assert_eq!(order.arranged(values, rows, 2), expected, "{order:?}");
            for range in [0..rows, 1..rows - 1, 2..3, 3..3] {
                let found =
                    order.runs(range.clone()).into_iter().flat_map(|run| run.span().step_by(run.step));
                let found: Vec<usize> = found.map(|row| stored[row]).collect();
                assert_eq!(found, range.collect::<Vec<_>>(), "{order:?}");
            }
        }
        assert_eq!(RowOrder::Neighbours { width: 64 }.runs(0..64).len(), 2, "few readings");
        assert_eq!(RowOrder::Thirds { heads: 4, width: 16 }.runs(0..192).len(), 12);
    }
}
