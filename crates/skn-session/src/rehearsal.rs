//! A stage done on a few texts, with nothing written: what it would read and write, and how long its passes take.
//!
//! The stage itself runs. What is different stands in few places: texts are a sample where they are encoded ([`Rehearsal::encode`]),
//! a run is not locked and nothing is written to it (`RunWriter`), and the stage ends where its record would be written
//! ([`SessionError::Rehearsed`](crate::SessionError)). Training, which writes as it goes, has a rehearsal of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skn_data::{Encoded, TextStore};
use skn_probing::{Progress, Work};

use crate::options::Probe;

/// Texts of a part that are tokenised, at most, to choose among.
const TOKENISED: usize = 4096;

/// What the ranking by a regression is called while it reads texts, of which it takes some of each part at most.
const REGRESSION: &str = "reading activations";

/// The rehearsal of a stage, and what was seen of it.
pub(crate) struct Rehearsal {
    /// Texts of each part, at most, unless it has more labels.
    sample: usize,
    /// Whether the stage is one of a chain.
    of_chain: bool,
    progress: Arc<dyn Progress + Send + Sync>,
    /// How many texts those stand for that are encoded; 0 are as many as there are.
    texts: AtomicUsize,
    seen: Mutex<Seen>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Parts of the data in the order in which they were encoded.
    pub(crate) parts: Vec<Part>,
    /// Passes in their order.
    pub(crate) passes: Vec<Pass>,
    /// What the stage's record would say was read, with hashes; without one what is not read to its end.
    pub(crate) reads: BTreeMap<String, Option<String>>,
    /// Bytes of the files among these.
    pub(crate) sizes: BTreeMap<String, u64>,
    /// Files that would be written, with their lengths where these are known.
    pub(crate) writes: Vec<(PathBuf, Option<u64>)>,
    /// What is to be told beside: what can't be known, say.
    pub(crate) notes: Vec<String>,
}

/// A part of the data.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Its name: train, dev, test.
    name: String,
    /// Its texts.
    pub(crate) texts: usize,
    /// Those that were taken.
    pub(crate) taken: usize,
    /// Those whose tokens memory would hold at a time.
    pub(crate) held: usize,
    /// Tokens of a text on the average.
    pub(crate) tokens: f64,
    /// Seconds that reading and tokenising takes of those that were not.
    pub(crate) tokenising: f64,
}

impl Part {
    /// How many times as many there are as were taken.
    pub(crate) fn ratio(&self) -> f64 {
        self.ratio_of(self.texts)
    }

    /// The same where so many are read at most.
    fn ratio_of(&self, most: usize) -> f64 {
        self.texts.min(most) as f64 / self.taken.max(1) as f64
    }
}

/// A pass over texts, or what takes time like one.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    /// What is done.
    pub(crate) what: String,
    /// Texts that it takes in all, each as often as it is taken.
    pub(crate) texts: f64,
    /// Seconds that were measured, of the sample.
    pub(crate) measured: f64,
    /// Seconds of all texts.
    pub(crate) seconds: f64,
    began: Instant,
    ratio: f64,
}

impl Rehearsal {
    /// With so many texts of each part. A stage `of_chain` comes after others of the chain, which would have replaced what it finds.
    pub(crate) fn new(sample: usize, of_chain: bool, progress: Arc<dyn Progress + Send + Sync>) -> Self {
        Self { sample, of_chain, progress, texts: AtomicUsize::new(0), seen: Mutex::default() }
    }

