use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::probe::Split;
use super::subject::Subject;
use super::tuned::Tuned;

/// Score a tuned model, pruned or not, or one as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Evaluate {
    /// Model, task and data. Data that are not the run's own are evaluated as a whole if they are one file or one split.
    pub subject: Subject,
    /// The tuned parameters.
    pub tuned: Tuned,
    /// The part of the data; default test.
    pub split: Split,
    /// Whether a temperature is fitted on dev, which the run keeps for [`Classify::calibrated`](super::Classify::calibrated).
    pub calibrate: bool,
    /// Whether probabilities are those of the temperature that the run keeps.
    pub calibrated: bool,
    /// Texts at once, at most; changes no result. Default: as many as 2048 rows hold.
    pub batch: Option<NonZeroUsize>,
    /// A run that the result is written into; default: it is given back alone. A temperature is written into the run that is
    /// evaluated, unless this says another.
    pub out: Option<PathBuf>,
    /// Whether files of the same evaluation are replaced.
    pub overwrite: bool,
}

impl Default for Evaluate {
    fn default() -> Self {
        Self {
            subject: Subject::default(),
            tuned: Tuned::default(),
            split: Split::Test,
            calibrate: false,
            calibrated: false,
            batch: None,
            out: None,
            overwrite: false,
        }
    }
}

impl Evaluate {
    /// Evaluates what a run has tuned, pruned or not, on its test set.
    pub fn of(run: impl Into<PathBuf>) -> Self {
        Self { tuned: Tuned::of(run), ..Self::default() }
    }
}
