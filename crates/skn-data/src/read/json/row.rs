//! A row of JSON, as cells.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::read::cell::{Cell, Cells, no_cells};

/// Reads an object into the cells of the wanted columns, in their order; everything else is skipped.
pub(super) struct RowSeed<'w> {
    pub(super) wanted: &'w [&'w str],
    /// Where to note the object's keys, for errors.
    pub(super) keys: &'w mut String,
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
        let mut cells = no_cells(self.wanted.len());
        self.keys.clear();
        while let Some(Text(key)) = map.next_key()? {
            note_key(self.keys, &key);
            match self.wanted.iter().zip(&mut cells).find(|(wanted, _)| **wanted == key) {
                // Which of the two is meant nobody can know.
                Some((_, cell)) if *cell != Cell::Missing => {
                    return Err(de::Error::custom(format_args!("the key {key:?} is there twice")));
                }
                Some((_, cell)) => *cell = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(cells)
    }
}

/// Bytes of keys that an error shows.
const MOST_SHOWN: usize = 200;

fn note_key(keys: &mut String, key: &str) {
    if keys.len() > MOST_SHOWN {
        return;
    }
    if !keys.is_empty() {
        keys.push_str(", ");
    }
    keys.push_str(key.get(..MOST_SHOWN).unwrap_or(key));
    if keys.len() > MOST_SHOWN {
        keys.push_str(", ..");
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