    /// Whether the stage is one of a chain.
    pub(crate) fn is_of_chain(&self) -> bool {
        self.of_chain
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The texts that are encoded from now on stand for so many: the others were not read, or were let go.
    pub(crate) fn stand_for(&self, texts: usize) {
        self.texts.store(texts, Ordering::Relaxed);
    }

    /// Some of a part's rows as tokens: of lengths as all have, and one of each label that is met at least, as some statistics can't
    /// do without.
    pub(crate) fn encode<R, E>(
        &self,
        name: &str,
        part: impl IntoIterator<Item = R>,
        encode: impl FnOnce(Vec<R>) -> Result<Vec<Encoded>, E>,
    ) -> Result<Vec<Encoded>, E> {
        let rows: Vec<R> = part.into_iter().collect();
        let texts = self.texts.load(Ordering::Relaxed).max(rows.len());
        let some = spread(rows.len(), TOKENISED);
        let few = some.len().max(1);
        let began = Instant::now();
        let encoded = encode(chosen(rows, &some))?;
        let seconds = began.elapsed().as_secs_f64();
        let tokens = encoded.iter().map(|text| text.ids.len()).sum::<usize>() as f64 / few as f64;
        let mut by_length: Vec<usize> = (0..encoded.len()).collect();
        by_length.sort_by_key(|&place| encoded[place].ids.len());
        let mut places: Vec<usize> =
            spread(by_length.len(), self.sample).into_iter().map(|place| by_length[place]).collect();
        let mut labels: BTreeSet<usize> = places.iter().map(|&place| encoded[place].label).collect();
        places.extend((0..encoded.len()).filter(|&place| labels.insert(encoded[place].label)));
        places.sort_unstable();
        let taken = places.len();
        let tokenising = seconds * (texts.saturating_sub(few)) as f64 / few as f64;
        let (name, held) = (name.to_owned(), texts);
        self.seen().parts.push(Part { name, texts, taken, held, tokens, tokenising });
        Ok(chosen(encoded, &places))
    }

    /// Notes that tokens of the last part would be stored ([`TextStore`]).
    pub(crate) fn stores(&self) {
        if let Some(part) = self.seen().parts.last_mut() {
            part.held = part.held.min(TextStore::MOST_HERE);
        }
    }

    /// Notes something that was timed by itself.
    pub(crate) fn note(&self, what: &str, texts: f64, measured: f64, seconds: f64) {
        let (what, began) = (what.to_owned(), Instant::now());
        self.seen().passes.push(Pass { what, texts, measured, seconds, began, ratio: 1.0 });
    }

    /// Notes what is to be told beside.
    pub(crate) fn tell(&self, note: impl Into<String>) {
        self.seen().notes.push(note.into());
    }

    /// Notes a file that would be written, of which `grows` says that it has something of each text of the last part.
    pub(crate) fn writes(&self, file: PathBuf, bytes: Option<u64>, grows: bool) {
        let mut seen = self.seen();
        let ratio = seen.parts.last().filter(|_| grows).map_or(1.0, Part::ratio);
        seen.writes.push((file, bytes.map(|bytes| (bytes as f64 * ratio).round() as u64)));
    }
}

impl Progress for Rehearsal {
    fn begin(&self, work: Work<'_>) {
        let mut seen = self.seen();
        // What comes before any text is encoded is reading.
        let Some(last) = seen.parts.last() else { return };
        let part = seen.parts.iter().rev().find(|part| part.name == work.part).unwrap_or(last);
        let most = if work.what == REGRESSION { Probe::MOST_REGRESSION_TEXTS } else { usize::MAX };
        let ratio = part.ratio_of(most);
        // Passes over several parts are told together.
        let (what, texts) = (work.what.to_owned(), work.texts as f64 * ratio);
        seen.passes.push(Pass { what, texts, measured: 0.0, seconds: 0.0, began: Instant::now(), ratio });
    }

    fn advance(&self, _: u64) {
        let mut seen = self.seen();
        let Some(pass) = seen.passes.last_mut() else { return };
        // What is made of a pass when it is over does not grow with texts.
        pass.measured = pass.began.elapsed().as_secs_f64();
        pass.seconds = pass.measured * pass.ratio;
    }

