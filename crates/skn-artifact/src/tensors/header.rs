use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::array::{DType, elements};
use crate::error::{ArtifactError, Result};
use crate::file::json_reason;
use crate::foreign::{Foreign, Wanted};
use crate::names::{key, schema};
use crate::tensors::storage::Storage;

/// The header in file order; a name that occurs twice is an error.
pub(super) struct Header(pub(super) Vec<(String, Value)>);

/// A tensor as the header tells it: `start..end` are bytes, counted from where the data begins.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) dtype: StoredType,
    pub(super) shape: Vec<usize>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What a header calls a tensor's type. Files of models hold more types than are computed with: 8-bit floats of a quantised part,
/// or unsigned counters. Nobody needs such a tensor, so that its file can be read all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoredType {
    Known(DType),
    Other(String),
}

impl StoredType {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Known(dtype) => dtype.name(),
            Self::Other(name) => name,
        }
    }

    pub(super) fn of(name: &str) -> Self {
        DType::from_name(name).map_or_else(|| Self::Other(name.into()), Self::Known)
    }

    /// Whether so many elements take so many bytes. Of a type that is not known nobody can tell.
    fn fits(&self, shape: &[usize], bytes: usize) -> bool {
        match self {
            Self::Known(dtype) => {
                elements(shape).and_then(|count| count.checked_mul(dtype.size())) == Some(bytes)
            }
            Self::Other(_) => true,
        }
    }
}

/// A header above this size is not of this world.
const MAX_HEADER: usize = 100_000_000;

/// The parsed header and where the data begins, of a file of so many bytes.
pub(super) fn header_of(path: &Path, storage: &Storage, length: usize) -> Result<(Header, usize)> {
    let start = storage.bytes(path, 0..length.min(Foreign::LOOKED_AT))?;
    let not_safetensors = |found: String| {
        ArtifactError::format(
            path,
            "start of the file",
            "a safetensors header",
            other_format(&start).unwrap_or(found),
        )
    };
    let Some(size) = start.first_chunk::<8>() else {
        return Err(not_safetensors(format!("{length} bytes")));
    };
    let size = u64::from_le_bytes(*size);
    let available = (length - 8).min(MAX_HEADER);
    let Some(size) = usize::try_from(size).ok().filter(|size| *size <= available) else {
        return Err(not_safetensors(format!("a header of {size} bytes where {available} are possible")));
    };
    let data = 8 + size;
    let header = storage.bytes(path, 8..data)?;
    let header = serde_json::from_slice(&header).map_err(|error| not_safetensors(json_reason(&error)))?;
    Ok((header, data))
}

/// What to do about files of other formats that models come in.
fn other_format(start: &[u8]) -> Option<String> {
    let foreign = Foreign::of(start).filter(|found| *found != Foreign::Safetensors);
    foreign.map(|found| found.told(Wanted::Tensors).to_string())
}

pub(super) fn entry_of(path: &Path, name: &str, value: &Value) -> Result<Entry> {
    let wrong = |expected: &str| ArtifactError::tensor(path, name, expected, value);
    let fields: &Map<String, Value> = value.as_object().ok_or_else(|| wrong("an object in the header"))?;
    let numbers = |field: &str| -> Option<Vec<usize>> {
        let items = fields.get(field)?.as_array()?;
        items.iter().map(|item| item.as_u64().and_then(|item| usize::try_from(item).ok())).collect()
    };
    let dtype = fields.get("dtype").and_then(Value::as_str).map(StoredType::of);
    let dtype = dtype.ok_or_else(|| wrong("the name of a dtype"))?;
    let shape = numbers("shape").ok_or_else(|| wrong("a shape of integers"))?;
    let offsets = numbers("data_offsets").ok_or_else(|| wrong("two data_offsets"))?;
    let [start, end] = offsets[..] else { return Err(wrong("two data_offsets")) };
    if start > end || !dtype.fits(&shape, end - start) {
        return Err(wrong("data_offsets that fit dtype and shape"));
    }
    Ok(Entry { dtype, shape, start, end })
}

/// No gaps, no overlaps, nothing left over.
pub(super) fn check_layout(path: &Path, entries: &BTreeMap<String, Entry>, length: usize) -> Result<()> {
    let mut spans: Vec<(usize, usize, &str)> =
        entries.iter().map(|(name, entry)| (entry.start, entry.end, name.as_str())).collect();
    spans.sort_unstable();
    let (mut place, mut last) = (0, None);
    for (start, end, name) in spans {
        if start != place {
            let expected = format!("data that begins at {place}");
            return Err(ArtifactError::tensor(path, name, expected, start));
        }
        (place, last) = (end, Some(name));
    }
    if place == length {
        return Ok(());
    }
    let ends = last.map_or_else(String::new, |name| format!(", where tensor `{name}` ends"));
    Err(ArtifactError::format(
        path,
        "data",
        format!("{place} bytes{ends}, as the header says"),
        format!("{length} bytes"),
    ))
}

/// A file that says which form it has has one that is known: of a newer one nobody could say what its tensors mean.
pub(super) fn check_schema(path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
    let Some(found) = metadata.get(key::SCHEMA) else { return Ok(()) };
    let known = schema::FIRST..=schema::NEWEST;
    if found.parse().is_ok_and(|number| known.contains(&number)) {
        return Ok(());
    }
    let hint = metadata.get(key::VERSION).map_or_else(String::new, |version| {
        format!(
            " (skn {version} wrote it, this is {}; a newer file needs a newer version)",
            env!("CARGO_PKG_VERSION")
        )
    });
    let expected = format!("{} to {}", known.start(), known.end());
    Err(ArtifactError::format(
        path,
        format!("metadata {}", key::SCHEMA),
        expected,
        format!("{found:?}{hint}"),
    ))
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut names = std::collections::HashSet::new();
                let mut entries = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("tensor `{name}` twice")));
                    }
                    entries.push((name, value));
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
