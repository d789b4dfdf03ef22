use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `RUN/best/skn.json`: what the tuned parameters beside it are.
///
/// ```
/// let text = r#"{
///   "method": "RobertaPrompt", "prompt_size": 16,
///   "verbalizer": {"words": ["negative", "positive"], "ids": [33407, 22173]},
///   "task": "sst2", "model": {"id": "roberta-base", "sha256": "ab12"},
///   "metric": "accuracy", "dev_score": 0.93, "step": 2000,
///   "files": {"adapter_model.safetensors": "cd34"}
/// }"#;
/// let config: skn_artifact::SkillConfig = serde_json::from_str(text)?;
/// assert_eq!(config.prompt_size, 16);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkillConfig {
    /// The tuning method, by the original's name.
    pub method: String,
    /// P: the rows before `<s>`, the `<mask>` row counted.
    pub prompt_size: usize,
    /// Where a decoder's prompt stands: `front` or `after` the text. An encoder's stands in front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_place: Option<String>,
    /// The words of the classes.
    pub verbalizer: VerbalizerRecord,
    /// The task's name.
    pub task: String,
    /// SHA-256 of the task's template, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_sha256: Option<String>,
    /// How its texts are read, cut and joined.
    #[serde(default, skip_serializing_if = "TextsRecord::is_empty")]
    pub texts: TextsRecord,
    /// The backbone.
    pub model: ModelIdentity,
    /// The metric of `dev_score`.
    pub metric: String,
    /// The metric on dev.
    pub dev_score: f64,
    /// The training step that it was reached at.
    pub step: u64,
    /// The other files of the folder, with their SHA-256. Written last, so that a folder whose files are torn apart
    /// by a crash is told from a whole one.
    pub files: BTreeMap<String, String>,
}

/// How a task's texts are read, cut and joined, as far as the task's name does not say it: so that the folder answers texts
/// wherever it lies, without the task's file and the run's record.
///
/// ```
/// let text = r#"{"task": {"name": "reviews", "text": ["review"]}, "settings": {"max_length": "40"}}"#;
/// let texts: skn_artifact::TextsRecord = serde_json::from_str(text)?;
/// assert_eq!(texts.settings["max_length"], "40");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextsRecord {
    /// The task as its file says it, of a task that is not built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<serde_json::Value>,
    /// The settings of the stage that wrote it which others read: `max_length`, `compat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl TextsRecord {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.task.is_none() && self.settings.is_empty()
    }
}

/// The model that something was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// `owner/name`, or a folder's last component.
    pub id: String,
    /// Hash of its tensors, see [`tensor_hash`](crate::tensor_hash).
    pub sha256: String,
}

/// The words that stand for the classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbalizerRecord {
    /// One word a class, in class order.
    pub words: Vec<String>,
    /// The token of each.
    pub ids: Vec<u32>,
}
