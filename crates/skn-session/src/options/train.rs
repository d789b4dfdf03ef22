use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skn_tune::{ClipScope, TrainOptions};

use super::subject::Subject;
use super::tuned::Tuned;

/// Tune a soft prompt, biases (BitFit) or adapters on a frozen model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Train {
    /// Model, task and data.
    pub subject: Subject,
    /// What is tuned, and from where.
    pub tuned: Tuned,
    /// How.
    pub training: Training,
    /// The run's folder.
    pub out: PathBuf,
    /// Whether a training that is there is replaced.
    pub overwrite: bool,
    /// Whether to go on from the run's checkpoint, from the start if there is none.
    pub resume: bool,
}

impl Train {
    /// Tunes a new prompt, into a run.
    pub fn new(subject: Subject, out: impl Into<PathBuf>) -> Self {
        Self { subject, out: out.into(), ..Self::default() }
    }
}

/// How a model is trained where nobody says how: as published, or as suits the demo.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usual {
    pub(crate) epochs: u64,
    pub(crate) batch: NonZeroUsize,
    pub(crate) learning_rate: f64,
}

impl Usual {
    /// Of the demo or any other model, pruned or whole.
    pub(crate) fn of(demo: bool, pruned: bool) -> Self {
        let published = TrainOptions::default();
        let some = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        match (demo, pruned) {
            (false, _) => Self {
                epochs: published.epochs,
                batch: some(published.batch),
                learning_rate: published.learning_rate,
            },
            (true, _) => Self { epochs: if pruned { 6 } else { 12 }, batch: some(16), learning_rate: 5e-3 },
        }
    }
}

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Training {
    /// Epochs; default 4, for the demo 12, and 6 when it is pruned.
    pub epochs: Option<u64>,
    /// Rows of a step; default 8, for the demo 16.
    pub batch: Option<NonZeroUsize>,
    /// Evaluate on dev every so many steps, besides at the end of each epoch; default: only then.
    pub eval_every: Option<u64>,
    /// Peak learning rate of Adam; default 1e-3, for the demo 5e-3.
    pub learning_rate: Option<f64>,
    /// Stop after 6 times `eval_every` steps (or 6 epochs) without a new best.
    pub early_stop: bool,
    /// Stop after so many steps; the learning rate falls to 0 until then.
    pub max_steps: Option<u64>,
    /// Batches whose gradients make one step; default 1.
    pub accumulate: NonZeroUsize,
    /// Share of all steps in which the learning rate rises; default 0.006.
    pub warmup: f64,
    /// Decoupled weight decay; default 0.
    pub weight_decay: f64,
    /// Dropout of hidden states and attention weights; default: the model's.
    pub dropout: Option<f32>,
    /// Make a checkpoint every so many steps, besides at evaluations; default 200.
    pub checkpoint_every: u64,
}

impl Default for Training {
    fn default() -> Self {
        let options = TrainOptions::default();
        let some = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        Self {
            epochs: None,
            batch: None,
            eval_every: options.eval_every,
            learning_rate: None,
            early_stop: options.early_stop,
            max_steps: options.max_steps,
            accumulate: some(options.accumulate),
            warmup: options.warmup,
            weight_decay: options.weight_decay,
            dropout: options.dropout,
            checkpoint_every: options.checkpoint_every,
        }
    }
}

impl Training {
    /// `usual` is what suits the model.
    pub(crate) fn options(&self, usual: Usual, seed: u64, paper: bool) -> TrainOptions {
        TrainOptions {
            seed,
            epochs: self.epochs.unwrap_or(usual.epochs),
            batch: self.batch.unwrap_or(usual.batch).get(),
            accumulate: self.accumulate.get(),
            learning_rate: self.learning_rate.unwrap_or(usual.learning_rate),
            weight_decay: self.weight_decay,
            warmup: self.warmup,
            eval_every: self.eval_every,
            early_stop: self.early_stop,
            dropout: self.dropout,
            max_steps: self.max_steps,
            checkpoint_every: self.checkpoint_every,
            clip: if paper { ClipScope::Backbone } else { ClipScope::Tuned },
            ..TrainOptions::default()
        }
    }
}
