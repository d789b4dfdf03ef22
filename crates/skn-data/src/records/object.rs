//! A JSON object a line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use skn_artifact::{json_reason, not_utf8};

use super::line::Line;
use super::record::{BadRecord, Field, Record};
use crate::read::json::finite::finite;

/// What is said of a list, and of an object that ends on another line.
const ONE_A_LINE: &str = "; each object stands on a line of its own, in no list, as pandas writes it with \
                          to_json(path, orient=\"records\", lines=True)";

/// The record that a line is.
pub(super) fn read(Line { number, bytes }: Line) -> Result<Record, BadRecord> {
    let text = String::from_utf8(bytes)
        .map_err(|error| BadRecord::new(number, not_utf8(error.as_bytes()).unwrap_or_default()))?;
    let text = text.trim();
    // Numbers that JSON does not have are seldom, so they are looked for only then.
    let changed = |error| match finite(text.as_bytes()).and_then(|json| String::from_utf8(json).ok()) {
        Some(json) => fields(&json).map(|fields| (fields, json)),
        None => Err(error),
    };
    let read = fields(text).map(|fields| (fields, text.to_owned())).or_else(changed);
    let (fields, object) = read.map_err(|error| {
        let reason = match text.starts_with('[') {
            true => "found a list".to_owned(),
            false => json_reason(&error),
        };
        // A file of another layout is wrong from its first line on.
        let is_layout = text.starts_with('[') || error.is_eof() && number == 1;
        let hint = if is_layout { ONE_A_LINE } else { "" };
        BadRecord::new(number, format!("byte {}: expected a JSON object: {reason}{hint}", error.column()))
    })?;
    let (columns, fields): (Vec<String>, Vec<Field>) = fields.into_iter().unzip();
    Ok(Record { line: number, columns: columns.into(), fields, object: Some(object) })
}

/// The keys and values of an object. What is no text is as it was written: a number may have more digits than are computed with.
fn fields(text: &str) -> Result<Vec<(String, Field)>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let Object(mut fields) = Object::deserialize(&mut json)?;
    json.end()?;
    for ((_, field), written) in fields.iter_mut().zip(written(text)) {
        if let Field::Json(json) = field {
            written.clone_into(json);
        }
    }
    Ok(fields)
}

/// The values of an object as they were written, in their order; `object` was found to be one.
fn written(object: &str) -> Vec<&str> {
    let (mut depth, mut in_text, mut is_escaped) = (0usize, false, false);
    let (mut start, mut values) = (None, Vec::new());
    for (place, byte) in object.bytes().enumerate() {
        if in_text {
            in_text = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
            continue;
        }
        if depth == 1 && matches!(byte, b',' | b'}') {
            let value = start.take().and_then(|start| object.get(start..place));
            values.extend(value.map(str::trim));
        }
        match byte {
            b'"' => in_text = true,
            b':' if depth == 1 => start = Some(place + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    values
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
