use std::io;
use std::path::{Path, PathBuf};

use crate::kind::ErrorKind;

/// Why an artifact could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The operating system refused.
    #[error("{file}: can't {operation}: {source}")]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What was tried: look at, open, read, write, sync, rename, remove.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },

    /// A file to be read is not there.
    #[error("{file}: no such file{hint}")]
    Missing {
        /// The file.
        file: PathBuf,
        /// What else was tried, or what to do; empty or beginning with `; `.
        hint: String,
    },

    /// A file to be written exists.
    #[error("{file}: exists; option `overwrite` replaces it")]
    Exists {
        /// The file.
        file: PathBuf,
    },

    /// A file is not of the form it should have.
    #[error("{file}: {place}: expected {expected}, found {found}")]
    Format {
        /// The file.
        file: PathBuf,
        /// The place in it: header, line, field.
        place: String,
        /// What would have been accepted.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// A tensor is missing, or has another shape or type.
    #[error("{file}: tensor `{tensor}`: expected {expected}, found {found}")]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What would have been accepted.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// Values do not fit the shape they are given.
    #[error("array of shape {shape:?}: expected {expected} values, found {found}")]
    Shape {
        /// The shape.
        shape: Vec<usize>,
        /// The product of the shape, or why there is none.
        expected: String,
        /// The number of values.
        found: usize,
    },

    /// A file of a run would be written through a link.
    #[error(
        "{file}: a link to {target}; files of a run are neither written nor removed through links: remove it, or make the run's folder \
         itself a link"
    )]
    Link {
        /// The link.
        file: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },

    /// Another program works on the run.
    #[error("{folder}: another run works here: {holder}")]
    Locked {
        /// The run's folder.
        folder: PathBuf,
        /// Program and process number of the other.
        holder: String,
    },
}

/// Whether this says that a folder's place is wrong: below a file, read-only, or not the user's.
fn is_no_place(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{AlreadyExists, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(kind, AlreadyExists | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem)
}

impl ArtifactError {
    pub(crate) fn io(file: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_path_buf();
        move |source| Self::Io { file, operation, source }
    }

    pub(crate) fn format(
        file: &Path,
        place: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Format {
            file: file.into(),
            place: place.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    pub(crate) fn tensor(file: &Path, tensor: &str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Tensor {
            file: file.into(),
            tensor: tensor.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { operation: "open" | "read" | "look at", .. } => ErrorKind::Input,
            // A place where none can be; what else goes wrong there is the disk's.
            Self::Io { operation: "make the folder", source, .. } if is_no_place(source.kind()) => {
                ErrorKind::Input
            }
            Self::Missing { .. }
            | Self::Link { .. }
            | Self::Format { .. }
            | Self::Tensor { .. }
            | Self::Exists { .. } => ErrorKind::Input,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::Io { .. } | Self::Shape { .. } => ErrorKind::Failed,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = ArtifactError> = std::result::Result<T, E>;
