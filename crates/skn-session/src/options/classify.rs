use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::subject::Subject;
use super::tuned::Tuned;

/// Classify texts, with a tuned model or one as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Classify {
    /// Model and task; no data are read.
    pub subject: Subject,
    /// The tuned parameters.
    pub tuned: Tuned,
    /// Whether probabilities are those of the temperature that the run keeps ([`Evaluate::calibrate`](super::Evaluate::calibrate)).
    pub calibrated: bool,
    /// Of two classes the probability of class 1 from which the answer is class 1. Of more, that of an answer below which it is
    /// [`unsure`](crate::Answer::unsure). Default: the most probable class, always.
    pub threshold: Option<f64>,
    /// Texts at once, at most; changes no result. Default: as many as 2048 rows hold.
    pub batch: Option<NonZeroUsize>,
    /// Whether passes over few tokens are replayed as CUDA graphs where batches of the same lengths come again
    /// ([`skn_model::LanguageModel::with_graphs`]); changes no result. What can't be captured is done without, and a warning says why. It
    /// needs an NVIDIA GPU, and never ran on a real one.
    pub cuda_graphs: bool,
}

impl Classify {
    /// Classifies with what a run has tuned, pruned or not.
    pub fn by(run: impl Into<PathBuf>) -> Self {
        Self { tuned: Tuned::of(run), ..Self::default() }
    }
}
