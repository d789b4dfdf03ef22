use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::size::Size;

/// Which model, which task, which data. What is not said is as in the run that is resumed from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Subject {
    /// A folder, a GGUF file, `owner/name[@revision]` of the local Hugging Face cache, or `demo`; default `roberta-base`.
    pub model: Option<String>,
    /// The task; default `sst2`, or of the demo `sentiment`.
    pub task: Option<TaskChoice>,
    /// A folder or file of the data set, or `owner/name[@revision][:folder]` of the cache. Tasks of the demo bring theirs.
    pub data: Option<PathBuf>,
    /// Most bytes of text to read, 64 more counted for each row; default [`Size::DATA`].
    pub max_data: Option<Size>,
    /// Words of the verbalizer in class order; default: the task's.
    pub words: Option<Vec<String>>,
    /// Longest text in tokens, `<s>` and `</s>` included; default: what the model takes.
    pub max_length: Option<NonZeroUsize>,
    /// Whether to do as the published implementation did where it differs.
    pub paper: bool,
    /// Seed of everything random; default 0.
    pub seed: u64,
}

/// A task by name, or described in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskChoice {
    /// One that is built in, or one of the demo's.
    Named(String),
    /// One of the user's own, in a TOML file.
    File(PathBuf),
}

impl From<&str> for TaskChoice {
    fn from(name: &str) -> Self {
        Self::Named(name.into())
    }
}

impl Subject {
    /// The name of the embedded model.
    pub const DEMO: &str = "demo";
    /// The model of who names none.
    pub const MODEL: &str = "roberta-base";
    /// The task of who names none and resumes from none.
    pub const TASK: &str = "sst2";

    /// The embedded demo on one of its tasks.
    pub fn demo(task: &str) -> Self {
        Self { model: Some(Self::DEMO.into()), task: Some(task.into()), ..Self::default() }
    }
}
