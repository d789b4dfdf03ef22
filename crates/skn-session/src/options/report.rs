use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Draw what a run found, as one page that needs nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DrawReport {
    /// The run's folder.
    pub run: PathBuf,
    /// Neurons, each a layer and an index, from 0, whose activations by class are drawn, where the run has them.
    pub neurons: Vec<(usize, usize)>,
    /// A folder that each figure is written to, as SVG; default: none.
    pub figures: Option<PathBuf>,
    /// A folder that each figure's data are written to, as CSV; default: none.
    pub csv: Option<PathBuf>,
    /// Whether files that are there are replaced.
    pub overwrite: bool,
}

impl DrawReport {
    /// Draws a run.
    pub fn new(run: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), ..Self::default() }
    }
}

/// Draw several runs side by side, as one page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CompareRuns {
    /// The runs' folders, at least two.
    pub runs: Vec<PathBuf>,
    /// The page.
    pub out: PathBuf,
    /// A folder that each figure is written to, as SVG; default: none.
    pub figures: Option<PathBuf>,
    /// A folder that each figure's data are written to, as CSV; default: none.
    pub csv: Option<PathBuf>,
    /// Whether files that are there are replaced.
    pub overwrite: bool,
}

impl CompareRuns {
    /// Draws runs, to a page.
    pub fn new(runs: Vec<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self { runs, out: out.into(), ..Self::default() }
    }
}
