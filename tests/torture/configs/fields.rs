//! Numbers in files, and other things in their place.

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    /// The header of a safetensors file, of which three tensors are enough.
    Header,
    Toml,
}

/// A number in a file, by the keys and places that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Place(usize),
}

impl Field {
    pub(super) fn shown(&self) -> String {
        let step = |step: &Step| match step {
            Step::Key(key) => key.clone(),
            Step::Place(place) => place.to_string(),
        };
        self.0.iter().map(step).collect::<Vec<_>>().join(" > ")
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Place(_) => None,
        })
    }

    /// Whether one of the keys on the way is this.
    pub(super) fn is(&self, name: &str) -> bool {
        self.keys().any(|key| key == name)
    }

    /// Whether an error names the field, what it lies in, or the line.
    pub(super) fn is_named_in(&self, message: &str) -> bool {
        self.keys().any(|key| message.contains(key))
            || message.contains("line ")
            || message.contains("SHA-256")
    }
}

/// All numbers of a file.
pub(super) fn numbers(bytes: &[u8], form: Form) -> Vec<Field> {
    let mut found = Vec::new();
    match form {
        Form::Json => walk(&serde_json::from_slice(bytes).unwrap(), &mut Vec::new(), &mut found),
        Form::Header => {
            let Value::Object(header) = header(bytes).0 else { panic!("no object") };
            let tensors: Vec<_> = header.into_iter().filter(|(name, _)| name != "__metadata__").collect();
            for place in [0, tensors.len() / 2, tensors.len() - 1] {
                let (name, tensor) = &tensors[place];
                walk(tensor, &mut vec![Step::Key(name.clone())], &mut found);
            }
            found.dedup();
        }
        Form::Toml => {
            for line in std::str::from_utf8(bytes).unwrap().lines() {
                if let Some((key, _)) = line.split_once(" = ") {
                    found.push(Field(vec![Step::Key(key.into())]));
                }
            }
        }
    }
    found
}

/// The most numbers of a list that are taken: the rows of a split are alike.
const OF_A_LIST: usize = 3;

fn walk(value: &Value, way: &mut Vec<Step>, found: &mut Vec<Field>) {
    match value {
        Value::Number(_) => found.push(Field(way.clone())),
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate().take(OF_A_LIST) {
                way.push(Step::Place(place));
                walk(item, way, found);
                way.pop();
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                way.push(Step::Key(key.clone()));
                walk(item, way, found);
                way.pop();
            }
        }
        _ => {}
    }
}

/// The file with other things at some fields.
pub(super) fn edited(bytes: &[u8], form: Form, edits: &[(&Field, Option<&str>)]) -> Vec<u8> {
    match form {
        Form::Json => {
            let mut value = serde_json::from_slice(bytes).unwrap();
            edits.iter().for_each(|(field, other)| put(&mut value, &field.0, *other));
            filled(&value, edits).into_bytes()
        }
        Form::Header => {
            let (mut value, data) = header(bytes);
            edits.iter().for_each(|(field, other)| put(&mut value, &field.0, *other));
            let header = filled(&value, edits);
            let mut file = (header.len() as u64).to_le_bytes().to_vec();
            file.extend(header.bytes());
            file.extend(data);
            file
        }
        Form::Toml => {
            let mut text = String::new();
            for line in std::str::from_utf8(bytes).unwrap().lines() {
                let key = line.split_once(" = ").map(|(key, _)| key);
                match edits.iter().find(|(field, _)| key.is_some_and(|key| field.is(key))) {
                    Some((_, None)) => {}
                    Some((_, Some(other))) => text += &format!("{} = {other}\n", key.unwrap()),
                    None => text += &format!("{line}\n"),
                }
            }
            text.into_bytes()
        }
    }
}

/// JSON's own numbers hold no 2^63 and no 1e308 the way they are written, so a mark is put, and replaced in the text.
fn mark(other: &str) -> String {
    format!("put here: {}", other.replace('"', "'"))
}

fn put(value: &mut Value, way: &[Step], other: Option<&str>) {
    let [before @ .., last] = way else { return };
    let mut place = value;
    for step in before {
        // Another edit may have taken away what this one was to be in.
        let next = match step {
            Step::Key(key) => place.get_mut(key),
            Step::Place(index) => place.get_mut(index),
        };
        let Some(next) = next else { return };
        place = next;
    }
    match (last, place, other) {
        (Step::Key(key), Value::Object(fields), None) => drop(fields.remove(key)),
        (Step::Key(key), Value::Object(fields), Some(other)) => {
            drop(fields.insert(key.clone(), mark(other).into()))
        }
        (Step::Place(index), Value::Array(items), None) if *index < items.len() => drop(items.remove(*index)),
        (Step::Place(index), Value::Array(items), Some(other)) if *index < items.len() => {
            items[*index] = mark(other).into();
        }
        _ => {}
    }
}

fn filled(value: &Value, edits: &[(&Field, Option<&str>)]) -> String {
    let mut text = value.to_string();
    for other in edits.iter().filter_map(|(_, other)| *other) {
        text = text.replace(&format!("\"{}\"", mark(other)), other);
    }
    text
}

fn header(bytes: &[u8]) -> (Value, &[u8]) {
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), &bytes[8 + length..])
}
