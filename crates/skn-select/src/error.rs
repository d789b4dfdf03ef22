use std::path::{Path, PathBuf};

use skn_artifact::{ArtifactError, ErrorKind};
use skn_counts::CountsError;

/// Why neurons could not be selected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// A file can't be read, or could not be made.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),

    /// Counts can't be read or used.
    #[error(transparent)]
    Counts(#[from] CountsError),

    /// What a file holds makes no sense, or does not fit the other files.
    #[error("{file}: {place}: expected {expected}, found {found}")]
    File {
        /// The file.
        file: PathBuf,
        /// The tensor, and the place in it.
        place: String,
        /// What would have been accepted.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// Something asked for does not exist or does not fit.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// What was asked for.
        what: String,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        found: String,
    },
}

impl SelectError {
    pub(crate) fn file(
        file: &Path,
        place: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::File {
            file: file.into(),
            place: place.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    pub(crate) fn mismatch(what: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self::Mismatch { what: what.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Artifact(error) => error.kind(),
            Self::Counts(error) => error.kind(),
            Self::File { .. } => ErrorKind::Input,
            Self::Mismatch { .. } => ErrorKind::Usage,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = SelectError> = std::result::Result<T, E>;
