use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use sha2::{Digest, Sha256};
use skn_artifact::ArtifactError;

use crate::dataset::{Example, hash_text};
use crate::split::{PartIndex, Splits};
use crate::stored_rows::Kept;
use crate::stored_splits::StoredSplits;

/// Places that are named of many.
const NAMED: usize = 3;

/// So many rows of train are looked at together, of those that are stored; more where they would be too many portions.
const TOGETHER: usize = 1 << 13;

/// Each portion reads all that was noted of train once more, so that there is a limit to them: of more than 262,144 rows memory then
/// has a byte each.
const PORTIONS: usize = 32;

/// What stands for a row's texts where all of them are too many: no two that differ are ever met with the same.
const HASH: usize = 16;
type Hashed = [u8; HASH];

/// Hashes that are read at once.
const AT_ONCE: usize = 1 << 10;

/// Texts of a part that stand in train too: whoever learned them by heart is scored on them.
///
/// Texts are the same that differ in case, or in blanks around them, alone; of rows with several texts all must be the same. Labels are not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overlap {
    /// `dev` or `test`.
    pub part: &'static str,
    /// The split of the data that the part's rows are of, and that train's are of.
    pub splits: [String; 2],
    /// How many rows of the part stand in train too.
    pub count: usize,
    /// The rows of the part.
    pub rows: usize,
    /// The first of them: the row of the part's split, and the first row of train's split with the same text; both from 0.
    pub first: Vec<[u32; 2]>,
}

impl Overlap {
    /// The parts with texts that stand in train too, dev before test.
    ///
    /// ```
    /// use skn_data::{Dataset, Overlap, Task, split};
    ///
    /// let train = br#"{"sentence": "so good", "label": 1}
    ///                 {"sentence": "dull", "label": 0}"#;
    /// let test = br#"{"sentence": "So good ", "label": 1}"#;
    /// let data = Dataset::from_jsonl(&[("train", train), ("validation", test)], &Task::builtin("sst2")?)?;
    /// // Of two rows one is train, the other dev.
    /// let splits = split(data, &Task::builtin("sst2")?, 0)?;
    /// let found = Overlap::of(&splits);
    /// assert_eq!(found.len(), usize::from(splits.train[0].text.as_str() == "so good"));
    /// # Ok::<(), skn_data::DataError>(())
    /// ```
    pub fn of(splits: &Splits) -> Vec<Self> {
        let hashes = RandomState::new();
        let mut train: HashMap<u64, usize> = HashMap::with_capacity(splits.train.len());
        for (place, row) in splits.train.iter().enumerate() {
            train.entry(hashes.hash_one(said(row))).or_insert(place);
        }
        let source = &splits.source;
        let parts = [("dev", &splits.dev, &source.dev), ("test", &splits.test, &source.test)];
        let found = parts.map(|(part, rows, index)| {
            let twins = rows.iter().enumerate().filter_map(|(place, row)| {
                let said = said(row);
                let twin = *train.get(&hashes.hash_one(&said))?;
                (self::said(&splits.train[twin]) == said).then_some([place, twin])
            });
            let mut met = Twins::default();
            twins.for_each(|places| met.meet(places));
            Self::told(part, rows.len(), met, [index, &source.train])
        });
        found.into_iter().filter(|overlap| overlap.count > 0).collect()
    }

    /// The same of rows that are stored, of which memory then has a part at a time.
    ///
    /// # Errors
    ///
    /// If they can't be read, or a file for what is noted of them can't be written.
    pub fn of_stored(splits: &StoredSplits) -> Result<Vec<Self>, ArtifactError> {
        let source = splits.source();
        let train = hashes(splits, &source.train)?;
        let mut found = Vec::new();
        for (part, index) in [("dev", &source.dev), ("test", &source.test)] {
            let (hashes, mut met) = (hashes(splits, index)?, Twins::default());
            let portions = source.train.rows.len().div_ceil(TOGETHER).min(PORTIONS);
            for portion in 0..portions {
                // Those that are the same are of the same portion.
                let is_here = |hash: &Hashed| {
                    let [a, b, c, d, ..] = *hash;
                    u32::from_le_bytes([a, b, c, d]) as usize % portions == portion
                };
                let mut here: HashMap<Hashed, u32> = HashMap::new();
                each(&train, source.train.rows.len(), |place, hash| {
                    if is_here(hash) {
                        here.entry(*hash).or_insert(place as u32);
                    }
                })?;
                each(&hashes, index.rows.len(), |place, hash| {
                    if let Some(twin) = here.get(hash) {
                        met.meet([place, *twin as usize]);
                    }
                })?;
            }
            found.push(Self::told(part, index.rows.len(), met, [index, &source.train]));
        }
        Ok(found.into_iter().filter(|overlap| overlap.count > 0).collect())
    }

