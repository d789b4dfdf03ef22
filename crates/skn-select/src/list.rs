//! Lists of neurons that another program made.

// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use std::path::Path;

use serde_json::Value;
use skn_artifact::{ArtifactError, read_json, read_regular};

use crate::error::{Result, SelectError};

/// A list of neurons is not larger.
const MOST_BYTES: u64 = 1 << 26;

/// A neuron of a list.
pub(crate) struct Listed {
    /// Where it stands in the file.
    pub(crate) place: String,
    pub(crate) layer: usize,
    pub(crate) index: usize,
    /// Where it has one.
    pub(crate) score: Option<f32>,
}

/// Of CSV with a header `layer,index[,score]`.
pub(crate) fn of_csv(path: &Path) -> Result<Vec<Listed>> {
    let io = |source| ArtifactError::Io { file: path.into(), operation: "read", source };
    let bytes = read_regular(path, MOST_BYTES).map_err(io)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes.as_slice());
    let wrong = |error: csv::Error| {
        let place = format!("line {}", line_of(&bytes, error.position()));
        match error.kind() {
            // What it says itself counts lines otherwise than an editor does.
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                SelectError::file(path, place, format!("{expected_len} values, as the header has"), len)
            }
            csv::ErrorKind::Utf8 { .. } => SelectError::file(path, place, "UTF-8", "other bytes"),
            _ => SelectError::file(path, place, "a line of CSV", error),
        }
    };
    let heads = reader.headers().map_err(wrong)?.clone();
    let column =
        |names: &[&str]| heads.iter().position(|head| names.contains(&head.trim_start_matches('\u{feff}')));
    let (Some(layer), Some(index)) = (column(&["layer"]), column(&["index", "neuron"])) else {
        let found = format!("{:?}", heads.iter().collect::<Vec<_>>().join(","));
        return Err(SelectError::file(path, "line 1", "a header layer,index[,score]", found));
    };
    let score = column(&["score"]);
    let mut listed = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let line = line_of(&bytes, record.position());
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let whole = |column: usize| {
            let bad = || {
                SelectError::file(
                    path,
                    format!("line {line}"),
                    "whole numbers from 0",
                    format!("{:?}", cell(column)),
                )
            };
            cell(column).parse::<usize>().map_err(|_| bad())
        };
        let score = score.map(cell).filter(|text| !text.is_empty()).map(|text| {
            let bad = |_| SelectError::file(path, format!("line {line}"), "a score", format!("{text:?}"));
            text.parse::<f32>().map_err(bad)
        });
        let (layer, index, score) = (whole(layer)?, whole(index)?, score.transpose()?);
        listed.push(Listed { place: format!("line {line}"), layer, index, score });
    }
    Ok(listed)
}

/// The line on which a record begins, as an editor counts it. The csv library's own count is one less behind `\r\n`, and its
/// record may begin with what ends the line before.
fn line_of(bytes: &[u8], start: Option<&csv::Position>) -> usize {
    let start = start.map_or(0, |start| usize::try_from(start.byte()).unwrap_or(usize::MAX));
    let ends = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    let blank = bytes.iter().skip(start).take_while(ends).count();
    1 + bytes.iter().take(start.saturating_add(blank)).filter(|byte| **byte == b'\n').count()
}

/// Of JSON: `[[layer, index[, score]], ..]`, or objects with these names.
pub(crate) fn of_json(path: &Path) -> Result<Vec<Listed>> {
    let value: Value = read_json(path)?;
    let Value::Array(all) = value else {
        return Err(SelectError::file(path, "JSON", "a list of [layer, index] or of objects", "no list"));
    };
    let neuron = |(number, value): (usize, &Value)| {
        let parts: Vec<Option<&Value>> = match value {
            Value::Array(parts) if (2..=3).contains(&parts.len()) => {
                (0..3).map(|part| parts.get(part)).collect()
            }
            Value::Object(parts) => {
                let index = parts.get("index").or_else(|| parts.get("neuron"));
                vec![parts.get("layer"), index, parts.get("score")]
            }
            _ => Vec::new(),
        };
        let part = |place: usize| parts.get(place).copied().flatten();
        let whole = |place: usize| {
            part(place).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok())
        };
        #[allow(clippy::cast_possible_truncation, reason = "a score is rounded as in a file of tensors")]
        let score =
            part(2).filter(|score| !score.is_null()).map(|score| score.as_f64().map(|score| score as f32));
        let place = format!("neuron {number} of the list");
        match (whole(0), whole(1), score) {
            (Some(layer), Some(index), None) => Ok(Listed { place, layer, index, score: None }),
            (Some(layer), Some(index), Some(score @ Some(_))) => Ok(Listed { place, layer, index, score }),
            _ => {
                let expected = "[layer, index], [layer, index, score] or an object with these names";
                Err(SelectError::file(path, place, expected, value))
            }
        }
    };
    all.iter().enumerate().map(neuron).collect()
}
