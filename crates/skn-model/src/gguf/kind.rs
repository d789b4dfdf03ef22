use skn_artifact::GgufFile;

use crate::error::{ModelError, Result};

/// The kinds of models that are read of GGUF files, as those call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Llama, and Mistral too.
    Llama,
    Qwen2,
    Qwen3,
    Gemma2,
    Gemma3,
    GptNeox,
    Gpt2,
}

/// What a file says it is, and the `model_type` of it.
const ALL: [(&str, Kind, &str); 7] = [
    ("llama", Kind::Llama, "llama"),
    ("qwen2", Kind::Qwen2, "qwen2"),
    ("qwen3", Kind::Qwen3, "qwen3"),
    ("gemma2", Kind::Gemma2, "gemma2"),
    ("gemma3", Kind::Gemma3, "gemma3_text"),
    ("gptneox", Kind::GptNeox, "gpt_neox"),
    ("gpt2", Kind::Gpt2, "gpt2"),
];

const KEY: &str = "general.architecture";

impl Kind {
    /// What a file says it is.
    ///
    /// # Errors
    /// If it says nothing, or what is not read.
    pub(crate) fn of(file: &GgufFile) -> Result<Self> {
        let expected = || format!("one of {}", ALL.map(|(name, ..)| name).join(", "));
        let wrong = |found: &str| ModelError::field(file.path(), KEY, expected(), found);
        let name = file.text(KEY)?.ok_or_else(|| wrong("nothing"))?;
        let found = ALL.iter().find(|(known, ..)| *known == name);
        found.map(|(_, kind, _)| *kind).ok_or_else(|| wrong(&format!("{name:?}")))
    }

    /// What its keys begin with.
    pub(crate) fn name(self) -> &'static str {
        ALL.iter().find(|(_, kind, _)| *kind == self).map_or("", |(name, ..)| name)
    }

    /// transformers' name of it.
    pub(crate) fn model_type(self) -> &'static str {
        ALL.iter().find(|(_, kind, _)| *kind == self).map_or("", |(.., model_type)| model_type)
    }
}
