//! A JSON object a line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use skn_artifact::{json_reason, not_utf8};

use super::line::Line;
use super::record::{BadRecord, Field, Record};

/// The record that a line is.
pub(super) fn read(Line { number, bytes }: Line) -> Result<Record, BadRecord> {
    let text = String::from_utf8(bytes)
        .map_err(|error| BadRecord::new(number, not_utf8(error.as_bytes()).unwrap_or_default()))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(BadRecord::new(number, "expected a JSON object, found an empty line"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let object = Object::deserialize(&mut json).and_then(|object| json.end().map(|()| object));
    let Object(fields) = object.map_err(|error| {
        let reason = json_reason(&error);
        BadRecord::new(number, format!("byte {}: expected a JSON object: {reason}", error.column()))
    })?;
    let (columns, fields): (Vec<String>, Vec<Field>) = fields.into_iter().unzip();
    Ok(Record { line: number, columns: columns.into(), fields, object: Some(text.to_owned()) })
}

/// An object's keys and values in their order.
struct Object(Vec<(String, Field)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    fields.push((key, Field::of(value)));
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
