use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use skn_artifact::names::{file, stage};
use skn_artifact::{ErrorKind, RunRecord, hash_file, is_file, is_there};
use skn_model::{Gradients, LanguageModel};
use skn_probing::ProbingError;
use skn_tune::{Beginning, Outcome, Stopped, TrainData, TrainRun, check_resume, train};

use super::train_files::{copy_backbone, in_best, is_apart, is_same};
use super::train_rehearsal::rehearse;
use crate::error::{Result, SessionError};
use crate::fits::method_name;
use crate::options::{Train, Usual};
use crate::run_writer::RunWriter;
use crate::session::Session;
use crate::setup::Setup;

/// What a training came to.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Trained {
    /// The run's folder, with the parameters in `best`.
    pub run: PathBuf,
    /// The task's name.
    pub task: String,
    /// The model's id.
    pub model: String,
    /// The tuning method, by the original's name.
    pub method: String,
    /// Rows before the text, the `<mask>` row counted.
    pub prompt_size: usize,
    /// How many numbers were trained.
    pub trained_numbers: usize,
    /// Training steps done.
    pub steps: u64,
    /// The step of the checkpoint that it went on from.
    pub resumed_from: Option<u64>,
    /// The step whose parameters are the best.
    pub best_step: u64,
    /// The task's metric.
    pub metric: &'static str,
    /// The metric on dev, of the best parameters.
    pub dev_score: f64,
    /// Whether it ended for lack of a new best.
    pub early: bool,
    /// Whether the rows of its prompt see nothing of the text: in front of it, in a decoder.
    #[serde(skip)]
    pub has_blind_prompt: bool,
}

impl Session {
    /// Tunes a soft prompt, biases or adapters on a frozen model. Leaves the parameters that are best on dev in
    /// `best` of the run, the metrics of each evaluation in `metrics.jsonl`, and in `last` what a resume needs to go on
    /// bit for bit.
    ///
    /// # Errors
    /// If something named is missing, damaged or does not fit; if the run has a training that may not be replaced; if the
    /// progress says to stop ([`SessionError::Stopped`], with a checkpoint).
    pub fn train(&self, options: &Train) -> Result<Trained> {
        let out = options.out.as_path();
        // A run that goes on from its own best was perhaps stopped while it wrote that: the checkpoint has what it needs.
        let checkpoint = format!("{}/{}", file::LAST, file::CHECKPOINT);
        let torn = options.resume && options.tuned.load && has_checkpoint(out)?;
        let mut setup = Setup::load_to_train(self, &options.subject, &options.tuned, torn.then_some(out))?;
        let goes_on = goes_on(options, &setup)?;
        // Whether its layers kept their width or not: a pruned model lies in what is resumed from.
        let pruned = setup.base.model_of_source || setup.base.model.config.kept_neurons.is_some();
        let usual = Usual::of(setup.base.is_demo, pruned);
        let how = options.training.options(usual, setup.base.seed, setup.base.paper);
        if setup.base.paper {
            self.require_alone(
                "option `paper`: a training as published, with gradients of the whole model,",
            )?;
        }
        let steps = how.total_steps(setup.splits.train.len())?;
        let overwrite = options.overwrite || options.resume || goes_on;
        let mut writer = RunWriter::open(self, options.clone(), out, stage::TRAIN, overwrite)?;
        let of_best: Vec<String> = tuning_files().map(|name| in_best(&name)).collect();
        writer.check_free(&of_best)?;
        writer.check_free(&[file::METRICS.into(), checkpoint])?;
        let base = &setup.base;
        let gradients = if base.paper { Gradients::All } else { Gradients::Tuned };
        let model = base.roberta(&base.tuning_to_train(&options.tuned)?, gradients)?;
        // From here on tokens are enough. Rows share their strings, those of test too: a string goes with its last row.
        let [train_rows, dev_rows, _] = setup.splits.take_rows();
        let encoded = base.encode("train", train_rows, &model);
        let encoded = encoded.and_then(|train| Ok((train, base.encode("dev", dev_rows, &model)?)));
        // Processes that train together stop together.
        let stopped = encoded.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted);
        if self.group().any(stopped)? && !stopped {
            return Err(ProbingError::Cancelled.into());
        }
        let (train_texts, dev_texts) = encoded?;
        let data = TrainData { train: &train_texts, dev: &dev_texts, metric: base.task.metric };
        let begins = match (options.tuned.load, goes_on) {
            (false, _) => Beginning::New,
            (true, false) => Beginning::Loaded,
            (true, true) => Beginning::OwnBest,
        };
        if let Some(rehearsal) = self.rehearsal() {
            rehearse(rehearsal, &setup, &model, [data.train, data.dev], (&how, steps), writer)?;
            return Err(SessionError::Rehearsed);
        }
        let mut run = train_run(options, &setup, &model, begins)?;
        // What is refused has touched nothing of the run.
        check_resume(&model, &data, &how, &run)?;
        // All have read the run before anything of it changes.
        self.group().wait()?;
        setup.keep_split(&mut writer, true)?;
        setup.note(&mut writer)?;
        writer.flush()?;
        run.companions = companions(self, &setup, out)?;
        tracing::info!("{} rows of train, {} of dev, {steps} steps", train_texts.len(), dev_texts.len());
        let outcome = train(&model, &data, &how, &run, self.workers(), self.progress())?;
        outcome.notes.iter().for_each(|note| tracing::warn!("{note}"));
        if outcome.stopped == Stopped::Interrupted {
            return Err(SessionError::Stopped { step: outcome.steps });
        }
        if setup.base.source.as_ref().is_some_and(|source| source.torn) {
            note_beginning(&outcome, &mut writer)?;
        }
        record(&run, writer)?;
        Ok(trained(&setup, &model, &run, &outcome))
    }
}

