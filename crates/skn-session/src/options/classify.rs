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
    /// Texts at once, at most; changes no result. Default: as many as 2048 rows hold.
    pub batch: Option<NonZeroUsize>,
}

impl Classify {
    /// Classifies with what a run has tuned, pruned or not.
    pub fn by(run: impl Into<PathBuf>) -> Self {
        Self { tuned: Tuned::of(run), ..Self::default() }
    }
}
