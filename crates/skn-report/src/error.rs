use std::path::PathBuf;

use skn_artifact::ArtifactError;

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

    /// A file could not be read, or is not of its form.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

impl ReportError {
    /// The exit code of a program that fails with this error: 3 for input, else that of the artifact's error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoFolder { .. } | Self::Empty { .. } => 3,
            Self::Artifact(error) => error.exit_code(),
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = ReportError> = std::result::Result<T, E>;