/// The files of a pruned model, which rank 0 puts beside the tuned parameters, with their hashes.
fn companions(session: &Session, setup: &Setup<'_>, out: &Path) -> Result<BTreeMap<String, String>> {
    let group = session.group();
    let copied = group.is_first().then(|| copy_backbone(setup, out)).transpose()?.unwrap_or_default();
    match group.size() {
        1 => Ok(copied),
        _ => Ok(serde_json::from_slice(&group.broadcast(serde_json::to_vec(&copied)?)?)?),
    }
}

/// Whether a training left a checkpoint: while one is written, the one before it is there alone.
fn has_checkpoint(out: &Path) -> Result<bool> {
    let last = out.join(file::LAST);
    Ok(is_file(&last.join(file::CHECKPOINT))? || is_file(&last.join(file::PREVIOUS_CHECKPOINT))?)
}

/// Whether this goes on from the best parameters of the run that it writes to, and so replaces them.
fn goes_on(options: &Train, setup: &Setup<'_>) -> Result<bool> {
    match setup.base.source.as_ref().and_then(|source| source.run.as_ref()) {
        Some(run) if options.tuned.load => is_same(run, &options.out),
        _ => Ok(false),
    }
}

fn train_run(
    options: &Train,
    setup: &Setup<'_>,
    model: &LanguageModel,
    begins: Beginning,
) -> Result<TrainRun> {
    let base = &setup.base;
    let pruned = base.model.config.kept_neurons.is_some();
    Ok(TrainRun {
        folder: options.out.clone(),
        resume: options.resume,
        method: method_name(&model.tuning()?, pruned).into(),
        task: base.task.name.clone(),
        template_sha256: base.template_sha256(),
        texts: base.texts_record()?,
        model: base.identity.clone(),
        verbalizer: base.verbalizer_record(),
        mask_embedding: base.model.weights.mask_embedding(base.encoder.mask_id())?,
        data_sha256: setup.splits.source.data_sha256.clone(),
        tokenizer_sha256: base.encoder.sha256().into(),
        begins,
        companions: BTreeMap::new(),
        apart: is_apart(setup),
    })
}

/// What tuned parameters consist of, by the names in `best`.
fn tuning_files() -> impl Iterator<Item = String> {
    std::iter::once(file::SKILL_CONFIG.to_owned()).chain(file::tuned_in_best())
}

/// Notes what a training began with that goes on from its own best, which it has replaced since.
fn note_beginning(outcome: &Outcome, writer: &mut RunWriter) -> Result<()> {
    let run = RunRecord::read(writer.folder())?;
    let config = in_best(file::SKILL_CONFIG);
    let found = hash_file(&writer.folder().join(&config))?;
    // One that was finished and noted before has replaced what its record lists as read.
    let nothing_done = outcome.resumed_from == Some(outcome.steps);
    let noted = run.stages.get(stage::TRAIN).filter(|_| nothing_done);
    let noted = noted.filter(|stage| stage.outputs.get(&config) == Some(&found));
    let read = tuning_files().filter(|name| !name.ends_with(file::ADAPTER_CONFIG));
    for name in read.map(|name| in_best(&name)) {
        let before = match noted {
            Some(stage) => stage.inputs.get(&name),
            None => run.stages.values().find_map(|stage| stage.outputs.get(&name)),
        };
        writer.read_before(name, before.cloned());
    }
    Ok(())
}

fn record(run: &TrainRun, mut writer: RunWriter) -> Result<()> {
    let of_best =
        tuning_files().map(|name| in_best(&name)).chain(run.companions.keys().map(|name| in_best(name)));
    let of_last = [file::CHECKPOINT, file::PREVIOUS_CHECKPOINT].map(|name| format!("{}/{name}", file::LAST));
    // What somebody else puts beside them is not this stage's.
    for name in of_best.chain(of_last.clone()) {
        if is_file(&writer.folder().join(&name))? {
            writer.wrote(&name)?;
        }
    }
    // One that is not there any more is nothing that a verification misses.
    let [_, previous] = of_last;
    if !is_there(&writer.folder().join(&previous))? {
        writer.remove(&previous);
    }
    // A pruned model that an earlier stage left would be taken for the one that was tuned.
    let others = file::MODEL.iter().filter(|name| !run.companions.contains_key(**name));
    writer.remove_listed(others.map(|name| in_best(name)))?;
    writer.wrote(file::METRICS)?;
    writer.set("method", &run.method);
    writer.finish()
}

fn trained(setup: &Setup<'_>, model: &LanguageModel, run: &TrainRun, outcome: &Outcome) -> Trained {
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
        has_blind_prompt: model.layout().has_blind_prompt(),
    }
}
