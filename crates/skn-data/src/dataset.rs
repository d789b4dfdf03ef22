use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::text::Text;

/// The label of rows that are never trained on and never scored: GLUE's test rows, and classes that a task leaves
/// out.
pub const UNLABELLED: i64 = -1;

/// One row: a text or a pair of texts, and its class. Rows are small, and their texts shared: see [`Text`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The text, or the first of a pair.
    pub text: Text,
    /// The second text of a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<Text>,
    /// The texts of further columns that a task's template names.
    #[serde(default, skip_serializing_if = "<[Text]>::is_empty")]
    pub more: Box<[Text]>,
    /// The class, or [`UNLABELLED`].
    pub label: i64,
}

impl Example {
    /// All its texts, in the order of the task's columns.
    pub fn texts(&self) -> impl Iterator<Item = &Text> + Clone {
        std::iter::once(&self.text).chain(&self.pair).chain(&self.more)
    }
}

/// The splits of a data set as they were read, rows in the files' order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dataset {
    /// Split name to rows; labels are classes of the task, or [`UNLABELLED`].
    pub splits: BTreeMap<String, Vec<Example>>,
}

impl Dataset {
    /// One empty text of class 0, for a task that needs no data.
    pub fn empty_text() -> Self {
        let row = Example { text: Text::default(), pair: None, more: Box::default(), label: 0 };
        Self { splits: BTreeMap::from([("test".to_owned(), vec![row])]) }
    }

    /// SHA-256 of all splits, in hexadecimal: their names, and per row the texts and the label. The same rows give
    /// the same hash, whatever form they were read from.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for (name, rows) in &self.splits {
            hash_text(&mut hash, name);
            hash_rows(&mut hash, rows);
        }
        format!("{:x}", hash.finalize())
    }
}

/// SHA-256 of one part's rows in their order, in hexadecimal: the number of rows, then for each row the number of
/// its texts, each text's length in bytes and its UTF-8, and the label; all numbers as 8 little-endian bytes.
///
/// This is the `skn.data_sha256` of artifacts that were made from one split.
pub fn part_hash(rows: &[Example]) -> String {
    let mut hash = Sha256::new();
    hash_rows(&mut hash, rows);
    format!("{:x}", hash.finalize())
}

pub(crate) fn hash_rows(hash: &mut Sha256, rows: &[Example]) {
    hash.update((rows.len() as u64).to_le_bytes());
    rows.iter().for_each(|row| hash_row(hash, row.texts().map(Text::as_str), row.label));
}

pub(crate) fn hash_row<'t>(hash: &mut Sha256, texts: impl Iterator<Item = &'t str> + Clone, label: i64) {
    hash.update((texts.clone().count() as u64).to_le_bytes());
    texts.for_each(|text| hash_text(hash, text));
    hash.update(label.to_le_bytes());
}

pub(crate) fn hash_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str, pair: Option<&str>, label: i64) -> Example {
        Example { text: text.into(), pair: pair.map(Into::into), more: Box::default(), label }
    }

    #[test]
    fn the_hash_is_of_the_documented_bytes() {
        let mut bytes = Vec::new();
        for part in [&1u64.to_le_bytes()[..], &2u64.to_le_bytes(), &2u64.to_le_bytes(), b"ab"] {
            bytes.extend_from_slice(part);
        }
        for part in [&1u64.to_le_bytes()[..], b"c", &(-1i64).to_le_bytes()] {
            bytes.extend_from_slice(part);
        }
        assert_eq!(part_hash(&[row("ab", Some("c"), -1)]), format!("{:x}", Sha256::digest(&bytes)));
    }

    #[test]
    fn every_difference_changes_the_hash() {
        let base = vec![row("ab", None, 0), row("c", None, 1)];
        let others = [
            vec![row("a", None, 0), row("bc", None, 1)],
            vec![row("ab", None, 1), row("c", None, 0)],
            vec![row("c", None, 1), row("ab", None, 0)],
            vec![row("ab", Some(""), 0), row("c", None, 1)],
            vec![row("ab", None, 0)],
            vec![Example { more: ["".into()].into(), ..row("ab", None, 0) }, row("c", None, 1)],
        ];
        for other in others {
            assert_ne!(part_hash(&base), part_hash(&other), "{other:?}");
        }
        let named = |name: &str| Dataset { splits: BTreeMap::from([(name.to_owned(), base.clone())]) };
        assert_ne!(named("train").sha256(), named("test").sha256());
    }
}
