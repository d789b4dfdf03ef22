//! The folder that Hugging Face datasets' `save_to_disk` writes, as bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use serde::{Serialize, Serializer};
use serde_json::Value;
use skn_artifact::sha256_hex;

use crate::dataset::{Dataset, Example, part_hash};
use crate::error::{DataError, Result};
use crate::task::Task;

/// The one file of a split's rows.
const DATA_FILE: &str = "data-00000-of-00001.arrow";

/// Rows of a record batch, as datasets write them.
const BATCH_ROWS: usize = 1000;

/// The files of a data set in the form of Hugging Face datasets' `save_to_disk`: path within the folder, and bytes.
///
/// The columns are those of `task`, the label is a `ClassLabel` with `class_names`. Python reads it with
/// `datasets.load_from_disk`, and [`read_dataset`](crate::read_dataset) does too. `dataset_dict.json`, which makes it
/// a data set and knows the hashes of all others, is the last of them. The same rows give the same bytes.
///
/// # Errors
///
/// [`DataError::Row`] where texts have more than 2 GiB, or one of the task's columns has none.
///
/// ```
/// use skn_data::{Dataset, Task, saved_files};
///
/// let task = Task::builtin("sst2")?;
/// let data = Dataset::from_jsonl(&[("train", br#"{"sentence": "so good", "label": 1}"#)], &task)?;
/// let names: Vec<String> =
///     saved_files(&data, &task, &["negative", "positive"])?.into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names[0], "train/data-00000-of-00001.arrow");
/// assert_eq!(names[1..], ["train/dataset_info.json", "train/state.json", "dataset_dict.json"]);
/// # Ok::<(), skn_data::DataError>(())
/// ```
pub fn saved_files(dataset: &Dataset, task: &Task, class_names: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let features = Features { task, class_names };
    let mut files = Vec::new();
    // Train first, as the task names them.
    let mut splits: Vec<&str> = dataset.splits.keys().map(String::as_str).collect();
    let order = task.split_names();
    splits.sort_by_key(|split| order.iter().position(|name| name == split).unwrap_or(order.len()));
    for split in &splits {
        let rows = &dataset.splits[*split];
        let mut add = |name: &str, bytes| files.push((format!("{split}/{name}"), bytes));
        add(DATA_FILE, stream(rows, &features)?);
        add("dataset_info.json", json("dataset_info.json", &Info::new(&features))?);
        add("state.json", json("state.json", &State::new(split, rows))?);
    }
    let sha256 = files.iter().map(|(name, bytes)| (name.as_str(), sha256_hex(bytes))).collect();
    let splits = json("dataset_dict.json", &Splits { splits, sha256 })?;
    files.push(("dataset_dict.json".to_owned(), splits));
    Ok(files)
}

fn stream(rows: &[Example], features: &Features<'_>) -> Result<Vec<u8>> {
    let schema = features.schema()?;
    let wrong = |reason: ArrowError| DataError::Row { row: 0, reason: reason.to_string() };
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(wrong)?;
    for (number, rows) in rows.chunks(BATCH_ROWS).enumerate() {
        let batch = batch(rows, number * BATCH_ROWS, features, &schema)?;
        writer.write(&batch).map_err(wrong)?;
    }
    writer.into_inner().map_err(wrong)
}

fn batch(rows: &[Example], first: usize, features: &Features<'_>, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = Vec::new();
    for column in 0..features.task.text_columns().len() {
        columns.push(Arc::new(texts(rows, first, column)?));
    }
    columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.label))));
    RecordBatch::try_new(schema.clone(), columns)
        .map_err(|error| DataError::Row { row: first as u64, reason: error.to_string() })
}

/// The texts of rows in one of the task's columns, from 0.
fn texts(rows: &[Example], first: usize, column: usize) -> Result<StringArray> {
    let mut texts = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for (number, row) in rows.iter().enumerate() {
        let wrong = |reason: &str| DataError::Row { row: (first + number) as u64, reason: reason.to_owned() };
        let text = row.texts().nth(column);
        let text = text.ok_or_else(|| wrong("expected a text in each column, found fewer"))?;
        bytes += text.len();
        // Arrow's strings are found by 32-bit offsets.
        if i32::try_from(bytes).is_err() {
            return Err(wrong("its text, and those before it in the batch, have more than 2 GiB"));
        }
        texts.push(text);
    }
    Ok(StringArray::from_iter_values(texts))
}

/// The columns as datasets describe them.
struct Features<'a> {
    task: &'a Task,
    class_names: &'a [&'a str],
}

impl Features<'_> {
    fn schema(&self) -> Result<SchemaRef> {
        let texts = self.task.text_columns().iter().map(|name| Field::new(name, DataType::Utf8, true));
        let label = Field::new(&self.task.label, DataType::Int64, true);
        let described = json("schema", &Described { info: OnlyFeatures { features: self } })?;
        let metadata = [("huggingface".to_owned(), String::from_utf8_lossy(&described).into_owned())];
        let fields: Vec<Field> = texts.chain([label]).collect();
        Ok(Arc::new(Schema::new_with_metadata(fields, metadata)))
    }
}

/// What datasets put beside the schema.
#[derive(Serialize)]
struct Described<'a> {
    info: OnlyFeatures<'a>,
}

#[derive(Serialize)]
struct OnlyFeatures<'a> {
    features: &'a Features<'a>,
}

/// In the order of the columns, which Python keeps.
impl Serialize for Features<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let text = || serde_json::json!({"dtype": "string", "_type": "Value"});
        let label = serde_json::json!({"names": self.class_names, "_type": "ClassLabel"});
        let texts = self.task.text_columns().iter().map(|name| (name, text()));
        serializer.collect_map(texts.chain([(&self.task.label, label)]))
    }
}

/// `dataset_info.json`; Python asks for all of it.
#[derive(Serialize)]
struct Info<'a> {
    citation: &'static str,
    description: &'static str,
    features: &'a Features<'a>,
    homepage: &'static str,
    license: &'static str,
}

impl<'a> Info<'a> {
    fn new(features: &'a Features<'a>) -> Self {
        Self { citation: "", description: "", features, homepage: "", license: "" }
    }
}

/// `state.json`; Python asks for all of it.
#[derive(Serialize)]
struct State<'a> {
    _data_files: [DataFile; 1],
    _fingerprint: String,
    _format_columns: Option<Value>,
    _format_kwargs: serde_json::Map<String, Value>,
    _format_type: Option<Value>,
    _output_all_columns: bool,
    _split: &'a str,
}

#[derive(Serialize)]
struct DataFile {
    filename: &'static str,
}

impl<'a> State<'a> {
    fn new(split: &'a str, rows: &[Example]) -> Self {
        let mut fingerprint = part_hash(rows);
        fingerprint.truncate(16);
        Self {
            _data_files: [DataFile { filename: DATA_FILE }],
            _fingerprint: fingerprint,
            _format_columns: None,
            _format_kwargs: serde_json::Map::new(),
            _format_type: None,
            _output_all_columns: false,
            _split: split,
        }
    }
}

/// `dataset_dict.json`.
#[derive(Serialize)]
struct Splits<'a> {
    splits: Vec<&'a str>,
    /// Of the other files: files of two calls, one of which was killed, are no data set. Python passes over it.
    sha256: BTreeMap<&'a str, String>,
}

fn json(file: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| DataError::Malformed {
        file: file.to_owned(),
        place: "to be written".to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
