use std::path::PathBuf;

use skn_artifact::{ArtifactError, ErrorKind};
use skn_counts::CountsError;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The folder is not there.
    #[error("{folder}: expected a run folder, found no folder of this name")]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },

    /// There is nothing in the folder that a report could show.
    #[error("{folder}: expected the results of a run ({expected}), found none of them")]
    Empty {
        /// The folder.
        folder: PathBuf,
        /// The files looked for.
        expected: String,
    },

    /// A neuron that is asked for is not among those that were probed.
    #[error(
        "option `neurons` {layer},{index}: expected a layer and index of {file}, from 0, found no such neuron"
    )]
    NoNeuron {
        /// The layer.
        layer: usize,
        /// Its index in the layer.
        index: usize,
        /// The counts of the probe.
        file: PathBuf,
    },

    /// A file could not be read, or is not of its form.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),

    /// A file of counts is not what it should be.
    #[error(transparent)]
    Counts(#[from] CountsError),
}

impl ReportError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoNeuron { .. } => ErrorKind::Usage,
            Self::NoFolder { .. } | Self::Empty { .. } => ErrorKind::Input,
            Self::Artifact(error) => error.kind(),
            Self::Counts(error) => error.kind(),
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = ReportError> = std::result::Result<T, E>;
