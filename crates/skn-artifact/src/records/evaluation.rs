use serde::{Deserialize, Serialize};

/// `RUN/<task>/test_evaluation.json`: how a model answers a part of the data.
///
/// ```
/// let text = r#"{
///   "task": "sst2", "part": "test", "rows": 872, "metric": "accuracy", "score": 0.93, "interval": [0.91, 0.95],
///   "accuracy": 0.93, "confusion": [[400, 28], [33, 411]],
///   "classes": [
///     {"word": "negative", "precision": 0.924, "recall": 0.935, "f1": 0.929, "support": 428},
///     {"word": "positive", "precision": 0.936, "recall": 0.926, "f1": 0.931, "support": 444}
///   ],
///   "nll": 0.19, "brier": 0.1, "calibration_error": 0.02, "bins": 15, "cut": 0, "max_tokens": 496,
///   "model_sha256": "ab12", "tuning_sha256": "cd34", "data_sha256": "ef56"
/// }"#;
/// let evaluation: skn_artifact::EvaluationRecord = serde_json::from_str(text)?;
/// assert_eq!(evaluation.classes[1].support, 444);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// The task's name.
    pub task: String,
    /// Train, dev or test; `new` for other data than the run's.
    pub part: String,
    /// Its rows.
    pub rows: u64,
    /// The task's metric.
    pub metric: String,
    /// The metric.
    pub score: f64,
    /// Its 95 % interval over rows: Wilson's for accuracy, else a bootstrap's.
    pub interval: [f64; 2],
    /// Share of right answers.
    pub accuracy: f64,
    /// Rows by true class and answer, `[classes][classes]`.
    pub confusion: Vec<Vec<u64>>,
    /// Each class.
    pub classes: Vec<ClassEvaluation>,
    /// Mean negative log-likelihood of the true classes, in nats.
    pub nll: f64,
    /// Brier's score, summed over classes: from 0 to 2.
    pub brier: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// The bins that it is over, of equal width.
    pub bins: usize,
    /// The temperature that the probabilities are of, where they are calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Texts that were longer than the model takes and were cut.
    pub cut: u64,
    /// The most tokens of a text, those around it included.
    pub max_tokens: usize,
    /// Hash of the model's tensors.
    pub model_sha256: String,
    /// Hash of the tuned parameters.
    pub tuning_sha256: String,
    /// Hash of the rows.
    pub data_sha256: String,
}

/// How one class is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassEvaluation {
    /// The word that answers for it.
    pub word: String,
    /// What the user calls it, where the task says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Share of the rows answered with it that are of it; 0 where none is answered with it.
    pub precision: f64,
    /// Share of its rows that are answered with it; 0 where it has none.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Its rows.
    pub support: u64,
}
