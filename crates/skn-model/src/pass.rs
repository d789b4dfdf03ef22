use std::sync::Arc;

/// Which hidden states a pass returns.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Output {
    /// None: the pass ends with the last layer that a hook reads.
    Nothing,
    /// The row of each sequence where the answer is read: `[sequences, hidden]`.
    #[default]
    Answer,
    /// The given rows, as ascending numbers of the packed batch: `[rows, hidden]`.
    Rows(Arc<[u32]>),
}

/// Dropout while training: the same masks for the same seed, step and text, whatever the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingDropout {
    /// Probability for hidden states.
    pub hidden: f32,
    /// Probability for attention weights.
    pub attention: f32,
    /// The run's seed.
    pub seed: u64,
    /// The training step.
    pub step: u64,
}

/// What to compute in a forward pass.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// The hidden states to return.
    pub output: Output,
    /// Dropout, while training.
    pub dropout: Option<TrainingDropout>,
}
