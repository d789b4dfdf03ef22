use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skn_perturb::EditKind;
use skn_select::Share;

use super::subject::{Subject, TaskChoice};
use super::text;
use super::tuned::Tuned;

/// The whole chain: tune a prompt, probe every neuron, select the skill neurons, perturb them, prune the rest, tune the
/// pruned model, measure, report. What is not said is as published, or as suits the demo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Chain {
    /// Model, task and data; default: the demo and its first task.
    pub subject: Subject,
    /// The run's folder; default `runs/<model>-<task>`.
    pub out: Option<PathBuf>,
    /// Whether what earlier runs left there is replaced.
    pub overwrite: bool,
    /// Whether to go on where an earlier run stopped.
    pub resume: bool,
    /// Prompt positions, the `<mask>` row counted; default [`Tuned::PROMPT_SIZE`].
    pub prompt_size: NonZeroUsize,
    /// Epochs of tuning; default 4, for the demo 12.
    pub epochs: Option<NonZeroU64>,
    /// Epochs of tuning the pruned model; default 4, for the demo 6.
    pub retune_epochs: Option<NonZeroU64>,
    /// Rows of a training step; default 8, for the demo 16.
    pub batch: Option<NonZeroUsize>,
    /// Peak learning rate; default 1e-3, for the demo 5e-3.
    pub learning_rate: Option<f64>,
    /// Evaluate on dev every so many steps, besides at the end of each epoch.
    pub eval_every: Option<u64>,
    /// What happens to perturbed neurons; default Gaussian noise, for the demo their mean.
    #[serde(with = "text::option")]
    pub edit: Option<EditKind>,
    /// Standard deviation of Gaussian noise; default 0.1.
    pub alpha: Option<f64>,
    /// Shares of each layer's neurons to perturb; default 0.02, 0.05, 0.1, 0.2, 0.3, 0.4.
    #[serde(with = "text::list")]
    pub shares: Vec<Share>,
    /// The share that the summary tells of, one of them; default 0.1, for the demo 0.3, else the largest.
    #[serde(with = "text::option")]
    pub share: Option<Share>,
    /// Draws of random neurons to perturb; default 10.
    pub draws: NonZeroUsize,
    /// Share of each layer's neurons that pruning keeps; default 0.02.
    #[serde(with = "text")]
    pub prune_share: Share,
    /// First layer to prune; by default a quarter of the layers stays whole, for the demo all but the last.
    pub prune_layer: Option<usize>,
}

impl Default for Chain {
    fn default() -> Self {
        let some = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        Self {
            subject: Subject::default(),
            out: None,
            overwrite: false,
            resume: false,
            prompt_size: some(Tuned::PROMPT_SIZE),
            epochs: None,
            retune_epochs: None,
            batch: None,
            learning_rate: None,
            eval_every: None,
            edit: None,
            alpha: None,
            shares: [2, 5, 10, 20, 30, 40].map(Share::of_percent).to_vec(),
            share: None,
            draws: some(10),
            prune_share: Share::of_percent(2),
            prune_layer: None,
        }
    }
}

impl Chain {
    /// The model of a chain that names none.
    pub const MODEL: &str = Subject::DEMO;

    /// The name of the model.
    pub fn model(&self) -> &str {
        self.subject.model.as_deref().unwrap_or(Self::MODEL)
    }

    /// The task, by name or file.
    pub fn task(&self) -> TaskChoice {
        let default = if self.model() == Self::MODEL { skn_demo::TASKS[0] } else { Subject::TASK };
        self.subject.task.clone().unwrap_or_else(|| default.into())
    }

    /// The run's folder.
    pub fn folder(&self) -> PathBuf {
        let model = self.model().trim_end_matches('/').rsplit('/').next().unwrap_or("model");
        let task = match self.task() {
            TaskChoice::Named(name) => name,
            TaskChoice::File(file) => {
                file.file_stem().map_or("task".into(), |stem| stem.to_string_lossy().into())
            }
        };
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{model}-{task}")))
    }
}
