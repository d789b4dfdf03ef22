use std::ops::Range;

use skn_random::{Key, Purpose};

use crate::encode::Encoded;
use crate::error::{DataError, Result};

/// Texts of one forward pass, packed: one after another, without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids of all texts.
    pub ids: Vec<u32>,
    /// Where each text begins in `ids`, and at last their number: one entry more than texts.
    pub starts: Vec<usize>,
    /// For each text where in `ids` the second of a pair begins ([`Encoded::second`]), or where the text ends.
    pub seconds: Vec<usize>,
    /// The class of each text.
    pub labels: Vec<usize>,
    /// The row of each text in its part ([`Encoded::row`]).
    pub rows: Vec<u64>,
    /// Where each text stands in the list that was packed.
    pub places: Vec<usize>,
}

impl Batch {
    /// The number of texts.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The token ids of text `n`, if there is one.
    pub fn text(&self, n: usize) -> Option<&[u32]> {
        self.ids.get(*self.starts.get(n)?..*self.starts.get(n + 1)?)
    }

    /// Of texts that stand at these places of a list.
    pub(crate) fn of(texts: &[Encoded], places: &[usize]) -> Self {
        let tokens = places.iter().map(|&place| texts[place].ids.len()).sum();
        let mut batch = Self { ids: Vec::with_capacity(tokens), places: places.to_vec(), ..Self::default() };
        batch.starts = std::iter::once(0)
            .chain(places.iter().map(|&place| {
                batch.ids.extend_from_slice(&texts[place].ids);
                batch.ids.len()
            }))
            .collect();
        for (&place, start) in places.iter().zip(&batch.starts) {
            let text = &texts[place];
            batch.seconds.push(start + text.second.min(text.ids.len()));
            batch.labels.push(text.label);
            batch.rows.push(text.row);
        }
        batch
    }
}

/// What a batch may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Rows; a text that is longer goes alone.
    pub(crate) token_budget: usize,
    /// Texts.
    pub(crate) max_sequences: usize,
}

impl Limits {
    /// Batches of texts with so many rows each, in their order: at least `wanted` if there are so many texts, and as even as they can be: no
    /// smaller budget would do.
    pub(crate) fn divide(self, costs: &[usize], wanted: usize) -> Vec<Range<usize>> {
        let count = |budget: usize| cut(costs, budget, self.max_sequences).count();
        let most = count(self.token_budget).max(wanted);
        let total = costs.iter().fold(0usize, |sum, cost| sum.saturating_add(*cost));
        let (mut low, mut high) = (0, self.token_budget.min(total));
        while low < high {
            let middle = low + (high - low) / 2;
            if count(middle) <= most { high = middle } else { low = middle + 1 }
        }
        cut(costs, high, self.max_sequences).collect()
    }
}

/// Ranges of `costs`, each as long as its sum stays in the budget, or of one that is above it.
pub(crate) fn cut(
    costs: &[usize],
    budget: usize,
    max_sequences: usize,
) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let mut left = budget.saturating_sub(*costs.get(start)?);
        let more = costs[start + 1..].iter().take(max_sequences.saturating_sub(1));
        let fit = more.take_while(|&&cost| {
            left.checked_sub(cost).is_some_and(|rest| {
                left = rest;
                true
            })
        });
        let range = start..start + 1 + fit.count();
        start = range.end;
        Some(range)
    })
}

/// Shard `index` (from 0) of `count` of a part: contiguous, sizes differ by at most one, larger ones first.
///
/// # Errors
///
/// [`DataError::Shard`] unless `index < count`.
pub fn shard<T>(part: &[T], index: usize, count: usize) -> Result<&[T]> {
    if index >= count {
        return Err(DataError::Shard { index, count });
    }
    let (size, larger) = (part.len() / count, part.len() % count);
    let start = index * size + index.min(larger);
    Ok(&part[start..start + size + usize::from(index < larger)])
}

