//! Texts as tokens, of which memory holds about a thousand, however many there are.

use std::cmp::Reverse;
use std::io;
use std::mem::take;
use std::ops::Range;
use std::path::{Path, PathBuf};

use skn_artifact::{ArtifactError, Spool};

use crate::batch::{Batch, Limits};
use crate::encode::Encoded;
use crate::error::{DataError, Result};

/// Texts go to the file as soon as there are so many,
const ROUND_TEXTS: usize = TextStore::MOST_HERE;
/// or they have so many tokens.
const ROUND_TOKENS: usize = 1 << 18;

/// What stands before a text's tokens: its place, its row, its class, where the second of a pair begins, and how many tokens there are,
/// each of 8 bytes. Tokens have 4.
const HEAD: usize = 5 * 8;

/// Takes texts one after another. While they are few they stay in memory; from 1,024 texts on, or 262,144 tokens, all lie in a file
/// without a name ([`Spool`]), 40 bytes and 4 for each token.
///
/// ```
/// use skn_data::{Encoded, Packed, TextList, TextStore};
///
/// let text = |row| Encoded { ids: vec![7; 1 + row as usize % 3].into(), second: 1, label: 0, row };
/// let texts: Vec<_> = (0..10_000).map(text).collect();
/// let folder = std::env::temp_dir();
/// let mut store = TextStore::new(&folder);
/// texts.chunks(100).try_for_each(|some| store.add(some.to_vec()))?;
/// let stored = store.finish()?;
/// assert_eq!(TextList::from(&stored).len(), 10_000);
/// assert_eq!(stored.chosen(|place| place % 2_000 == 1)?[3], texts[6_001]);
/// // In batches they are by length among a thousand; texts in memory among all.
/// let packed = Packed::new(&stored, 4, 2048, 128, 1)?;
/// let of = |number| packed.batch(number).map(|batch| batch.len());
/// let lengths = (0..packed.len()).map(of).collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(lengths.iter().sum::<usize>(), texts.len());
/// # Ok::<(), skn_data::DataError>(())
/// ```
#[derive(Debug)]
pub struct TextStore {
    folder: PathBuf,
    /// Those that are not in the file, and their tokens.
    here: Vec<Encoded>,
    tokens: usize,
    file: Option<TextFile>,
    last: Option<u64>,
    /// Whether texts were refused or lost, so that it does not have all.
    failed: bool,
}

/// The texts of a [`TextStore`], which are read as often as one likes: a [`TextList`] is made of it.
#[derive(Debug)]
pub struct StoredTexts(Stored);

#[derive(Debug)]
enum Stored {
    Here(Vec<Encoded>),
    File(TextFile),
}

/// Texts in a file, those of a round by length, the longest first: so that a batch is a stretch of it.
#[derive(Debug)]
pub(crate) struct TextFile {
    spool: Spool,
    /// Where the file takes room.
    folder: PathBuf,
    /// Where each round ends; the first begins at 0.
    ends: Vec<u64>,
    texts: usize,
}

impl TextStore {
    /// So many texts are no longer in memory but in the file; less where they are long. What is given is held beside: in one call
    /// [`TextEncoder::encode_one_after_another`](crate::TextEncoder::encode_one_after_another) makes 256 for each thread before it
    /// gives the first.
    pub const MOST_HERE: usize = 1 << 10;

