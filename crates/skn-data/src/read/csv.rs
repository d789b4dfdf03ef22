use std::io::Read;

use csv::{ErrorKind, ReaderBuilder, StringRecord};

use super::cell::{Cell, no_cells};
use super::row_decoder::{Place, RowDecoder};
use crate::error::{DataError, Result};

/// Comma-separated values with quotes as in RFC 4180; the first line names the columns unless the task names them.
pub(crate) fn read(input: impl Read, decoder: &mut RowDecoder<'_>) -> Result<()> {
    let mut reader = ReaderBuilder::new().has_headers(decoder.task.header).from_reader(input);
    let columns: Vec<String> = match decoder.task.header {
        true => reader.headers().map_err(|error| wrong(decoder, &error))?.iter().map(str::to_owned).collect(),
        false => decoder.task.columns.clone(),
    };
    let positions = decoder.positions(&columns.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| wrong(decoder, &error))? {
        let place = Place::Line(record.position().map_or(0, csv::Position::line));
        if record.len() != columns.len() {
            let reason = format!("expected {} fields, found {}", columns.len(), record.len());
            return Err(decoder.malformed(place, reason));
        }
        let mut cells = no_cells();
        for (cell, position) in cells.iter_mut().zip(&positions) {
            *cell = Cell::Text(record[*position].into());
        }
        decoder.push(place, &cells)?;
    }
    Ok(())
}

fn wrong(decoder: &RowDecoder<'_>, error: &csv::Error) -> DataError {
    let place = Place::Line(error.position().map_or(1, csv::Position::line));
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            decoder.malformed(place, format!("expected {expected_len} fields, found {len}"))
        }
        ErrorKind::Utf8 { err, .. } => {
            decoder.malformed(place, format!("field {} is not UTF-8", err.field()))
        }
        ErrorKind::Io(source) => decoder.unreadable(source),
        _ => decoder.malformed(place, error),
    }
}