/// The order in which an epoch visits the `n` rows of train. A part never has more than `u32::MAX` rows.
pub fn epoch_order(n: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..u32::try_from(n).unwrap_or(u32::MAX)).collect();
    Key::new(seed, Purpose::Order).step(epoch).rng().shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::*;
    use proptest::prelude::*;

    fn texts(lengths: &[usize]) -> Vec<Encoded> {
        let text = |(row, length): (usize, &usize)| Encoded {
            ids: (0..*length as u32).map(|place| place + 100 * row as u32).collect::<Vec<_>>().into(),
            second: *length / 2,
            label: row % 2,
            row: row as u64,
        };
        lengths.iter().enumerate().map(text).collect()
    }

    fn rows(batches: &[Batch]) -> Vec<Vec<u64>> {
        batches.iter().map(|batch| batch.rows.clone()).collect()
    }

    #[test]
    fn packs_by_length() {
        let batches = pack(&texts(&[4, 2, 9, 2]), 1, 8, 8, 1);
        assert_eq!(rows(&batches), [vec![2], vec![0], vec![1, 3]]);
        let last = &batches[2];
        assert_eq!(last.ids, [100, 101, 300, 301]);
        assert_eq!(last.seconds, [1, 3]);
        assert_eq!(last.starts, [0, 2, 4]);
        assert_eq!(last.labels, [1, 1]);
        assert_eq!(last.places, [1, 3]);
        assert_eq!(last.text(1), Some(&[300, 301][..]));
        assert_eq!(last.text(2), None);
    }

    #[test]
    fn packs_in_the_order_given() {
        let texts = texts(&[4, 2, 9, 2]);
        assert_eq!(rows(&pack_in_order(&texts, &[2, 0, 3, 1], 0, 9).unwrap()), [vec![2], vec![0, 3, 1]]);
        let error = pack_in_order(&texts, &[4], 0, 9).unwrap_err();
        assert_eq!(error.to_string(), "row 4: does not exist: there are 4 texts");
    }

    #[test]
    fn equal_texts_of_one_row_stay_as_they_stand() {
        let one = |label| Encoded { label, row: 5, ..texts(&[2]).remove(0) };
        let some = [one(3), one(1), one(2), Encoded { row: 4, ..one(0) }];
        let packed = Packed::new(&some, 0, 4, 2, 1).unwrap();
        let batches: Vec<Batch> = (0..packed.len()).map(|number| packed.batch(number).unwrap()).collect();
        let places: Vec<&[usize]> = batches.iter().map(|batch| &batch.places[..]).collect();
        assert_eq!(places, [&[3, 0][..], &[1, 2]]);
        assert_eq!(batches[1].labels, [1, 2]);
    }

    #[test]
    fn batches_are_even() {
        // Filled up in turn they would be 10, 10 and 2 rows.
        let texts = texts(&[5, 5, 5, 5, 2]);
        let in_order = pack_in_order(&texts, &[0, 1, 2, 3, 4], 0, 10).unwrap();
        assert_eq!(rows(&in_order), [vec![0, 1], vec![2, 3], vec![4]], "no limit below 10 does it in 3");
        let in_order = pack_in_order(&texts, &[0, 4, 1, 2, 3], 0, 12).unwrap();
        assert_eq!(rows(&in_order), [vec![0, 4, 1], vec![2, 3]]);
        let texts = super::tests::texts(&[4; 8]);
        let lengths = |batches: &[Batch]| batches.iter().map(Batch::len).collect::<Vec<_>>();
        assert_eq!(lengths(&pack(&texts, 0, 20, 8, 1)), [4, 4]);
        assert_eq!(lengths(&pack(&texts, 0, 20, 8, 3)), [3, 3, 2]);
        assert_eq!(lengths(&pack(&texts, 0, 20, 8, 100)), [1; 8]);
    }

    #[test]
    fn limits_of_texts() {
        assert_eq!(rows(&pack(&texts(&[1, 1, 1]), 0, 100, 2, 1)), [vec![0, 1], vec![2]]);
        assert_eq!(pack(&texts(&[1, 1]), usize::MAX, usize::MAX, 0, 1).len(), 2);
        assert!(pack(&[], 0, 10, 10, 4).is_empty());
    }

    #[test]
    fn shards_by_hand() {
        let part: Vec<u32> = (0..7).collect();
        assert_eq!(shard(&part, 0, 3).unwrap(), [0, 1, 2]);
        assert_eq!(shard(&part, 1, 3).unwrap(), [3, 4]);
        assert_eq!(shard(&part, 2, 3).unwrap(), [5, 6]);
        assert!(shard(&part, 8, 9).unwrap().is_empty());
        assert!(shard(&part, 3, 3).is_err());
        assert!(shard(&part, 0, 0).is_err());
    }

    #[test]
    fn epochs_differ_and_repeat() {
        assert_eq!(epoch_order(50, 1, 2), epoch_order(50, 1, 2));
        assert_ne!(epoch_order(50, 1, 2), epoch_order(50, 1, 3));
        assert_ne!(epoch_order(50, 1, 2), epoch_order(50, 2, 2));
        let mut sorted = epoch_order(50, 1, 2);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn every_text_is_packed_once_within_the_limits(
            lengths in prop::collection::vec(1usize..40, 0..60),
            extra in 0usize..17,
            budget in 1usize..200,
            max in 1usize..9,
            wanted in 1usize..9,
        ) {
            let texts = texts(&lengths);
            let batches = pack(&texts, extra, budget, max, wanted);
            let fewest = pack(&texts, extra, budget, max, 1).len();
            prop_assert!(batches.len() <= fewest.max(wanted));
            let mut seen: Vec<u64> = Vec::new();
            for batch in &batches {
                prop_assert!(batch.len() <= max);
                prop_assert!(batch.len() == 1 || batch.ids.len() + extra * batch.len() <= budget);
                for (n, row) in batch.rows.iter().enumerate() {
                    prop_assert_eq!(batch.text(n).unwrap(), &texts[*row as usize].ids[..]);
                }
                seen.extend(&batch.rows);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len() as u64).collect::<Vec<_>>());
        }

        #[test]
        fn shards_are_a_partition(length in 0usize..100, count in 1usize..12) {
            let part: Vec<usize> = (0..length).collect();
            let mut whole = Vec::new();
            for index in 0..count {
                let shard = shard(&part, index, count).unwrap();
                prop_assert!(shard.len().abs_diff(length / count) <= 1);
                whole.extend_from_slice(shard);
            }
            prop_assert_eq!(whole, part);
        }
    }
}
