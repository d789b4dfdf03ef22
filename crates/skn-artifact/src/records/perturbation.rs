use serde::{Deserialize, Serialize};

use super::damage::{ByClass, DamageEvidence};

/// `RUN/mask_perf.json`, `RUN/cmp_perf.json`, `RUN/matched_perf.json` and `RUN/class_perf.json`: the test set with neurons
/// perturbed.
///
/// ```
/// let text = r#"{
///   "task": "sst2", "metric": "accuracy", "rows": 872, "edit": "gaussian", "alpha": 0.1, "noise": "per-text",
///   "mask": "0.1", "mask_sha256": "ab", "low_layer": 0, "high_layer": 12, "neurons": [307, 307],
///   "unperturbed": 0.92, "draws": [0.71, 0.73], "mean": 0.72, "std": 0.014, "interval": [0.59, 0.85]
/// }"#;
/// let result: skn_artifact::PerturbationResult = serde_json::from_str(text)?;
/// assert_eq!(result.draws.len(), 2);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerturbationResult {
    /// The task's name.
    pub task: String,
    /// The task's metric.
    pub metric: String,
    /// Rows of the test set.
    pub rows: u64,
    /// gaussian, zero or mean.
    pub edit: String,
    /// Standard deviation of the noise, for gaussian.
    pub alpha: Option<f64>,
    /// per-text or per-token, for gaussian.
    pub noise: Option<String>,
    /// The mask file's name without extension.
    pub mask: String,
    /// Its SHA-256.
    pub mask_sha256: String,
    /// The ranking that it was made by, if not by the predictivity of counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<String>,
    /// Whether it marks the worst neurons of each layer instead of the best.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lowest: bool,
    /// First layer that is edited.
    pub low_layer: usize,
    /// One past the last layer that is edited.
    pub high_layer: usize,
    /// Neurons edited in each layer.
    pub neurons: Vec<usize>,
    /// The metric without any edit.
    pub unperturbed: f64,
    /// The metric of each draw: of the noise, or of the random neurons.
    pub draws: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation; 0 for one draw.
    pub std: f64,
    /// 95 % interval of the mean over draws (Student's t); with one draw, the interval over rows (bootstrap).
    pub interval: [f64; 2],
    /// The class that a mask of one class alone was selected for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    /// Right answers by class; absent in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_class: Option<ByClass>,
    /// Of random neurons: how the selected ones compare with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<DamageEvidence>,
    /// Of random neurons of matched variance: the mean variance of theirs over that of the selected ones; 1 is a perfect match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance_ratio: Option<f64>,
}
