use skn_artifact::{ArtifactError, ErrorKind};
use skn_counts::CountsError;
use skn_data::DataError;
use skn_hub::HubError;
use skn_model::ModelError;
use skn_perturb::PerturbError;
use skn_probing::ProbingError;
use skn_report::ReportError;
use skn_select::SelectError;
use skn_stats::StatsError;
use skn_tune::TuneError;

use crate::options::Made;

/// Why a stage could not be done. [`kind`](Self::kind) says what whoever asked can do about it.
///
/// Messages name an option by its field: option `out`. A program whose options have other names can put those in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// What was asked for does not exist or does not fit.
    #[error("{0}")]
    Usage(String),

    /// A file is missing or is not what it should be.
    #[error("{0}")]
    Input(String),

    /// A model or data set is not on this machine.
    #[error("{0}")]
    NotHere(String),

    /// The device can't be had.
    #[error("{0}")]
    Device(String),

    /// The system refuses what it usually does not.
    #[error("{0}")]
    Failed(String),

    /// It was told to stop.
    #[error("{0}")]
    Interrupted(String),

    /// Training was told to stop.
    #[error("a checkpoint of step {step} is written, from which training goes on with option `resume`")]
    Stopped {
        /// The steps done.
        step: u64,
    },

    /// A stage was rehearsed to its end, and nothing was written: how [`Session::dry_run`](crate::Session::dry_run) has it end.
    #[error("the stage was only rehearsed")]
    Rehearsed,

    /// A stage of a chain that goes on was done with other options.
    #[error(
        "{file}: stage {entry}: a chain is resumed with the options that it began with; it was done with others"
    )]
    OtherOptions {
        /// The run's record.
        file: String,
        /// The stage's entry in it.
        entry: String,
        /// How the stage was done.
        earlier: Box<Made>,
        /// How it would be done now.
        now: Box<Made>,
    },

    /// Something failed while something else was done.
    #[error("{context}")]
    Context {
        /// What was done, or who asked for it.
        context: String,
        /// What failed.
        source: Box<SessionError>,
    },

    /// A file of a run.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Counts of a probe.
    #[error(transparent)]
    Counts(#[from] CountsError),
    /// Tasks, data and tokenizers.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The Hugging Face cache.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Edits of neurons.
    #[error(transparent)]
    Perturb(#[from] PerturbError),
    /// Passes over texts.
    #[error(transparent)]
    Probing(#[from] ProbingError),
    /// The report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Ranking and masks.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// Statistics.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// Training.
    #[error(transparent)]
    Tune(#[from] TuneError),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A record that can't be made.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl SessionError {
    /// Whether a model has no head, and what was asked needs one.
    pub fn lacks_head(&self) -> bool {
        match self {
            Self::Model(error) => matches!(error, ModelError::NoHead { .. }),
            Self::Context { source, .. } => source.lacks_head(),
            _ => false,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// The same, with what was being done.
    pub(crate) fn within(self, context: impl Into<String>) -> Self {
        Self::Context { context: context.into(), source: Box::new(self) }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) => ErrorKind::Usage,
            Self::Input(_) | Self::OtherOptions { .. } => ErrorKind::Input,
            Self::NotHere(_) => ErrorKind::NotHere,
            Self::Device(_) | Self::Tensor(candle_core::Error::Cuda(_)) => ErrorKind::Device,
            Self::Stopped { .. } | Self::Interrupted(_) => ErrorKind::Interrupted,
            Self::Rehearsed | Self::Failed(_) | Self::Stats(_) | Self::Tensor(_) | Self::Json(_) => {
                ErrorKind::Failed
            }
            Self::Context { source, .. } => source.kind(),
            Self::Artifact(error) => error.kind(),
            Self::Counts(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Hub(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Perturb(error) => error.kind(),
            Self::Probing(error) => error.kind(),
            Self::Report(error) => error.kind(),
            Self::Select(error) => error.kind(),
            Self::Tune(error) => error.kind(),
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = SessionError> = std::result::Result<T, E>;
