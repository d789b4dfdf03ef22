use serde_json::{Map, Value, json};
use skn_artifact::GgufFile;

use super::kind::Kind;
use crate::error::{ModelError, Result};

/// Keys that change nothing here, behind the kind's name.
const NEUTRAL: [&str; 6] = [
    // The rows of the words' table say it.
    "vocab_size",
    // Nobody computes by these where `rope.scaling.type` is none or linear, and others are refused.
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.attn_factor",
    "tensor_data_layout",
    // Mixtures of experts have more than none, which is refused.
    "expert_used_count",
];

/// What a file says, as fields of a configuration; and which keys were asked for.
pub(super) struct Says<'f> {
    pub(super) file: &'f GgufFile,
    pub(super) kind: Kind,
    pub(super) fields: Map<String, Value>,
    asked: Vec<String>,
}

impl<'f> Says<'f> {
    pub(super) fn new(file: &'f GgufFile, kind: Kind) -> Self {
        Self { file, kind, fields: Map::new(), asked: Vec::new() }
    }

    fn key(&mut self, name: &str) -> String {
        let key = format!("{}.{name}", self.kind.name());
        self.asked.push(key.clone());
        key
    }

    pub(super) fn wrong(&self, key: &str, expected: impl ToString, found: impl ToString) -> ModelError {
        ModelError::field(self.file.path(), key, expected, found)
    }

    pub(super) fn integer_if_any(&mut self, name: &str) -> Result<Option<u64>> {
        let key = self.key(name);
        if self.file.is_list(&key) {
            let found = "a list: layers that differ in it are not computed here";
            return Err(self.wrong(&key, "an integer", found));
        }
        Ok(self.file.integer(&key)?)
    }

    pub(super) fn integer(&mut self, name: &str) -> Result<u64> {
        let found = self.integer_if_any(name)?;
        found.ok_or_else(|| self.wrong(&format!("{}.{name}", self.kind.name()), "an integer", "nothing"))
    }

    pub(super) fn number_if_any(&mut self, name: &str) -> Result<Option<f64>> {
        let key = self.key(name);
        Ok(self.file.number(&key)?)
    }

    pub(super) fn number(&mut self, name: &str) -> Result<f64> {
        let found = self.number_if_any(name)?;
        found.ok_or_else(|| self.wrong(&format!("{}.{name}", self.kind.name()), "a number", "nothing"))
    }

    pub(super) fn flag_if_any(&mut self, name: &str) -> Result<Option<bool>> {
        let key = self.key(name);
        Ok(self.file.flag(&key)?)
    }

    pub(super) fn text_if_any(&mut self, name: &str) -> Result<Option<&'f str>> {
        let key = self.key(name);
        Ok(self.file.text(&key)?)
    }

    /// A list of truth values, or an integer.
    pub(super) fn pattern_if_any(&mut self, name: &str) -> Result<Option<Pattern>> {
        let key = self.key(name);
        if self.file.is_list(&key) {
            return Ok(self.file.flags(&key)?.map(Pattern::Flags));
        }
        Ok(self.file.integer(&key)?.map(Pattern::Every))
    }

    /// Sets a field of the configuration.
    pub(super) fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.fields.insert(field.to_owned(), value.into());
    }

    /// Refuses what a model is said to do and is not computed here.
    ///
    /// # Errors
    /// Names the key.
    pub(super) fn check_rest(&mut self) -> Result<()> {
        let experts = self.integer_if_any("expert_count")?.unwrap_or(0);
        if experts > 0 {
            let key = format!("{}.expert_count", self.kind.name());
            return Err(self.wrong(&key, "0: mixtures of experts are not computed here", experts));
        }
        let own = format!("{}.", self.kind.name());
        for key in self.file.keys() {
            let Some(name) = key.strip_prefix(&own) else { continue };
            let is_known = self.asked.iter().any(|asked| asked == key) || NEUTRAL.contains(&name);
            if !is_known {
                let found = "this one, which may change what is computed";
                return Err(self.wrong(key, "only keys that are known here", found));
            }
        }
        let parts = self.file.integer("split.count")?.unwrap_or(1);
        if parts > 1 {
            let remedy = "join them with `llama-gguf-split --merge` of llama.cpp";
            return Err(self.wrong(
                "split.count",
                "1",
                format!("{parts}: the model is in several files; {remedy}"),
            ));
        }
        Ok(())
    }

    /// Sets the ids of special tokens, as far as they are said.
    pub(super) fn set_tokens(&mut self) -> Result<()> {
        for (key, field) in [
            ("tokenizer.ggml.bos_token_id", "bos_token_id"),
            ("tokenizer.ggml.eos_token_id", "eos_token_id"),
            ("tokenizer.ggml.padding_token_id", "pad_token_id"),
        ] {
            if let Some(id) = self.file.integer(key)? {
                self.fields.insert(field.to_owned(), json!(id));
            }
        }
        Ok(())
    }
}

/// Which layers have a window.
pub(super) enum Pattern {
    Flags(Vec<bool>),
    Every(u64),
}
