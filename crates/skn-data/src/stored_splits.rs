use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use skn_artifact::ArtifactError;

use crate::dataset::hash_row;
use crate::error::Result;
use crate::split::{
    OfSplit, Outline, PartIndex, SplitIndex, TWICE, check_data, comes_from_nowhere, index, lacks_split,
    mismatch, wrong_row,
};
use crate::stored_rows::{SomeRows, SplitFacts, StoredRows};
use crate::task::Task;

/// Train, dev and test of rows that are stored: [`Splits`](crate::Splits) whose rows are read when they are asked for.
#[derive(Debug)]
pub struct StoredSplits {
    rows: StoredRows,
    source: SplitIndex,
    unlabelled: BTreeMap<String, u64>,
    hashes: [String; 3],
}

impl StoredSplits {
    /// Divides rows as [`split`](crate::split) does.
    ///
    /// # Errors
    ///
    /// As of `split`; if the rows can't be read.
    pub fn new(rows: StoredRows, task: &Task, seed: u64) -> Result<Self> {
        let of_split =
            |facts: &SplitFacts<'_>| OfSplit { rows: facts.rows, labelled: facts.labelled.clone() };
        let splits =
            rows.splits().iter().map(|(name, facts)| ((*name).to_owned(), of_split(facts))).collect();
        let source = index(Outline { sha256: rows.sha256().to_owned(), splits }, task, seed)?;
        Self::divided(rows, source)
    }

    /// Divides rows as they were divided before, as [`split_with`](crate::split_with) does. The numbers of each part must ascend.
    ///
    /// # Errors
    ///
    /// As of `split_with`; if the rows can't be read.
    pub fn with(rows: StoredRows, index: SplitIndex) -> Result<Self> {
        check_data(&index, rows.sha256())?;
        for (name, part) in [("train", &index.train), ("dev", &index.dev), ("test", &index.test)] {
            if !part.rows.ascends() {
                return Err(mismatch(name, "row numbers that ascend", "others"));
            }
        }
        Self::divided(rows, index)
    }

    fn divided(rows: StoredRows, source: SplitIndex) -> Result<Self> {
        let splits = rows.splits();
        check_parts(&splits, &source)?;
        let unlabelled = splits.iter().filter(|(_, of)| of.unlabelled > 0);
        let unlabelled = unlabelled.map(|(name, of)| ((*name).to_owned(), of.unlabelled)).collect();
        let hash = |part: &PartIndex| match splits.get(part.split.as_str()) {
            Some(of) if part.rows.are_all_of(of.rows) => Ok(of.sha256.to_owned()),
            _ => part_hash(&rows, part),
        };
        let hashes = [hash(&source.train)?, hash(&source.dev)?, hash(&source.test)?];
        drop(splits);
        Ok(Self { rows, source, unlabelled, hashes })
    }

    /// Where the rows come from.
    pub fn source(&self) -> &SplitIndex {
        &self.source
    }

    /// Rows without a label that were left out, per split of the data set that has any.
    pub fn unlabelled(&self) -> &BTreeMap<String, u64> {
        &self.unlabelled
    }

    /// What [`part_hash`](crate::part_hash) says of train, dev and test.
    pub fn hashes(&self) -> &[String; 3] {
        &self.hashes
    }

    /// The rows of a part of [`Self::source`], in their order.
    pub fn part<'s>(&'s self, part: &'s PartIndex) -> SomeRows<'s> {
        self.rows.some_of(&part.split, &part.rows)
    }

    pub(crate) fn rows(&self) -> &StoredRows {
        &self.rows
    }
}

fn part_hash(rows: &StoredRows, part: &PartIndex) -> Result<String, ArtifactError> {
    let mut hash = Sha256::new();
    hash.update((part.rows.len() as u64).to_le_bytes());
    rows.look_at(&part.split, &part.rows, |row| {
        hash_row(&mut hash, row.texts(), row.label);
        Ok(())
    })?;
    Ok(format!("{:x}", hash.finalize()))
}