    fn cancelled(&self) -> bool {
        self.progress.cancelled()
    }
}

/// Whether a file has something of each text that was taken: fire bits, activations of a neuron. Texts themselves are kept of all rows.
pub(crate) fn grows_with_texts(name: &Path) -> bool {
    let name = name.to_string_lossy();
    name.contains("_fire.") || (name.contains("/pos_") && !name.ends_with(".jsonl"))
}

/// At most `most` of so many places, as far from one another as they can be.
fn spread(all: usize, most: usize) -> Vec<usize> {
    let few = all.min(most);
    (0..few).map(|place| (place * 2 + 1) * all / (2 * few)).collect()
}

/// What stands at some places, which rise.
fn chosen<T>(all: Vec<T>, places: &[usize]) -> Vec<T> {
    let mut wanted = places.iter().copied().peekable();
    all.into_iter()
        .enumerate()
        .filter(|(place, _)| wanted.next_if_eq(place).is_some())
        .map(|(_, item)| item)
        .collect()
}

/// The most memory that this process has had, in bytes, where the system says it.
pub(crate) fn most_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What has gone by since, in seconds.
pub(crate) fn seconds_since(began: Instant) -> f64 {
    began.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use skn_probing::Silent;

    use super::*;

    #[test]
    fn places_are_spread_and_of_all_all() {
        assert_eq!(spread(10, 3), [1, 5, 8]);
        assert_eq!(spread(3, 10), [0, 1, 2]);
        assert!(spread(0, 10).is_empty());
        assert_eq!(chosen(vec!['a', 'b', 'c', 'd'], &[1, 3]), ['b', 'd']);
    }

    #[test]
    fn a_sample_has_lengths_as_all_have_and_a_pass_is_of_all() {
        let rehearsal = Rehearsal::new(4, false, Arc::new(Silent));
        let encode = |rows: Vec<u64>| {
            let text =
                |row: u64| Encoded { ids: vec![0u32; row as usize % 10].into(), second: 0, label: 0, row };
            Ok::<_, ()>(rows.into_iter().map(text).collect::<Vec<_>>())
        };
        rehearsal.begin(Work::of("reading", 7));
        let taken = rehearsal.encode("dev", 0..100u64, encode).unwrap();
        let lengths: usize = taken.iter().map(|text| text.ids.len()).sum();
        assert_eq!((taken.len(), lengths), (4, 18), "4.5 tokens on the average");
        assert!(taken.is_sorted_by_key(|text| text.row));
        // Two passes' texts, of more tokens.
        rehearsal.begin(Work { part: "dev", amount: 36, ..Work::of("counting", 8) });
        rehearsal.advance(8);
        rehearsal.writes("a/dev_fire.safetensors".into(), Some(10), true);
        let seen = rehearsal.seen().clone();
        assert_eq!((seen.parts[0].texts, seen.parts[0].taken), (100, 4));
        assert_eq!(seen.passes.len(), 1, "reading is no pass");
        assert_eq!((seen.passes[0].what.as_str(), seen.passes[0].texts), ("counting", 200.0));
        assert_eq!(seen.passes[0].seconds, 25.0 * seen.passes[0].measured);
        assert_eq!(seen.writes[0].1, Some(250));
    }

    #[test]
    fn a_pass_is_of_its_part_and_a_regression_of_some_texts() {
        let rehearsal = Rehearsal::new(4, false, Arc::new(Silent));
        let encode = |rows: Vec<u64>| {
            let text = |row| Encoded { ids: vec![0u32; 3].into(), second: 0, label: 0, row };
            Ok::<_, ()>(rows.into_iter().map(text).collect::<Vec<_>>())
        };
        for (part, texts) in [("train", 10_000u64), ("dev", 100)] {
            assert_eq!(rehearsal.encode(part, 0..texts, encode).unwrap().len(), 4);
        }
        for (what, part) in
            [(REGRESSION, "train"), (REGRESSION, "dev"), ("averaging", "train"), ("counting", "")]
        {
            rehearsal.begin(Work { part, ..Work::of(what, 4) });
        }
        let texts: Vec<f64> = rehearsal.seen().passes.iter().map(|pass| pass.texts).collect();
        assert_eq!(texts, [4096.0, 100.0, 10_000.0, 100.0]);
    }

    #[test]
    fn a_sample_has_a_text_of_every_label() {
        let rehearsal = Rehearsal::new(4, false, Arc::new(Silent));
        // Twenty labels, of which the last is of one text alone.
        let encode = |rows: Vec<u64>| {
            let text = |row: u64| Encoded {
                ids: vec![0u32; 1 + row as usize % 7].into(),
                second: 0,
                label: if row == 99 { 19 } else { row as usize % 19 },
                row,
            };
            Ok::<_, ()>(rows.into_iter().map(text).collect::<Vec<_>>())
        };
        let taken = rehearsal.encode("dev", 0..100u64, encode).unwrap();
        let labels: BTreeSet<usize> = taken.iter().map(|text| text.label).collect();
        assert_eq!(labels, (0..20).collect());
        assert!(taken.len() <= 4 + 20 && taken.is_sorted_by_key(|text| text.row), "{}", taken.len());
        assert_eq!(rehearsal.seen().parts[0].taken, taken.len());
    }

    #[test]
    fn texts_that_are_kept_are_those_of_all_rows() {
        let grows = |name: &str| grows_with_texts(Path::new(name));
        assert!(grows("run/t/dev_fire.safetensors") && grows("run/t/pos_dev/9,1.safetensors"));
        assert!(!grows("run/t/pos_dev/texts.jsonl") && !grows("run/t/dev_perf.safetensors"));
    }
}
