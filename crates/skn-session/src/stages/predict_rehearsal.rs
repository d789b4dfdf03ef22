//! What answering records takes, from some of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::classify::{Classifier, Text};
use super::predict_records::Records;
use crate::error::Result;
use crate::options::Predict;
use crate::run_writer::{RunWriter, length};

/// So long records are read ..
const MOST: Duration = Duration::from_millis(500);
/// .. of which at most twice so many texts are kept.
const KEPT: usize = 2048;

/// Some of the texts of records, as far from one another as they can be.
pub(super) struct Sample {
    /// What is kept: each of so many.
    texts: Vec<Text>,
    each: usize,
    /// Those that were read and have texts ..
    read: usize,
    /// .. and those that have none.
    wrong: usize,
    /// Bytes that were read, of a file that is read as a stream.
    pub(super) bytes: Arc<AtomicU64>,
    /// Whether these are all records.
    pub(super) is_whole: bool,
    began: Instant,
    most: Duration,
}

impl Sample {
    fn of(most: Duration) -> Self {
        Self {
            texts: Vec::new(),
            each: 1,
            read: 0,
            wrong: 0,
            bytes: Arc::default(),
            is_whole: false,
            began: Instant::now(),
            most,
        }
    }

    /// Takes the texts of records, nothing of one that has none; whether there is time for more.
    pub(super) fn take(&mut self, records: impl Iterator<Item = Option<Vec<String>>>) -> bool {
        for texts in records {
            let Some(text) = texts.and_then(Text::of_columns) else {
                self.wrong += 1;
                continue;
            };
            if self.read.is_multiple_of(self.each) {
                self.texts.push(text);
            }
            self.read += 1;
            if self.texts.len() >= 2 * KEPT {
                let mut place = 0;
                self.texts.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.each *= 2;
            }
        }
        self.began.elapsed() < self.most
    }
}

/// The texts that are to be answered, as far as they were read.
pub(crate) struct Sampled {
    name: String,
    /// The file, of records that come of one, with its bytes.
    file: Option<(PathBuf, Option<u64>)>,
    texts: Vec<Text>,
    /// How many texts there are: about, if not all were read; nothing where it is not known.
    rows: Option<usize>,
    read: usize,
    wrong: usize,
    is_whole: bool,
    /// Seconds that reading took.
    seconds: f64,
}

impl Sampled {
    /// How many times as many there are as were read.
    fn ratio(&self) -> f64 {
        self.rows.unwrap_or(self.read) as f64 / self.read.max(1) as f64
    }

    /// How many texts there are, if that is known, about.
    pub(crate) fn rows(&self) -> Option<usize> {
        self.rows.filter(|_| self.file.is_some())
    }

    /// What is told of the records.
    fn told(&self) -> String {
        let Self { name, read, wrong, .. } = self;
        let skipped = match wrong {
            0 => String::new(),
            1 => ", and 1 record that would be passed over".to_owned(),
            many => format!(", and {many} records that would be passed over"),
        };
        match (&self.file, self.rows) {
            (None, _) => {
                format!(
                    "{name}: not read, so it is not known how many texts there are, nor how long they take"
                )
            }
            (_, Some(rows)) if self.is_whole => format!("{name}: {}{skipped}", texts(rows)),
            (_, Some(rows)) => {
                format!("{name}: about {}, reckoned from the first {read}{skipped}", texts(rows))
            }
            (_, None) => {
                format!(
                    "{name}: more than {}{skipped}; how many is not known before all are read",
                    texts(*read)
                )
            }
        }
    }
}

fn texts(count: usize) -> String {
    if count == 1 { "1 text".to_owned() } else { format!("{count} texts") }
}

