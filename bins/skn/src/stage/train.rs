//! `skn-train`: tune a soft prompt, biases or adapters on a frozen RoBERTa.

use std::fmt;
use std::num::NonZeroUsize;

use anyhow::Result;
use clap::{Args, Parser};
use serde::Serialize;
use skn_artifact::names::file;
use skn_session::options;
use skn_session::{DryRun, Trained as Found};

use crate::cli::{Common, Compute, Destination, Dry, Subject, Tuned};
use crate::next;
use crate::program::{Call, Stage};

/// Tune a soft prompt, biases (BitFit) or adapters on a frozen RoBERTa.
///
/// Leaves the parameters that are best on dev in RUN/best (a PEFT or AdapterHub folder), the metrics of each
/// evaluation in RUN/metrics.jsonl, and in RUN/last what --resume needs to go on bit for bit.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "skn-train",
    version,
    after_help = "skn-train --list-tasks lists the tasks that --task knows (so does skn-tasks)."
)]
pub struct Train {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    tuned: Tuned,
    #[command(flatten)]
    training: Training,
    /// Go on from RUN/last; from the start if there is nothing yet
    #[arg(long, conflicts_with = "dry_run")]
    resume: bool,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    common: Common,
}

/// How to train.
#[derive(Args, Clone, Debug)]
struct Training {
    /// Epochs [default: 4; 12 for the demo, 6 for the pruned demo]
    #[arg(long, alias = "epochs", value_name = "N")]
    epoch: Option<u64>,

    /// Rows of a step [default: 8; 16 for the demo]
    #[arg(long = "batch", visible_alias = "bz", value_name = "N")]
    batch: Option<NonZeroUsize>,

    /// Evaluate on dev every so many steps, besides at the end of each epoch [default: only then]
    #[arg(long = "eval_every_step", value_name = "N")]
    eval_every_step: Option<u64>,

    /// Peak learning rate of Adam [default: 0.001; 0.005 for the demo]
    #[arg(long = "learning_rate", visible_alias = "lr", value_name = "RATE")]
    learning_rate: Option<f64>,

    /// Stop after 6 x eval_every_step steps (or 6 epochs) without a new best
    #[arg(long = "early_stop")]
    early_stop: bool,

    /// Stop after so many steps; the learning rate falls to 0 until then
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,

    /// Batches whose gradients make one step
    #[arg(long, value_name = "N", default_value_t = options::Training::default().accumulate)]
    accumulate: NonZeroUsize,

    /// Share of all steps in which the learning rate rises
    #[arg(long, value_name = "SHARE", default_value_t = options::Training::default().warmup)]
    warmup: f64,

    /// Decoupled weight decay
    #[arg(long, value_name = "RATE", default_value_t = options::Training::default().weight_decay)]
    weight_decay: f64,

    /// Dropout of hidden states and attention weights [default: the model's]
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,

    /// Make a checkpoint every so many steps, besides at evaluations
    #[arg(long, value_name = "N", default_value_t = options::Training::default().checkpoint_every)]
    checkpoint_every: u64,
}

impl Training {
    fn options(&self) -> options::Training {
        let mut training = options::Training::default();
        training.epochs = self.epoch;
        training.batch = self.batch;
        training.eval_every = self.eval_every_step;
        training.learning_rate = self.learning_rate;
        training.early_stop = self.early_stop;
        training.max_steps = self.max_steps;
        training.accumulate = self.accumulate;
        training.warmup = self.warmup;
        training.weight_decay = self.weight_decay;
        training.dropout = self.dropout;
        training.checkpoint_every = self.checkpoint_every;
        training
    }
}

impl Train {
    /// What the flags ask for.
    pub(crate) fn options(&self) -> options::Train {
        let mut train = options::Train::new(self.subject.options(), &self.destination.out);
        train.tuned = self.tuned.options();
        train.training = self.training.options();
        (train.overwrite, train.resume) = (self.destination.force, self.resume);
        train
    }
}

/// What a training came to.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Trained(Found);

impl From<Found> for Trained {
    fn from(found: Found) -> Self {
        Self(found)
    }
}

impl fmt::Display for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { method, task, model, metric, dev_score, best_step, steps, .. } = &self.0;
        write!(
            f,
            "tuned {method} ({} numbers) of {model} for {task}: {metric} {dev_score:.4} on dev",
            self.0.trained_numbers
        )?;
        write!(f, " after step {best_step} of {steps}")?;
        if self.0.early {
            write!(f, ", where --early_stop ended it")?;
        }
        write!(f, "; parameters in {}", self.0.run.join(file::BEST).display())
    }
}

impl Stage for Train {
    const PROGRAM: &'static str = "skn-train";
    const IN_GROUP: bool = true;
    const SAVES_WHEN_STOPPED: bool = true;
    type Output = Trained;

    fn common(&self) -> &Common {
        &self.common
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        call.dry_run(self.dry, self.compute.options(), || Ok(self.options().into()))
    }

    fn next(&self, found: &Trained) -> Option<Vec<String>> {
        Some(next::after_train(&found.0.run, self.tuned.resume_from.is_some(), found.0.has_blind_prompt))
    }

    fn run(&self, call: &Call) -> Result<Trained> {
        let session = call.session(self.compute.options())?;
        Ok(Trained(session.train(&self.options())?))
    }
}
