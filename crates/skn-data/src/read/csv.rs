pub(crate) mod quotes;

use std::io::{BufRead, Read};
use std::path::Path;

use csv::{ByteRecord, ErrorKind, ReaderBuilder, StringRecord};
use skn_artifact::not_utf8;

use self::quotes::Quotes;
use super::cell::{Cell, no_cells};
use super::encoding::skip_mark;
use super::row_decoder::{Place, RowDecoder};
use crate::error::{DataError, Result};
use crate::task::may_delimit;

/// Delimited values with quotes as in RFC 4180; the first line names the columns unless the task names them.
///
/// What delimits them is what the task says, else what the file's own first line says as Excel writes it (`sep=;`), else a
/// tab in a file named `.tsv`, else a comma.
pub(crate) fn read(mut input: impl BufRead, decoder: &mut RowDecoder<'_>) -> Result<()> {
    skip_mark(&mut input).map_err(|error| decoder.unreadable(&error))?;
    let told = separator_line(&mut input).map_err(|error| decoder.unreadable(&error))?;
    let delimiter = delimiter(told, decoder)?;
    let mut records = Records::new(input, delimiter, if told.is_some() { 2 } else { 1 });
    let columns: Vec<String> = match decoder.task.header {
        true => {
            records.next(decoder)?;
            records.record.iter().map(str::to_owned).collect()
        }
        false => decoder.task.columns.clone(),
    };
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let positions = decoder.positions(&columns).map_err(|error| hinted(error, &columns, delimiter))?;
    while records.next(decoder)? {
        let (place, record) = (records.place, &records.record);
        if record.len() != columns.len() {
            let mut reason = format!("expected {} fields, found {}", columns.len(), record.len());
            if let (1, Some(other)) = (record.len(), other_delimiter(record.iter(), delimiter)) {
                reason += &format!("; {}", hint(other));
            }
            return Err(decoder.malformed(place, reason));
        }
        let mut cells = no_cells(decoder.task.text_columns().len() + 1);
        for (cell, position) in cells.iter_mut().zip(&positions) {
            *cell = Cell::Text(record.get(*position).unwrap_or_default().into());
        }
        decoder.push(place, &cells)?;
    }
    Ok(())
}

/// The records of a file, and the lines on which they begin.
struct Records<R> {
    reader: csv::Reader<Quotes<R>>,
    record: StringRecord,
    place: Place,
}

impl<R: Read> Records<R> {
    fn new(input: R, delimiter: u8, line: u64) -> Self {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(Quotes::new(input, delimiter, line));
        Self { reader, record: StringRecord::new(), place: Place::Line(line) }
    }

    /// Reads the next record, if there is one.
    fn next(&mut self, decoder: &RowDecoder<'_>) -> Result<bool> {
        let mut record: ByteRecord = std::mem::take(&mut self.record).into_byte_record();
        let more = self.reader.read_byte_record(&mut record).map_err(|error| self.wrong(&error, decoder))?;
        if let (true, Some(line)) = (more, self.reader.get_mut().next_start()) {
            self.place = Place::Line(line);
        }
        self.record = StringRecord::from_byte_record(record).map_err(|error| {
            let field = error.utf8_error().field();
            let record = error.into_byte_record();
            let what = record.get(field).and_then(not_utf8).unwrap_or_default();
            decoder.malformed(self.place, format!("field {field} is {what}"))
        })?;
        Ok(more)
    }

    fn wrong(&mut self, error: &csv::Error, decoder: &RowDecoder<'_>) -> DataError {
        if let Some(fault) = self.reader.get_mut().fault() {
            return decoder.malformed(Place::Line(fault.line), fault.reason);
        }
        match error.kind() {
            ErrorKind::Io(source) => decoder.unreadable(source),
            _ => decoder.malformed(self.place, error),
        }
    }
}

/// Takes the first line if it says what delimits the others, as Excel writes and reads it: `sep=;`.
pub(crate) fn separator_line(input: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    let start = input.fill_buf()?;
    let told = match start.first_chunk::<4>().map(|word| word.eq_ignore_ascii_case(b"sep=")) {
        Some(true) => start.get(4..).unwrap_or_default(),
        _ => return Ok(None),
    };
    let (told, length) = match told {
        [told, b'\r', b'\n', ..] => (*told, 7),
        [told, b'\n', ..] => (*told, 6),
        _ => return Ok(None),
    };
    input.consume(length);
    Ok(Some(told))
}

/// What delimits the file's values; `told` is what its first line says.
fn delimiter(told: Option<u8>, decoder: &mut RowDecoder<'_>) -> Result<u8> {
    let of_task = decoder.task.delimiter.and_then(|letter| u8::try_from(letter).ok());
    match (of_task, told) {
        (Some(wanted), Some(told)) if wanted != told => {
            let [wanted, told] = [wanted, told].map(char::from);
            let reason = format!("expected sep={wanted}, as the task's delimiter says, found sep={told}");
            Err(decoder.malformed("line 1", reason))
        }
        (None, Some(told)) if may_delimit(told.into()) => {
            decoder.note(format!("its first line says that {:?} delimits the values", char::from(told)))?;
            Ok(told)
        }
        (None, Some(told)) => {
            let reason = format!("expected a delimiter behind sep=, found {:?}", char::from(told));
            Err(decoder.malformed("line 1", reason))
        }
        (Some(wanted), _) => Ok(wanted),
        (None, None) => {
            let extension = Path::new(&decoder.file).extension();
            let is_tsv = extension.is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
            Ok(if is_tsv { b'\t' } else { b',' })
        }
    }
}

/// What may delimit values.
pub(crate) const DELIMITERS: [u8; 4] = [b';', b'\t', b'|', b','];

/// A character within some fields that looks as if it delimited them.
fn other_delimiter<'f>(fields: impl Iterator<Item = &'f str> + Clone, delimiter: u8) -> Option<u8> {
    let others = DELIMITERS.into_iter().filter(|other| *other != delimiter);
    others.into_iter().find(|other| fields.clone().any(|field| field.contains(char::from(*other))))
}

fn hint(delimiter: u8) -> String {
    format!(
        "if {0:?} delimits them, the task file must say delimiter = {0:?}",
        char::from(delimiter).to_string()
    )
}

/// The error of a missing column, with what is probably the matter where all columns seem to be one.
fn hinted(error: DataError, columns: &[&str], delimiter: u8) -> DataError {
    match (error, columns, other_delimiter(columns.iter().copied(), delimiter)) {
        (DataError::MissingColumn { file, split, column, found }, [_], Some(other)) => {
            let found = format!("{found}; {}", hint(other));
            DataError::MissingColumn { file, split, column, found }
        }
        (error, ..) => error,
    }
}
