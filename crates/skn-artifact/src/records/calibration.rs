use serde::{Deserialize, Serialize};

/// `RUN/calibration.json`: the temperature by which logits are divided so that probabilities are true.
///
/// ```
/// let text = r#"{
///   "task": "sst2", "temperature": 1.62, "rows": 872, "words": ["negative", "positive"],
///   "model_sha256": "ab12", "tuning_sha256": "cd34",
///   "before": {"nll": 0.31, "calibration_error": 0.058}, "after": {"nll": 0.26, "calibration_error": 0.021}
/// }"#;
/// let calibration: skn_artifact::Calibration = serde_json::from_str(text)?;
/// assert_eq!(calibration.temperature, 1.62);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The task's name.
    pub task: String,
    /// The temperature, above 0; 1 changes nothing.
    pub temperature: f64,
    /// Rows of dev, which it was fitted on.
    pub rows: u64,
    /// The words that answer, in class order.
    pub words: Vec<String>,
    /// Hash of the model's tensors.
    pub model_sha256: String,
    /// Hash of the tuned parameters.
    pub tuning_sha256: String,
    /// What probabilities of dev were like without it.
    pub before: Likelihood,
    /// What they are like with it.
    pub after: Likelihood,
}

/// How true probabilities are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// Mean negative log-likelihood, in nats.
    pub nll: f64,
    /// Expected calibration error over 15 bins of equal width.
    pub calibration_error: f64,
}
