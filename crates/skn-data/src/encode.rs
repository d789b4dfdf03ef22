use std::borrow::Borrow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::dataset::Example;
use crate::error::{DataError, Result};
use crate::token_ids::TokenIds;
use crate::verbalizer::Verbalizer;

/// Rows that are tokenised before the next ones are looked at.
const ROUND: usize = 1 << 14;

/// Texts that share a store, which one thread makes.
const TOGETHER: usize = 64;

/// How the two texts of a pair become one sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// `<s> a </s></s> b </s>`, as RoBERTa was pre-trained; `[CLS] a [SEP] b [SEP]`, as BERT was.
    #[default]
    Separated,
    /// The texts written one after another without anything between, as the published implementation does
    /// (`--compat paper`).
    Paper,
}

/// A text as the model takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, `<s>` and `</s>` (`[CLS]` and `[SEP]`) included.
    pub ids: TokenIds,
    /// Where in `ids` the second text of a pair begins; their number if there is none.
    pub second: usize,
    /// The class.
    pub label: usize,
    /// The row in its part (train, dev or test), from 0.
    pub row: u64,
}

/// A model's tokenizer: RoBERTa's (byte-level BPE) and XLM-RoBERTa's and CamemBERT's (unigrams) with `<s>`, `</s>` and
/// `<mask>`, or BERT's (WordPiece) with `[CLS]`, `[SEP]` and `[MASK]`.
///
/// ```
/// use skn_data::{Example, Join, TextEncoder};
///
/// let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model/tokenizer.json");
/// let encoder = TextEncoder::from_json(&std::fs::read(file).unwrap(), file)?;
/// let example = Example { text: "the play is dull".into(), pair: None, label: 0 };
/// let (ids, _) = encoder.encode(&example, 6, Join::Separated)?;
/// assert_eq!(ids.len(), 6); // cut, </s> kept
/// assert_eq!((ids[0], ids[5]), (encoder.start_id(), encoder.end_id()));
/// # Ok::<(), skn_data::DataError>(())
/// ```
pub struct TextEncoder {
    tokenizer: Tokenizer,
    file: String,
    sha256: String,
    start: u32,
    end: u32,
    mask: u32,
    unknown: Option<u32>,
    /// How many end tokens stand between the texts of a pair.
    separators: usize,
}

/// Start, end, mask and unknown token, and how many end tokens stand between the texts of a pair.
const SPECIAL: [([&str; 4], usize); 2] =
    [(["<s>", "</s>", "<mask>", "<unk>"], 2), (["[CLS]", "[SEP]", "[MASK]", "[UNK]"], 1)];

/// What stands for the blank before a word in a vocabulary of unigrams.
const BLANK: &str = "\u{2581}";

