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
    /// A JSON file with a list of objects.
    Json,
    /// Comma-separated values.
    Csv,
    /// Parquet.
    Parquet,
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
