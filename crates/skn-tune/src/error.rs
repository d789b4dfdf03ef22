use std::path::PathBuf;

use skn_artifact::{ArtifactError, ErrorKind};
use skn_data::DataError;
use skn_model::ModelError;
use skn_probing::ProbingError;

/// Why training could not begin, go on or be saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// A file could not be read or written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),

    /// The data could not be put into batches.
    #[error(transparent)]
    Data(#[from] DataError),

    /// The model could not be run or saved.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// The dev set could not be evaluated.
    #[error(transparent)]
    Probing(#[from] ProbingError),

    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),

    /// A setting or an input of training makes no sense.
    #[error("training: {what}: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        what: String,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        found: String,
    },

    /// A number became NaN or infinite. Nothing of this step is saved.
    #[error("step {step}: {what}: expected finite numbers, found {found}")]
    NotFinite {
        /// The training step, from 0.
        step: u64,
        /// Logits, loss, or the gradient or value of a named parameter.
        what: String,
        /// The number.
        found: f64,
    },

    /// A parameter that trains takes no part in the loss.
    #[error("step {step}: parameter `{parameter}`: expected a gradient, found none")]
    NoGradient {
        /// The training step, from 0.
        step: u64,
        /// The parameter.
        parameter: String,
    },

    /// A checkpoint belongs to another training.
    #[error(
        "{file}: `{field}`: the checkpoint was made with {checkpoint}, this run has {now}; \
         resume with the same settings, or train anew"
    )]
    Mismatch {
        /// The checkpoint.
        file: PathBuf,
        /// What differs.
        field: String,
        /// Its value in the checkpoint.
        checkpoint: String,
        /// Its value now.
        now: String,
    },

    /// A file of the run is not what it was when the checkpoint was made.
    #[error(
        "{source}; so says the checkpoint {checkpoint} (of step {step}): put back what was written, or train anew"
    )]
    Beside {
        /// What is wrong with the file.
        source: ArtifactError,
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The steps that it is of.
        step: u64,
    },

    /// Neither the checkpoint nor the one before it can be used.
    #[error(
        "{file}: can't be resumed from: {reason}; nor can the checkpoint before it: {previous}; train anew"
    )]
    NoCheckpoint {
        /// The checkpoint.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What is wrong with the one before.
        previous: String,
    },
}

impl TuneError {
    pub(crate) fn setting(what: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self::Setting { what: what.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Artifact(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Probing(error) => error.kind(),
            Self::Setting { .. } => ErrorKind::Usage,
            Self::Data(_) | Self::Mismatch { .. } | Self::Beside { .. } | Self::NoCheckpoint { .. } => {
                ErrorKind::Input
            }
            Self::Tensor(candle_core::Error::Cuda(_)) => ErrorKind::Device,
            Self::Tensor(_) | Self::NotFinite { .. } | Self::NoGradient { .. } => ErrorKind::Failed,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = TuneError> = std::result::Result<T, E>;
