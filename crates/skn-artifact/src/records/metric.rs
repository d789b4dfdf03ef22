use serde::{Deserialize, Serialize};

/// A line of `RUN/metrics.jsonl`: an evaluation while training.
///
/// ```
/// let text = r#"{"step":100,"epoch":1,"train_loss":0.41,"metric":"accuracy","dev_score":0.9,"dev_loss":0.3,
///   "learning_rate":0.0008,"gradient_norm":0.7,"best":true}"#;
/// let record: skn_artifact::MetricRecord = serde_json::from_str(text)?;
/// assert!(record.best);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricRecord {
    /// Training steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Mean loss a row since the last line.
    pub train_loss: f64,
    /// The task's metric.
    pub metric: String,
    /// The metric on dev.
    pub dev_score: f64,
    /// Mean cross-entropy on dev.
    pub dev_loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Norm of the last step's gradient before clipping.
    pub gradient_norm: f64,
    /// Whether this is the best so far.
    pub best: bool,
}
