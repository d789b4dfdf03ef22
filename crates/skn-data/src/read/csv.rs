use std::io::Read;

use csv::{ErrorKind, ReaderBuilder, StringRecord};

use super::row::{Cell, Place, Sink, no_cells};
use crate::error::{DataError, Result};

/// Comma-separated values with quotes as in RFC 4180; the first line names the columns unless the task names them.
pub(crate) fn read(input: impl Read, sink: &mut Sink<'_>) -> Result<()> {
    let mut reader = ReaderBuilder::new().has_headers(sink.task.header).from_reader(input);
    let columns: Vec<String> = match sink.task.header {
        true => reader.headers().map_err(|error| wrong(sink, &error))?.iter().map(str::to_owned).collect(),
        false => sink.task.columns.clone(),
    };
    let positions = sink.positions(&columns.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| wrong(sink, &error))? {
        let place = Place::Line(record.position().map_or(0, csv::Position::line));
        if record.len() != columns.len() {
            let reason = format!("expected {} fields, found {}", columns.len(), record.len());
            return Err(sink.malformed(place, reason));
        }
        let mut cells = no_cells();
        for (cell, position) in cells.iter_mut().zip(&positions) {
            *cell = Cell::Text(record[*position].into());
        }
        sink.push(place, &cells)?;
    }
    Ok(())
}

fn wrong(sink: &Sink<'_>, error: &csv::Error) -> DataError {
    let place = Place::Line(error.position().map_or(1, csv::Position::line));
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            sink.malformed(place, format!("expected {expected_len} fields, found {len}"))
        }
        ErrorKind::Utf8 { err, .. } => sink.malformed(place, format!("field {} is not UTF-8", err.field())),
        ErrorKind::Io(source) => sink.unreadable(source),
        _ => sink.malformed(place, error),
    }
}
