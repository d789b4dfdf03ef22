//! `skn-train`: tune a soft prompt, biases or adapters on a frozen RoBERTa.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Parser};
use serde::Serialize;
use skn_artifact::sha256_hex;
use skn_model::{Gradients, Roberta};
use skn_tune::{ClipScope, Outcome, Stopped, TrainData, TrainOptions, TrainRun, train};

use crate::cli::{Common, Compute, Destination, Subject, Tuned};
use crate::program::{Call, Stage};
use crate::run::{BEST, MODEL_FILES, Sink};
use crate::setup::{Setup, mask_embedding, method_name};

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
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    common: Common,
}

/// How to train.
#[derive(Args, Clone, Debug)]
struct Training {
    /// Epochs
    #[arg(long, alias = "epochs", value_name = "N", default_value_t = 4)]
    epoch: u64,

    /// Rows of a step
    #[arg(long = "batch", visible_alias = "bz", value_name = "N", default_value = "8")]
    batch: NonZeroUsize,

    /// Evaluate on dev every so many steps, besides at the end of each epoch [default: only then]
    #[arg(long = "eval_every_step", value_name = "N")]
    eval_every_step: Option<u64>,

    /// Peak learning rate of Adam
    #[arg(long = "learning_rate", visible_alias = "lr", value_name = "RATE", default_value_t = 1e-3)]
    learning_rate: f64,

    /// Stop after 6 x eval_every_step steps (or 6 epochs) without a new best
    #[arg(long = "early_stop")]
    early_stop: bool,

    /// Stop after so many steps; the learning rate falls to 0 until then
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,

    /// Batches whose gradients make one step
    #[arg(long, value_name = "N", default_value = "1")]
    accumulate: NonZeroUsize,

    /// Share of all steps in which the learning rate rises
    #[arg(long, value_name = "SHARE", default_value_t = 0.006)]
    warmup: f64,

    /// Decoupled weight decay
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    weight_decay: f64,

    /// Dropout of hidden states and attention weights [default: the model's]
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,

    /// Make a checkpoint every so many steps, besides at evaluations
    #[arg(long, value_name = "N", default_value_t = 200)]
    checkpoint_every: u64,
}

impl Training {
    fn options(&self, seed: u64, paper: bool) -> TrainOptions {
        TrainOptions {
            seed,
            epochs: self.epoch,
            batch: self.batch.get(),
            accumulate: self.accumulate.get(),
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            warmup: self.warmup,
            eval_every: self.eval_every_step,
            early_stop: self.early_stop,
            dropout: self.dropout,
            max_steps: self.max_steps,
            checkpoint_every: self.checkpoint_every,
            clip: if paper { ClipScope::Backbone } else { ClipScope::Tuned },
            ..TrainOptions::default()
        }
    }
}

/// What a training came to.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    run: PathBuf,
    task: String,
    model: String,
    method: String,
    prompt_size: usize,
    trained_numbers: usize,
    steps: u64,
    resumed_from: Option<u64>,
    best_step: u64,
    metric: &'static str,
    dev_score: f64,
    early: bool,
}

impl fmt::Display for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, task, model, metric, dev_score, best_step, steps, .. } = self;
        write!(
            f,
            "tuned {method} ({} numbers) of {model} for {task}: {metric} {dev_score:.4} on dev",
            self.trained_numbers
        )?;
        write!(f, " after step {best_step} of {steps}")?;
        if self.early {
            write!(f, ", where --early_stop ended it")?;
        }
        write!(f, "; parameters in {}", self.run.join(BEST).display())
    }
}