    /// An empty one, whose file takes room in a folder, if there is to be one; a missing folder is made then.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), here: Vec::new(), tokens: 0, file: None, last: None, failed: false }
    }

    /// Takes texts, which stand behind those that it has.
    ///
    /// # Errors
    ///
    /// [`DataError::Row`] if their rows do not ascend; if the file can't be written. After an error it takes no more.
    pub fn add(&mut self, texts: Vec<Encoded>) -> Result<()> {
        self.check()?;
        // Until all are taken.
        self.failed = true;
        for text in texts {
            if let Some(last) = self.last.filter(|last| *last >= text.row) {
                let reason = format!("comes behind row {last}; texts are stored in the order of their rows");
                return Err(DataError::Row { row: text.row, reason });
            }
            self.last = Some(text.row);
            self.tokens = self.tokens.saturating_add(text.ids.len());
            self.here.push(text);
            if self.here.len() >= ROUND_TEXTS || self.tokens >= ROUND_TOKENS {
                self.put_away()?;
            }
        }
        self.failed = false;
        Ok(())
    }

    /// All that it was given.
    ///
    /// # Errors
    ///
    /// If the file can't be written, or [`TextStore::add`] has failed.
    pub fn finish(mut self) -> Result<StoredTexts> {
        self.check()?;
        if self.file.is_some() && !self.here.is_empty() {
            self.put_away()?;
        }
        Ok(StoredTexts(match self.file {
            None => Stored::Here(self.here),
            Some(file) => Stored::File(file),
        }))
    }

    /// Refuses to go on without texts that were refused or lost.
    fn check(&self) -> Result<()> {
        if !self.failed {
            return Ok(());
        }
        let source = io::Error::other("texts that came before were not all taken");
        let (file, operation) = (self.folder.clone(), "store texts there");
        Err(ArtifactError::Io { file, operation, source }.into())
    }

    fn put_away(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let spool = Spool::new(&self.folder)?;
                self.file.insert(TextFile { spool, folder: self.folder.clone(), ends: Vec::new(), texts: 0 })
            }
        };
        file.add(&take(&mut self.here))?;
        self.tokens = 0;
        Ok(())
    }
}

impl StoredTexts {
    /// The texts at these places, in their order.
    ///
    /// # Errors
    ///
    /// If the file can't be read.
    pub fn chosen(&self, is_wanted: impl Fn(usize) -> bool) -> Result<Vec<Encoded>, ArtifactError> {
        match &self.0 {
            Stored::Here(texts) => {
                let wanted = texts.iter().enumerate().filter(|(place, _)| is_wanted(*place));
                Ok(wanted.map(|(_, text)| text.clone()).collect())
            }
            Stored::File(file) => file.chosen(is_wanted),
        }
    }

    /// All texts, in memory.
    ///
    /// # Errors
    ///
    /// If the file can't be read.
    pub fn all(&self) -> Result<Vec<Encoded>, ArtifactError> {
        self.chosen(|_| true)
    }
}

impl TextFile {
    fn add(&mut self, texts: &[Encoded]) -> Result<()> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_unstable_by_key(|&place| (Reverse(texts[place].ids.len()), place));
        let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
        let mut bytes = Vec::with_capacity(texts.len() * HEAD + 4 * tokens);
        for place in order {
            let Encoded { ids, second, label, row } = &texts[place];
            let place = (self.texts + place) as u64;
            for number in [place, *row, *label as u64, *second as u64, ids.len() as u64] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            ids.iter().for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()));
        }
        let first = self.ends.last().copied().unwrap_or(0);
        self.spool.write(first, &bytes)?;
        self.ends.push(first + bytes.len() as u64);
        self.texts += texts.len();
        Ok(())
    }

    fn read(&self, stretch: Range<u64>) -> Result<Vec<u8>, ArtifactError> {
        let mut bytes = vec![0; (stretch.end - stretch.start) as usize];
        self.spool.read(stretch.start, &mut bytes)?;
        Ok(bytes)
    }

    /// Gives each round's texts to `look`, with where the round begins in the file.
    fn each_round<E: From<ArtifactError>>(
        &self,
        mut look: impl FnMut(u64, Texts<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut first, mut count) = (0, 0);
        for &end in &self.ends {
            let bytes = self.read(first..end)?;
            let texts = self.texts(&bytes)?;
            count += texts.clone().count();
            look(first, texts)?;
            first = end;
        }
        if count == self.texts { Ok(()) } else { Err(self.damaged().into()) }
    }

    /// The texts of a stretch, which are it to its end.
    fn texts<'b>(&self, stretch: &'b [u8]) -> Result<Texts<'b>, ArtifactError> {
        let mut texts = Texts(stretch);
        texts.by_ref().for_each(drop);
        if texts.0.is_empty() { Ok(Texts(stretch)) } else { Err(self.damaged()) }
    }

    fn damaged(&self) -> ArtifactError {
        let source = io::Error::new(io::ErrorKind::InvalidData, "it has other texts than were written");
        ArtifactError::Io { file: self.folder.clone(), operation: "read a temporary file there", source }
    }

    fn chosen(&self, is_wanted: impl Fn(usize) -> bool) -> Result<Vec<Encoded>, ArtifactError> {
        let mut chosen = Vec::new();
        self.each_round(|_, texts| {
            chosen.extend(
                texts.filter(|text| is_wanted(text.head.place)).map(|text| (text.head.place, text.encoded())),
            );
            Ok::<_, ArtifactError>(())
        })?;
        chosen.sort_unstable_by_key(|(place, _)| *place);
        Ok(chosen.into_iter().map(|(_, text)| text).collect())
    }

    /// Stretches of the file that are a batch each: of a round as few as the limits allow and as even as texts can be, or its share of
    /// `batches` if those are more.
    pub(crate) fn divide(
        &self,
        extra_rows: usize,
        limits: Limits,
        batches: usize,
    ) -> Result<Vec<Range<u64>>, ArtifactError> {
        let mut all = Vec::new();
        self.each_round(|first, texts| {
            let lengths: Vec<usize> = texts.map(|text| text.head.tokens).collect();
            let costs: Vec<usize> = lengths.iter().map(|tokens| tokens.saturating_add(extra_rows)).collect();
            // A round's share of them: the last one may have few texts.
            let wanted = batches.saturating_mul(lengths.len()).div_ceil(self.texts.max(1));
            let mut end = first;
            all.extend(limits.divide(&costs, wanted).into_iter().map(|range| {
                let start = end;
                end += lengths[range].iter().map(|tokens| (HEAD + 4 * tokens) as u64).sum::<u64>();
                start..end
            }));
            Ok::<_, ArtifactError>(())
        })?;
        Ok(all)
    }

    /// The texts of such a stretch.
    pub(crate) fn batch(&self, stretch: &Range<u64>) -> Result<Batch, ArtifactError> {
        let mut batch = Batch { starts: vec![0], ..Batch::default() };
        for text in self.texts(&self.read(stretch.clone())?)? {
            let start = batch.ids.len();
            batch.ids.extend(text.ids());
            batch.starts.push(batch.ids.len());
            batch.seconds.push(start + text.second.min(text.head.tokens));
            batch.labels.push(text.head.label);
            batch.rows.push(text.head.row);
            batch.places.push(text.head.place);
        }
        Ok(batch)
    }
}