impl TextEncoder {
    /// From the bytes of a `tokenizer.json`; `file` is the name that errors give it. Padding and truncation that
    /// it asks for are ignored.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`] if it is damaged, or has neither `<s>`, `</s>` and `<mask>` nor `[CLS]`, `[SEP]` and
    /// `[MASK]`. (The parser panics on some
    /// damaged files; that is caught, and the panic hook has had its say by then.)
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let wrong = |reason: String| DataError::Tokenizer { file: file.to_owned(), reason };
        let parsed =
            catch_unwind(|| parse(bytes)).unwrap_or_else(|_| Err("the parser failed on it".to_owned()));
        let tokenizer = parsed.map_err(|reason| wrong(format!("not a tokenizer: {reason}")))?;
        let ids = |tokens: &[&str; 4]| tokens.map(|token| tokenizer.token_to_id(token));
        let kind = SPECIAL.iter().max_by_key(|(tokens, _)| {
            // Of a damaged one the kind that it was; a stray `[MASK]` does not make a BERT.
            let found = ids(tokens).iter().flatten().count();
            (found, tokens[0] == SPECIAL[0].0[0])
        });
        let (tokens, separators) = kind.unwrap_or(&SPECIAL[0]);
        let [start, end, mask, unknown] = ids(tokens);
        let needed = |id: Option<u32>, token: usize| {
            id.ok_or_else(|| wrong(format!("expected a token {:?}, found none", tokens[token])))
        };
        let (start, end, mask) = (needed(start, 0)?, needed(end, 1)?, needed(mask, 2)?);
        let sha256 = format!("{:x}", Sha256::digest(bytes));
        let separators = *separators;
        Ok(Self { file: file.to_owned(), sha256, start, end, mask, unknown, separators, tokenizer })
    }

    /// From the bytes of RoBERTa's older pair of files, `vocab.json` and `merges.txt`; `folder` is the name that
    /// errors give the folder they are in.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`], as for [`TextEncoder::from_json`], naming the file and the line.
    pub fn from_vocab_and_merges(vocab: &[u8], merges: &[u8], folder: &str) -> Result<Self> {
        let vocab: Map<String, Value> = serde_json::from_slice(vocab).map_err(|error| {
            DataError::Tokenizer { file: format!("{folder}/vocab.json"), reason: error.to_string() }
        })?;
        let merges = merge_pairs(merges, &format!("{folder}/merges.txt"))?;
        let json = roberta_json(vocab, merges);
        Self::from_json(json.to_string().as_bytes(), &format!("{folder}/vocab.json and merges.txt"))
    }

    /// SHA-256 of the tokenizer's file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The id of `<s>` or `[CLS]`.
    pub fn start_id(&self) -> u32 {
        self.start
    }

    /// The id of `</s>` or `[SEP]`.
    pub fn end_id(&self) -> u32 {
        self.end
    }

    /// The id of `<mask>` or `[MASK]`.
    pub fn mask_id(&self) -> u32 {
        self.mask
    }

    /// The number of token ids, those of added tokens included.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The ids of a text as it is written, without `<s>` and `</s>`.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`] if the tokenizer cannot take the text.
    pub fn ids_of_text(&self, text: &str) -> Result<Vec<u32>> {
        // Damaged vocabularies make the tokenizer panic only once it is used.
        let encoded = catch_unwind(AssertUnwindSafe(|| self.tokenizer.encode_fast(text, false)));
        match encoded {
            Ok(Ok(encoding)) => Ok(encoding.get_ids().to_vec()),
            Ok(Err(error)) => Err(self.unusable(error.to_string())),
            Err(_) => Err(self.unusable("the tokenizer failed".to_owned())),
        }
    }

    /// The text of a token, as it stands in a text; nothing for an id without a token.
    pub fn token_text(&self, id: u32) -> Option<String> {
        let decoded = catch_unwind(AssertUnwindSafe(|| self.tokenizer.decode(&[id], false)));
        decoded.ok()?.ok().filter(|text| !text.is_empty())
    }

    /// Uses it on texts that have everything: all of ASCII, other scripts, blanks, a long word, nothing. A damaged
    /// tokenizer is often one only in use.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`] if it cannot take one of the texts, or makes far more tokens of it than it has bytes.
    pub fn try_out(&self) -> Result<()> {
        let ascii: String = (0u8..128).map(char::from).collect();
        let long = "supercalifragilistic".repeat(50);
        let texts = [
            "",
            " ",
            "The play is superb, isn't it? I'd say 12,345 times so.",
            " \n\t  two  blanks\u{a0}\u{3000}",
            "Zürich, garçon, naïve; Привет; 日本語のテキスト; مرحبا; 🙂👩‍👩‍👧",
            "e\u{301} \u{feff}\u{200b}\u{0} \u{10ffff}",
            "<s></s><mask><pad><unk>[CLS][SEP][MASK]",
            &ascii,
            &long,
        ];
        for text in texts {
            let tokens = self.ids_of_text(text)?;
            let most = 8 * (text.len() + 8);
            if tokens.len() > most {
                let found = tokens.len();
                return Err(
                    self.unusable(format!("expected at most {most} tokens of {text:?}, found {found}"))
                );
            }
            for id in tokens.iter().take(64) {
                self.token_text(*id);
            }
        }
        Ok(())
    }

    /// Whether a token tells nothing of a word: the unknown one, and the blank before a word that has no token with it.
    pub(crate) fn is_wordless(&self, id: u32) -> bool {
        self.unknown == Some(id) || self.tokenizer.id_to_token(id).as_deref() == Some(BLANK)
    }

    /// The tokens that stand for the classes; see [`Verbalizer::new`].
    ///
    /// # Errors
    ///
    /// A word without a token, or two classes with the same token.
    pub fn verbalizer(&self, words: &[String]) -> Result<Verbalizer> {
        Verbalizer::new(self, words)
    }

    /// The ids of an example: `<s> text </s>`, or for a pair what `join` says, cut to `max_tokens`; and where in them the
    /// second text begins, which is at their end if there is none.
    ///
    /// Special tokens count, and are kept. A pair is cut as by Hugging Face's `longest_first`: the longer text
    /// first, then both to the same length.
    ///
    /// # Errors
    ///
    /// [`DataError::NoRoom`] if the special tokens alone need more than `max_tokens`, or see
    /// [`TextEncoder::ids_of_text`].
    pub fn encode(&self, example: &Example, max_tokens: usize, join: Join) -> Result<(Vec<u32>, usize)> {
        let ids = match (&example.pair, join) {
            (None, _) => self.encode_one(&example.text, max_tokens)?,
            (Some(pair), Join::Paper) => self.encode_one(&format!("{}{pair}", example.text), max_tokens)?,
            (Some(pair), Join::Separated) => return self.encode_pair(&example.text, pair, max_tokens),
        };
        let end = ids.len();
        Ok((ids, end))
    }

    /// All rows of a part, in parallel; the order is kept.
    ///
    /// Give it the rows themselves, and each is let go of as soon as it is encoded; or borrow them to it.
    ///
    /// ```
    /// # use skn_data::{Dataset, Join, Task, TextEncoder};
    /// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model/tokenizer.json");
    /// # let encoder = TextEncoder::from_json(&std::fs::read(file).unwrap(), file)?;
    /// let lines = br#"{"sentence": "the play is superb", "label": 1}"#;
    /// let mut data = Dataset::from_jsonl(&[("train", lines)], &Task::builtin("sst2")?)?;
    /// let rows = data.splits.remove("train").unwrap_or_default();
    /// let borrowed = encoder.encode_all(&rows, 122, Join::Separated)?;
    /// assert_eq!(borrowed, encoder.encode_all(rows, 122, Join::Separated)?);
    /// # Ok::<(), skn_data::DataError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`TextEncoder::encode`], or a row without a label.
    pub fn encode_all<R>(
        &self,
        part: impl IntoIterator<Item = R>,
        max_tokens: usize,
        join: Join,
    ) -> Result<Vec<Encoded>>
    where
        R: Borrow<Example> + Send + Sync,
    {
        let mut rows = part.into_iter();
        let mut all = Vec::with_capacity(rows.size_hint().0);
        // In rounds, so that beside what is returned there is little, and rows can go.
        loop {
            let round: Vec<R> = rows.by_ref().take(ROUND).collect();
            if round.is_empty() {
                return Ok(all);
            }
            let first = all.len();
            // Not collected as a `Result`: of several errors that would give any one.
            let encoded: Vec<Result<Vec<Encoded>>> = round
                .par_chunks(TOGETHER)
                .enumerate()
                .map(|(place, rows)| self.encode_together(rows, first + place * TOGETHER, max_tokens, join))
                .collect();
            for texts in encoded {
                all.extend(texts?);
            }
        }
    }

    /// Encodes rows that follow each other, of which `first` is the first, and shares one store between them.
    fn encode_together<R: Borrow<Example>>(
        &self,
        rows: &[R],
        first: usize,
        max_tokens: usize,
        join: Join,
    ) -> Result<Vec<Encoded>> {
        let (mut all, mut texts) = (Vec::new(), Vec::with_capacity(rows.len()));
        for (row, example) in (first as u64..).zip(rows) {
            let example = example.borrow();
            let label = usize::try_from(example.label)
                .map_err(|_| DataError::Row { row, reason: "has no label".to_owned() })?;
            let (ids, second) = self.encode(example, max_tokens, join)?;
            all.extend_from_slice(&ids);
            texts.push((ids.len(), second, label, row));
        }
        let ids = TokenIds::divide(all, texts.iter().map(|(length, ..)| *length));
        let encoded = |((_, second, label, row), ids)| Encoded { ids, second, label, row };
        Ok(texts.into_iter().zip(ids).map(encoded).collect())
    }

    fn encode_one(&self, text: &str, max_tokens: usize) -> Result<Vec<u32>> {
        let room = room(max_tokens, 2)?;
        let text = self.ids_of_text(text)?;
        let text = &text[..text.len().min(room)];
        let mut ids = Vec::with_capacity(text.len() + 2);
        ids.push(self.start);
        ids.extend_from_slice(text);
        ids.push(self.end);
        Ok(ids)
    }

    fn encode_pair(&self, first: &str, second: &str, max_tokens: usize) -> Result<(Vec<u32>, usize)> {
        let special = 2 + self.separators;
        let room = room(max_tokens, special)?;
        let (first, second) = (self.ids_of_text(first)?, self.ids_of_text(second)?);
        let (of_first, of_second) = longest_first(first.len(), second.len(), room);
        let mut ids = Vec::with_capacity(of_first + of_second + special);
        ids.push(self.start);
        ids.extend_from_slice(&first[..of_first]);
        ids.extend(std::iter::repeat_n(self.end, self.separators));
        let place = ids.len();
        ids.extend_from_slice(&second[..of_second]);
        ids.push(self.end);
        Ok((ids, place))
    }

    fn unusable(&self, reason: String) -> DataError {
        DataError::Tokenizer { file: self.file.clone(), reason }
    }
}

