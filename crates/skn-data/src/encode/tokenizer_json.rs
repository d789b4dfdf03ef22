//! The `tokenizer.json` that Hugging Face's converter makes of older files.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::class::{ATTRIBUTES, Class};
use super::files::{MERGES, SETTINGS, TokenizerFiles, VOCAB, WORDS};
use super::settings::{NamedToken, Settings};
use crate::error::{DataError, Result};

/// The bytes of the `tokenizer.json` that Hugging Face's converter makes of a folder's older files.
///
/// # Errors
///
/// [`DataError::Tokenizer`], naming the file and the line, or if the tokenizer's class has no such files.
pub(super) fn converted(files: &TokenizerFiles, settings: &Settings) -> Result<Vec<u8>> {
    let (words, pairs) = (files.bytes(WORDS)?, files.bytes(VOCAB)?.zip(files.bytes(MERGES)?));
    let refused = |name: &str, read_by: &str| {
        let class = settings.class.map_or_else(String::new, |class| format!("{class:?}"));
        files.wrong(
            name,
            format!("expected a tokenizer of the kind {read_by}, which has this file, found the kind {class} (tokenizer_class in \
                     tokenizer_config.json or config.json, or its model_type); make a tokenizer.json in Python: \
                     AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"),
        )
    };
    let json = match (pairs, words, settings.class) {
        (Some((vocab, merges)), _, None | Some(Class::Roberta)) => {
            let vocab =
                serde_json::from_slice(vocab).map_err(|error| files.wrong(VOCAB, error.to_string()))?;
            let merges = merge_pairs(merges, &files.place(MERGES))?;
            roberta_json(vocab, merges, settings)
        }
        (_, Some(words), None | Some(Class::Bert)) => {
            let text = utf8(words).map_err(|line| files.wrong(WORDS, format!("line {line}: not UTF-8")))?;
            bert_json(text, settings)
        }
        (Some(_), _, _) => return Err(refused(VOCAB, "Roberta")),
        (_, Some(_), _) => return Err(refused(WORDS, "Bert")),
        (None, None, _) => return Err(files.missing()),
    };
    Ok(json.to_string().into_bytes())
}

/// The pairs of a `merges.txt`: two tokens a line, after an optional line `#version: ..`.
fn merge_pairs<'m>(bytes: &'m [u8], file: &str) -> Result<Vec<[&'m str; 2]>> {
    let wrong = |line: usize, reason: String| DataError::Tokenizer {
        file: file.to_owned(),
        reason: format!("line {line}: {reason}"),
    };
    let text = utf8(bytes).map_err(|line| wrong(line, "not UTF-8".to_owned()))?;
    let is_version = |line: usize, text: &str| line == 1 && text.starts_with("#version");
    let lines = text.lines().enumerate().map(|(line, text)| (line + 1, text));
    lines
        .filter(|(line, text)| !text.is_empty() && !is_version(*line, text))
        .map(|(line, text)| match text.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
                Ok([left, right])
            }
            _ => Err(wrong(line, format!("expected two tokens, found {text:?}"))),
        })
        .collect()
}

/// The special tokens of a class that have a place in the vocabulary, as `tokenizer.json` writes them. (What has none is
/// added later, behind the vocabulary.)
fn special_tokens(vocab: &Map<String, Value>, settings: &Settings, class: Class) -> Vec<Value> {
    let mut tokens: BTreeMap<u64, Value> = BTreeMap::new();
    for attribute in ATTRIBUTES {
        let default = || class.default_token(attribute).map(|name| NamedToken::Name(name.to_owned()));
        let Some(token) = settings.token(attribute).or_else(default) else { continue };
        let Some(id) = vocab.get(token.content()).and_then(Value::as_u64) else { continue };
        let token = token.to_added(attribute == "mask_token" && class.mask_takes_space());
        let written = json!({"id": id, "content": token.content, "single_word": token.single_word, "lstrip": token.lstrip,
            "rstrip": token.rstrip, "normalized": token.normalized, "special": token.special});
        // Of a token with two roles the one that was first, as where tokens are added.
        tokens.entry(id).or_insert(written);
    }
    tokens.into_values().collect()
}

