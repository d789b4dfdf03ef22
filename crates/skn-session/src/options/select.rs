use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skn_select::{Aggregate, ScoreRule, Share};

use super::text;

/// Rank neurons by how well they predict the label, and mark the best of each layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Select {
    /// Files of counts (`RUN/<task>/dev_perf`), a list for each sub-task: in it, one for each seed.
    pub counts: Vec<Vec<PathBuf>>,
    /// A ranking that was made elsewhere, by which masks are made instead: a file of tensors with `score` or `mask`, or a list
    /// of neurons as CSV or JSON. A list needs one file of counts, which says how many neurons each layer has. What says how
    /// counts are ranked does not go with it, nor do shares with marks.
    pub ranking: Option<PathBuf>,
    /// What the files of a sub-task come to; default their mean.
    #[serde(with = "text")]
    pub aggregate: Aggregate,
    /// What right answers come to; default: accuracy while all files are of two classes, of which the larger has at most 55 %
    /// of each file's texts, else balanced accuracy. Of more than two classes only balanced accuracy, or the area under the ROC
    /// curve. That one (`auc`) needs the areas beside each file of counts, which probing with the ranking `auc` leaves in `rank/auc`
    /// and of test in `rank/auc_test`; they are of 32 bins. Then p is that of the rank-sum test with ties, and there is no p_max.
    #[serde(with = "text::option")]
    pub score: Option<ScoreRule>,
    /// Whether two classes are scored as in the published implementation, where nothing is said of the score: by accuracy,
    /// whatever their shares.
    pub paper: bool,
    /// Of more than two classes: this one alone, from 0; default: each is a sub-task.
    pub class: Option<usize>,
    /// Whether the worst of each layer are marked instead of the best, and ranked first: a control.
    pub lowest: bool,
    /// Shares of each layer's neurons; default 0, 0.01 .. 0.2.
    #[serde(with = "text::list")]
    pub shares: Vec<Share>,
    /// How often labels are shuffled to see what the best neuron has by chance, from the fire bits beside one file of counts;
    /// default 1,000 where there are some, 0 for none. Not of one class alone.
    pub permutations: Option<usize>,
    /// The rate of false discoveries up to which neurons are marked in a mask of their own, of one file of counts; default
    /// none.
    #[serde(with = "text::option")]
    pub fdr: Option<Share>,
    /// The seed of shuffles.
    pub seed: u64,
    /// Name of the masks' folder; default: the task that the files tell.
    pub task: Option<String>,
    /// The run's folder.
    pub out: PathBuf,
    /// Whether masks that are there are replaced.
    pub overwrite: bool,
}

impl Default for Select {
    fn default() -> Self {
        Self {
            counts: Vec::new(),
            ranking: None,
            aggregate: Aggregate::default(),
            score: None,
            paper: false,
            class: None,
            lowest: false,
            shares: Share::series(),
            permutations: None,
            fdr: None,
            seed: 0,
            task: None,
            out: PathBuf::new(),
            overwrite: false,
        }
    }
}

impl Select {
    /// How often labels are shuffled unless it is said.
    pub const PERMUTATIONS: usize = 1000;

    /// What the folder of masks of one class is called.
    pub(crate) fn task_of_class(task: &str, class: usize) -> String {
        format!("{task}-class-{class}")
    }

    /// Ranks by one file of counts.
    pub fn new(counts: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self { counts: vec![vec![counts.into()]], out: out.into(), ..Self::default() }
    }
}