impl Stage for Train {
    const PROGRAM: &'static str = "skn-train";
    type Output = Trained;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, call: &Call<'_>) -> Result<Trained> {
        let out = self.destination.out.as_path();
        let mut setup = Setup::load(&self.subject, &self.compute, &self.tuned)?;
        // A run that goes on from its own best was perhaps stopped while it wrote that: the checkpoint has what it needs.
        setup.base.may_be_torn =
            self.resume && self.goes_on(&setup, out) && out.join("last/checkpoint.safetensors").is_file();
        let options = self.training.options(setup.base.seed, setup.base.paper);
        let steps = options.total_steps(setup.splits.train.len())?;
        let mut sink = Sink::open(
            call,
            out,
            "train",
            self.destination.force || self.resume || self.goes_on(&setup, out),
        )?;
        sink.check_free(&["best/skn.json", "metrics.jsonl", "last/checkpoint.safetensors"])?;
        let base = &setup.base;
        let gradients = if base.paper { Gradients::All } else { Gradients::Tuned };
        let model = base.roberta(&base.tuning(&self.tuned)?, gradients)?;
        // From here on tokens are enough. Rows share their strings, those of test too: a string goes with its last row.
        let [train_rows, dev_rows, _] = setup.splits.take_rows();
        let [train_texts, dev_texts] = [train_rows, dev_rows].map(|rows| base.encode(rows, &model));
        let (train_texts, dev_texts) = (train_texts?, dev_texts?);
        let data = TrainData { train: &train_texts, dev: &dev_texts, metric: base.task.metric };
        setup.keep_split(&mut sink, true)?;
        setup.note(&mut sink)?;
        sink.flush()?;
        let run = self.train_run(&setup, &model, out, copy_backbone(&setup, out)?)?;
        tracing::info!("{} rows of train, {} of dev, {steps} steps", train_texts.len(), dev_texts.len());
        let outcome = train(&model, &data, &options, &run, &base.workers, call.console)?;
        outcome.notes.iter().for_each(|note| tracing::warn!("{note}"));
        if outcome.stopped == Stopped::Interrupted {
            anyhow::bail!(
                "a checkpoint of step {} is written; the same command with --resume, and without --force, goes on",
                outcome.steps
            );
        }
        record(&run, sink)?;
        Ok(trained(&setup, &model, &run, &outcome))
    }
}

impl Train {
    /// Whether this goes on from the best parameters of the run that it writes to, and so replaces them.
    fn goes_on(&self, setup: &Setup, out: &Path) -> bool {
        let same = |run: &PathBuf| run.canonicalize().ok() == out.canonicalize().ok();
        self.tuned.from_pretrained
            && setup.base.source.as_ref().and_then(|source| source.run.as_ref()).is_some_and(same)
    }

    fn train_run(
        &self,
        setup: &Setup,
        model: &Roberta,
        out: &Path,
        companions: BTreeMap<String, String>,
    ) -> Result<TrainRun> {
        let base = &setup.base;
        let pruned = base.model.config.kept_neurons.is_some();
        Ok(TrainRun {
            folder: out.into(),
            resume: self.resume,
            method: method_name(&model.tuning()?, pruned).into(),
            task: base.task.name.clone(),
            model: base.identity.clone(),
            verbalizer: base.verbalizer_record(),
            mask_embedding: mask_embedding(&base.model.weights, &base.encoder)?,
            data_sha256: setup.splits.source.data_sha256.clone(),
            tokenizer_sha256: base.encoder.sha256().into(),
            loaded: self.tuned.from_pretrained,
            companions,
        })
    }
}

fn record(run: &TrainRun, mut sink: Sink) -> Result<()> {
    sink.wrote_all(BEST)?;
    sink.wrote_all("last")?;
    sink.wrote("metrics.jsonl")?;
    sink.set("method", &run.method);
    sink.finish()
}

/// A pruned run carries its backbone beside its prompt: puts those files into `out`, and says which they are.
fn copy_backbone(setup: &Setup, out: &Path) -> Result<BTreeMap<String, String>> {
    let Some(source) = setup.base.source.as_ref().filter(|_| setup.base.model_of_source) else {
        return Ok(BTreeMap::new());
    };
    let mut companions = BTreeMap::new();
    for name in MODEL_FILES {
        let Some(bytes) = setup.base.model.folder.file(name)? else { continue };
        let target = out.join(BEST).join(name);
        if target.canonicalize().ok() != source.best.join(name).canonicalize().ok() {
            skn_artifact::write_file(&target, skn_artifact::Overwrite::Replace, &bytes)?;
        }
        companions.insert(name.to_string(), sha256_hex(&bytes));
    }
    Ok(companions)
}

fn trained(setup: &Setup, model: &Roberta, run: &TrainRun, outcome: &Outcome) -> Trained {
    Trained {
        run: run.folder.clone(),
        task: run.task.clone(),
        model: run.model.id.clone(),
        method: run.method.clone(),
        prompt_size: model.prompt_rows(),
        trained_numbers: model.parameters().values().map(|parameter| parameter.elem_count()).sum(),
        steps: outcome.steps,
        resumed_from: outcome.resumed_from,
        best_step: outcome.best_step,
        metric: setup.base.task.metric.name(),
        dev_score: outcome.best_score,
        early: outcome.stopped == Stopped::EarlyStop,
    }
}
