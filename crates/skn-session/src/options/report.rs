use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Draw what a run found, as one page that needs nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DrawReport {
    /// The run's folder.
    pub run: PathBuf,
    /// A folder that each figure is written to, as SVG; default: none.
    pub figures: Option<PathBuf>,
    /// Whether files that are there are replaced.
    pub overwrite: bool,
}

impl DrawReport {
    /// Draws a run.
    pub fn new(run: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), ..Self::default() }
    }
}
