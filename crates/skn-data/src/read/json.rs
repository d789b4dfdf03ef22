pub(crate) mod finite;
mod row;

use std::fmt;
use std::io::{self, BufRead, Read};

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use skn_artifact::{did_you_mean, json_reason, not_utf8};

use self::finite::{Finite, finite};
use self::row::RowSeed;
use super::cell::{Cell, Cells};
use super::encoding::skip_mark;
use super::row_decoder::{Place, RowDecoder};
use crate::error::{DataError, Result};
use crate::format::Format;

/// Objects in JSON: a list of them, one a line, or one after another over several lines. `format` is what the file's name
/// says, which decides what is said of a file that is neither; many a file is named otherwise than it is written.
pub(crate) fn read(format: Format, mut input: impl BufRead, decoder: &mut RowDecoder<'_>) -> Result<()> {
    let start = skip_mark(&mut input).and_then(|()| skip_blanks(&mut input));
    let (line, start) = start.map_err(|error| decoder.unreadable(&error))?;
    let mut rows = Rows::new(format, decoder);
    if start == Some(b'[') || (start != Some(b'{') && format == Format::Json) {
        return rows.take_list(input, line);
    }
    let mut first = Vec::new();
    let more = input.read_until(b'\n', &mut first).and_then(|_| Ok(!input.fill_buf()?.is_empty()));
    let more = more.map_err(|error| rows.decoder.unreadable(&error))?;
    if is_stream(&first, more, format) {
        return rows.take_stream(first.chain(input), line);
    }
    rows.take_lines(first.chain(input), line)
}

/// Passes over blanks; the number of the line that then begins or goes on, and the next byte.
fn skip_blanks(input: &mut impl BufRead) -> io::Result<(u64, Option<u8>)> {
    let mut line = 1;
    loop {
        let bytes = input.fill_buf()?;
        let blanks = bytes.iter().take_while(|byte| byte.is_ascii_whitespace());
        let (length, next) = (blanks.clone().count(), bytes.iter().find(|byte| !byte.is_ascii_whitespace()));
        line += blanks.filter(|byte| **byte == b'\n').count() as u64;
        let (next, is_end) = (next.copied(), bytes.is_empty());
        input.consume(length);
        if is_end || next.is_some() {
            return Ok((line, next));
        }
    }
}

/// Whether the object that begins on the first line ends on another one, if there are `more`, or another one begins on that
/// line.
fn is_stream(first: &[u8], more: bool, format: Format) -> bool {
    let changed = finite(first);
    let mut json = serde_json::Deserializer::from_slice(changed.as_deref().unwrap_or(first));
    match IgnoredAny::deserialize(&mut json) {
        Ok(_) => {
            format == Format::Json && json.end().is_err() || goes_on(changed.as_deref().unwrap_or(first))
        }
        Err(error) => more && error.is_eof(),
    }
}

/// Whether another object begins behind the first one of a line.
fn goes_on(line: &[u8]) -> bool {
    let mut objects = serde_json::Deserializer::from_slice(line).into_iter::<IgnoredAny>();
    let is_whole = objects.next().is_some_and(|object| object.is_ok());
    let rest = line.get(objects.byte_offset()..).unwrap_or_default();
    is_whole && rest.trim_ascii_start().starts_with(b"{")
}

/// Hands the objects of a file to the decoder.
struct Rows<'a, 't> {
    format: Format,
    decoder: &'a mut RowDecoder<'t>,
    wanted: Vec<&'t str>,
    /// The keys of the last object.
    keys: String,
    /// Whether that may be the whole file: it was the first, and in no list.
    alone: bool,
}

impl<'a, 't> Rows<'a, 't> {
    fn new(format: Format, decoder: &'a mut RowDecoder<'t>) -> Self {
        let wanted = decoder.wanted();
        Self { format, decoder, wanted, keys: String::new(), alone: true }
    }

    /// JSON Lines: one object a line; lines of blanks are skipped.
    fn take_lines(&mut self, mut input: impl BufRead, first: u64) -> Result<()> {
        let mut text = Vec::new();
        for line in first.. {
            text.clear();
            let read = input.read_until(b'\n', &mut text);
            if read.map_err(|error| self.decoder.unreadable(&error))? == 0 {
                break;
            }
            // Without its end: what is missing at the end of a line is missing in it, not in the next.
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            self.take_line(text, Place::Line(line))?;
        }
        Ok(())
    }

    fn take_line(&mut self, text: &[u8], place: Place) -> Result<()> {
        let changed;
        let cells = match self.cells(text) {
            // Seldom needed, so it is looked for only then.
            Err(error) => match finite(text) {
                Some(text) => {
                    changed = text;
                    self.cells(&changed)
                }
                None => Err(error),
            },
            cells => cells,
        };
        let cells = cells.map_err(|error| {
            let reason = not_utf8(text).unwrap_or_else(|| reason_of(&error));
            self.decoder.malformed(place, reason)
        })?;
        self.push(place, &cells)
    }

