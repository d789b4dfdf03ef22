//! Texts that are to be answered, on their way from rank 0 to the processes that help it.

use skn_probing::ProbingError;

use super::classify::Text;
use crate::error::Result;

/// Texts as JSON: for each its columns.
///
/// # Errors
/// None that texts give.
pub(super) fn to_bytes(texts: &[Text]) -> Result<Vec<u8>> {
    let columns = |text: &Text| -> Vec<String> {
        std::iter::once(&text.text).chain(&text.pair).chain(&text.more).cloned().collect()
    };
    Ok(serde_json::to_vec(&texts.iter().map(columns).collect::<Vec<_>>())?)
}

/// # Errors
/// If they are no such texts.
pub(super) fn from_bytes(bytes: &[u8]) -> Result<Vec<Text>> {
    let columns: Vec<Vec<String>> = serde_json::from_slice(bytes)?;
    let texts: Option<Vec<Text>> = columns.into_iter().map(Text::of_columns).collect();
    let wrong = || ProbingError::Mismatch {
        what: "texts from rank 0".into(),
        expected: "a column at least".into(),
        found: "none".into(),
    };
    Ok(texts.ok_or_else(wrong)?)
}
