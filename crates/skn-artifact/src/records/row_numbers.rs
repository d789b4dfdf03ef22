use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers of rows in an order. In JSON they are a list; in memory those that follow each other take 8 bytes together, however many they
/// are, so that a whole split of a million rows is no more than a row.
///
/// ```
/// use skn_artifact::RowNumbers;
///
/// let rows: RowNumbers = (0..1_000_000).chain([7, 8]).collect();
/// assert_eq!((rows.len(), rows.get(1_000_001), rows.get(1_000_002)), (1_000_002, Some(8), None));
/// let few = RowNumbers::from(vec![3, 1, 2]);
/// assert_eq!((few.ascends(), serde_json::to_string(&few)?), (false, "[3,1,2]".to_owned()));
/// assert_eq!(few, [3, 1, 2]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RowNumbers {
    /// The first and the last of those that follow each other; none begins where the one before it could go on.
    runs: Vec<[u32; 2]>,
    count: usize,
}

impl RowNumbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes one behind the others.
    pub fn push(&mut self, row: u32) {
        self.count += 1;
        match self.runs.last_mut() {
            Some([_, last]) if last.checked_add(1) == Some(row) => *last = row,
            _ => self.runs.push([row; 2]),
        }
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.runs.iter().flat_map(|&[first, last]| first..=last)
    }

    /// The one at a place.
    pub fn get(&self, place: usize) -> Option<u32> {
        let mut before = 0;
        for &[first, last] in &self.runs {
            let here = (last - first) as usize;
            if place - before <= here {
                return first.checked_add(u32::try_from(place - before).ok()?);
            }
            before += here + 1;
        }
        None
    }

    /// Whether each is larger than the one before it.
    pub fn ascends(&self) -> bool {
        self.runs.iter().zip(self.runs.iter().skip(1)).all(|([_, last], [next, _])| last < next)
    }

    /// Whether they are 0, 1, .. up to a number of rows.
    pub fn are_all_of(&self, rows: usize) -> bool {
        self.count == rows && self.runs.len() <= 1 && self.runs.iter().all(|[first, _]| *first == 0)
    }
}

impl FromIterator<u32> for RowNumbers {
    fn from_iter<I: IntoIterator<Item = u32>>(rows: I) -> Self {
        let mut all = Self::default();
        rows.into_iter().for_each(|row| all.push(row));
        all.runs.shrink_to_fit();
        all
    }
}

impl From<Vec<u32>> for RowNumbers {
    fn from(rows: Vec<u32>) -> Self {
        rows.into_iter().collect()
    }
}

impl<const N: usize> PartialEq<[u32; N]> for RowNumbers {
    fn eq(&self, other: &[u32; N]) -> bool {
        self.iter().eq(other.iter().copied())
    }
}

impl fmt::Debug for RowNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for RowNumbers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // How many there are is said, as of a list.
        let mut list = to.serialize_seq(Some(self.count))?;
        for row in self.iter() {
            serde::ser::SerializeSeq::serialize_element(&mut list, &row)?;
        }
        serde::ser::SerializeSeq::end(list)
    }
}

impl<'de> Deserialize<'de> for RowNumbers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = RowNumbers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // As of a list of numbers.
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RowNumbers, A::Error> {
                let mut rows = RowNumbers::default();
                while let Some(row) = list.next_element()? {
                    rows.push(row);
                }
                rows.runs.shrink_to_fit();
                Ok(rows)
            }
        }

        from.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_that_follow_each_other_are_a_run() {
        let whole: RowNumbers = (0..1000).collect();
        assert_eq!((whole.runs.len(), whole.len(), whole.are_all_of(1000)), (1, 1000, true));
        assert!(!whole.are_all_of(999) && !RowNumbers::from(vec![1, 2]).are_all_of(2));
        assert!(RowNumbers::default().are_all_of(0) && RowNumbers::default().ascends());
        // The largest number has none behind it.
        let last = RowNumbers::from(vec![u32::MAX - 1, u32::MAX, 0]);
        assert_eq!(
            (last.runs.len(), last.get(1), last.get(2), last.get(3)),
            (2, Some(u32::MAX), Some(0), None)
        );
        assert!(!last.ascends() && !RowNumbers::from(vec![4, 4]).ascends());
    }

    #[test]
    fn what_is_no_list_of_rows_is_refused_as_before() {
        let told = |text: &str| {
            let found = serde_json::from_str::<RowNumbers>(text).unwrap_err().to_string();
            let expected = serde_json::from_str::<Vec<u32>>(text).unwrap_err().to_string();
            assert_eq!(found, expected);
        };
        ["3", "[1,-1]", "[4294967296]", "[1.5]", "{}", "[1", "\"1\""].iter().for_each(|text| told(text));
    }

    proptest! {
        #[test]
        fn they_are_what_the_list_is(rows in prop::collection::vec(0u32..9, 0..40)) {
            let numbers = RowNumbers::from(rows.clone());
            prop_assert_eq!(numbers.iter().collect::<Vec<_>>(), rows.clone());
            prop_assert_eq!(numbers.len(), rows.len());
            for place in 0..rows.len() + 2 {
                prop_assert_eq!(numbers.get(place), rows.get(place).copied());
            }
            prop_assert_eq!(numbers.ascends(), rows.windows(2).all(|pair| pair[0] < pair[1]));
            let text = serde_json::to_string_pretty(&rows).unwrap();
            prop_assert_eq!(serde_json::to_string_pretty(&numbers).unwrap(), text.clone());
            prop_assert_eq!(serde_json::from_str::<RowNumbers>(&text).unwrap(), numbers);
        }
    }
}
