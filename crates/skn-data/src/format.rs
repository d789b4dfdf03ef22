use std::fmt;

use serde::{Deserialize, Serialize};

/// A form in which data sets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// Arrow IPC streams, in a folder written by Hugging Face datasets' `save_to_disk`.
    Arrow,
    /// One JSON object a line.
    Jsonl,
    /// A JSON file with a list of objects, or with one after another.
    Json,
    /// Values separated by commas, or by tabs in a file named `.tsv`, or by what the task says.
    Csv,
    /// Parquet.
    Parquet,
}

impl Format {
    /// The form of a file by its name's extension, without the dot, in whatever case.
    pub(crate) fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "arrow" => Some(Self::Arrow),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "json" => Some(Self::Json),
            "csv" | "tsv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arrow => "arrow",
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        })
    }
}
