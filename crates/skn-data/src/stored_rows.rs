//! The rows of a data set, of which memory holds some thousands, however many there are.

use std::collections::BTreeMap;
use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use skn_artifact::{ArtifactError, RowNumbers, Spool};

use crate::dataset::{Dataset, Example, hash_row, hash_text};
use crate::frame::{Frame, FrameRow};

/// Bytes that stay in memory; where there are more, all lie in a file.
const HERE: usize = 1 << 17;

/// Bytes at places, in memory while they are few, and else in a file without a name.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Where the file takes room.
    folder: PathBuf,
    here: Vec<u8>,
    file: Option<Spool>,
    end: u64,
}

impl Kept {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), here: Vec::new(), file: None, end: 0 }
    }

    /// Puts bytes behind the others, and says where.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<u64, ArtifactError> {
        let place = self.end;
        match &self.file {
            Some(file) => file.write(place, bytes)?,
            None if self.here.len() + bytes.len() <= HERE => self.here.extend_from_slice(bytes),
            None => {
                let file = Spool::new(&self.folder)?;
                file.write(0, &self.here)?;
                file.write(place, bytes)?;
                (self.file, self.here) = (Some(file), Vec::new());
            }
        }
        self.end += bytes.len() as u64;
        Ok(place)
    }

    /// Fills `bytes` with what stands at a place.
    pub(crate) fn read(&self, place: u64, bytes: &mut [u8]) -> Result<(), ArtifactError> {
        let Some(file) = &self.file else {
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            let found = place.checked_add(bytes.len()).and_then(|end| self.here.get(place..end));
            bytes.copy_from_slice(found.ok_or_else(|| damaged(&self.folder))?);
            return Ok(());
        };
        file.read(place, bytes)
    }

    fn stretch(&self, place: u64, length: usize) -> Result<Vec<u8>, ArtifactError> {
        let mut bytes = vec![0; length];
        self.read(place, &mut bytes)?;
        Ok(bytes)
    }
}

/// The error of a file that has not what was written to it.
fn damaged(folder: &Path) -> ArtifactError {
    let source = io::Error::new(io::ErrorKind::InvalidData, "it has other rows than were written");
    ArtifactError::Io { file: folder.into(), operation: "read a temporary file there", source }
}

/// The rows of a data set, which lie in a file without a name where they are more than 128 KiB: [`RowReader::store`] makes it.
///
/// [`RowReader::store`]: crate::RowReader::store
#[derive(Debug)]
pub struct StoredRows {
    kept: Kept,
    /// Texts of a row.
    columns: usize,
    classes: usize,
    splits: BTreeMap<String, StoredSplit>,
    sha256: String,
}

/// The rows of a split.
#[derive(Debug, Default)]
struct StoredSplit {
    frames: Vec<Place>,
    rows: usize,
    labelled: RowNumbers,
    unlabelled: u64,
    sha256: String,
}

impl StoredSplit {
    fn facts(&self) -> SplitFacts<'_> {
        let Self { rows, labelled, unlabelled, sha256, .. } = self;
        SplitFacts { rows: *rows, labelled, unlabelled: *unlabelled, sha256 }
    }
}

/// What is known of a split beside its texts.
pub(crate) struct SplitFacts<'s> {
    pub(crate) rows: usize,
    /// Those that have a label.
    pub(crate) labelled: &'s RowNumbers,
    /// How many have none.
    pub(crate) unlabelled: u64,
    /// Of all of them, as [`part_hash`](crate::part_hash) takes it.
    pub(crate) sha256: &'s str,
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    rows: usize,
    /// Bytes of its texts.
    texts: usize,
}

/// Takes rows one frame after another.
#[derive(Debug)]
pub(crate) struct RowStore {
    stored: StoredRows,
    /// The one that is not ended.
    split: StoredSplit,
}

impl RowStore {
    /// For texts of so many columns, at least one, and labels of so many classes.
    pub(crate) fn new(folder: &Path, columns: usize, classes: usize) -> Self {
        let (kept, splits) = (Kept::new(folder), BTreeMap::new());
        let stored = StoredRows { kept, columns, classes, splits, sha256: String::new() };
        Self { stored, split: StoredSplit::default() }
    }

    /// Whether there is a split of this name.
    pub(crate) fn has(&self, split: &str) -> bool {
        self.stored.splits.contains_key(split)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stored.splits.is_empty()
    }

    /// How many rows the split has so far that is not ended.
    pub(crate) fn rows(&self) -> usize {
        self.split.rows
    }