impl Classifier<'_> {
    /// Reads records for a while, and keeps some of their texts. Of a stream nothing is read: it has what it has once.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub(crate) fn sampled(&self, options: &Predict, records: Records) -> Result<Sampled> {
        self.sampled_within(MOST, options, records)
    }

    fn sampled_within(&self, most: Duration, options: &Predict, records: Records) -> Result<Sampled> {
        let name = records.name();
        let file = match &records {
            Records::File(path) => Some((path.clone(), length(path))),
            Records::Stream(..) => None,
        };
        let mut sample = Sample::of(most);
        if file.is_some() {
            self.sample(options, records, &mut sample)?;
        } else {
            self.check_form(options, &records)?;
        }
        let bytes = sample.bytes.load(Ordering::Relaxed);
        let of_all = |(_, size): &(PathBuf, Option<u64>)| {
            let more = (*size)? as f64 / (bytes > 0).then_some(bytes as f64)?;
            Some((sample.read as f64 * more.max(1.0)).round() as usize)
        };
        let rows = match sample.is_whole {
            true => Some(sample.read),
            false => file.as_ref().and_then(of_all),
        };
        let seconds = sample.began.elapsed().as_secs_f64();
        let Sample { texts, read, wrong, is_whole, .. } = sample;
        Ok(Sampled { name, file, texts, rows, read, wrong, is_whole, seconds })
    }

    /// Answers some of the texts, and notes what answering all would read.
    ///
    /// # Errors
    /// [`SessionError::Rehearsed`](crate::SessionError::Rehearsed) when all went well.
    pub(crate) fn rehearse(&self, sampled: &Sampled) -> Result<()> {
        let session = self.session();
        let Some(rehearsal) = session.rehearsal() else { return Ok(()) };
        rehearsal.tell(sampled.told());
        if !sampled.texts.is_empty() {
            rehearsal.stand_for(sampled.rows.unwrap_or(sampled.read));
            self.answer_with(&sampled.texts, session.progress())?;
            if let Some(part) = rehearsal.seen().parts.last_mut() {
                part.tokenising += sampled.seconds * (sampled.ratio() - 1.0);
            }
        }
        let Some(mut writer) = RunWriter::without_run(session) else { return Ok(()) };
        if let Some((file, size)) = &sampled.file {
            let (name, mut seen) = (file.display().to_string(), rehearsal.seen());
            seen.sizes.extend(size.map(|size| (name.clone(), size)));
            seen.reads.insert(name, None);
        }
        self.note(&mut writer)?;
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use skn_artifact::{Overwrite, write_file};

    use super::*;
    use crate::options::{Classify, Compute, Subject};
    use crate::session::Session;

    #[test]
    fn what_is_kept_is_spread_over_what_was_read() {
        let mut sample = Sample::of(Duration::from_secs(3600));
        let record = |number: usize| (number % 10 != 3).then(|| vec![number.to_string()]);
        assert!(sample.take((0..10_000).map(record)) && sample.take((10_000..30_000).map(record)));
        assert_eq!((sample.read, sample.wrong), (27_000, 3_000));
        let kept: Vec<usize> = sample.texts.iter().map(|text| text.text.parse().unwrap()).collect();
        assert!((KEPT..2 * KEPT).contains(&kept.len()), "{}", kept.len());
        let gaps: Vec<usize> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            gaps.iter().all(|gap| (8..=10).contains(gap)),
            "each eighth, and those that are wrong between"
        );
        assert_eq!((kept[0], kept.last().unwrap() / 100), (0, 299));
        assert!(!Sample::of(Duration::ZERO).take(std::iter::empty()), "no time is left");
    }

    #[test]
    fn of_what_was_not_read_it_is_reckoned_how_much_it_is() {
        let session = Session::new(Compute::default()).unwrap();
        let classify = Classify { subject: Subject::demo("sentiment"), ..Classify::default() };
        let classifier = session.classifier(&classify).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (rows, line) = (8192, format!("{}\n", "good ".repeat(200)));
        let write = |name: &str, rows: usize| {
            write_file(&folder.path().join(name), Overwrite::Replace, line.repeat(rows).as_bytes()).unwrap();
            Records::File(folder.path().join(name))
        };
        let sampled = |most, records| classifier.sampled_within(most, &Predict::default(), records).unwrap();
        let (long, all) = (Duration::from_secs(3600), sampled(Duration::ZERO, write("few", 100)));
        assert_eq!((all.rows(), all.is_whole), (Some(100), true), "there was nothing after the first ones");
        let some = sampled(Duration::ZERO, write("many", rows));
        let told = some.told();
        assert!(!some.is_whole && some.read < rows && told.contains("reckoned from the first"), "{told}");
        // What is read ahead counts as read.
        assert!((rows * 8 / 10..=rows).contains(&some.rows().unwrap()), "{told}");
        assert_eq!(sampled(long, write("many", rows)).rows(), Some(rows));
        let stream = Records::Stream("standard input".into(), Box::new(std::io::empty()));
        let unread = sampled(long, stream);
        assert!(unread.rows().is_none() && unread.told().contains("not known"), "{}", unread.told());
    }
}
