//! The tokenizer in a GGUF file, as the files that transformers has of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use skn_artifact::GgufFile;

use super::files::{JSON, SETTINGS, TokenizerFiles};
use crate::error::{DataError, Result};

const KIND: &str = "tokenizer.ggml.model";
const PARTING: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SPACE: &str = "tokenizer.ggml.add_space_prefix";

/// What to do where no tokenizer is made of a file.
const REMEDY: &str = "put the model's tokenizer.json beside the file";

impl TokenizerFiles<'_> {
    /// Adds the tokenizer that a GGUF file holds: its `tokenizer.json` and `tokenizer_config.json`.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`], naming the file and the key, if it has none, or one of which none can be made that gives the ids of
    /// the model's own.
    pub fn insert_gguf(&mut self, file: &GgufFile) -> Result<()> {
        let Made { tokenizer, settings } = made(file)?;
        self.insert(JSON, tokenizer.to_string().into_bytes());
        self.insert(SETTINGS, settings.to_string().into_bytes());
        Ok(())
    }
}

struct Made {
    tokenizer: Value,
    settings: Value,
}

/// The ways to part texts, by what files call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
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
    fn begins(self) -> bool {
        self == Self::Llama3
    }
}

/// What `tokenizer.ggml.token_type` says of a token.
mod token_type {
    pub(super) const NORMAL: i64 = 1;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
    pub(super) const UNUSED: i64 = 5;
}

fn made(file: &GgufFile) -> Result<Made> {
    let wrong = |key: &str, expected: &str, found: String| DataError::Tokenizer {
        file: file.path().display().to_string(),
        reason: format!("key `{key}`: expected {expected}, found {found}"),
    };
    match file.text(KIND)? {
        Some("gpt2") => {}
        Some(other) => {
            let expected =
                format!("\"gpt2\", as other kinds of tokenizers are not made of a GGUF file; {REMEDY}");
            return Err(wrong(KIND, &expected, format!("{other:?}")));
        }
        None => return Err(wrong(KIND, &format!("a tokenizer; {REMEDY}"), "nothing".into())),
    }
    let named = file.text(PARTING)?;
    let parting = named.and_then(|named| PARTINGS.iter().find(|(name, _)| *name == named));
    let (_, parting) = *parting.ok_or_else(|| {
        let known = PARTINGS.map(|(name, _)| name).join(", ");
        let found = named.map_or_else(|| "nothing".to_owned(), |named| format!("{named:?}"));
        wrong(PARTING, &format!("one of {known}, as it is not known how others part texts; {REMEDY}"), found)
    })?;
    let space = file.flag(SPACE)?.unwrap_or(false);
    if space && parting != Parting::Gpt2 {
        return Err(wrong(SPACE, &format!("false where {PARTING} is not gpt-2; {REMEDY}"), "true".into()));
    }
    let tokens = file.texts(TOKENS)?.ok_or_else(|| wrong(TOKENS, "a list of tokens", "nothing".into()))?;
    let types = file.integers(TYPES)?.unwrap_or_else(|| vec![token_type::NORMAL; tokens.len()]);
    if types.len() != tokens.len() {
        return Err(wrong(
            TYPES,
            &format!("as many as there are tokens, {}", tokens.len()),
            types.len().to_string(),
        ));
    }
    let (mut vocabulary, mut added) = (Map::new(), Vec::new());
    for (id, (token, kind)) in tokens.iter().zip(&types).enumerate() {
        match *kind {
            token_type::UNUSED => continue,
            token_type::NORMAL => {}
            token_type::CONTROL | token_type::USER_DEFINED => added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": *kind == token_type::CONTROL,
            })),
            other => {
                let expected = "1 (normal), 3 (control), 4 (user defined) or 5 (unused)";
                return Err(wrong(TYPES, expected, format!("{other} of token {id}")));
            }
        }
        if vocabulary.insert((*token).to_owned(), json!(id)).is_some() {
            return Err(wrong(
                TOKENS,
                "each token once",
                format!("{token:?} twice, the second time with the id {id}"),
            ));
        }
    }
    let merges = file.texts(MERGES)?.ok_or_else(|| wrong(MERGES, "a list of merges", "nothing".into()))?;
    let merges = merges.iter().enumerate().map(|(number, merge)| {
        pair(merge).ok_or_else(|| {
            wrong(MERGES, "two tokens with a blank between", format!("{merge:?}, number {number}"))
        })
    });
    let merges: Vec<Value> = merges.collect::<Result<_>>()?;
    let named = named_tokens(file, &tokens, &types, &wrong)?;
    let around = Around::of(file, parting, &named, &wrong)?;
    let architecture = file.text("general.architecture")?;
    // transformers normalises texts for these.
    let composed = matches!(parting, Parting::Olmo | Parting::Qwen2) || architecture == Some("gptneox");
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": if composed { json!({"type": "NFC"}) } else { Value::Null },
        "pre_tokenizer": parting.pre_tokenizer(space),
        "post_processor": around.post_processor(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": parting == Parting::Llama3, "vocab": vocabulary, "merges": merges,
        },
    });
    let mut settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "add_bos_token": around.before.is_some(),
        "add_eos_token": around.after.is_some(),
    });
    if let Some(settings) = settings.as_object_mut() {
        settings.extend(named.into_iter().map(|(name, (_, token))| (name.to_owned(), json!(token))));
    }
    Ok(Made { tokenizer, settings })
}

