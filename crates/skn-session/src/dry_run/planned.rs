//! What a dry run tells.

use std::path::PathBuf;

use serde::Serialize;

/// What a stage would do, as a rehearsal with some of the texts tells.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DryRun {
    /// The run's folder; nothing of what writes into none.
    pub run: Option<PathBuf>,
    /// What would be read.
    pub reads: Vec<PlannedRead>,
    /// What would be written.
    pub writes: Vec<PlannedFile>,
    /// What would be done.
    pub work: Vec<PlannedWork>,
    /// Seconds that all of it takes on this machine as busy as it is now, about; without what has none in `work`.
    pub seconds: f64,
    /// The most bytes of memory at once, about, where the system tells.
    pub memory: Option<u64>,
    /// Bytes of memory that this machine has left, where the system tells.
    pub available_memory: Option<u64>,
    /// Texts of each part that it was rehearsed with, at most; one of each label, where there are more labels. Nothing of what was
    /// done without a sample of texts.
    pub rehearsed_with: Option<usize>,
    /// What else there is to know: what can't be known, say.
    pub notes: Vec<String>,
}

/// Something that would be read.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedRead {
    /// A file's path, or the name of a model or of data.
    pub name: String,
    /// The hash of its content; nothing of what is not read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its bytes, of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// A file that would be written.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedFile {
    /// Its path.
    pub path: PathBuf,
    /// Its bytes, about, where they are known.
    pub bytes: Option<u64>,
    /// Whether it takes the place of one that is there.
    pub replaces: bool,
}

/// A part of the work.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedWork {
    /// What is done.
    pub what: String,
    /// Texts that pass through the model, each as often as it does.
    pub texts: Option<u64>,
    /// Seconds that it takes, about; nothing where nobody knows.
    pub seconds: Option<f64>,
    /// Whether it was timed itself; else it is reckoned from what was.
    pub timed: bool,
}
