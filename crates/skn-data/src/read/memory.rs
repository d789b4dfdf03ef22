//! Data sets that are in memory already.

use std::collections::BTreeMap;
use std::io::Cursor;

use super::classes::Reference;
use super::collector::Collector;
use super::row_decoder::RowDecoder;
use super::{arrow, csv, foreign, json, parquet};
use crate::dataset::{Dataset, Example};
use crate::error::Result;
use crate::format::Format;
use crate::task::Task;

impl Dataset {
    /// A data set from JSON Lines in memory: pairs of a split's name and its bytes.
    ///
    /// ```
    /// use skn_data::{Dataset, Task};
    ///
    /// let train = br#"{"sentence": "so good", "label": 1}"#;
    /// let data = Dataset::from_jsonl(&[("train", train)], &Task::builtin("sst2")?)?;
    /// assert_eq!(data.splits["train"][0].text.as_str(), "so good");
    /// # Ok::<(), skn_data::DataError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A line is not an object, or lacks what the task needs.
    pub fn from_jsonl(files: &[(&str, &[u8])], task: &Task) -> Result<Self> {
        let mut splits = BTreeMap::new();
        for (split, bytes) in files {
            let rows = rows_of(Format::Jsonl, bytes, &format!("{split}.jsonl"), split, task)?;
            splits.insert((*split).to_owned(), rows);
        }
        Ok(Self { splits })
    }
}

/// The rows of one file in memory.
pub(crate) fn rows_of(
    format: Format,
    bytes: &[u8],
    file: &str,
    split: &str,
    task: &Task,
) -> Result<Vec<Example>> {
    let mut collector = Collector::default();
    let mut reference = Reference::default();
    let mut decoder = RowDecoder::new(split, task, Vec::new(), &mut reference, &mut collector)?;
    decoder.open(file, bytes.len() as u64)?;
    foreign::refuse(bytes, format, &decoder)?;
    match format {
        Format::Arrow => arrow::read(Cursor::new(bytes), &mut decoder)?,
        Format::Jsonl | Format::Json => json::read(format, bytes, &mut decoder)?,
        Format::Csv => csv::read(bytes, &mut decoder)?,
        Format::Parquet => parquet::read(bytes::Bytes::copy_from_slice(bytes), &mut decoder)?,
    }
    Ok(collector.finish().splits.remove(split).unwrap_or_default())
}
