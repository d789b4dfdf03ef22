use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skn_model::{Method, PromptPlace, ReadAs};

use super::text;

/// Tuned parameters: those of a run, or new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Tuned {
    /// The tuning method; default: that of the loaded parameters, of new ones a prompt.
    pub method: Option<TunedMethod>,
    /// Prompt positions, the `<mask>` row counted; default [`Tuned::PROMPT_SIZE`], or what a loaded prompt has.
    pub prompt_size: Option<NonZeroUsize>,
    /// A new prompt that somebody wrote, in place of one of chance: the embeddings of its tokens, behind the `<mask>` row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_text: Option<String>,
    /// Where a decoder's prompt stands; default behind the text, or where a loaded prompt stands.
    #[serde(with = "text::option")]
    pub prompt_place: Option<PromptPlace>,
    /// A run, or a folder with tuned parameters: ours, PEFT's or AdapterHub's.
    pub resume_from: Option<PathBuf>,
    /// Whether the tuned parameters there are loaded. Otherwise only model, task and data are as there.
    pub load: bool,
    /// Whether the `<mask>` row is put before a loaded prompt that does not start with it.
    pub prepend_mask: bool,
    /// Whether the label words answer although a classifier was saved with the loaded parameters.
    pub verbalizer: bool,
}

impl Tuned {
    /// Prompt positions of a new prompt, unless said otherwise.
    pub const PROMPT_SIZE: usize = 16;

    /// The tuned parameters of a run.
    pub fn of(run: impl Into<PathBuf>) -> Self {
        Self { resume_from: Some(run.into()), load: true, ..Self::default() }
    }

    /// How the tuned parameters there are taken.
    pub(crate) fn read_as(&self) -> ReadAs {
        ReadAs { prepend_mask: self.prepend_mask, verbalizer: self.verbalizer }
    }

    /// The same, tuned by this method.
    pub fn by(self, method: TunedMethod) -> Self {
        Self { method: Some(method), ..self }
    }

    /// The method of new parameters.
    pub(crate) fn new_method(&self) -> TunedMethod {
        self.method.unwrap_or_default()
    }
}

/// How parameters are tuned, by the original's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TunedMethod {
    /// A soft prompt
    #[default]
    #[serde(rename = "RobertaPrompt")]
    Prompt,
    /// BitFit: every bias
    #[serde(rename = "RobertaBias")]
    Bias,
    /// Adapters after the FFN
    #[serde(rename = "RobertaAdapter")]
    Adapter,
    /// A soft prompt on a pruned model
    #[serde(rename = "RobertaPrunePrompt")]
    PrunePrompt,
}

impl TunedMethod {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Prompt, Self::Bias, Self::Adapter, Self::PrunePrompt];

    /// The name that the original gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "RobertaPrompt",
            Self::Bias => "RobertaBias",
            Self::Adapter => "RobertaAdapter",
            Self::PrunePrompt => "RobertaPrunePrompt",
        }
    }

    /// What is tuned.
    pub fn method(self) -> Method {
        match self {
            Self::Prompt | Self::PrunePrompt => Method::Prompt,
            Self::Bias => Method::Bias,
            Self::Adapter => Method::Adapter,
        }
    }
}
