//! SentencePiece's BPE, as Llama 2 and the first Mistral have it: pieces with scores, and bytes for what has no piece.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::said::{KIND, REMEDY, Said};
use super::words::{Kind, TOKENS, Words};
use crate::error::Result;

const SCORES: &str = "tokenizer.ggml.scores";
const SPACE: &str = "tokenizer.ggml.add_space_prefix";
const SQUEEZES: &str = "tokenizer.ggml.remove_extra_whitespaces";
const CHARACTERS: &str = "tokenizer.ggml.precompiled_charsmap";
const ARCHITECTURE: &str = "general.architecture";

/// What stands for a blank.
const BLANK: &str = "\u{2581}";

/// The kinds of tokens that such a tokenizer has beside the usual ones.
pub(super) const KINDS: [Kind; 2] = [Kind::Unknown, Kind::Byte];

/// The parts of the `tokenizer.json` that Hugging Face's converter makes of such a model, but for what stands around texts.
///
/// # Errors
///
/// If there are no scores, not all bytes, or something that is done to texts and not done here.
pub(super) fn parts(said: &Said<'_>, words: &Words<'_>) -> Result<Value> {
    let file = said.file;
    // Gemma's blanks are tokens of their own, which its files have otherwise.
    match file.text(ARCHITECTURE)? {
        Some("llama") => {}
        other => {
            let expected = format!("\"llama\" where {} is, too; {REMEDY}", KIND);
            return Err(said.wrong(ARCHITECTURE, &expected, format!("{:?}", other.unwrap_or_default())));
        }
    }
    if file.flag(SQUEEZES)? == Some(true) {
        return Err(said.wrong(SQUEEZES, &format!("false; {REMEDY}"), "true".into()));
    }
    if file.says(CHARACTERS) {
        return Err(said.wrong(CHARACTERS, &format!("nothing; {REMEDY}"), "a table of characters".into()));
    }
    let is_spaced =
        |(token, kind): &&(&str, Kind)| *kind == Kind::UserDefined && token.contains([' ', '\u{2581}']);
    if let Some((token, _)) = words.tokens.iter().find(is_spaced) {
        let expected = format!("no blanks in tokens that the user defined; {REMEDY}");
        return Err(said.wrong(TOKENS, &expected, format!("{token:?}")));
    }
    let bytes: Vec<&str> =
        words.tokens.iter().filter(|(_, kind)| *kind == Kind::Byte).map(|(token, _)| *token).collect();
    if let Some(byte) =
        (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).find(|byte| !bytes.contains(&byte.as_str()))
    {
        return Err(said.wrong(TOKENS, &format!("a token for each byte; {REMEDY}"), format!("none {byte}")));
    }
    let unknown = words.tokens.iter().find(|(_, kind)| *kind == Kind::Unknown).map(|(token, _)| *token);
    let scores =
        file.numbers(SCORES)?.ok_or_else(|| said.wrong(SCORES, "a list of scores", "nothing".into()))?;
    if scores.len() != words.tokens.len() {
        let expected = format!("as many as there are tokens, {}", words.tokens.len());
        return Err(said.wrong(SCORES, &expected, scores.len().to_string()));
    }
    let mut normalizers = Vec::new();
    if file.flag(SPACE)?.unwrap_or(true) {
        normalizers.push(json!({"type": "Prepend", "prepend": BLANK}));
    }
    normalizers.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": BLANK}));
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": words.added,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": BLANK}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": words.vocabulary, "merges": merges(words, &scores),
        },
    }))
}

/// All pairs of pieces that make a piece, those of the best first: transformers' `generate_merges`.
fn merges<'f>(words: &Words<'f>, scores: &[f64]) -> Vec<[&'f str; 2]> {
    let pieces = words.tokens.iter().enumerate().filter(|(_, (_, kind))| *kind == Kind::Normal);
    let ids: HashMap<&str, usize> = pieces.map(|(id, (token, _))| (*token, id)).collect();
    let mut found = Vec::new();
    for (id, (token, kind)) in words.tokens.iter().enumerate() {
        let Some(score) = scores.get(id).filter(|_| *kind == Kind::Normal) else { continue };
        let places = token.char_indices().skip(1).map(|(place, _)| token.split_at_checked(place));
        let mut own: Vec<_> = places
            .flatten()
            .filter_map(|(left, right)| Some(((*ids.get(left)?, *ids.get(right)?), [left, right])))
            .collect();
        own.sort_by_key(|(ids, _)| *ids);
        found.extend(own.into_iter().map(|(_, pair)| (*score, pair.map(|part| part.chars().count()), pair)));
    }
    found.sort_by(|(a, a_lengths, _), (b, b_lengths, _)| b.total_cmp(a).then(b_lengths.cmp(a_lengths)));
    found.into_iter().map(|(.., pair)| pair).collect()
}
