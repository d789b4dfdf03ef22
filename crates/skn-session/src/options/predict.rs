use serde::{Deserialize, Serialize};
use skn_data::RecordFormat;

/// Answer records: lines of text, JSON objects, or the rows of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Predict {
    /// The form of the records; default: by the file's name, else lines of text.
    pub input_format: Option<RecordFormat>,
    /// The columns of the texts, in the order of [`Classifier::columns`](crate::Classifier::columns). None are the task's own.
    pub columns: Vec<String>,
    /// What delimits CSV; default: what the task or the file says.
    pub delimiter: Option<char>,
    /// Whether a record that is none is passed over and told, instead of ending it.
    pub skip_errors: bool,
    /// Whether answers are given as soon as no further record comes for a moment, instead of many at once.
    pub flush: bool,
}
