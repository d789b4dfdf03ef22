use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use crate::dataset::Example;
use crate::split::{PartIndex, Splits};

/// Places that are named of many.
const NAMED: usize = 3;

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
            Self::told(part, rows.len(), twins, [index, &source.train])
        });
        found.into_iter().filter(|overlap| overlap.count > 0).collect()
    }

    fn told(
        part: &'static str,
        rows: usize,
        twins: impl Iterator<Item = [usize; 2]>,
        sources: [&PartIndex; 2],
    ) -> Self {
        let (mut count, mut first) = (0, Vec::new());
        for places in twins {
            count += 1;
            if first.len() < NAMED {
                let row = |which: usize| sources[which].rows.get(places[which]).unwrap_or_default();
                first.push([row(0), row(1)]);
            }
        }
        Self { part, splits: sources.map(|source| source.split.clone()), count, rows, first }
    }
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
    row.texts().map(|text| text.trim().to_lowercase()).collect()
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
