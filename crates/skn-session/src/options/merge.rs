use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Put the shards of a probe together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Merge {
    /// The run's folder, which has the shards in it.
    pub out: PathBuf,
    /// Whether files that are there are replaced.
    pub overwrite: bool,
}

impl Merge {
    /// Merges the shards of a run.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self { out: out.into(), ..Self::default() }
    }
}