    /// Takes rows of the split that is not ended.
    pub(crate) fn add(&mut self, frame: &Frame) -> Result<(), ArtifactError> {
        let [heads, texts] = frame.bytes();
        let at = self.stored.kept.add(heads)?;
        self.stored.kept.add(texts)?;
        let mut rows = 0;
        for row in frame.rows() {
            match u32::try_from(self.split.rows + rows) {
                _ if row.label < 0 => self.split.unlabelled += 1,
                Ok(number) => self.split.labelled.push(number),
                // Whoever divides the data refuses so many.
                Err(_) => {}
            }
            rows += 1;
        }
        self.split.frames.push(Place { at, rows, texts: texts.len() });
        self.split.rows += rows;
        Ok(())
    }

    /// Ends the split, and gives it its name.
    pub(crate) fn end_split(&mut self, name: String) {
        self.stored.splits.insert(name, std::mem::take(&mut self.split));
    }

    /// All rows.
    pub(crate) fn finish(self) -> Result<StoredRows, ArtifactError> {
        let mut stored = self.stored;
        let mut all = Sha256::new();
        let mut hashes = Vec::with_capacity(stored.splits.len());
        for (name, split) in &stored.splits {
            let mut own = Sha256::new();
            hash_text(&mut all, name);
            for hash in [&mut all, &mut own] {
                hash.update((split.rows as u64).to_le_bytes());
            }
            for place in &split.frames {
                for row in stored.frame(*place)?.rows() {
                    for hash in [&mut all, &mut own] {
                        hash_row(hash, row.texts(), row.label);
                    }
                }
            }
            hashes.push(format!("{:x}", own.finalize()));
        }
        stored.sha256 = format!("{:x}", all.finalize());
        stored.splits.values_mut().zip(hashes).for_each(|(split, hash)| split.sha256 = hash);
        Ok(stored)
    }
}

impl StoredRows {
    /// [`Dataset::sha256`] of the same rows.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The same rows in memory.
    ///
    /// # Errors
    ///
    /// If the file can't be read.
    pub fn dataset(&self) -> Result<Dataset, ArtifactError> {
        let mut dataset = Dataset::default();
        for (name, split) in &self.splits {
            let mut rows = Vec::with_capacity(split.rows);
            for place in &split.frames {
                rows.extend(self.frame(*place)?.examples());
            }
            dataset.splits.insert(name.clone(), rows);
        }
        Ok(dataset)
    }

    /// Its splits, by their names.
    pub(crate) fn splits(&self) -> BTreeMap<&str, SplitFacts<'_>> {
        self.splits.iter().map(|(name, of)| (name.as_str(), of.facts())).collect()
    }

    /// Where it takes room.
    pub(crate) fn folder(&self) -> &Path {
        &self.kept.folder
    }

    /// Rows of a split, whose numbers ascend and are there.
    pub(crate) fn some_of<'s>(&'s self, split: &str, numbers: &'s RowNumbers) -> SomeRows<'s> {
        SomeRows {
            stored: self,
            places: self.places(split).iter(),
            left: numbers.len(),
            numbers: (Box::new(numbers.iter()) as Box<dyn Iterator<Item = u32> + Send + 's>).peekable(),
            ready: Vec::new().into_iter(),
            end: 0,
            failed: None,
        }
    }

    /// Looks at the same rows.
    pub(crate) fn look_at(
        &self,
        split: &str,
        numbers: &RowNumbers,
        mut look: impl FnMut(FrameRow<'_>) -> Result<(), ArtifactError>,
    ) -> Result<(), ArtifactError> {
        let (mut numbers, mut end) = (numbers.iter().peekable(), 0);
        for place in self.places(split) {
            let first = end;
            end += place.rows;
            // Else the frame need not be read.
            if numbers.peek().is_some_and(|number| (*number as usize) < end) {
                for (number, row) in (first..end).zip(self.frame(*place)?.rows()) {
                    if numbers.next_if(|wanted| *wanted as usize == number).is_some() {
                        look(row)?;
                    }
                }
            }
        }
        if numbers.peek().is_none() { Ok(()) } else { Err(damaged(self.folder())) }
    }

    fn places(&self, split: &str) -> &[Place] {
        self.splits.get(split).map_or(&[][..], |split| &split.frames)
    }

    fn frame(&self, Place { at, rows, texts }: Place) -> Result<Frame, ArtifactError> {
        let heads = Frame::head_bytes(rows, self.columns);
        let texts = self.kept.stretch(at + heads as u64, texts)?;
        let heads = self.kept.stretch(at, heads)?;
        Frame::new(heads, texts, self.columns, self.classes).map_err(|_| damaged(self.folder()))
    }
}

/// Rows of a split of [`StoredRows`], some thousands of them in memory at a time. They end early if the file can't be read:
/// [`Self::end`] says so.
pub struct SomeRows<'s> {
    stored: &'s StoredRows,
    places: std::slice::Iter<'s, Place>,
    numbers: Peekable<Box<dyn Iterator<Item = u32> + Send + 's>>,
    /// Those of the frame at hand that are wanted and were not given.
    ready: std::vec::IntoIter<Example>,
    left: usize,
    /// The number of the row behind that frame.
    end: usize,
    failed: Option<ArtifactError>,
}

