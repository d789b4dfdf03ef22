//! Records to be answered: texts with whatever stands beside them, read one after another as they come. No labels are read.

// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

mod delimited;
mod line;
mod object;
mod record;
mod table;

use std::io::BufRead;
use std::sync::Arc;

use skn_artifact::{Foreign, Wanted, not_utf8};

use self::delimited::Delimited;
use self::line::{Line, Lines};
pub use self::record::{BadRecord, CsvLayout, Field, Record, RecordFormat};
pub use self::table::{TableReceiver, read_parquet_table};
use crate::read::encoding::skip_mark;

/// Reads records one after another. It reads no further than the record that it gives, so that records are there as soon as they
/// are written.
///
/// ```
/// use skn_data::{CsvLayout, Field, RecordFormat, RecordReader};
///
/// let csv = "id;text\n1;so good\n2\n";
/// let layout = CsvLayout { wanted: vec!["text".into()], ..CsvLayout::default() };
/// let mut records = RecordReader::new(RecordFormat::Csv, csv.as_bytes(), layout);
/// let first = records.next().and_then(Result::ok).ok_or("no record")?;
/// assert_eq!((first.line, first.get("text")), (2, Some(&Field::Text("so good".into()))));
/// let second = records.next().and_then(Result::err).ok_or("no error")?;
/// assert_eq!((second.line, second.reason.as_str()), (3, "expected 2 fields, found 1"));
/// assert!(records.next().is_none());
/// # Ok::<(), &'static str>(())
/// ```
pub struct RecordReader<R: BufRead> {
    state: State<R>,
}

enum State<R: BufRead> {
    /// Nothing was read yet.
    New(RecordFormat, R, CsvLayout),
    Lines(Lines<R>, Arc<[String]>),
    Objects(Lines<R>),
    Delimited(Box<Delimited<R>>),
    Done,
}

impl<R: BufRead> RecordReader<R> {
    /// A reader of records; `layout` is for CSV.
    pub fn new(format: RecordFormat, input: R, layout: CsvLayout) -> Self {
        Self { state: State::New(format, input, layout) }
    }

    /// Looks at how the input begins.
    fn begin(format: RecordFormat, mut input: R, layout: CsvLayout) -> Result<State<R>, BadRecord> {
        let unreadable = |error: std::io::Error| BadRecord::ending(0, error.to_string());
        let start = input.fill_buf().map_err(unreadable)?;
        if let Some(found) = Foreign::of(start) {
            let reason = format!("byte 0: expected text, found {}", found.told(Wanted::Text));
            return Err(BadRecord::ending(0, reason));
        }
        skip_mark(&mut input).map_err(unreadable)?;
        Ok(match format {
            RecordFormat::Text => State::Lines(Lines::new(input), ["text".to_owned()].into()),
            RecordFormat::Jsonl => State::Objects(Lines::new(input)),
            RecordFormat::Csv => match Delimited::new(input, &layout)? {
                Some(records) => State::Delimited(Box::new(records)),
                None => State::Done,
            },
            RecordFormat::Parquet => {
                return Err(BadRecord::ending(0, "expected text: Parquet is read from a file"));
            }
        })
    }
}

impl<R: BufRead> Iterator for RecordReader<R> {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if let State::New(..) = self.state
            && let State::New(format, input, layout) = std::mem::replace(&mut self.state, State::Done)
        {
            match Self::begin(format, input, layout) {
                Ok(state) => self.state = state,
                Err(bad) => return Some(Err(bad)),
            }
        }
        let next = match &mut self.state {
            State::New(..) | State::Done => None,
            State::Lines(lines, columns) => lines.next().map(|line| text(line?, columns)),
            // As the other reader does, which training has: a line of blanks is no record.
            State::Objects(lines) => {
                let line = lines.find(|line| !matches!(line, Ok(line) if line.is_blank()));
                line.map(|line| object::read(line?))
            }
            State::Delimited(records) => records.next(),
        };
        if matches!(&next, Some(Err(bad)) if bad.ends) {
            self.state = State::Done;
        }
        next
    }
}

/// A line of text.
fn text(Line { number, bytes }: Line, columns: &Arc<[String]>) -> Result<Record, BadRecord> {
    let text = String::from_utf8(bytes)
        .map_err(|error| BadRecord::new(number, not_utf8(error.as_bytes()).unwrap_or_default()))?;
    Ok(Record { line: number, columns: Arc::clone(columns), fields: vec![Field::Text(text)], object: None })
}

#[cfg(test)]
mod tests;
