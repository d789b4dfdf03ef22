//! The files of a model folder that decide together what its tokenizer is.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use skn_artifact::{BYTE_ORDER_MARK, Foreign, Wanted};

use crate::error::{DataError, Result};

pub(super) const JSON: &str = "tokenizer.json";
pub(super) const VOCAB: &str = "vocab.json";
pub(super) const MERGES: &str = "merges.txt";
pub(super) const WORDS: &str = "vocab.txt";
pub(super) const SETTINGS: &str = "tokenizer_config.json";
pub(super) const SPECIAL: &str = "special_tokens_map.json";
pub(super) const ADDED: &str = "added_tokens.json";
pub(super) const MODEL: &str = "config.json";

/// Files that have the vocabulary where there is no `tokenizer.json`.
const OLDER: [&str; 3] = [VOCAB, MERGES, WORDS];
/// Files that say more about it.
const BESIDE: [&str; 4] = [SETTINGS, SPECIAL, ADDED, MODEL];
/// Vocabularies of the sentencepiece library, which are not read.
const SENTENCEPIECE: [&str; 4] =
    ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "sentencepiece.model"];

/// The files of a model folder that decide together what its tokenizer is, by name.
///
/// As transformers' `AutoTokenizer` takes them: `tokenizer.json`, or `vocab.json` and `merges.txt`, or `vocab.txt`; and beside
/// them `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and, for the kind of model, `config.json`.
///
/// ```
/// use skn_data::{TextEncoder, TokenizerFiles};
///
/// let vocabulary = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nplay\n";
/// let mut files = TokenizerFiles::new("model");
/// files.insert("vocab.txt", &vocabulary[..]);
/// files.insert("added_tokens.json", &br#"{"[USER]": 7}"#[..]);
/// let encoder = TextEncoder::from_files(&files)?;
/// assert_eq!(encoder.ids_of_text("The [USER] play")?, [5, 7, 6]);
/// # Ok::<(), skn_data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenizerFiles<'b> {
    folder: String,
    files: Vec<(String, Cow<'b, [u8]>)>,
}

impl<'b> TokenizerFiles<'b> {
    /// None yet; errors call the folder `folder`.
    pub fn new(folder: &str) -> Self {
        Self { folder: folder.to_owned(), files: Vec::new() }
    }

    /// Those that a folder has, which `file` gives by name. What another file makes superfluous is not asked for.
    ///
    /// # Errors
    ///
    /// What `file` says.
    pub fn gather<E>(
        folder: &str,
        file: impl Fn(&str) -> std::result::Result<Option<Cow<'b, [u8]>>, E>,
    ) -> std::result::Result<Self, E> {
        let mut files = Self::new(folder);
        for group in [&[JSON][..], &OLDER, &SENTENCEPIECE] {
            for name in group {
                if let Some(bytes) = file(name)? {
                    files.insert(name, bytes);
                }
            }
            if files.has_vocabulary() {
                break;
            }
        }
        for name in BESIDE {
            if let Some(bytes) = file(name)? {
                files.insert(name, bytes);
            }
        }
        Ok(files)
    }

    /// Adds one, or replaces it.
    pub fn insert(&mut self, name: &str, bytes: impl Into<Cow<'b, [u8]>>) {
        self.files.retain(|(there, _)| there != name);
        self.files.push((name.to_owned(), bytes.into()));
    }

    /// All of them, with their names.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..]))
    }

    /// The name of the folder in errors.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The file or folder that errors of the whole tokenizer name.
    pub fn main_file(&self) -> String {
        let has = |name: &str| self.parts().any(|(there, _)| there == name);
        match () {
            () if has(JSON) => self.place(JSON),
            () if has(WORDS) && !has(VOCAB) => self.place(WORDS),
            () if has(VOCAB) && has(MERGES) => format!("{}/{VOCAB} and {MERGES}", self.folder),
            () => self.folder.clone(),
        }
    }

    /// Whether there is no vocabulary, not even one that is not read.
    pub fn lack_vocabulary(&self) -> bool {
        let sentencepiece = || self.parts().any(|(there, _)| SENTENCEPIECE.contains(&there));
        !self.has_vocabulary() && !sentencepiece()
    }

    fn has_vocabulary(&self) -> bool {
        let has = |name: &str| self.parts().any(|(there, _)| there == name);
        has(JSON) || has(WORDS) || has(VOCAB) && has(MERGES)
    }

    /// The path of a file.
    pub(super) fn place(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// The bytes of a file, without a byte order mark: Python's `json` refuses one, and editors of Windows write it.
    ///
    /// # Errors
    ///
    /// If it is something else than text, such as the pointer that git keeps in place of a large file.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<&[u8]>> {
        let Some((_, bytes)) = self.parts().find(|(there, _)| *there == name) else { return Ok(None) };
        match Foreign::of(bytes) {
            Some(found) => {
                Err(self.wrong(name, format!("expected text, found {}", found.told(Wanted::Text))))
            }
            None => Ok(Some(without_mark(bytes))),
        }
    }

    /// What a JSON file says; its default if it is not there.
    pub(super) fn parsed<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T> {
        let Some(bytes) = self.bytes(name)? else { return Ok(T::default()) };
        serde_json::from_slice(bytes).map_err(|error| self.wrong(name, error.to_string()))
    }

    /// An error in one of the files.
    pub(super) fn wrong(&self, name: &str, reason: String) -> DataError {
        DataError::Tokenizer { file: self.place(name), reason }
    }

    /// Why there is no tokenizer.
    pub(super) fn missing(&self) -> DataError {
        let found = SENTENCEPIECE.iter().find(|name| self.parts().any(|(there, _)| there == **name));
        let reason = match found {
            Some(model) => format!(
                "no tokenizer.json, and {model} is not read; make one in Python: \
                 AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            ),
            None => "no tokenizer.json, nor vocab.json and merges.txt, nor vocab.txt beside it".to_owned(),
        };
        DataError::Tokenizer { file: self.folder.clone(), reason }
    }
}

/// Bytes without a byte order mark at their start.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}
