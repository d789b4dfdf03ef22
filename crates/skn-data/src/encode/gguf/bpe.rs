//! Byte-level BPE: tokens, merges, and by name how texts are parted.

use super::said::{REMEDY, Said};
use super::words::Words;
use crate::error::Result;
use serde_json::{Value, json};

const PARTING: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";
const SPACE: &str = "tokenizer.ggml.add_space_prefix";

/// The ways to part texts, by what files call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// GPT-2's.
    Gpt2,
    /// GPT-2's, texts normalised before.
    Olmo,
    /// Single digits, then GPT-2's.
    SmolLm,
    /// Llama 3's.
    Llama3,
    /// Qwen 2's, and Qwen 3's.
    Qwen2,
}

const PARTINGS: [(&str, Parting); 7] = [
    ("gpt-2", Parting::Gpt2),
    ("olmo", Parting::Olmo),
    ("smollm", Parting::SmolLm),
    ("llama-bpe", Parting::Llama3),
    ("llama3", Parting::Llama3),
    ("llama-v3", Parting::Llama3),
    ("qwen2", Parting::Qwen2),
];

/// Words, numbers of up to three digits or of one, marks, line ends, blanks: Llama 3's regular expression, with a place for what numbers
/// are.
fn expression(numbers: &str) -> String {
    format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

impl Parting {
    /// What comes before words are looked up.
    fn pre_tokenizer(self, space: bool) -> Value {
        let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": regex});
        let split = |numbers| json!({"type": "Split", "pattern": {"Regex": expression(numbers)}, "behavior": "Isolated", "invert": false});
        let sequence =
            |first: Value, second: Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
        match self {
            Self::Gpt2 | Self::Olmo => bytes(true),
            Self::SmolLm => sequence(json!({"type": "Digits", "individual_digits": true}), bytes(true)),
            Self::Llama3 => sequence(split(r"\p{N}{1,3}"), bytes(false)),
            Self::Qwen2 => sequence(split(r"\p{N}"), bytes(false)),
        }
    }

    /// Whether a begin token stands before a text where the file does not say it, as llama.cpp has it.
    pub(super) fn begins(self) -> bool {
        self == Self::Llama3
    }
}

/// How the texts of a file's tokenizer are parted, and whether a space comes before each.
///
/// # Errors
///
/// If it is not known.
pub(super) fn parting(said: &Said<'_>) -> Result<(Parting, bool)> {
    let named = said.file.text(PARTING)?;
    let parting = named.and_then(|named| PARTINGS.iter().find(|(name, _)| *name == named));
    let (_, parting) = *parting.ok_or_else(|| {
        let known = PARTINGS.map(|(name, _)| name).join(", ");
        let found = named.map_or_else(|| "nothing".to_owned(), |named| format!("{named:?}"));
        said.wrong(
            PARTING,
            &format!("one of {known}, as it is not known how others part texts; {REMEDY}"),
            found,
        )
    })?;
    let space = said.file.flag(SPACE)?.unwrap_or(false);
    if space && parting != Parting::Gpt2 {
        return Err(said.wrong(
            SPACE,
            &format!("false where {PARTING} is not gpt-2; {REMEDY}"),
            "true".into(),
        ));
    }
    Ok((parting, space))
}

/// The parts of the `tokenizer.json`, but for what stands around texts.
///
/// # Errors
///
/// If there are no merges, or they are none.
pub(super) fn parts(said: &Said<'_>, (parting, space): (Parting, bool), words: &Words<'_>) -> Result<Value> {
    let merges = said.file.texts(MERGES)?;
    let merges = merges.ok_or_else(|| said.wrong(MERGES, "a list of merges", "nothing".into()))?;
    let merges = merges.iter().enumerate().map(|(number, merge)| {
        let expected = "two tokens with a blank between";
        pair(merge).ok_or_else(|| said.wrong(MERGES, expected, format!("{merge:?}, number {number}")))
    });
    let merges: Vec<Value> = merges.collect::<Result<_>>()?;
    // transformers normalises texts for these.
    let is_neox = said.file.text("general.architecture")? == Some("gptneox");
    let composed = matches!(parting, Parting::Olmo | Parting::Qwen2) || is_neox;
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": words.added,
        "normalizer": if composed { json!({"type": "NFC"}) } else { Value::Null },
        "pre_tokenizer": parting.pre_tokenizer(space),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": parting == Parting::Llama3, "vocab": words.vocabulary, "merges": merges,
        },
    }))
}

/// Two tokens, of which the first may itself be a blank.
fn pair(merge: &str) -> Option<Value> {
    let (place, _) = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ')?;
    let (left, right) = merge.split_at_checked(place)?;
    let right = right.strip_prefix(' ').filter(|right| !right.is_empty())?;
    Some(json!([left, right]))
}