/// The `tokenizer.json` that Hugging Face's converter makes of RoBERTa's two files.
fn roberta_json(vocab: Map<String, Value>, merges: Vec<[&str; 2]>, settings: &Settings) -> Value {
    let added = special_tokens(&vocab, settings, Class::Roberta);
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": settings.prefix_space.unwrap_or(false), "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    })
}

/// The bytes of the `tokenizer.json` that Hugging Face's converter makes of BERT's older file, `vocab.txt`, and of the
/// `tokenizer_config.json` beside it, which may say that case or accents are kept; `folder` is the name that errors give
/// the folder they are in. [`TextEncoder::from_files`](crate::TextEncoder::from_files) knows of the other files too.
///
/// # Errors
///
/// [`DataError::Tokenizer`], naming the file and the line or the key.
pub fn bert_tokenizer(vocab: &[u8], settings: Option<&[u8]>, folder: &str) -> Result<Vec<u8>> {
    let mut files = TokenizerFiles::new(folder);
    files.insert(WORDS, vocab);
    if let Some(settings) = settings {
        files.insert(SETTINGS, settings);
    }
    converted(&files, &Settings::of(&files)?)
}

/// The `tokenizer.json` that Hugging Face's converter makes of BERT's vocabulary, a token a line. Case is lowered unless the
/// settings say otherwise, and with it accents go unless they say otherwise.
fn bert_json(text: &str, settings: &Settings) -> Value {
    let tokens = text.lines().enumerate().map(|(id, token)| (token.to_owned(), json!(id)));
    let vocab: Map<String, Value> = tokens.collect();
    let added = special_tokens(&vocab, settings, Class::Bert);
    let unknown = settings.token("unk_token").map_or("[UNK]".to_owned(), |token| token.content().to_owned());
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "lowercase": settings.lowercase.unwrap_or(true),
            "handle_chinese_chars": settings.chinese.unwrap_or(true), "strip_accents": settings.strip_accents},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

/// A text, or the line that is none.
fn utf8(bytes: &[u8]) -> Result<&str, usize> {
    std::str::from_utf8(bytes)
        .map_err(|error| 1 + bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count())
}

#[cfg(test)]
mod tests {
    use crate::{Join, TextEncoder, golden};

    #[test]
    fn the_older_files_give_the_same_ids() {
        let (vocab, merges) = (golden::bytes("model/vocab.json"), golden::bytes("model/merges.txt"));
        let older = TextEncoder::from_vocab_and_merges(&vocab, &merges, "model").unwrap();
        let newer = golden::encoder();
        assert_eq!(older.mask_id(), newer.mask_id());
        assert_eq!(older.vocabulary_size(), newer.vocabulary_size());
        for part in golden::dataset("jsonl").splits.values() {
            let rows = |encoder: &TextEncoder| encoder.encode_all(part, 122, Join::Separated).unwrap();
            assert_eq!(rows(&older), rows(&newer));
        }
        let text = "mind <mask> the gap</s>";
        assert_eq!(older.ids_of_text(text).unwrap(), newer.ids_of_text(text).unwrap());
    }

    #[test]
    fn damaged_files_are_errors_that_name_them() {
        let refused = |vocab: &[u8], merges: &[u8]| {
            TextEncoder::from_vocab_and_merges(vocab, merges, "m").unwrap_err().to_string()
        };
        assert!(refused(b"[]", b"").starts_with("m/vocab.json: "));
        assert_eq!(
            refused(b"{}", b"#version: 0.2\na b c\n"),
            "m/merges.txt: line 2: expected two tokens, found \"a b c\""
        );
        assert_eq!(refused(b"{}", b"a b\n\xff \n"), "m/merges.txt: line 2: not UTF-8");
        assert!(refused(b"{\"a\": 0}", b"a b\n").starts_with("m/vocab.json and merges.txt: not a tokenizer"));
    }
}