    fn told(part: &'static str, rows: usize, met: Twins, sources: [&PartIndex; 2]) -> Self {
        let row = |which: usize, place| sources[which].rows.get(place).unwrap_or_default();
        let first = met.first.iter().map(|[place, twin]| [row(0, *place), row(1, *twin)]).collect();
        Self { part, splits: sources.map(|source| source.split.clone()), count: met.count, rows, first }
    }
}

/// Places of a part, each with the first of train that says the same.
#[derive(Default)]
struct Twins {
    count: usize,
    /// The first of them.
    first: Vec<[usize; 2]>,
}

impl Twins {
    fn meet(&mut self, places: [usize; 2]) {
        self.count += 1;
        let at = self.first.partition_point(|met| met < &places);
        if at < NAMED {
            self.first.insert(at, places);
            self.first.truncate(NAMED);
        }
    }
}

/// What stands for each row of a part.
fn hashes(splits: &StoredSplits, part: &PartIndex) -> Result<Kept, ArtifactError> {
    let rows = splits.rows();
    let mut kept = Kept::new(rows.folder());
    let mut some = Vec::with_capacity(AT_ONCE * HASH);
    rows.look_at(&part.split, &part.rows, |row| {
        let mut hash = Sha256::new();
        row.texts().for_each(|text| hash_text(&mut hash, &plain(text)));
        let hash: [u8; 32] = hash.finalize().into();
        some.extend_from_slice(&hash[..HASH]);
        if some.len() == AT_ONCE * HASH {
            kept.add(&some)?;
            some.clear();
        }
        Ok(())
    })?;
    kept.add(&some)?;
    Ok(kept)
}

/// Looks at so many hashes, each with the place of its row.
fn each(kept: &Kept, rows: usize, mut look: impl FnMut(usize, &Hashed)) -> Result<(), ArtifactError> {
    let mut some = vec![0; AT_ONCE * HASH];
    for first in (0..rows).step_by(AT_ONCE) {
        let count = AT_ONCE.min(rows - first);
        let some = &mut some[..count * HASH];
        kept.read((first * HASH) as u64, some)?;
        some.as_chunks().0.iter().enumerate().for_each(|(place, hash)| look(first + place, hash));
    }
    Ok(())
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, splits: [split, train], count, rows, first } = self;
        write!(f, "{count} of {rows} texts of {part} stand in train too (")?;
        for (place, [row, twin]) in first.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{split} row {row} = {train} row {twin}")?;
        }
        let more = if *count > first.len() { ", .." } else { "" };
        write!(f, "{more})")
    }
}

/// What a row says, without case and the blanks around it.
fn said(row: &Example) -> Vec<String> {
    row.texts().map(|text| plain(text)).collect()
}

fn plain(text: &str) -> String {
    text.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, Task, split};

    fn data(splits: &[(&str, &[(&str, &str)])]) -> Splits {
        let task = Task::from_toml(
            "name = \"t\"\ntext = [\"a\", \"b\"]\nlabels = [\"bad\", \"good\"]\n[splits]\ntrain = \"train\"\ndev = \"dev\"\ntest = \"test\"\n",
            "t.toml",
        )
        .unwrap();
        let row = |(text, pair): &(&str, &str)| Example {
            text: (*text).into(),
            pair: Some((*pair).into()),
            more: Box::default(),
            label: 0,
        };
        let splits = splits.iter().map(|(name, rows)| ((*name).to_owned(), rows.iter().map(row).collect()));
        split(Dataset { splits: splits.collect() }, &task, 0).unwrap()
    }

    #[test]
    fn texts_in_two_parts_are_found() {
        let splits = data(&[
            ("train", &[("Good", "x"), ("bad", "y"), ("good", "x"), ("É", "")]),
            ("dev", &[("good", "y"), ("bad ", "\tY")]),
            ("test", &[("good", "x"), ("é", " "), ("GOOD ", "x"), ("bad", "Y"), ("goodx", "")]),
        ]);
        let [dev, test] = <[Overlap; 2]>::try_from(Overlap::of(&splits)).unwrap();
        assert_eq!((dev.part, dev.count, dev.rows, &dev.first[..]), ("dev", 1, 2, &[[1, 1]][..]));
        assert_eq!((test.count, &test.first[..]), (4, &[[0, 0], [1, 3], [2, 0]][..]));
        assert_eq!(
            test.to_string(),
            "4 of 5 texts of test stand in train too (test row 0 = train row 0, test row 1 = train row 3, \
             test row 2 = train row 0, ..)"
        );
    }

    #[test]
    fn nothing_is_told_of_parts_apart() {
        let splits = data(&[("train", &[("a", "b")]), ("dev", &[("b", "a")]), ("test", &[("ab", "")])]);
        assert_eq!(Overlap::of(&splits), []);
    }
}