    fn cells<'j>(&mut self, text: &'j [u8]) -> Result<Cells<'j>, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let cells = RowSeed { wanted: &self.wanted, keys: &mut self.keys }.deserialize(&mut json)?;
        json.end().map(|()| cells)
    }

    /// Objects one after another; the first begins on line `first`.
    fn take_stream(&mut self, input: impl BufRead, first: u64) -> Result<()> {
        let mut json = serde_json::Deserializer::from_reader(Finite::new(input));
        while let Err(more) = json.end() {
            if more.is_io() {
                return Err(self.wrong(more, first));
            }
            let cells = RowSeed { wanted: &self.wanted, keys: &mut self.keys }.deserialize(&mut json);
            let cells = cells.map_err(|error| self.wrong(error, first))?;
            self.push(self.decoder.next_row(), &cells)?;
        }
        Ok(())
    }

    /// A list of objects, which begins on line `first`.
    fn take_list(&mut self, input: impl BufRead, first: u64) -> Result<()> {
        self.alone = false;
        let mut refused = None;
        let mut json = serde_json::Deserializer::from_reader(Finite::new(input));
        let read = json.deserialize_seq(ListVisitor { rows: &mut *self, refused: &mut refused });
        match (refused, read.and_then(|()| json.end())) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(()),
            (None, Err(error)) => Err(self.wrong(error, first)),
        }
    }

    /// An error of a file that begins on line `first`, after blank ones.
    fn wrong(&self, error: serde_json::Error, first: u64) -> DataError {
        if error.is_io() {
            return self.decoder.unreadable(&error.into());
        }
        let line = Place::Line(error.line() as u64 + first - 1);
        self.decoder.malformed(line, reason_of(&error))
    }

    fn push(&mut self, place: Place, cells: &Cells<'_>) -> Result<()> {
        let columns = cells.get(..self.decoder.task.text_columns().len()).unwrap_or_default();
        if columns.contains(&Cell::Missing) || (self.alone && is_columns(cells)) {
            return Err(self.decoder.malformed(place, self.no_row(cells)));
        }
        self.alone = false;
        self.decoder.push(place, cells)
    }

    /// What is said of an object that is no row.
    fn no_row(&self, cells: &Cells<'_>) -> String {
        let Self { keys, wanted, .. } = self;
        let wanted = wanted.join(", ");
        let found = if keys.is_empty() { "without keys".to_owned() } else { format!("with the keys {keys}") };
        let records = "in pandas, write it with to_json(path, orient=\"records\")";
        if self.alone && is_columns(cells) {
            return format!(
                "expected a list of objects with the keys {wanted}, found one object {found} that holds columns instead \
                 of rows; {records}"
            );
        }
        if self.alone && self.format == Format::Json {
            return format!(
                "expected a list of objects with the keys {wanted}, found one object {found}; if the rows are within \
                 it, write their list alone ({records})"
            );
        }
        let columns = self.decoder.task.text_columns().iter().zip(cells);
        let missing = columns.filter(|(_, cell)| **cell == Cell::Missing).map(|(column, _)| column);
        let near = missing.map(|column| did_you_mean(column, keys.split(", "))).next().flatten();
        let hint = near.map_or_else(String::new, |near| format!("; {near}"));
        format!("expected an object with the keys {wanted}, found one {found}{hint}")
    }
}

/// Whether what should be the cells of a row are whole columns.
fn is_columns(cells: &Cells<'_>) -> bool {
    let is_column =
        |cell: &Cell<'_>| matches!(cell, Cell::Other(what) if what == "an object" || what == "a list");
    let mut there = cells.iter().filter(|cell| **cell != Cell::Missing).peekable();
    there.peek().is_some() && there.all(is_column)
}

/// What serde_json says, with the column alone: a line of JSON Lines is always its own line 1.
fn reason_of(error: &serde_json::Error) -> String {
    let reason = json_reason(error);
    let hint = match reason.as_str() {
        "invalid unicode code point" => {
            "; if the file is not UTF-8, convert it with `iconv -f WINDOWS-1252 -t UTF-8`"
        }
        _ => "",
    };
    format!("byte {}: {reason}{hint}", error.column())
}

/// Hands the objects of a list to the decoder one by one.
struct ListVisitor<'r, 'a, 't> {
    rows: &'r mut Rows<'a, 't>,
    refused: &'r mut Option<DataError>,
}

impl<'de> Visitor<'de> for ListVisitor<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { rows, refused } = self;
        while let Some(cells) =
            list.next_element_seed(RowSeed { wanted: &rows.wanted, keys: &mut rows.keys })?
        {
            if let Err(error) = rows.push(rows.decoder.next_row(), &cells) {
                *refused = Some(error);
                return Err(de::Error::custom("a row was refused"));
            }
        }
        Ok(())
    }
}