impl SomeRows<'_> {
    /// Says whether all rows were given, by who has taken all that came.
    ///
    /// # Errors
    ///
    /// If the file can't be read.
    pub fn end(self) -> Result<(), ArtifactError> {
        self.failed.map_or(Ok(()), Err)
    }

    /// Makes rows of the next frame that has some of them.
    fn fill(&mut self) -> Result<(), ArtifactError> {
        for place in self.places.by_ref() {
            let first = self.end;
            self.end += place.rows;
            if self.numbers.peek().is_some_and(|number| (*number as usize) < self.end) {
                let frame = self.stored.frame(*place)?;
                let all = (first..self.end).zip(frame.examples());
                let numbers = &mut self.numbers;
                let wanted =
                    all.filter(|(number, _)| numbers.next_if(|row| *row as usize == *number).is_some());
                self.ready = wanted.map(|(_, row)| row).collect::<Vec<_>>().into_iter();
                return Ok(());
            }
        }
        Err(damaged(self.stored.folder()))
    }
}

impl Iterator for SomeRows<'_> {
    type Item = Example;

    fn next(&mut self) -> Option<Example> {
        while self.left > 0 {
            if let Some(row) = self.ready.next() {
                self.left -= 1;
                return Some(row);
            }
            if let Err(error) = self.fill() {
                (self.failed, self.left) = (Some(error), 0);
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for SomeRows<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_memory_until_they_are_many() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(folder.path());
        let pieces: Vec<Vec<u8>> = (0..5u8).map(|piece| vec![piece; HERE / 4]).collect();
        for (number, piece) in pieces.iter().enumerate() {
            assert_eq!(kept.add(piece).unwrap(), (number * piece.len()) as u64);
            assert_eq!((kept.file.is_some(), kept.here.is_empty()), (number == 4, number == 4));
            for (place, piece) in pieces[..=number].iter().enumerate() {
                assert_eq!(kept.stretch((place * piece.len()) as u64, piece.len()).unwrap(), *piece);
            }
            let behind = kept.stretch(kept.end - 1, 2).unwrap_err().to_string();
            assert!(behind.contains("can't read a temporary file there"), "{behind}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
    }

    fn frame(texts: &[&str]) -> Frame {
        let heads = texts
            .iter()
            .flat_map(|text| [&1i64.to_le_bytes()[..], &(text.len() as u32).to_le_bytes()].concat());
        Frame::new(heads.collect(), texts.concat().into(), 1, 2).unwrap()
    }

    #[test]
    fn rows_that_are_lost_are_an_error_and_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = RowStore::new(folder.path(), 1, 2);
        [["a", "bc"], ["", "d"]].iter().for_each(|texts| store.add(&frame(texts)).unwrap());
        store.end_split("train".into());
        let mut stored = store.finish().unwrap();
        let texts = |stored: &StoredRows, rows: &[u32]| {
            let rows = RowNumbers::from(rows.to_vec());
            let mut some = stored.some_of("train", &rows);
            let texts: Vec<String> = some.by_ref().map(|row| row.text.as_str().to_owned()).collect();
            assert_eq!(some.len(), 0);
            let mut seen = Vec::new();
            let looked = stored.look_at("train", &rows, |row| {
                seen.extend(row.texts().map(str::to_owned));
                Ok(())
            });
            assert_eq!((&seen, looked.is_ok()), (&texts, some.failed.is_none()));
            some.end().map(|()| texts).map_err(|error| error.to_string())
        };
        assert_eq!(texts(&stored, &[0, 1, 2, 3]).unwrap(), ["a", "bc", "", "d"]);
        assert_eq!(texts(&stored, &[1, 3]).unwrap(), ["bc", "d"]);
        assert!(texts(&stored, &[]).unwrap().is_empty());
        let told = |stored: &StoredRows, rows: &[u32]| texts(stored, rows).unwrap_err();
        assert!(told(&stored, &[3, 4]).contains("it has other rows than were written"));
        // A label of no class, in the second frame.
        let last = stored.kept.here.len() - 25;
        stored.kept.here[last] = 9;
        assert!(texts(&stored, &[0, 1]).is_ok());
        assert!(told(&stored, &[0, 2]).contains("it has other rows than were written"));
    }
}
