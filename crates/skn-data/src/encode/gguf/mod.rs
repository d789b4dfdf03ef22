//! The tokenizer in a GGUF file, as the files that transformers has of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use skn_artifact::GgufFile;

use super::files::{JSON, SETTINGS, TokenizerFiles};
use crate::error::Result;

mod bpe;
mod pieces;
mod said;
mod words;

use said::{KIND, REMEDY, Said};
use words::Words;

impl TokenizerFiles<'_> {
    /// Adds the tokenizer that a GGUF file holds: its `tokenizer.json` and `tokenizer_config.json`.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`](crate::DataError::Tokenizer), naming the file and the key, if it has none, or one of which none can be
    /// made that gives the ids of the model's own.
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

fn made(file: &GgufFile) -> Result<Made> {
    let said = Said { file };
    let (words, mut tokenizer, begins) = match file.text(KIND)? {
        Some("gpt2") => {
            let parting = bpe::parting(&said)?;
            let words = Words::of(&said, &[])?;
            let parts = bpe::parts(&said, parting, &words)?;
            (words, parts, parting.0.begins())
        }
        Some("llama") => {
            let words = Words::of(&said, &pieces::KINDS)?;
            let parts = pieces::parts(&said, &words)?;
            (words, parts, true)
        }
        Some(other) => {
            let expected =
                format!("gpt2 or llama, as other kinds of tokenizers are not made of a GGUF file; {REMEDY}");
            return Err(said.wrong(KIND, &expected, format!("{other:?}")));
        }
        None => return Err(said.wrong(KIND, &format!("a tokenizer; {REMEDY}"), "nothing".into())),
    };
    let named = named_tokens(&said, &words)?;
    let around = Around::of(&said, begins, &named)?;
    let mut settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "add_bos_token": around.before.is_some(),
        "add_eos_token": around.after.is_some(),
    });
    if let (Some(tokenizer), Some(settings)) = (tokenizer.as_object_mut(), settings.as_object_mut()) {
        tokenizer.insert("post_processor".to_owned(), around.post_processor());
        settings.extend(named.into_iter().map(|(name, (_, token))| (name.to_owned(), json!(token))));
    }
    Ok(Made { tokenizer, settings })
}

type Named<'f> = BTreeMap<&'static str, (u64, &'f str)>;

/// The special tokens that a file names, by transformers' attribute.
fn named_tokens<'f>(said: &Said<'f>, words: &Words<'f>) -> Result<Named<'f>> {
    let mut named = Named::new();
    for (key, attribute) in
        [("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")]
    {
        let key = format!("tokenizer.ggml.{key}_token_id");
        let Some(id) = said.file.integer(&key)? else { continue };
        let expected = "the id of a token that is used";
        let token = words.used(id).ok_or_else(|| said.wrong(&key, expected, id.to_string()))?;
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
    /// `begins` is whether a begin token stands before a text where the file does not say it.
    fn of(said: &Said<'_>, begins: bool, named: &Named<'f>) -> Result<Self> {
        let token = |name: &str, attribute: &str, usual: bool| {
            let key = format!("tokenizer.ggml.add_{name}_token");
            if !said.file.flag(&key)?.unwrap_or(usual) {
                return Ok(None);
            }
            let expected = format!("false, or tokenizer.ggml.{name}_token_id, which says what stands there");
            named.get(attribute).copied().map(Some).ok_or_else(|| said.wrong(&key, &expected, "true".into()))
        };
        for other in ["sep", "mask"] {
            let key = format!("tokenizer.ggml.add_{other}_token");
            if said.file.flag(&key)? == Some(true) {
                return Err(said.wrong(&key, &format!("false; {REMEDY}"), "true".into()));
            }
        }
        Ok(Self { before: token("bos", "bos_token", begins)?, after: token("eos", "eos_token", false)? })
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
