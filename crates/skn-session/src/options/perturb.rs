use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skn_perturb::EditKind;

use super::layers::LayerRange;
use super::subject::Subject;
use super::tuned::Tuned;

/// Evaluate the test set while selected neurons are perturbed, and as many random ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Perturb {
    /// Model, task and data.
    pub subject: Subject,
    /// The tuned parameters.
    pub tuned: Tuned,
    /// Mask files (`RUN/info/<task>/<share>`), or neurons that another program marked or listed
    /// ([`MadeRanking::marks`](skn_select::MadeRanking::marks)): one result for each.
    pub masks: Vec<PathBuf>,
    /// What happens to the neurons.
    pub edit: EditChoice,
    /// The layers that are edited.
    pub layers: LayerRange,
    /// Draws of as many random neurons of each layer, none of them selected; default 0.
    pub controls: usize,
    /// Variances over train, `[L, F]` or `[L, P, F]`, of a file (`RUN/<task>/train_avg`): with controls, the same once more to
    /// as many random neurons of matched variance.
    pub matched: Option<PathBuf>,
    /// Which of the masks get those; none are all.
    pub matched_masks: Vec<PathBuf>,
    /// Mask files of one class each ([`Select::class`](super::Select::class)): what each does to the texts of each class. Files of
    /// another program say no class: they are one for each class, in the order of the classes.
    /// They are compared with one another, and get no random neurons.
    pub class_masks: Vec<PathBuf>,
    /// Texts at once, at most; changes no result. Default: as many as 2048 rows hold.
    pub batch: Option<NonZeroUsize>,
    /// What the results are called: a run keeps those of several names, each in `sweeps/<name>`. Those without one lie in the
    /// run's folder itself, and go with it into the report.
    pub name: Option<String>,
    /// The run's folder.
    pub out: PathBuf,
    /// Whether results that are there are replaced.
    pub overwrite: bool,
}

impl Perturb {
    /// Draws of random neurons where somebody wants some and does not say how many.
    pub const CONTROLS: usize = 10;

    /// Perturbs neurons of a tuned run, into the run itself.
    pub fn of(run: impl Into<PathBuf>, masks: Vec<PathBuf>, edit: EditChoice) -> Self {
        let run = run.into();
        Self { tuned: Tuned::of(run.clone()), masks, edit, out: run, ..Self::default() }
    }
}

/// What happens to perturbed neurons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EditChoice {
    /// Noise is added.
    Gaussian {
        /// Its standard deviation.
        alpha: f64,
        /// Whether each text has one noise, or each position of it its own.
        noise: NeuronNoise,
        /// How often it is drawn.
        repeats: NonZeroUsize,
    },
    /// They become 0.
    Zero,
    /// They are held at averages, `[L, F]` or `[L, P, F]`, from a file (`RUN/<task>/train_avg`).
    Mean {
        /// The file.
        averages: PathBuf,
    },
}

impl EditChoice {
    /// The published standard deviation of the noise.
    pub const ALPHA: f64 = 0.1;

    /// Its name.
    pub fn kind(&self) -> EditKind {
        match self {
            Self::Gaussian { .. } => EditKind::Gaussian,
            Self::Zero => EditKind::Zero,
            Self::Mean { .. } => EditKind::Mean,
        }
    }
}

impl Default for EditChoice {
    fn default() -> Self {
        Self::Gaussian { alpha: Self::ALPHA, noise: NeuronNoise::PerText, repeats: NonZeroUsize::MIN }
    }
}

/// Whether a neuron's noise is the same at all positions of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NeuronNoise {
    /// One noise for all positions of a text
    #[default]
    PerText,
    /// Each position has its own
    PerToken,
}

impl NeuronNoise {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerText => "per-text",
            Self::PerToken => "per-token",
        }
    }
}
