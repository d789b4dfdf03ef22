//! Delimited values.

use std::io::{self, BufRead, Chain, Cursor, Read};
use std::sync::Arc;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};
use skn_artifact::not_utf8;

use super::line::LONGEST;
use super::record::{BadRecord, CsvLayout, Field, Record, is_twice, two_columns};
use crate::read::csv::quotes::Quotes;
use crate::read::csv::{DELIMITERS, separator_line};

/// The longest first line that is looked at.
const FIRST_LINE: u64 = 1 << 20;

/// The first line, which was looked at, and the rest.
type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// Bytes of a record, which are only so many.
struct Bounded<R> {
    input: Quotes<R>,
    most: usize,
    /// Those that were read since the library was last asked for a record. When it asks for more, all of them are of that record.
    read: usize,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.read > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.input.read(out)?;
        self.read = self.read.saturating_add(read);
        Ok(read)
    }
}

/// The records of delimited values.
pub(super) struct Delimited<R: BufRead> {
    reader: csv::Reader<Bounded<Whole<R>>>,
    columns: Arc<[String]>,
    record: ByteRecord,
    line: u64,
}

impl<R: BufRead> Delimited<R> {
    /// Reads the names of the columns; nothing where the input is empty.
    pub(super) fn new(input: R, layout: &CsvLayout) -> Result<Option<Self>, BadRecord> {
        Self::within(input, layout, LONGEST)
    }

    /// The same, of records of `most` bytes.
    pub(super) fn within(mut input: R, layout: &CsvLayout, most: usize) -> Result<Option<Self>, BadRecord> {
        let unreadable = |error: io::Error| BadRecord::ending(1, error.to_string());
        let told = separator_line(&mut input).map_err(unreadable)?;
        let mut first = Vec::new();
        input.by_ref().take(FIRST_LINE).read_until(b'\n', &mut first).map_err(unreadable)?;
        if first.is_empty() {
            return Ok(None);
        }
        let delimiter = layout.delimiter.or(told).unwrap_or_else(|| found_delimiter(&first, layout));
        let line = if told.is_some() { 2 } else { 1 };
        let quotes = Quotes::new(Cursor::new(first).chain(input), delimiter, line);
        let bounded = Bounded { input: quotes, most, read: 0 };
        let reader =
            ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bounded);
        let mut records = Self { reader, columns: Vec::new().into(), record: ByteRecord::new(), line };
        let columns = match &layout.names {
            Some(names) => names.clone(),
            None => match records.read_fields() {
                None => return Ok(None),
                Some(fields) => fields.map_err(|bad| BadRecord { ends: true, ..bad })?,
            },
        };
        if let Some(missing) = layout.wanted.iter().find(|wanted| !columns.contains(wanted)) {
            let reason = format!("expected a column {missing:?}, found {}", columns.join(", "));
            return Err(BadRecord::ending(line, reason));
        }
        if let Some(twice) = layout.wanted.iter().find(|wanted| is_twice(&columns, wanted)) {
            return Err(BadRecord::ending(line, two_columns(twice)));
        }
        records.columns = columns.into();
        Ok(Some(records))
    }

    pub(super) fn next(&mut self) -> Option<Result<Record, BadRecord>> {
        let fields = match self.read_fields()? {
            Ok(fields) => fields,
            Err(bad) => return Some(Err(bad)),
        };
        let (expected, found) = (self.columns.len(), fields.len());
        let mut fields: Vec<Field> = fields.into_iter().map(Field::Text).collect();
        fields.resize(expected, Field::Null);
        let record = Record { line: self.line, columns: Arc::clone(&self.columns), fields, object: None };
        if expected == found {
            return Some(Ok(record));
        }
        let reason = format!("expected {expected} fields, found {found}");
        Some(Err(BadRecord { record: Some(record), ..BadRecord::new(self.line, reason) }))
    }

    /// The fields of the next record, if there is one.
    fn read_fields(&mut self) -> Option<Result<Vec<String>, BadRecord>> {
        self.reader.get_mut().read = 0;
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => return Some(Err(self.wrong(&error))),
        }
        self.begin();
        let text = |(place, field): (usize, &[u8])| {
            String::from_utf8(field.to_vec()).map_err(|error| {
                let what = not_utf8(error.as_bytes()).unwrap_or_default();
                let columns = Arc::clone(&self.columns);
                let fields = vec![Field::Null; columns.len()];
                let record = Some(Record { line: self.line, columns, fields, object: None });
                BadRecord { record, ..BadRecord::new(self.line, format!("field {place} is {what}")) }
            })
        };
        Some(self.record.iter().enumerate().map(text).collect())
    }

    /// Goes to the line on which the record begins.
    fn begin(&mut self) {
        if let Some(line) = self.reader.get_mut().input.next_start() {
            self.line = line;
        }
    }

    /// An error behind which nothing can be read: a quote that never closes takes all the rest.
    fn wrong(&mut self, error: &csv::Error) -> BadRecord {
        if let Some(fault) = self.reader.get_mut().input.fault() {
            return BadRecord::ending(fault.line, fault.reason);
        }
        match error.kind() {
            ErrorKind::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
                self.begin();
                let most = self.reader.get_ref().most;
                let reason = format!(
                    "expected a record of at most {most} bytes, found a longer one; a quote may open a field in it and never close"
                );
                BadRecord::ending(self.line, reason)
            }
            ErrorKind::Io(source) => BadRecord::ending(self.line, source.to_string()),
            _ => BadRecord::ending(self.line, error.to_string()),
        }
    }
}

/// What delimits values of which nobody says it: the one that gives the first line the wanted columns, or without names of
/// columns in it as many fields as there are columns.
fn found_delimiter(first: &[u8], layout: &CsvLayout) -> u8 {
    let usual = if layout.usual == 0 { b',' } else { layout.usual };
    let fits = |delimiter: u8| {
        let mut reader =
            ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(first);
        let mut record = ByteRecord::new();
        if !reader.read_byte_record(&mut record).unwrap_or(false) {
            return false;
        }
        match &layout.names {
            Some(names) => record.len() == names.len(),
            None => {
                layout.wanted.iter().all(|name| record.iter().any(|field| field == name.as_bytes()))
                    && record.len() > 1
            }
        }
    };
    [usual].into_iter().chain(DELIMITERS).find(|delimiter| fits(*delimiter)).unwrap_or(usual)
}
