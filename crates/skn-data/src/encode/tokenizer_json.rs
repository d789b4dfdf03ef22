//! The `tokenizer.json` that Hugging Face's converter makes of older files.

use serde_json::{Map, Value, json};

use crate::error::{DataError, Result};

/// The bytes of the `tokenizer.json` that Hugging Face's converter makes of RoBERTa's older files, `vocab.json` and
/// `merges.txt`; `folder` is the name that errors give the folder they are in.
///
/// # Errors
///
/// [`DataError::Tokenizer`], naming the file and the line.
pub(super) fn roberta_tokenizer(vocab: &[u8], merges: &[u8], folder: &str) -> Result<Vec<u8>> {
    let vocab: Map<String, Value> = serde_json::from_slice(vocab).map_err(|error| DataError::Tokenizer {
        file: format!("{folder}/vocab.json"),
        reason: error.to_string(),
    })?;
    let merges = merge_pairs(merges, &format!("{folder}/merges.txt"))?;
    Ok(roberta_json(vocab, merges).to_string().into_bytes())
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

/// The `tokenizer.json` that Hugging Face's converter makes of RoBERTa's two files.
fn roberta_json(vocab: Map<String, Value>, merges: Vec<[&str; 2]>) -> Value {
    let special = |token: &str, strip: bool| {
        let id = vocab.get(token)?;
        Some(json!({"id": id, "content": token, "single_word": false, "lstrip": strip, "rstrip": false,
            "normalized": !strip, "special": true}))
    };
    let tokens = [("<s>", false), ("<pad>", false), ("</s>", false), ("<unk>", false), ("<mask>", true)];
    // `<mask>` takes the space before it along.
    let mut added: Vec<Value> = tokens.iter().filter_map(|(token, strip)| special(token, *strip)).collect();
    added.sort_by_key(|token| token["id"].as_u64());
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
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
/// the folder they are in.
///
/// # Errors
///
/// [`DataError::Tokenizer`], naming the file and the line.
pub fn bert_tokenizer(vocab: &[u8], settings: Option<&[u8]>, folder: &str) -> Result<Vec<u8>> {
    let wrong =
        |file: &str, reason: String| DataError::Tokenizer { file: format!("{folder}/{file}"), reason };
    let settings: Map<String, Value> = match settings {
        None => Map::new(),
        Some(bytes) => serde_json::from_slice(bytes)
            .map_err(|error| wrong("tokenizer_config.json", error.to_string()))?,
    };
    let text = utf8(vocab).map_err(|line| wrong("vocab.txt", format!("line {line}: not UTF-8")))?;
    let tokens = text.lines().enumerate().map(|(id, token)| (token.to_owned(), json!(id)));
    Ok(bert_json(tokens.collect(), &settings).to_string().into_bytes())
}

/// The `tokenizer.json` that Hugging Face's converter makes of BERT's vocabulary. Case is lowered unless the settings
/// say otherwise, and with it accents go unless they say otherwise.
fn bert_json(vocab: Map<String, Value>, settings: &Map<String, Value>) -> Value {
    let special = |token: &str| {
        let id = vocab.get(token)?;
        Some(json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}))
    };
    let mut added: Vec<Value> =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].into_iter().filter_map(special).collect();
    added.sort_by_key(|token| token["id"].as_u64());
    let setting = |name: &str, default: Value| settings.get(name).cloned().unwrap_or(default);
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "lowercase": setting("do_lower_case", json!(true)),
            "handle_chinese_chars": setting("tokenize_chinese_chars", json!(true)),
            "strip_accents": setting("strip_accents", Value::Null)},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

/// A text, or the line that is none.
fn utf8(bytes: &[u8]) -> Result<&str, usize> {
    std::str::from_utf8(bytes)
        .map_err(|error| 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count())
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