impl std::fmt::Debug for TextEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextEncoder").field("file", &self.file).field("sha256", &self.sha256).finish()
    }
}

/// Tokens left for texts beside `special` ones.
fn room(max_tokens: usize, special: usize) -> Result<usize> {
    max_tokens.checked_sub(special).ok_or(DataError::NoRoom { max_tokens, needed: special })
}

/// How many tokens of two texts are kept. Hugging Face tokenizers' `truncate_encodings` with `LongestFirst`: if the
/// shorter text fits into half of the room it is kept whole; else both get half, the longer one what is over.
fn longest_first(first: usize, second: usize, room: usize) -> (usize, usize) {
    if first.saturating_add(second) <= room {
        return (first, second);
    }
    let shorter = first.min(second);
    let short = shorter.min(room / 2);
    let long = room - short;
    // On a tie the second text counts as the longer one.
    if first > second { (long, short) } else { (short, long) }
}

fn parse(bytes: &[u8]) -> Result<Tokenizer, String> {
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())?;
    tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
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

/// A text, or the line that is none.
fn utf8(bytes: &[u8]) -> Result<&str, usize> {
    std::str::from_utf8(bytes)
        .map_err(|error| 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn encoder() -> TextEncoder {
        TextEncoder::from_json(&golden::bytes("model/tokenizer.json"), "tokenizer.json").unwrap()
    }

    fn example(text: &str, pair: Option<&str>) -> Example {
        Example { text: text.into(), pair: pair.map(Into::into), label: 0 }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn one_text_stands_between_start_and_end() {
        let encoder = encoder();
        let plain = encoder.ids_of_text("the play").unwrap();
        let ids = encoder.encode(&example("the play", None), 99, Join::Separated).unwrap().0;
        assert_eq!(ids, [&[0][..], &plain, &[2]].concat());
        assert_eq!(encoder.encode(&example("", None), 2, Join::Separated).unwrap(), (vec![0, 2], 2));
    }

    #[test]
    fn pairs_are_separated_or_glued() {
        let encoder = encoder();
        let pair = example("the play", Some("a song"));
        let (first, second) =
            (encoder.ids_of_text("the play").unwrap(), encoder.ids_of_text("a song").unwrap());
        let (separated, place) = encoder.encode(&pair, 99, Join::Separated).unwrap();
        assert_eq!((separated[place - 1], &separated[place..place + second.len()]), (2, &second[..]));
        assert_eq!(separated, [&[0][..], &first, &[2, 2], &second, &[2]].concat());
        let glued = encoder.encode(&pair, 99, Join::Paper).unwrap();
        assert_eq!(glued, encoder.encode(&example("the playa song", None), 99, Join::Paper).unwrap());
    }

    #[test]
    fn longest_first_by_hand() {
        assert_eq!(longest_first(3, 4, 7), (3, 4));
        assert_eq!(longest_first(2, 9, 7), (2, 5));
        assert_eq!(longest_first(9, 2, 7), (5, 2));
        assert_eq!(longest_first(9, 8, 7), (4, 3));
        assert_eq!(longest_first(8, 9, 7), (3, 4));
        assert_eq!(longest_first(8, 8, 7), (3, 4));
        assert_eq!(longest_first(4, 4, 1), (0, 1));
        assert_eq!(longest_first(4, 4, 0), (0, 0));
        assert_eq!(longest_first(usize::MAX, usize::MAX, 8), (4, 4));
    }

    #[test]
    fn cutting_keeps_the_special_tokens() {
        let encoder = encoder();
        let pair = example("the play is dull and long", Some("a song"));
        for max_tokens in 4..12 {
            let (ids, _) = encoder.encode(&pair, max_tokens, Join::Separated).unwrap();
            assert!(ids.len() <= max_tokens);
            assert_eq!(ids.iter().filter(|id| **id == 2).count(), 3);
        }
        let refused = |example: Example, max_tokens| {
            encoder.encode(&example, max_tokens, Join::Separated).unwrap_err().to_string()
        };
        assert!(refused(pair, 3).contains("may take 3 tokens, but 4 are needed"));
        assert!(refused(example("a", None), 1).contains("may take 1 tokens, but 2 are needed"));
    }

    #[test]
    fn golden_ids_and_lengths() {
        let file = golden::bytes("expected.safetensors");
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        let numbers = |name: &str| -> Vec<i64> {
            let data = tensors.tensor(name).unwrap().data().chunks_exact(8);
            data.map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
        };
        let (ids, lengths) = (numbers("test_ids"), numbers("test_lens"));
        let width = ids.len() / lengths.len();
        let test = &golden::dataset("jsonl").splits["test"];
        let encoded = encoder().encode_all(test, 122, Join::Separated).unwrap();
        assert_eq!(encoded.len(), lengths.len());
        assert_eq!(lengths.iter().max(), Some(&122), "one text is cut");
        for (row, text) in encoded.iter().enumerate() {
            let expected = &ids[row * width..][..lengths[row] as usize];
            assert!(text.ids.iter().map(|id| i64::from(*id)).eq(expected.iter().copied()), "row {row}");
            assert_eq!((text.row, text.label), (row as u64, test[row].label as usize));
        }
        let verbalizer = encoder().verbalizer(&words(&["negative", "positive"])).unwrap();
        assert!(verbalizer.ids.iter().map(|id| i64::from(*id)).eq(numbers("verbalizer_ids")));
    }

    #[test]
    fn the_older_files_give_the_same_ids() {
        let (vocab, merges) = (golden::bytes("model/vocab.json"), golden::bytes("model/merges.txt"));
        let older = TextEncoder::from_vocab_and_merges(&vocab, &merges, "model").unwrap();
        let newer = encoder();
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
    fn words_are_taken_as_they_are_written() {
        let encoder = encoder();
        let verbalizer = encoder.verbalizer(&words(&[" the", "the"])).unwrap();
        assert_eq!(verbalizer.tokens, [" the", "the"]);
        assert_eq!(verbalizer.lengths, [1, 1]);
        assert_eq!(verbalizer.cut_words().count(), 0);
    }

    #[test]
    fn words_of_several_tokens_are_reported() {
        let verbalizer = encoder().verbalizer(&words(&["negative", "xylophone"])).unwrap();
        assert!(verbalizer.cut_words().any(|(word, token)| word == "xylophone" && token == "x"));
    }

    #[test]
    fn words_that_cannot_answer_are_refused() {
        let refused = |given: &[&str]| encoder().verbalizer(&words(given)).unwrap_err().to_string();
        assert!(refused(&["xyz", "b", "xzy"]).contains("\"xyz\" (class 0) and \"xzy\" (class 2) both begin"));
        assert_eq!(refused(&["good", ""]), "verbalizer word \"\" of class 1 has no token");
    }

    #[test]
    fn unlabelled_rows_are_not_encoded() {
        let rows = [example("a", None), Example { label: -1, ..example("b", None) }];
        let error = encoder().encode_all(&rows, 9, Join::Separated).unwrap_err();
        assert_eq!(error.to_string(), "row 1: has no label");
    }

    /// A row that says when it goes.
    struct Counted<'c>(Example, &'c AtomicUsize);

    impl Borrow<Example> for Counted<'_> {
        fn borrow(&self) -> &Example {
            &self.0
        }
    }

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn rows_are_let_go_of_on_the_way() {
        let (there, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let rows = (0..2 * ROUND + 5).map(|row| {
            most.fetch_max(there.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            Counted(Example { label: row as i64 % 2, ..example(&format!("{row}"), None) }, &there)
        });
        let encoder = encoder();
        let texts = encoder.encode_all(rows, 9, Join::Separated).unwrap();
        assert_eq!((there.into_inner(), most.into_inner()), (0, ROUND));
        for row in [0, ROUND - 1, ROUND, 2 * ROUND, 2 * ROUND + 4] {
            let text = &texts[row];
            let (ids, second) =
                encoder.encode(&example(&format!("{row}"), None), 9, Join::Separated).unwrap();
            assert_eq!(
                (&text.ids[..], text.second, text.label, text.row),
                (&ids[..], second, row % 2, row as u64)
            );
        }
    }

    #[test]
    fn damaged_files_are_errors_that_name_them() {
        let refused = |bytes: &[u8]| TextEncoder::from_json(bytes, "t.json").unwrap_err().to_string();
        assert!(refused(b"{").starts_with("t.json: not a tokenizer: "));
        let text = String::from_utf8(golden::bytes("model/tokenizer.json")).unwrap();
        assert_eq!(
            refused(text.replace("<mask>", "<msk>").as_bytes()),
            "t.json: expected a token \"<mask>\", found none"
        );

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

    #[test]
    fn flipped_bytes_give_a_tokenizer_or_an_error() {
        let bytes = golden::bytes("model/tokenizer.json");
        // Panics of the parser are caught; their messages are of no use here.
        std::panic::set_hook(Box::new(|_| {}));
        let mut refused = 0;
        for place in (0..bytes.len()).step_by(1 + bytes.len() / 400) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << (place % 7);
            match TextEncoder::from_json(&damaged, "t.json") {
                Ok(encoder) => drop(encoder.encode(&example("the play is dull", None), 9, Join::Separated)),
                Err(_) => refused += 1,
            }
        }
        let _ = std::panic::take_hook();
        assert!(refused > 100, "{refused} of the mutants were noticed");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_text_survives_its_tokens(text in "\\PC{0,60}", max_tokens in 2usize..40) {
            let encoder = encoder();
            let (ids, _) = encoder.encode(&example(&text, None), max_tokens, Join::Separated).unwrap();
            prop_assert!(ids.len() <= max_tokens);
            prop_assert_eq!((ids[0], ids[ids.len() - 1]), (0, 2));
        }
    }
}
