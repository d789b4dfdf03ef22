//! The tokens of a file, and what is special about them.

use serde_json::{Map, Value, json};

use super::said::Said;
use crate::error::Result;

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";

/// What `tokenizer.ggml.token_type` says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    fn numbered(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// The tokens of a file.
pub(super) struct Words<'f> {
    /// All, by id.
    pub(super) tokens: Vec<(&'f str, Kind)>,
    /// The ids of those that are used.
    pub(super) vocabulary: Map<String, Value>,
    /// Those that are found in a text as they are, as `tokenizer.json` has them.
    pub(super) added: Vec<Value>,
}

impl<'f> Words<'f> {
    /// The tokens of a file, of these kinds beside those that every tokenizer may have.
    ///
    /// # Errors
    ///
    /// If there are none, or of another kind, or one is there twice.
    pub(super) fn of(said: &Said<'f>, more: &[Kind]) -> Result<Self> {
        let tokens = said
            .file
            .texts(TOKENS)?
            .ok_or_else(|| said.wrong(TOKENS, "a list of tokens", "nothing".into()))?;
        let types = said.file.integers(TYPES)?.unwrap_or_else(|| vec![1; tokens.len()]);
        if types.len() != tokens.len() {
            let expected = format!("as many as there are tokens, {}", tokens.len());
            return Err(said.wrong(TYPES, &expected, types.len().to_string()));
        }
        let mut words = Self { tokens: Vec::new(), vocabulary: Map::new(), added: Vec::new() };
        for (id, (token, number)) in tokens.into_iter().zip(types).enumerate() {
            let usual = [Kind::Normal, Kind::Control, Kind::UserDefined, Kind::Unused];
            let kind = Kind::numbered(number).filter(|kind| usual.contains(kind) || more.contains(kind));
            let kind = kind.ok_or_else(|| {
                let expected = "a kind of token that such a tokenizer has";
                said.wrong(TYPES, expected, format!("{number} of token {id}, {token:?}"))
            })?;
            words.tokens.push((token, kind));
            if kind == Kind::Unused {
                continue;
            }
            if matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown) {
                words.added.push(json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                    "special": kind != Kind::UserDefined,
                }));
            }
            if words.vocabulary.insert(token.to_owned(), json!(id)).is_some() {
                let found = format!("{token:?} twice, the second time with the id {id}");
                return Err(said.wrong(TOKENS, "each token once", found));
            }
        }
        Ok(words)
    }

    /// A token that is used, by its id.
    pub(super) fn used(&self, id: u64) -> Option<&'f str> {
        let (token, kind) = self.tokens.get(usize::try_from(id).ok()?)?;
        (*kind != Kind::Unused).then_some(*token)
    }
}
