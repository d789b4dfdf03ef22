//! Delimited values.

use std::io::{BufRead, Chain, Cursor, Read};
use std::sync::Arc;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};
use skn_artifact::not_utf8;

use super::record::{BadRecord, CsvLayout, Field, Record};
use crate::read::csv::quotes::Quotes;
use crate::read::csv::{DELIMITERS, separator_line};

/// The longest first line that is looked at.
const FIRST_LINE: u64 = 1 << 20;

/// The first line, which was looked at, and the rest.
type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// The records of delimited values.
pub(super) struct Delimited<R: BufRead> {
    reader: csv::Reader<Quotes<Whole<R>>>,
    columns: Arc<[String]>,
    record: ByteRecord,
    line: u64,
}

impl<R: BufRead> Delimited<R> {
    /// Reads the names of the columns; nothing where the input is empty.
    pub(super) fn new(mut input: R, layout: &CsvLayout) -> Result<Option<Self>, BadRecord> {
        let unreadable = |error: std::io::Error| BadRecord::ending(1, error.to_string());
        let told = separator_line(&mut input).map_err(unreadable)?;
        let mut first = Vec::new();
        input.by_ref().take(FIRST_LINE).read_until(b'\n', &mut first).map_err(unreadable)?;
        if first.is_empty() {
            return Ok(None);
        }
        let delimiter = layout.delimiter.or(told).unwrap_or_else(|| found_delimiter(&first, layout));
        let line = if told.is_some() { 2 } else { 1 };
        let quotes = Quotes::new(Cursor::new(first).chain(input), delimiter, line);
        let reader =
            ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(quotes);
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
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => return Some(Err(self.wrong(&error))),
        }
        if let Some(line) = self.reader.get_mut().next_start() {
            self.line = line;
        }
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

    /// An error behind which nothing can be read: a quote that never closes takes all the rest.
    fn wrong(&mut self, error: &csv::Error) -> BadRecord {
        if let Some(fault) = self.reader.get_mut().fault() {
            return BadRecord::ending(fault.line, fault.reason);
        }
        match error.kind() {
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
