use std::path::{Path, PathBuf};

use skn_artifact::{ArtifactError, ErrorKind};
use skn_hub::HubError;

use crate::site::Site;

/// Why a model could not be read, built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read or written, or is not what it should be.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),

    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),

    /// A file that a model folder must have is not there.
    #[error("{folder}: no {expected}; {hint}")]
    MissingFile {
        /// The model folder.
        folder: PathBuf,
        /// The file or files looked for.
        expected: String,
        /// What to do about it.
        hint: String,
    },

    /// A link of a model folder leads to nothing, or out of a repository of the Hugging Face cache.
    #[error(transparent)]
    Link(#[from] HubError),

    /// A field of a configuration is missing, of the wrong type or out of range.
    #[error("{file}: field `{field}`: expected {expected}, found {found}")]
    Config {
        /// The configuration file.
        file: PathBuf,
        /// The field's name.
        field: String,
        /// What would have been accepted.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// A weight has another shape than the configuration says, or a value that no trained model has.
    #[error("{file}: tensor `{tensor}`: expected {expected}, found {found}")]
    Weight {
        /// The file that holds the tensor.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What would have been accepted.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// The model has no head, and what was asked is answered by it.
    #[error(
        "{file}: tensor `{tensor}`: expected a tensor, found nothing: the model has no {head}, so it gives no logits to tune or to answer \
         by; its neurons can be read without: `skn-run --untuned`, or `skn-probe --probe_type acc_mean,acc_max,acc_last`; to tune it, {hint}"
    )]
    NoHead {
        /// The file that holds the other tensors.
        file: PathBuf,
        /// The first tensor of the head.
        tensor: String,
        /// What kind of head it would be.
        head: &'static str,
        /// Where one is to be had.
        hint: &'static str,
    },

    /// The input of a forward pass does not fit the model.
    #[error("{what}: expected {expected}, found {found}")]
    Input {
        /// The part of the input.
        what: String,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        found: String,
    },

    /// A hook failed.
    #[error("hook at {site}: {source}")]
    Hook {
        /// Where in the model.
        site: String,
        /// The hook's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ModelError {
    /// Wraps the error of a [`Hook`](crate::Hook).
    pub fn hook(site: Site, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Hook { site: site.to_string(), source: Box::new(source) }
    }

    pub(crate) fn field(file: &Path, field: &str, expected: impl ToString, found: impl ToString) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self::Config { file: file.into(), field: field.into(), expected, found }
    }

    pub(crate) fn weight(file: &Path, tensor: &str, expected: impl ToString, found: impl ToString) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self::Weight { file: file.into(), tensor: tensor.into(), expected, found }
    }

    pub(crate) fn input(what: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self::Input { what: what.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Artifact(error) => error.kind(),
            Self::Link(error) => error.kind(),
            Self::MissingFile { .. } | Self::Config { .. } | Self::Weight { .. } | Self::NoHead { .. } => {
                ErrorKind::Input
            }
            Self::Input { .. } => ErrorKind::Usage,
            Self::Tensor(candle_core::Error::Cuda(_)) => ErrorKind::Device,
            Self::Tensor(_) | Self::Hook { .. } => ErrorKind::Failed,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;
