use serde::{Deserialize, Serialize};

use super::row_numbers::RowNumbers;

/// `RUN/split.json`: which rows are train, dev and test.
///
/// ```
/// let text = r#"{
///   "task": "sst2", "seed": 0, "data_sha256": "ef56",
///   "train": {"source": "train", "rows": [0, 2, 3]},
///   "dev": {"source": "train", "rows": [1]},
///   "test": {"source": "validation", "rows": [0, 1]}
/// }"#;
/// let split: skn_artifact::SplitRecord = serde_json::from_str(text)?;
/// assert_eq!(split.dev.rows, [1]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// The task's name.
    pub task: String,
    /// The seed that chose the rows.
    pub seed: u64,
    /// Hash of the data set.
    pub data_sha256: String,
    /// Rows to train on.
    pub train: PartRecord,
    /// Rows to choose by.
    pub dev: PartRecord,
    /// Rows to report on.
    pub test: PartRecord,
}

/// Rows of a split of the data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// The split's name in the data set.
    pub source: String,
    /// The rows of it, from 0, in the order they are used.
    pub rows: RowNumbers,
}