/// Two tokens, of which the first may itself be a blank.
fn pair(merge: &str) -> Option<Value> {
    let (place, _) = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ')?;
    let (left, right) = merge.split_at_checked(place)?;
    let right = right.strip_prefix(' ').filter(|right| !right.is_empty())?;
    Some(json!([left, right]))
}

type Named<'f> = BTreeMap<&'static str, (u64, &'f str)>;

/// The special tokens that a file names, by transformers' attribute.
fn named_tokens<'f>(
    file: &'f GgufFile,
    tokens: &[&'f str],
    types: &[i64],
    wrong: &dyn Fn(&str, &str, String) -> DataError,
) -> Result<Named<'f>> {
    let mut named = Named::new();
    for (key, attribute) in
        [("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")]
    {
        let key = format!("tokenizer.ggml.{key}_token_id");
        let Some(id) = file.integer(&key)? else { continue };
        let place = usize::try_from(id).unwrap_or(usize::MAX);
        let token = tokens.get(place).zip(types.get(place));
        let token = token.filter(|(_, kind)| **kind != token_type::UNUSED).map(|(token, _)| *token);
        let token = token.ok_or_else(|| wrong(&key, "the id of a token that is used", id.to_string()))?;
        named.insert(attribute, (id, token));
    }
    Ok(named)
}

/// What stands before and behind a text.
struct Around<'f> {
    before: Option<(u64, &'f str)>,
    after: Option<(u64, &'f str)>,
}

impl<'f> Around<'f> {
    fn of(
        file: &GgufFile,
        parting: Parting,
        named: &Named<'f>,
        wrong: &dyn Fn(&str, &str, String) -> DataError,
    ) -> Result<Self> {
        let token = |name: &str, attribute: &str, usual: bool| {
            let key = format!("tokenizer.ggml.add_{name}_token");
            if !file.flag(&key)?.unwrap_or(usual) {
                return Ok(None);
            }
            let expected = format!("false, or tokenizer.ggml.{name}_token_id, which says what stands there");
            named.get(attribute).copied().map(Some).ok_or_else(|| wrong(&key, &expected, "true".into()))
        };
        for other in ["sep", "mask"] {
            let key = format!("tokenizer.ggml.add_{other}_token");
            if file.flag(&key)? == Some(true) {
                return Err(wrong(&key, &format!("false; {REMEDY}"), "true".into()));
            }
        }
        Ok(Self {
            before: token("bos", "bos_token", parting.begins())?,
            after: token("eos", "eos_token", false)?,
        })
    }

    /// As transformers makes it: the same around each text of a pair.
    fn post_processor(&self) -> Value {
        if self.before.is_none() && self.after.is_none() {
            return Value::Null;
        }
        let around = |text: &str, kind: u32| {
            let token = |token: &Option<(u64, &str)>| {
                token.map(|(_, name)| json!({"SpecialToken": {"id": name, "type_id": kind}}))
            };
            let text = json!({"Sequence": {"id": text, "type_id": kind}});
            [token(&self.before), Some(text), token(&self.after)].into_iter().flatten().collect::<Vec<_>>()
        };
        let tokens: Map<String, Value> = [self.before, self.after]
            .into_iter()
            .flatten()
            .map(|(id, name)| (name.to_owned(), json!({"id": name, "ids": [id], "tokens": [name]})))
            .collect();
        let pair = [around("A", 0), around("B", 1)].concat();
        json!({"type": "TemplateProcessing", "single": around("A", 0), "pair": pair, "special_tokens": tokens})
    }
}
