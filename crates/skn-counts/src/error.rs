use std::path::{Path, PathBuf};

use skn_artifact::{ArtifactError, ErrorKind};
use skn_stats::StatsError;

/// Why counts can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountsError {
    /// A file can't be read, or could not be made.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),

    /// A statistic that can't be.
    #[error(transparent)]
    Stats(#[from] StatsError),

    /// What a file holds makes no sense, or does not fit what is asked of it.
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

    /// Counts do not fit one another.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// What does not fit.
        what: String,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        found: String,
    },
}

impl CountsError {
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
            Self::File { .. } => ErrorKind::Input,
            Self::Mismatch { .. } => ErrorKind::Usage,
            Self::Stats(_) => ErrorKind::Failed,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = CountsError> = std::result::Result<T, E>;