/// Refuses parts with rows that are not there, have no label or are in two of them.
fn check_parts(splits: &BTreeMap<&str, SplitFacts<'_>>, source: &SplitIndex) -> Result<()> {
    let parts = [("train", &source.train), ("dev", &source.dev), ("test", &source.test)];
    // Of splits that are of several parts; numbers that ascend are not twice in one.
    let mut taken: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for (name, part) in parts {
        if comes_from_nowhere(part) {
            continue;
        }
        let split = part.split.as_str();
        let Some(of) = splits.get(split) else { return Err(lacks_split(name, part)) };
        let mut labelled = of.labelled.iter().peekable();
        let is_shared = parts.iter().filter(|(_, other)| other.split == split).count() > 1;
        let mut taken = is_shared.then(|| taken.entry(split).or_insert_with(|| vec![false; of.rows]));
        for row in part.rows.iter() {
            // Both ascend.
            while labelled.next_if(|labelled| *labelled < row).is_some() {}
            let place = row as usize;
            if place >= of.rows {
                return Err(wrong_row(name, part, row, &format!("{} rows", of.rows)));
            }
            if let Some(taken) = &mut taken
                && std::mem::replace(&mut taken[place], true)
            {
                return Err(wrong_row(name, part, row, TWICE));
            }
            if labelled.peek() != Some(&row) {
                return Err(wrong_row(name, part, row, "no label"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Dataset, Example};
    use crate::overlap::Overlap;
    use crate::split::{Splits, split, split_with};
    use crate::wire::{RowReader, RowWriter};
    use crate::{Receiver, Row, part_hash};
    use proptest::prelude::*;

    /// The same rows, a frame of so many at a time.
    fn stored(data: &Dataset, task: &Task, together: usize) -> StoredRows {
        let (mut pipe, folder) = (Vec::new(), tempfile::tempdir().unwrap());
        let mut writer = RowWriter::new(&mut pipe);
        for (name, rows) in &data.splits {
            writer.split(name).unwrap();
            for (number, row) in rows.iter().enumerate() {
                if number % together == 0 {
                    writer.file(&format!("{name}{number}"), 0).unwrap();
                }
                let pair = row.pair.as_ref().map(|text| text.as_str());
                writer.row(Row { text: &row.text, pair, more: &[], label: row.label }).unwrap();
            }
        }
        writer.finish().unwrap();
        RowReader::new(&pipe[..], task, u64::MAX).store(folder.path()).unwrap()
    }

    fn rows(stored: &StoredSplits, part: &PartIndex) -> Vec<Example> {
        let mut rows = stored.part(part);
        let (count, found) = (rows.len(), rows.by_ref().collect::<Vec<_>>());
        rows.end().unwrap();
        assert_eq!((count, found.len()), (part.rows.len(), part.rows.len()));
        found
    }

    fn assert_same(stored: &StoredSplits, splits: &Splits) {
        assert_eq!((stored.source(), stored.unlabelled()), (&splits.source, &splits.unlabelled));
        let SplitIndex { train, dev, test, .. } = stored.source();
        for (number, (part, expected)) in
            [(train, &splits.train), (dev, &splits.dev), (test, &splits.test)].into_iter().enumerate()
        {
            assert_eq!(rows(stored, part), *expected);
            assert_eq!(stored.hashes()[number], part_hash(expected));
        }
        assert_eq!(Overlap::of_stored(stored).unwrap(), Overlap::of(splits));
    }

    fn data(splits: &[(&str, Vec<(String, i64)>)]) -> Dataset {
        let row = |(text, label): &(String, i64)| Example {
            text: text.as_str().into(),
            pair: None,
            more: Box::default(),
            label: *label,
        };
        let splits = splits.iter().map(|(name, rows)| ((*name).to_owned(), rows.iter().map(row).collect()));
        Dataset { splits: splits.collect() }
    }

    proptest! {
        #[test]
        fn stored_rows_are_divided_as_those_in_memory(
            train in prop::collection::vec(("[aAbé ]{0,2}", -1i64..2), 0..60),
            dev in prop::collection::vec(("[aAbé ]{0,2}", -1i64..2), 0..20),
            test in prop::collection::vec(("[aAbé ]{0,2}", -1i64..2), 0..20),
            name in prop::sample::select(vec!["sst2", "tweet_eval", "ethos"]),
            count in 1usize..4,
            together in 1usize..30,
            seed: u64,
        ) {
            let task = Task::builtin(name).unwrap();
            let all = [("train", train), ("validation", dev), ("test", test)];
            let names = task.split_names();
            let all: Vec<_> = all.into_iter().filter(|(name, _)| names.contains(name)).take(count).collect();
            let data = data(&all);
            let kept = stored(&data, &task, together);
            prop_assert_eq!(kept.dataset().unwrap(), data.clone());
            prop_assert_eq!(kept.sha256(), data.sha256());
            match (split(data.clone(), &task, seed), StoredSplits::new(kept, &task, seed)) {
                (Ok(splits), Ok(kept)) => {
                    assert_same(&kept, &splits);
                    let again = StoredSplits::with(stored(&data, &task, together), splits.source.clone());
                    assert_same(&again.unwrap(), &splits);
                }
                (Err(expected), Err(found)) => prop_assert_eq!(found.to_string(), expected.to_string()),
                (expected, found) => panic!("{:?} {:?}", expected.err(), found.err()),
            }
        }
    }

    #[test]
    fn many_rows_lie_in_a_file_and_the_same_ones_are_found() {
        let task = Task::builtin("tweet_eval").unwrap();
        let text = |row: usize| format!("{} a text that is long enough for its number, {row}", row % 7);
        let train: Vec<_> = (0..70_000).map(|row| (text(row / 2), row as i64 % 2)).collect();
        let dev = (0..40_000).map(|row| (text(34_000 + row).to_uppercase(), 0)).collect();
        let test = (0..3).map(|row| (format!(" {} ", text(30_000 - row)), row as i64 % 2)).collect();
        let data = data(&[("train", train), ("validation", dev), ("test", test)]);
        let kept = stored(&data, &task, usize::MAX);
        let splits = split(data, &task, 0).unwrap();
        let kept = StoredSplits::new(kept, &task, 0).unwrap();
        let found = Overlap::of_stored(&kept).unwrap();
        assert_eq!(
            (found[0].count, &found[0].first[..]),
            (1_000, &[[0, 68_000], [1, 68_002], [2, 68_004]][..])
        );
        assert_same(&kept, &splits);
    }

    #[test]
    fn a_division_that_does_not_fit_is_refused_alike() {
        let task = Task::builtin("sst2").unwrap();
        let row = |row: usize| (row.to_string(), if row == 3 { -1 } else { row as i64 % 2 });
        let data = data(&[("train", (0..10).map(row).collect()), ("validation", (0..4).map(row).collect())]);
        let index = split(data.clone(), &task, 3).unwrap().source;
        let part = |split: &str, rows: &[u32]| PartIndex { split: split.into(), rows: rows.to_vec().into() };
        for other in [
            SplitIndex { data_sha256: "ab".into(), ..index.clone() },
            SplitIndex { test: part("validation", &[0, 4]), ..index.clone() },
            SplitIndex { test: part("validation", &[2, 3]), ..index.clone() },
            SplitIndex { dev: index.train.clone(), ..index.clone() },
            SplitIndex { dev: part("x", &[0]), ..index.clone() },
            SplitIndex { dev: part("x", &[]), ..index.clone() },
        ] {
            let expected = split_with(data.clone(), &other).unwrap_err().to_string();
            let found = StoredSplits::with(stored(&data, &task, 3), other).unwrap_err().to_string();
            assert_eq!(found, expected);
        }
        // In another order, and twice.
        for rows in [[2, 1], [1, 1]] {
            let other = SplitIndex { test: part("validation", &rows), ..index.clone() };
            let found = StoredSplits::with(stored(&data, &task, 3), other).unwrap_err().to_string();
            assert!(found.contains("row numbers that ascend"), "{found}");
        }
        let nowhere = SplitIndex { dev: part("", &[]), ..index };
        let expected = split_with(data.clone(), &nowhere).unwrap();
        assert_same(&StoredSplits::with(stored(&data, &task, 3), nowhere).unwrap(), &expected);
    }
}
