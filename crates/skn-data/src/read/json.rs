use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::cell::{Cell, Cells, no_cells};
use super::row_decoder::{Place, RowDecoder};
use crate::error::{DataError, Result};

/// JSON Lines: one object a line; lines of blanks are skipped.
pub(crate) fn read_lines(mut input: impl BufRead, decoder: &mut RowDecoder<'_>) -> Result<()> {
    let wanted = decoder.wanted();
    skip_mark(&mut input, decoder)?;
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if input.read_until(b'\n', &mut text).map_err(|error| decoder.unreadable(&error))? == 0 {
            break;
        }
        // Without its end: what is missing at the end of a line is missing in it, not in the next.
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = Place::Line(line);
        let mut json = serde_json::Deserializer::from_slice(text);
        let cells = RowSeed { wanted: &wanted }.deserialize(&mut json);
        let cells = cells.and_then(|cells| json.end().map(|()| cells));
        let cells = cells.map_err(|error| decoder.malformed(place, json_reason(&error)))?;
        decoder.push(place, &cells)?;
    }
    Ok(())
}

/// A list of objects; a file that begins with an object is taken as JSON Lines, which often bear this extension.
pub(crate) fn read_list(mut input: impl BufRead, decoder: &mut RowDecoder<'_>) -> Result<()> {
    skip_mark(&mut input, decoder)?;
    let start = input.fill_buf().map_err(|error| decoder.unreadable(&error))?;
    if start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        return read_lines(input, decoder);
    }
    let mut refused = None;
    let mut json = serde_json::Deserializer::from_reader(input);
    let read = json.deserialize_seq(ListVisitor { decoder: &mut *decoder, refused: &mut refused });
    match (refused, read.and_then(|()| json.end())) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) if error.is_io() => Err(decoder.unreadable(&error.into())),
        (None, Err(error)) => Err(decoder.malformed(format!("line {}", error.line()), json_reason(&error))),
    }
}

/// Passes over a byte order mark, which Windows programs write.
fn skip_mark(input: &mut impl BufRead, decoder: &RowDecoder<'_>) -> Result<()> {
    if input.fill_buf().map_err(|error| decoder.unreadable(&error))?.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    }
    Ok(())
}

/// What serde_json says, with the column alone: a line of JSON Lines is always its own line 1.
fn json_reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or(&message);
    format!("byte {}: {reason}", error.column())
}

/// Reads an object into the cells of the wanted columns, in their order; everything else is skipped.
struct RowSeed<'w> {
    wanted: &'w [&'w str],
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Cells<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Cells<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the keys {}", self.wanted.join(", "))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut cells = no_cells();
        while let Some(Text(key)) = map.next_key()? {
            match self.wanted.iter().position(|wanted| *wanted == key) {
                Some(place) => cells[place] = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(cells)
    }
}

/// A string, borrowed from the file where it has no escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Cell::deserialize(deserializer)? {
            Cell::Text(text) => Ok(Self(text)),
            _ => Err(de::Error::custom("expected a text")),
        }
    }
}

impl<'de> Deserialize<'de> for Cell<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cell::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Cell::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or_else(|_| other(format!("the number {number}")), Cell::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Cell::Float(number))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Cell::Boolean(value))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Cell::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(other("an object"))
    }
}

fn other<'c>(what: impl Into<Cow<'static, str>>) -> Cell<'c> {
    Cell::Other(what.into())
}

/// Hands the objects of a list to the decoder one by one.
struct ListVisitor<'a, 't> {
    decoder: &'a mut RowDecoder<'t>,
    refused: &'a mut Option<DataError>,
}

impl<'de> Visitor<'de> for ListVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let wanted = self.decoder.wanted();
        while let Some(cells) = list.next_element_seed(RowSeed { wanted: &wanted })? {
            let place = self.decoder.next_row();
            if let Err(error) = self.decoder.push(place, &cells) {
                *self.refused = Some(error);
                return Err(de::Error::custom("a row was refused"));
            }
        }
        Ok(())
    }
}