/// What is known of a text beside its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextHead {
    /// Where it stands in its list.
    pub place: usize,
    /// Its row ([`Encoded::row`]).
    pub row: u64,
    /// Its class.
    pub label: usize,
    /// How many tokens it has.
    pub tokens: usize,
}

/// Texts one after another, as a file has them. They end before one that is cut short.
#[derive(Clone)]
struct Texts<'b>(&'b [u8]);

/// One of them.
struct Text<'b> {
    head: TextHead,
    second: usize,
    ids: &'b [u8],
}

impl<'b> Iterator for Texts<'b> {
    type Item = Text<'b>;

    fn next(&mut self) -> Option<Text<'b>> {
        let (head, rest) = self.0.split_first_chunk::<HEAD>()?;
        let number =
            |place: usize| head.as_chunks().0.get(place).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let [label, second, tokens] = [2, 3, 4].map(|place| number(place) as usize);
        let (ids, rest) = rest.split_at_checked(tokens.checked_mul(4)?)?;
        self.0 = rest;
        let head = TextHead { place: number(0) as usize, row: number(1), label, tokens };
        Some(Text { head, second, ids })
    }
}

impl Text<'_> {
    fn ids(&self) -> impl Iterator<Item = u32> {
        self.ids.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id))
    }

    fn encoded(&self) -> Encoded {
        let TextHead { row, label, .. } = self.head;
        Encoded { ids: self.ids().collect::<Vec<u32>>().into(), second: self.second, label, row }
    }
}

/// The texts of a pass: those of a slice, or of a store ([`TextStore`]).
#[derive(Clone, Copy, Debug)]
pub struct TextList<'t>(pub(crate) List<'t>);

