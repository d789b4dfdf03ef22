use skn_artifact::{ArtifactError, ErrorKind};
use skn_counts::CountsError;
use skn_model::ModelError;
use skn_stats::StatsError;

/// Why a pass over a split failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbingError {
    /// The model refused a batch.
    #[error(transparent)]
    Model(ModelError),

    /// Statistics could not be made.
    #[error(transparent)]
    Stats(#[from] StatsError),

    /// A file of statistics is not what it should be.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),

    /// Counts do not fit, or their file is not what it should be.
    #[error(transparent)]
    Counts(#[from] CountsError),

    /// There is nothing to pass over.
    #[error("{what}: expected at least one text, found none")]
    NoTexts {
        /// What was to be done with them.
        what: &'static str,
    },

    /// A text does not fit into the model beside its prompt.
    #[error("row {row}: expected at most {limit} tokens beside {prompt_rows} prompt rows, found {found}")]
    TooLong {
        /// The row in its part.
        row: u64,
        /// The most tokens there may be.
        limit: usize,
        /// The rows that the prompt takes.
        prompt_rows: usize,
        /// The text's tokens.
        found: usize,
    },

    /// A text has no tokens, not even `<s>` and `</s>`.
    #[error("row {row}: expected at least one token, found none")]
    Empty {
        /// The row in its part.
        row: u64,
    },

    /// Two texts have the same row number.
    #[error("row {row}: expected once, found twice")]
    SameRow {
        /// The row in its part.
        row: u64,
    },

    /// A label is not a class.
    #[error("row {row}: expected a class below {classes}, found {found}")]
    Label {
        /// The row in its part.
        row: u64,
        /// The number of classes.
        classes: usize,
        /// The label.
        found: usize,
    },

    /// An activation is NaN or infinite.
    #[error(
        "row {row}: layer {layer}, position {position}, neuron {neuron}: expected a finite activation, found {found}"
    )]
    Activation {
        /// The row of the text in its part.
        row: u64,
        /// The layer, from 0.
        layer: usize,
        /// The position in the sequence, prompt rows counted.
        position: usize,
        /// The neuron.
        neuron: usize,
        /// The activation.
        found: f32,
    },

    /// An activation can't be added up.
    #[error("row {row}: layer {layer}: {source}")]
    Sum {
        /// The row of the text in its part.
        row: u64,
        /// The layer, from 0.
        layer: usize,
        /// What the accumulator said.
        source: StatsError,
    },

    /// A logit is NaN or infinite.
    #[error("row {row}: class {class}: expected a finite logit, found {found}")]
    Logit {
        /// The row of the text in its part.
        row: u64,
        /// The class.
        class: usize,
        /// The logit.
        found: f32,
    },

    /// No probe has this name.
    #[error("probe `{found}`: expected one of {expected}")]
    UnknownProbe {
        /// The names there are.
        expected: String,
        /// The name given.
        found: String,
    },

    /// Something asked for is out of range, or does not fit the model.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// What was asked for.
        what: String,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        found: String,
    },

    /// The threads could not be started.
    #[error("can't start {threads} threads: {source}")]
    Threads {
        /// How many.
        threads: usize,
        /// What the system said.
        source: rayon::ThreadPoolBuildError,
    },

    /// The pass was told to stop ([`Progress::cancelled`](crate::Progress::cancelled)).
    #[error("stopped")]
    Cancelled,
}

impl ProbingError {
    pub(crate) fn mismatch(what: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self::Mismatch { what: what.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// Something is of another type than that which made it.
    pub(crate) fn wrong_type<T>(what: &str) -> Self {
        Self::mismatch(what, std::any::type_name::<T>(), "another type")
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Model(error) => error.kind(),
            Self::Artifact(error) => error.kind(),
            Self::Counts(error) => error.kind(),
            Self::UnknownProbe { .. } | Self::Mismatch { .. } => ErrorKind::Usage,
            Self::NoTexts { .. } | Self::TooLong { .. } | Self::Empty { .. } => ErrorKind::Input,
            Self::SameRow { .. } | Self::Label { .. } => ErrorKind::Input,
            Self::Cancelled => ErrorKind::Interrupted,
            Self::Stats(_) | Self::Activation { .. } | Self::Sum { .. } | Self::Logit { .. } => {
                ErrorKind::Failed
            }
            Self::Threads { .. } => ErrorKind::Failed,
        }
    }
}

impl From<ModelError> for ProbingError {
    /// An error of this crate that went through the model, because a hook met it, comes out as it was.
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Hook { site, source } => match source.downcast::<Self>() {
                Ok(own) => *own,
                Err(source) => Self::Model(ModelError::Hook { site, source }),
            },
            other => Self::Model(other),
        }
    }
}

impl From<candle_core::Error> for ProbingError {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

/// The result of this crate's functions.
pub type Result<T, E = ProbingError> = std::result::Result<T, E>;
