use serde::{Deserialize, Serialize};

/// `RUN/<task>/rank/comparison.json`: rankings of neurons compared, by how far they agree and by what the best neurons of each do to
/// the answers when they are held at their average.
///
/// ```
/// let text = r#"{
///   "task": "sst2", "metric": "accuracy", "rows": 872, "edit": "mean", "shares": ["0.05", "0.1"], "unperturbed": 0.92,
///   "rankings": [{"ranking": "auc", "scores": [0.81, 0.6], "intervals": [[0.78, 0.84], [0.57, 0.63]]}],
///   "random": [{"mean": 0.92, "interval": [0.91, 0.93], "draws": [0.92, 0.92]},
///              {"mean": 0.91, "interval": [0.9, 0.92], "draws": [0.91, 0.91]}],
///   "draws": 2, "agreement": [{"a": "auc", "b": "random", "spearman": 0.01, "overlap": [0.02, 0.05]}]
/// }"#;
/// let found: skn_artifact::RankingComparison = serde_json::from_str(text)?;
/// assert_eq!(found.rankings[0].scores.len(), found.shares.len());
/// assert_eq!((found.excluded, found.tuning_sha256), (None, None)); // an older version's
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankingComparison {
    /// The task's name.
    pub task: String,
    /// The task's metric.
    pub metric: String,
    /// Rows of the test set.
    pub rows: u64,
    /// mean: neurons are held at their average over train.
    pub edit: String,
    /// Shares of each layer's neurons that are edited, as file names have them.
    pub shares: Vec<String>,
    /// The metric without any edit.
    pub unperturbed: f64,
    /// What the best neurons of each ranking do.
    pub rankings: Vec<RankingDamage>,
    /// What as many random neurons do, none of which the ranking `excluded` selects, for each share.
    pub random: Vec<ShareDamage>,
    /// Draws of random neurons for each share.
    pub draws: usize,
    /// The ranking whose neurons are none of the random ones; older versions did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<String>,
    /// The hash of the tuned parameters, as counts have it; older versions did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning_sha256: Option<String>,
    /// How far each two rankings agree.
    pub agreement: Vec<Agreement>,
}

/// What the best neurons of a ranking do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankingDamage {
    /// The ranking's name.
    pub ranking: String,
    /// The metric with the neurons of each share edited.
    pub scores: Vec<f64>,
    /// Its 95 % interval over rows.
    pub intervals: Vec<[f64; 2]>,
    /// For each share, how many of its neurons have score 0 and were drawn; older versions took those of the lowest indices, and have
    /// no numbers here.
    #[serde(default)]
    pub unscored: Vec<u64>,
}

/// What random neurons do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareDamage {
    /// The mean of the metric over draws.
    pub mean: f64,
    /// Its 95 % interval (Student's t).
    pub interval: [f64; 2],
    /// The metric of each draw.
    pub draws: Vec<f64>,
}

/// How far two rankings agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// One ranking.
    pub a: String,
    /// The other.
    pub b: String,
    /// Spearman's correlation of their scores over all live neurons; null where one says the same of all.
    pub spearman: Option<f64>,
    /// For each share, the neurons that both select / those that either does (Jaccard).
    pub overlap: Vec<f64>,
}