#[derive(Clone, Copy, Debug)]
pub(crate) enum List<'t> {
    Here(&'t [Encoded]),
    File(&'t TextFile),
}

impl TextList<'_> {
    /// How many there are.
    pub fn len(self) -> usize {
        match self.0 {
            List::Here(texts) => texts.len(),
            List::File(file) => file.texts,
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether rows ascend, so that no two texts are of one row.
    pub fn ascends(self) -> bool {
        match self.0 {
            List::Here(texts) => texts.windows(2).all(|pair| pair[0].row < pair[1].row),
            List::File(_) => true,
        }
    }

    /// Looks at each text, in no order that can be relied on.
    ///
    /// # Errors
    ///
    /// Those of `look`; if a store's file can't be read.
    pub fn each<E: From<ArtifactError>>(
        self,
        mut look: impl FnMut(TextHead) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.0 {
            List::Here(texts) => texts.iter().enumerate().try_for_each(|(place, text)| {
                let &Encoded { ref ids, label, row, .. } = text;
                look(TextHead { place, row, label, tokens: ids.len() })
            }),
            List::File(file) => file.each_round(|_, mut texts| texts.try_for_each(|text| look(text.head))),
        }
    }
}

impl<'t> From<&'t [Encoded]> for TextList<'t> {
    fn from(texts: &'t [Encoded]) -> Self {
        Self(List::Here(texts))
    }
}

impl<'t, const N: usize> From<&'t [Encoded; N]> for TextList<'t> {
    fn from(texts: &'t [Encoded; N]) -> Self {
        Self(List::Here(texts))
    }
}

impl<'t> From<&'t Vec<Encoded>> for TextList<'t> {
    fn from(texts: &'t Vec<Encoded>) -> Self {
        Self(List::Here(texts))
    }
}

