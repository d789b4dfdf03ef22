//! What records are, and how they are written.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A form of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RecordFormat {
    /// A record a line: the line itself, as the one field `text`.
    Text,
    /// A JSON object a line.
    Jsonl,
    /// Delimited values under a line with the names of their columns.
    Csv,
    /// Parquet, which is read as a whole: [`read_parquet_table`](crate::read_parquet_table).
    Parquet,
}

impl RecordFormat {
    /// The form of a file by its name's extension, in whatever case: CSV and TSV, JSON Lines, Parquet, else lines of text.
    pub fn of_path(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "csv" | "tsv" => Self::Csv,
            "jsonl" | "ndjson" | "json" => Self::Jsonl,
            "parquet" => Self::Parquet,
            _ => Self::Text,
        }
    }
}

/// A value of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A text.
    Text(String),
    /// Anything else, as JSON has it: a number, a truth value, a list.
    Json(String),
    /// Nothing.
    Null,
}

impl Field {
    /// A value of JSON.
    pub fn of(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::String(text) => Self::Text(text),
            other => Self::Json(other.to_string()),
        }
    }
}

/// Names and values, in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The line on which it begins, from 1; of a Parquet file the row, from 1.
    pub line: u64,
    /// The names of its values. Records of one table share them.
    pub columns: Arc<[String]>,
    /// A value for each name.
    pub fields: Vec<Field>,
    /// The JSON object that it was written as, if it was.
    pub object: Option<String>,
}

impl Record {
    /// A value by its name; of equal names the first one's.
    pub fn get(&self, column: &str) -> Option<&Field> {
        let place = self.columns.iter().position(|name| name == column)?;
        self.fields.get(place)
    }

    /// Whether there are several values of a name.
    pub fn has_twice(&self, column: &str) -> bool {
        is_twice(&self.columns, column)
    }
}

/// Whether a name is there more than once: which of its values is meant nobody can know.
pub(super) fn is_twice(names: &[impl AsRef<str>], name: &str) -> bool {
    names.iter().filter(|other| other.as_ref() == name).nth(1).is_some()
}

/// What is said of a table with such a name.
pub(super) fn two_columns(name: &str) -> String {
    format!("two columns are named {name:?}")
}

/// What should be a record and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// The line on which it begins, from 1; 0 where the whole input is meant.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
    /// Whether nothing behind it can be read.
    pub ends: bool,
    /// What could be read of it, of a table.
    pub record: Option<Record>,
}

impl BadRecord {
    pub(super) fn new(line: u64, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into(), ends: false, record: None }
    }

    pub(super) fn ending(line: u64, reason: impl Into<String>) -> Self {
        Self { ends: true, ..Self::new(line, reason) }
    }
}

/// How delimited values are laid out.
#[derive(Clone, Debug, Default)]
pub struct CsvLayout {
    /// What delimits them, a character of ASCII. Otherwise what the first line says as Excel writes it (`sep=;`), else that of
    /// `;`, tab, `|` and `,` that divides the first line so that it has the wanted columns.
    pub delimiter: Option<u8>,
    /// What is tried first where nothing says it.
    pub usual: u8,
    /// The names of the columns, of values without a line that names them.
    pub names: Option<Vec<String>>,
    /// Columns that there must be.
    pub wanted: Vec<String>,
}
