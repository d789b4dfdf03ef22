use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use skn_artifact::did_you_mean;
use skn_perturb::EditKind;
use skn_select::Share;

use super::chain::Chain;
use super::subject::{Subject, TaskChoice};
use super::text;
use super::tuned::Tuned;

/// Experiments over several runs of one model, which share what they have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Experiment {
    /// Which; none are all.
    #[serde(with = "text::list")]
    pub experiments: Vec<ExperimentName>,
    /// Model and the rest but task and data; default: the demo. Its seed is the first.
    pub subject: Subject,
    /// The tasks; default: those of the demo.
    pub tasks: Vec<TaskChoice>,
    /// The data of each task, in their order; tasks of the demo bring theirs.
    pub data: Vec<PathBuf>,
    /// Seeds of each task; default 3.
    pub seeds: NonZeroUsize,
    /// The folder; default `runs/<model>-experiments`.
    pub out: Option<PathBuf>,
    /// Whether what is there is replaced.
    pub overwrite: bool,
    /// Whether to go on where an earlier call stopped.
    pub resume: bool,
    /// Prompt positions, the `<mask>` row counted; default [`Tuned::PROMPT_SIZE`].
    pub prompt_size: NonZeroUsize,
    /// A prompt that somebody wrote for each task, in their order; default `is it A or B ?`, of the words of the task's classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompt_texts: Vec<String>,
    /// Epochs of tuning; default 4, for the demo 12.
    pub epochs: Option<NonZeroU64>,
    /// Rows of a training step; default 8, for the demo 16.
    pub batch: Option<NonZeroUsize>,
    /// Peak learning rate; default 1e-3, for the demo 5e-3.
    pub learning_rate: Option<f64>,
    /// What happens to perturbed neurons; default Gaussian noise, for the demo their mean.
    #[serde(with = "text::option")]
    pub edit: Option<EditKind>,
    /// Standard deviations of Gaussian noise to try; default 0.1, 0.3, 1, 3.
    pub alphas: Vec<f64>,
    /// Shares of each layer's neurons to perturb; default 0.05, 0.1, 0.2, 0.3, 0.4.
    #[serde(with = "text::list")]
    pub shares: Vec<Share>,
    /// The share where one is compared, one of them; default 0.1, for the demo 0.3, else the largest.
    #[serde(with = "text::option")]
    pub share: Option<Share>,
    /// Draws of random neurons; default 10.
    pub draws: NonZeroUsize,
}

impl Default for Experiment {
    fn default() -> Self {
        let chain = Chain::default();
        Self {
            experiments: Vec::new(),
            subject: Subject::default(),
            tasks: Vec::new(),
            data: Vec::new(),
            seeds: NonZeroUsize::MIN.saturating_add(2),
            out: None,
            overwrite: false,
            resume: false,
            prompt_size: NonZeroUsize::new(Tuned::PROMPT_SIZE).unwrap_or(NonZeroUsize::MIN),
            prompt_texts: Vec::new(),
            epochs: None,
            batch: None,
            learning_rate: None,
            edit: None,
            alphas: vec![0.1, 0.3, 1.0, 3.0],
            shares: [5, 10, 20, 30, 40].map(Share::of_percent).to_vec(),
            share: None,
            draws: chain.draws,
        }
    }
}

impl Experiment {
    /// The name of the model.
    pub fn model(&self) -> &str {
        self.subject.model.as_deref().unwrap_or(Chain::MODEL)
    }

    /// The folder.
    pub fn folder(&self) -> PathBuf {
        let model = self.model().trim_end_matches('/').rsplit('/').next().unwrap_or("model");
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{model}-experiments")))
    }

    /// The experiments that are done, in their order.
    pub fn chosen(&self) -> Vec<ExperimentName> {
        let all = ExperimentName::ALL.into_iter();
        all.filter(|name| self.experiments.is_empty() || self.experiments.contains(name)).collect()
    }
}

/// An experiment's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ExperimentName {
    /// Do other seeds find the same neurons?
    Seeds,
    /// Do neurons that predict one task predict another?
    Tasks,
    /// How many skill neurons do tasks share?
    Overlap,
    /// What do skill, random, lowest-ranked and another task's neurons do, by share and by noise?
    Curves,
    /// Do the neurons of a class matter for that class?
    Classes,
    /// Does the prompt make the neurons predictive?
    Prompts,
    /// Does pre-training?
    RandomModel,
    /// Do a prompt's skill neurons matter for BitFit and adapters?
    Methods,
    /// Is a skill neuron one that stands for a word?
    Words,
    /// Do prompts serve other tasks, and does the overlap of what they activate tell?
    Transfer,
}

impl ExperimentName {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Seeds,
        Self::Tasks,
        Self::Overlap,
        Self::Curves,
        Self::Classes,
        Self::Prompts,
        Self::RandomModel,
        Self::Methods,
        Self::Words,
        Self::Transfer,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seeds => "seeds",
            Self::Tasks => "tasks",
            Self::Overlap => "overlap",
            Self::Curves => "curves",
            Self::Classes => "classes",
            Self::Prompts => "prompts",
            Self::RandomModel => "random-model",
            Self::Methods => "methods",
            Self::Words => "words",
            Self::Transfer => "transfer",
        }
    }
}

impl fmt::Display for ExperimentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ExperimentName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|experiment| experiment.name() == name);
        found.ok_or_else(|| {
            let near = did_you_mean(name, Self::ALL.map(Self::name));
            let near = near.map_or_else(String::new, |near| format!("; {near}"));
            format!("experiment `{name}`: expected one of {}{near}", Self::ALL.map(Self::name).join(", "))
        })
    }
}