impl<'t> From<&'t StoredTexts> for TextList<'t> {
    fn from(texts: &'t StoredTexts) -> Self {
        Self(match &texts.0 {
            Stored::Here(texts) => List::Here(texts),
            Stored::File(file) => List::File(file),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::Packed;

    fn text(row: usize) -> Encoded {
        let tokens = row * 7 % 23;
        Encoded {
            ids: (0..tokens as u32).map(|id| id + row as u32).collect::<Vec<_>>().into(),
            second: tokens / 2,
            label: row % 3,
            row: 2 * row as u64 + 1,
        }
    }

    fn stored(texts: &[Encoded]) -> StoredTexts {
        let folder = tempfile::tempdir().unwrap();
        let mut store = TextStore::new(folder.path());
        texts.chunks(64).for_each(|some| store.add(some.to_vec()).unwrap());
        store.finish().unwrap()
    }

    /// Each text of a list by its place, as it comes in batches; and the batches.
    fn of_batches(texts: TextList<'_>) -> (Vec<Option<Encoded>>, Vec<Batch>) {
        let packed = Packed::new(texts, 3, 400, 50, 1).unwrap();
        let batches: Vec<Batch> = (0..packed.len()).map(|number| packed.batch(number).unwrap()).collect();
        let mut found = vec![None; texts.len()];
        for batch in &batches {
            for (index, &place) in batch.places.iter().enumerate() {
                let (ids, label) = (batch.text(index).unwrap().to_vec().into(), batch.labels[index]);
                let second = batch.seconds[index] - batch.starts[index];
                assert!(
                    found[place].replace(Encoded { ids, second, label, row: batch.rows[index] }).is_none()
                );
            }
        }
        (found, batches)
    }

    #[test]
    fn few_texts_stay_in_memory_and_many_come_back_from_the_file() {
        for (count, is_here) in [
            (0, true),
            (5, true),
            (ROUND_TEXTS - 1, true),
            (ROUND_TEXTS, false),
            (ROUND_TEXTS + 1, false),
            (2 * ROUND_TEXTS + 9, false),
        ] {
            let texts: Vec<Encoded> = (0..count).map(text).collect();
            let stored = stored(&texts);
            assert_eq!(matches!(stored.0, Stored::Here(_)), is_here, "{count}");
            assert_eq!(stored.all().unwrap(), texts);
            let list = TextList::from(&stored);
            assert_eq!((list.len(), list.is_empty(), list.ascends()), (count, count == 0, true));
            let mut heads = vec![None; count];
            list.each(|head| {
                heads[head.place] = Some((head.row, head.label, head.tokens));
                Ok::<_, ArtifactError>(())
            })
            .unwrap();
            let expected = texts.iter().map(|text| Some((text.row, text.label, text.ids.len())));
            assert_eq!(heads, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn batches_of_a_file_have_each_text_once_within_the_limits() {
        let texts: Vec<Encoded> = (0..2 * ROUND_TEXTS + 500).map(text).collect();
        let stored = stored(&texts);
        let (found, batches) = of_batches(TextList::from(&stored));
        assert_eq!(found.into_iter().map(Option::unwrap).collect::<Vec<_>>(), texts);
        assert!(batches.iter().all(|batch| batch.len() <= 50 && batch.ids.len() + 3 * batch.len() <= 400));
        let (_, of_slice) = of_batches(TextList::from(&texts));
        // A round ends with a batch, of which three are not as full as they could be.
        assert!(batches.len() <= of_slice.len() + 3, "{} {}", batches.len(), of_slice.len());
        for batch in &batches {
            assert!(batch.starts.windows(3).all(|at| at[1] - at[0] >= at[2] - at[1]), "the longest first");
        }
        let more = Packed::new(&stored, 3, 400, 50, 2 * batches.len()).unwrap();
        let wanted = 2 * batches.len();
        assert!(more.len() <= wanted + 3 && 10 * more.len() > 9 * wanted, "{} for {wanted}", more.len());
    }

    #[test]
    fn tokens_fill_a_round_too() {
        let long = |row| Encoded { ids: vec![1; ROUND_TOKENS / 4].into(), ..text(row) };
        let texts: Vec<Encoded> = (0..9).map(long).collect();
        let stored = stored(&texts);
        let Stored::File(file) = &stored.0 else { panic!("in memory") };
        assert_eq!((file.ends.len(), stored.all().unwrap()), (3, texts));
        for (tokens, is_here) in [(ROUND_TOKENS - 1, true), (ROUND_TOKENS, false)] {
            let texts = [
                Encoded { ids: vec![1; tokens - 9].into(), ..text(0) },
                Encoded { ids: vec![1; 9].into(), ..text(1) },
            ];
            let stored = self::stored(&texts);
            assert_eq!(matches!(stored.0, Stored::Here(_)), is_here, "{tokens}");
            assert_eq!(stored.all().unwrap(), texts);
        }
    }

    #[test]
    fn a_file_with_other_texts_is_an_error_and_no_end() {
        let texts: Vec<Encoded> = (0..ROUND_TEXTS).map(text).collect();
        // The number of tokens of the first record: more than there is, or none.
        for (tokens, what) in [(u64::MAX, "overflows"), (1 << 40, "short"), (0, "others in its place")] {
            let stored = stored(&texts);
            let Stored::File(file) = &stored.0 else { panic!("in memory") };
            let packed = Packed::new(&stored, 3, 400, 50, 1).unwrap();
            file.spool.write(32, &tokens.to_le_bytes()).unwrap();
            let expected = "it has other texts than were written";
            let errors = [
                stored.all().err(),
                stored.chosen(|place| place == 7).err(),
                Packed::new(&stored, 3, 400, 50, 1).err(),
                packed.batch(0).err(),
            ];
            for error in errors {
                let error = error.expect(what).to_string();
                assert!(error.contains(expected), "{what}: {error}");
            }
        }
    }

    #[test]
    fn some_are_chosen() {
        let texts: Vec<Encoded> = (0..ROUND_TEXTS + 100).map(text).collect();
        let (many, few) = (stored(&texts), stored(&texts[..100]));
        let expected = [texts[3].clone(), texts[99].clone(), texts[ROUND_TEXTS + 7].clone()];
        let is_wanted = |place| [3, 99, ROUND_TEXTS + 7].contains(&place);
        assert_eq!(many.chosen(is_wanted).unwrap(), expected);
        assert_eq!(few.chosen(is_wanted).unwrap(), expected[..2]);
    }

    /// After an error there is no way to take what is left for all.
    #[track_caller]
    fn assert_failed(mut store: TextStore) {
        for error in [store.add(vec![text(1 << 20)]).err(), store.finish().err()] {
            let error = error.unwrap().to_string();
            assert!(error.contains("texts that came before were not all taken"), "{error}");
        }
    }

    #[test]
    fn rows_must_ascend() {
        let mut store = TextStore::new(Path::new("nowhere"));
        let error = store.add(vec![text(1), text(1)]).unwrap_err().to_string();
        assert_eq!(error, "row 3: comes behind row 3; texts are stored in the order of their rows");
        assert_failed(store);
    }

    #[test]
    fn a_folder_that_takes_no_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut store = TextStore::new(file.path());
        let error = store.add((0..ROUND_TEXTS).map(text).collect()).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
        assert_failed(store);
    }
}
