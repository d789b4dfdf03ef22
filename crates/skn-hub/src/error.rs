//! What can be wrong with a cache, and with the environment that names it.

use std::io;
use std::path::PathBuf;

use skn_artifact::{ArtifactError, ErrorKind};

/// Why a repository in the cache can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A file or folder can't be looked at.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),

    /// A file or folder can't be read.
    #[error("{path}: can't be read: {source}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// A link leads to nothing that can be read.
    #[error("{path}: a link to {target}, which can't be read: {source}; {hint}")]
    Broken {
        /// The link.
        path: PathBuf,
        /// Where it leads, as it stands in it.
        target: PathBuf,
        /// Why that can't be read.
        source: io::Error,
        /// What to do about it.
        hint: String,
    },

    /// A link in a snapshot leads elsewhere.
    #[error("{path}: leads out of its repository's folder {repository}; only files inside it are read")]
    LeadsOut {
        /// The link.
        path: PathBuf,
        /// The folder of the repository.
        repository: PathBuf,
    },

    /// The cache has several commits that a revision may mean.
    #[error(
        "{folder}: revision {revision}: expected one commit, found {found}; say which, as in {name}@{example}"
    )]
    Ambiguous {
        /// The folder of the repository.
        folder: PathBuf,
        /// `owner/name`.
        name: String,
        /// What was asked for.
        revision: String,
        /// The commits that are there.
        found: String,
        /// One of them.
        example: String,
    },

    /// A variable, or a flag, names no place.
    #[error("{variable}: expected a path, found {value:?}: {reason}")]
    NoPath {
        /// The variable, or the flag.
        variable: String,
        /// What it says.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl HubError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Artifact(error) => error.kind(),
            Self::Ambiguous { .. } | Self::NoPath { .. } => ErrorKind::Usage,
            Self::Unreadable { .. } | Self::Broken { .. } | Self::LeadsOut { .. } => ErrorKind::Input,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = HubError> = std::result::Result<T, E>;
