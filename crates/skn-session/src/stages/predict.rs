use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use serde::Serialize;
use skn_data::{BadRecord, Field, Record, RecordFormat};
use skn_probing::Progress;

use super::classify::{Answer, Classifier, Text};
use super::predict_group::{from_bytes, to_bytes};
use super::predict_records::{Came, Form, READ_AHEAD, Records, bytes_of};
use super::predict_rehearsal::Sample;
use crate::error::{Result, SessionError};
use crate::fence::no_thread;
use crate::options::Predict;

/// How often it is asked whether to stop.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// After so long without a further record those that are there are answered, where answers are wanted at once.
const PAUSE: Duration = Duration::from_millis(20);
/// Records that are answered together, at most: where answers are wanted at once ..
const AT_ONCE: usize = 64;
/// .. and where they are not.
const TOGETHER: usize = 1024;
/// Bytes of records after which those that are there are answered, however few they are.
const MOST_BYTES: usize = 16 << 20;

/// A record and what is answered to it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Predicted {
    /// The line on which it begins, from 1; of a Parquet file the row, from 1.
    pub line: u64,
    /// The record, as far as it could be read.
    pub record: Option<Record>,
    /// Its texts, if it has them.
    pub texts: Vec<String>,
    /// The answer, or what is wrong with the record.
    pub answer: std::result::Result<Answer, String>,
}

/// How many records there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PredictionCount {
    /// Those that were answered.
    pub answered: u64,
    /// Those that were passed over, because they are none.
    pub skipped: u64,
    /// Those that were answered and were cut, because they are longer than the model takes.
    pub cut: u64,
}

impl Classifier<'_> {
    /// Answers records as they come. `receive` is given some at a time, in their order; an error of it ends the work, and one of the
    /// kind `BrokenPipe`, which says that nobody listens any more, ends it well.
    ///
    /// ```no_run
    /// use skn_session::options::{Classify, Compute, Predict};
    /// use skn_session::{Records, Session};
    ///
    /// let session = Session::new(Compute::default())?;
    /// let classifier = session.classifier(&Classify::by("runs/demo-sentiment"))?;
    /// let mut options = Predict::default();
    /// options.columns = vec!["review".into()];
    /// let count = classifier.predict(&options, Records::File("reviews.csv".into()), &mut |rows| {
    ///     for row in rows {
    ///         println!("{} {:?}", row.line, row.answer);
    ///     }
    ///     Ok(())
    /// })?;
    /// println!("{} answers", count.answered);
    /// # Ok::<(), skn_session::SessionError>(())
    /// ```
    ///
    /// # Errors
    /// If the records can't be read, there are none, or one is none and that is not to be passed over; if the progress says to stop.
    pub fn predict(
        &self,
        options: &Predict,
        records: Records,
        receive: &mut dyn FnMut(&[Predicted]) -> io::Result<()>,
    ) -> Result<PredictionCount> {
        if !self.session().group().is_first() {
            return self.help();
        }
        let found = self.stream(options, records, Wanted::Answers(receive))?;
        // No texts: the end, for those that help.
        self.session().group().broadcast(Vec::new())?;
        Ok(found)
    }

    /// Refuses options that do not fit the records, none of which is read.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub(super) fn check_form(&self, options: &Predict, records: &Records) -> Result<()> {
        Form::of(self, options, records).map(drop)
    }

    /// The texts of some records, spread over those that can be read in a while.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub(super) fn sample(&self, options: &Predict, records: Records, sample: &mut Sample) -> Result<()> {
        self.stream(options, records, Wanted::Sample(sample)).map(drop)
    }

    fn stream(&self, options: &Predict, records: Records, wanted: Wanted<'_>) -> Result<PredictionCount> {
        let name = records.name();
        let form = Form::of(self, options, &records)?;
        let (send, received) = sync_channel(READ_AHEAD);
        let (progress, reads) = (self.session().progress_shared(), form.clone());
        let records = match &wanted {
            Wanted::Answers(_) => records,
            Wanted::Sample(sample) => records.counted(form.format, &sample.bytes)?,
        };
        let reader = Builder::new().name("skn-records".into());
        // It may wait for input that never comes, so nobody waits for it.
        let spawned = reader.spawn(move || reads.read(records, &*progress, &send));
        spawned.map_err(|error| no_thread("to read records on", &error))?;
        Stream { classifier: self, options, form: &form, name, wanted, count: PredictionCount::default() }
            .run(&received)
    }

    /// Answers what rank 0 is asked, together with it, until there is no more.
    fn help(&self) -> Result<PredictionCount> {
        let session = self.session();
        let quiet = OnlyStops(session.progress());
        loop {
            let bytes = session.group().broadcast(Vec::new())?;
            if bytes.is_empty() {
                return Ok(PredictionCount::default());
            }
            self.answer_with(&from_bytes(&bytes)?, &quiet)?;
        }
    }
}

/// What is wanted of records.
enum Wanted<'r> {
    /// Answers, which are given to this.
    Answers(&'r mut dyn FnMut(&[Predicted]) -> io::Result<()>),
    /// Some of their texts, before they are answered.
    Sample(&'r mut Sample),
}

/// A record that is yet to be answered.
struct Waiting {
    line: u64,
    record: Option<Record>,
    /// Its texts, or what is wrong with it.
    texts: std::result::Result<Vec<String>, String>,
}

/// A progress that is not told of each of many small passes.
pub(super) struct OnlyStops<'p>(pub(super) &'p dyn Progress);

impl Progress for OnlyStops<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// Records that are answered.
struct Stream<'a, 's, 'r> {
    classifier: &'a Classifier<'s>,
    options: &'a Predict,
    form: &'a Form,
    name: String,
    wanted: Wanted<'r>,
    count: PredictionCount,
}

impl Stream<'_, '_, '_> {
    fn run(mut self, received: &Receiver<Came>) -> Result<PredictionCount> {
        let processes = self.classifier.session().group().size();
        let most = if self.options.flush { AT_ONCE } else { TOGETHER.saturating_mul(processes) };
        let (mut waiting, mut is_first, mut last) = (Vec::new(), true, Instant::now());
        let mut bytes = 0;
        loop {
            if waiting.is_empty() {
                bytes = 0;
            }
            let is_due = self.options.flush && !waiting.is_empty();
            let wait = if is_due { PAUSE.saturating_sub(last.elapsed()) } else { HEARTBEAT };
            match received.recv_timeout(wait) {
                Ok(Came::Record(record)) => {
                    if std::mem::take(&mut is_first) {
                        self.check_first(&record)?;
                    }
                    last = Instant::now();
                    let ends = matches!(&record, Err(bad) if bad.ends);
                    let row = self.row(record);
                    if let (Err(reason), true) = (&row.texts, ends || !self.options.skip_errors) {
                        let error = self.wrong(row.line, reason);
                        // Whoever waits for answers gets those that can be had.
                        if self.options.flush || self.options.skip_errors {
                            self.answer(&mut waiting)?;
                        }
                        return Err(error);
                    }
                    if row.texts.is_err() {
                        self.check_stop()?;
                    }
                    bytes += row.record.as_ref().map_or(0, bytes_of);
                    waiting.push(row);
                    if (waiting.len() >= most || bytes >= MOST_BYTES) && !self.answer(&mut waiting)? {
                        return Ok(self.count);
                    }
                }
                Ok(Came::Failed(error)) => {
                    if self.options.flush || self.options.skip_errors {
                        self.answer(&mut waiting)?;
                    }
                    return Err(error);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.check_stop()?;
                    if is_due && !self.answer(&mut waiting)? {
                        return Ok(self.count);
                    }
                }
                Ok(Came::End) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(SessionError::failed(format!("{}: its reader ended early", self.name)));
                }
            }
        }
        if is_first {
            let expected = match self.form.format {
                RecordFormat::Text => "a text a line",
                RecordFormat::Jsonl => "a JSON object a line",
                _ => "rows",
            };
            return Err(SessionError::input(format!("{}: expected {expected}, found nothing", self.name)));
        }
        self.answer(&mut waiting)?;
        if let Wanted::Sample(sample) = self.wanted {
            sample.is_whole = true;
            return Ok(self.count);
        }
        self.classifier.tell_cut(self.count.cut, self.count.answered);
        if self.count.skipped > 0 {
            let PredictionCount { answered, skipped, .. } = self.count;
            tracing::warn!("{}: {skipped} of {} records passed over", self.name, answered + skipped);
        }
        Ok(self.count)
    }

    /// Whether to go on. Records that are none need no pass, which would ask that.
    fn check_stop(&self) -> Result<()> {
        match self.classifier.session().progress().cancelled() {
            false => Ok(()),
            true => Err(SessionError::Interrupted(format!(
                "{}: stopped while it was read, after {} answers",
                self.name, self.count.answered
            ))),
        }
    }

    /// Refuses a table without the task's columns, where no option names others.
    fn check_first(&self, first: &std::result::Result<Record, BadRecord>) -> Result<()> {
        let (Ok(record), false) = (first, self.form.are_named) else { return Ok(()) };
        if self.form.format == RecordFormat::Text {
            self.tell_object(record);
            return Ok(());
        }
        match self.form.columns.iter().find(|column| record.get(column).is_none()) {
            Some(missing) => Err(SessionError::input(format!(
                "{}: expected a column {missing:?}, that of task {}, found {}; option `columns` says which column has the texts",
                self.name,
                self.classifier.task().name,
                record.columns.join(", ")
            ))),
            None => Ok(()),
        }
    }

    /// Says where a line of text is an object of JSON Lines, and nobody said that it is a text.
    fn tell_object(&self, first: &Record) {
        let Some(Field::Text(line)) = first.get("text") else { return };
        let is_object = || serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_ok();
        if self.options.input_format.is_none() && line.trim_start().starts_with('{') && is_object() {
            tracing::warn!(
                "{}: its first line is a JSON object, and is read as a text; option `input_format` jsonl reads its columns, and text says \
                 that it is one",
                self.name
            );
        }
    }

    /// A record that is yet to be answered.
    fn row(&self, record: std::result::Result<Record, BadRecord>) -> Waiting {
        match record {
            Ok(record) => {
                let texts = self.texts(&record);
                Waiting { line: record.line, record: Some(record), texts }
            }
            Err(BadRecord { line, reason, record, ends }) => {
                let hint = match ends && !self.form.are_named && reason.starts_with("expected a column") {
                    true => "; option `columns` says which column has the texts",
                    false => "",
                };
                Waiting { line, record, texts: Err(format!("{reason}{hint}")) }
            }
        }
    }

    /// The texts of a record, one for each of the task's columns.
    fn texts(&self, record: &Record) -> std::result::Result<Vec<String>, String> {
        let texts = match self.form.format {
            RecordFormat::Text => self.texts_of_line(record)?,
            _ => {
                let text = |column: &String| match record.get(column) {
                    Some(_) if record.has_twice(column) => Err(format!("the key {column:?} is there twice")),
                    Some(Field::Text(text)) => Ok(text.clone()),
                    Some(Field::Null) => Err(format!("column {column:?}: expected a text, found none")),
                    Some(Field::Json(json)) => {
                        let start: String = json.chars().take(40).collect();
                        Err(format!("column {column:?}: expected a text, found {start}"))
                    }
                    None => {
                        let found = record.columns.join(", ");
                        Err(format!("expected a column {column:?}, found {found}"))
                    }
                };
                self.form.columns.iter().map(text).collect::<std::result::Result<_, _>>()?
            }
        };
        match texts.iter().all(|text: &String| text.trim().is_empty()) {
            true => Err("expected a text, found an empty one".to_owned()),
            false => Ok(texts),
        }
    }

    /// The texts of a line, with tabs between; the last may have tabs in it.
    fn texts_of_line(&self, record: &Record) -> std::result::Result<Vec<String>, String> {
        let Some(Field::Text(line)) = record.get("text") else { return Ok(Vec::new()) };
        let columns = &self.form.columns;
        let texts: Vec<String> = line.splitn(columns.len().max(1), '\t').map(str::to_owned).collect();
        if texts.len() >= columns.len() || line.trim().is_empty() {
            return Ok(texts);
        }
        let found = if texts.len() == 1 { "one".to_owned() } else { texts.len().to_string() };
        let expected = match columns.len() {
            2 => "two texts with a tab between".to_owned(),
            many => format!("{many} texts with tabs between ({})", columns.join(", ")),
        };
        Err(format!("expected {expected}, found {found}"))
    }

    /// Answers what waits, and hands it on; whether somebody listens.
    fn answer(&mut self, waiting: &mut Vec<Waiting>) -> Result<bool> {
        self.check_stop()?;
        let rows = std::mem::take(waiting);
        if let Wanted::Sample(sample) = &mut self.wanted {
            return Ok(sample.take(rows.into_iter().map(|row| row.texts.ok())));
        }
        let texts = rows.iter().filter_map(|row| row.texts.as_ref().ok());
        let texts: Vec<Text> =
            texts.filter_map(|texts| Text::of_columns(texts.iter().map(String::as_str))).collect();
        let quiet = OnlyStops(self.classifier.session().progress());
        let answers = match texts.is_empty() {
            true => Vec::new(),
            false => {
                let group = self.classifier.session().group();
                if group.size() > 1 {
                    group.broadcast(to_bytes(&texts)?)?;
                }
                self.classifier.answer_with(&texts, &quiet)?
            }
        };
        let (mut answers, mut predicted) = (answers.into_iter(), Vec::with_capacity(rows.len()));
        for Waiting { line, record, texts } in rows {
            let (texts, answer) = match texts {
                Ok(texts) => (texts, answers.next().ok_or_else(|| "it has no texts".to_owned())),
                Err(reason) => (Vec::new(), Err(reason)),
            };
            match &answer {
                Ok(answer) => {
                    self.count.answered += 1;
                    self.count.cut += u64::from(answer.cut);
                }
                Err(reason) => {
                    tracing::warn!("{}; passed over", self.wrong(line, reason));
                    self.count.skipped += 1;
                }
            }
            predicted.push(Predicted { line, record, texts, answer });
        }
        let Wanted::Answers(receive) = &mut self.wanted else { return Ok(true) };
        match receive(&predicted) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(SessionError::failed(error.to_string())),
            Ok(()) => Ok(true),
        }
    }

    /// What is said of a record that is none.
    fn wrong(&self, line: u64, reason: &str) -> SessionError {
        let name = &self.name;
        let place = if self.form.format == RecordFormat::Parquet { "row" } else { "line" };
        SessionError::input(match line {
            0 => format!("{name}: {reason}"),
            line => format!("{name}: {place} {line}: {reason}"),
        })
    }
}
