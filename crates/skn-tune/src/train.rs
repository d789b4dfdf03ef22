use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use skn_artifact::{ArtifactError, Journal, MetricRecord, sha256_hex};
use skn_data::{epoch_order, pack_in_order, shard};
use skn_model::{LanguageModel, TrainingDropout};
use skn_probing::{PassOptions, ProbingError, Progress, Work, Workers, evaluate};

use crate::adam::Adam;
use crate::checkpoint::{Checkpoint, CheckpointFolder, Fingerprint, Loaded, State};
use crate::clip::{ClipScope, check_finite, clip_factor, gradient_norm};
use crate::error::{Result, TuneError};
use crate::fingerprint::fingerprint;
use crate::options::{Plan, TrainData, TrainOptions};
use crate::step::{Step, StepGradients, step_gradients};
use crate::train_run::{Best, TrainRun};

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// All steps are done.
    Finished,
    /// There was no new best for long enough ([`TrainOptions::early_stop`]).
    EarlyStop,
    /// The caller asked for it; a checkpoint is made, and a resume goes on from there.
    Interrupted,
}

/// What a training came to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The step after which the best parameters were found; 0 if none were evaluated.
    pub best_step: u64,
    /// Their score on dev; minus infinity if none were evaluated.
    pub best_score: f64,
    /// Steps done, those before a resume included.
    pub steps: u64,
    /// Steps that were done before this resume; `None` if it began anew.
    pub resumed_from: Option<u64>,
    /// How it ended.
    pub stopped: Stopped,
    /// What the user should know: a damaged checkpoint, another machine.
    pub notes: Vec<String>,
}

/// Trains what `model`'s tuning method trains, and leaves the best parameters in `run`'s folder. The model itself has
/// the last ones afterwards.
///
/// Dev is evaluated every [`eval_every`](TrainOptions::eval_every) steps and at each epoch's end; the best parameters
/// are those of the highest score, the later of equals. A checkpoint is made at each evaluation, at least every
/// [`checkpoint_every`](TrainOptions::checkpoint_every) steps and when `progress` asks to stop; a training that is
/// resumed from it leaves the same bytes as one that was never stopped, whatever the number of threads.
///
/// In a group of processes ([`Workers::in_group`]) each makes this call with the same arguments, and sees all files: they take turns at the
/// micro-batches of a step and share dev; rank 0 writes. Bytes are those of one process.
///
/// # Errors
/// If an option makes no sense, the data do not fit the model, a number becomes NaN or infinite, a file can't be
/// written, or a checkpoint to resume from is of another training or damaged (the one before it too).
pub fn train(
    model: &LanguageModel,
    data: &TrainData<'_>,
    options: &TrainOptions,
    run: &TrainRun,
    workers: &Workers,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let mut training = Training::start(model, data, options, run, workers)?;
    let stopped = training.run(progress)?;
    let is_first = workers.group().is_first();
    // What was not written anew since the resume was left by a program that is no more.
    if is_first && stopped != Stopped::Interrupted && training.resumed_from.is_some() {
        run.check_best(&training.state)?;
    }
    let state = &training.state;
    Ok(Outcome {
        best_step: state.best_step,
        best_score: state.best_score,
        steps: state.step,
        resumed_from: training.resumed_from,
        stopped,
        notes: training.notes,
    })
}

/// Refuses a resume that [`train`] would refuse because the checkpoint is damaged or of another training, before anything is
/// written. Nothing without [`TrainRun::resume`].
///
/// # Errors
/// As [`train`].
pub fn check_resume(
    model: &LanguageModel,
    data: &TrainData<'_>,
    options: &TrainOptions,
    run: &TrainRun,
) -> Result<()> {
    if !run.resume {
        return Ok(());
    }
    options.plan(data.train.len())?;
    check(model, data, options, run)?;
    let now = fingerprint(model, data, options, run, dropout(model, options))?;
    CheckpointFolder::new(&run.last()).load(&now).map(drop)
}

/// Of hidden states and attention weights.
fn dropout(model: &LanguageModel, options: &TrainOptions) -> [f32; 2] {
    let config = model.config();
    options.dropout.map_or([config.hidden_dropout, config.attention_dropout], |p| [p, p])
}

struct Training<'a> {
    model: &'a LanguageModel,
    data: &'a TrainData<'a>,
    options: &'a TrainOptions,
    run: &'a TrainRun,
    workers: &'a Workers,
    plan: Plan,
    /// Of hidden states and attention weights.
    dropout: [f32; 2],
    fingerprint: Fingerprint,
    checkpoints: CheckpointFolder,
    /// Of rank 0, which writes.
    journal: Option<Journal>,
    adam: Adam,
    state: State,
    /// The state of the last checkpoint.
    saved: Option<State>,
    resumed_from: Option<u64>,
    notes: Vec<String>,
    order: EpochOrder,
    /// The score on dev at the last evaluation.
    dev: Option<f64>,
}

/// The order of an epoch's rows.
#[derive(Default)]
struct EpochOrder {
    epoch: Option<u64>,
    rows: Vec<u32>,
}

impl<'a> Training<'a> {
    fn start(
        model: &'a LanguageModel,
        data: &'a TrainData<'a>,
        options: &'a TrainOptions,
        run: &'a TrainRun,
        workers: &'a Workers,
    ) -> Result<Self> {
        let plan = options.plan(data.train.len())?;
        check(model, data, options, run)?;
        let dropout = dropout(model, options);
        let fingerprint = fingerprint(model, data, options, run, dropout)?;
        let mut checkpoints = CheckpointFolder::new(&run.last());
        let loaded = if run.resume { checkpoints.load(&fingerprint)? } else { None };
        let (adam, state, notes) = match &loaded {
            None => (Adam::new(options.adam()), State::new(), Vec::new()),
            Some(loaded) => {
                let adam = loaded.checkpoint.restore(model.parameters(), options.adam())?;
                (adam, loaded.checkpoint.state().clone(), loaded.notes.clone())
            }
        };
        // All have read what there is before anything of it changes.
        if workers.group().size() > 1 {
            let found = Checkpoint::encode(model.parameters(), &adam, &state, &fingerprint)?;
            same_beginning(workers, &format!("step {}, SHA-256 {}", state.step, sha256_hex(&found)))?;
        }
        let is_first = workers.group().is_first();
        let journal = is_first.then(|| journal(run, &mut checkpoints, loaded.as_ref())).transpose()?;
        Ok(Self {
            model,
            data,
            options,
            run,
            workers,
            plan,
            dropout,
            fingerprint,
            checkpoints,
            journal,
            adam,
            saved: loaded.as_ref().map(|_| state.clone()),
            resumed_from: loaded.map(|_| state.step),
            state,
            notes,
            order: EpochOrder::default(),
            dev: None,
        })
    }

    /// The state alone decides what comes next, so that it does not matter where a training was interrupted.
    fn run(&mut self, progress: &dyn Progress) -> Result<Stopped> {
        let rows = self.data.train.len();
        progress.begin(Work::of("training", self.plan.visited(self.plan.schedule.total(), rows)));
        progress.resumes(self.plan.visited(self.state.step, rows));
        loop {
            let step = self.state.step;
            if self.evaluation_is_due() {
                if !self.evaluate(progress)? {
                    return self.interrupt();
                }
            } else if step > 0 && step.is_multiple_of(self.options.checkpoint_every) {
                self.save()?;
            }
            if let Some(stopped) = self.end() {
                return Ok(stopped);
            }
            // All stop after the same step.
            if self.workers.group().any(progress.cancelled())? {
                return self.interrupt();
            }
            progress.advance(self.step()?);
            progress.note(&self.found());
        }
    }

    /// What is known by now: the mean loss since the last evaluation, and what that found.
    fn found(&self) -> String {
        let State { loss_sum, loss_rows, .. } = self.state;
        let loss = (loss_rows > 0).then(|| format!("loss {:.4}", loss_sum / loss_rows as f64));
        let dev = self.dev.map(|score| format!("dev {} {score:.4}", self.data.metric.name()));
        loss.into_iter().chain(dev).collect::<Vec<_>>().join(", ")
    }

    fn evaluation_is_due(&self) -> bool {
        let step = self.state.step;
        self.state.evaluated < step && self.plan.evaluates(step, self.options.eval_every)
    }

    fn end(&self) -> Option<Stopped> {
        let State { step, evaluated, best_step, .. } = self.state;
        let waited = self.plan.patience.is_some_and(|patience| step - best_step >= patience);
        if step >= self.plan.schedule.total() {
            Some(Stopped::Finished)
        } else if evaluated == step && waited && step > 0 {
            Some(Stopped::EarlyStop)
        } else {
            None
        }
    }

    fn interrupt(&mut self) -> Result<Stopped> {
        self.save()?;
        // Nobody ends before the checkpoint is there.
        self.workers.group().wait()?;
        Ok(Stopped::Interrupted)
    }

    /// Makes one step, and says of how many rows.
    fn step(&mut self) -> Result<u64> {
        let number = self.state.step;
        let found = self.gradients(number)?;
        let norm = self.norm(number, &found.gradients)?;
        let scale = clip_factor(norm, self.options.max_norm);
        let parameters = self.model.parameters();
        self.adam.update(parameters, &found.gradients, scale, self.learning_rate(number))?;
        self.check_parameters(number)?;
        // The square of a gradient may leave f32 where the gradient does not; then its parameter would never move again.
        for (name, moments) in self.adam.moments() {
            let values = moments.variance.flatten_all()?.to_vec1::<f32>()?;
            check_finite(number, || format!("second moment of `{name}`"), &values)?;
        }
        let state = &mut self.state;
        state.step += 1;
        state.epoch = state.step / self.plan.steps_per_epoch;
        state.loss_sum += found.loss * found.rows as f64;
        state.loss_rows += found.rows as u64;
        state.gradient_norm = norm;
        Ok(found.rows as u64)
    }

    fn gradients(&mut self, number: u64) -> Result<StepGradients> {
        let (epoch, place) = (number / self.plan.steps_per_epoch, number % self.plan.steps_per_epoch);
        let rows = self.order.of(epoch, self.data.train.len(), self.options.seed);
        // The plan has as many steps an epoch as it takes, so the first row of each is there.
        let first = (place as usize).saturating_mul(self.plan.rows_per_step).min(rows.len());
        let last = first.saturating_add(self.plan.rows_per_step).min(rows.len());
        let prompt = self.model.prompt_rows();
        let batches = pack_in_order(self.data.train, &rows[first..last], prompt, self.options.token_budget)?;
        let [hidden, attention] = self.dropout;
        let dropout = TrainingDropout { hidden, attention, seed: self.options.seed, step: number };
        let step = Step {
            number,
            batches: &batches,
            verbalizer: &self.run.verbalizer.ids,
            dropout: (self.dropout != [0.0; 2]).then_some(dropout),
        };
        step_gradients(self.model, &step, self.workers)
    }

    fn norm(&self, number: u64, gradients: &BTreeMap<String, Tensor>) -> Result<f64> {
        match self.options.clip {
            ClipScope::Backbone => gradient_norm(number, gradients),
            ClipScope::Tuned => {
                let mut tuned = gradients.clone();
                tuned.retain(|name, _| self.model.parameters().contains_key(name));
                gradient_norm(number, &tuned)
            }
        }
    }

    fn check_parameters(&self, step: u64) -> Result<()> {
        for (name, variable) in self.model.parameters() {
            let values = variable.flatten_all()?.to_vec1::<f32>()?;
            check_finite(step, || format!("value of `{name}`"), &values)?;
        }
        Ok(())
    }

    fn learning_rate(&self, step: u64) -> f64 {
        self.options.learning_rate * self.plan.schedule.factor(step)
    }

    /// Evaluates dev, keeps the parameters if they are the best, writes a line and a checkpoint. False if `progress`
    /// asked to stop before it was done; then nothing has changed.
    fn evaluate(&mut self, progress: &dyn Progress) -> Result<bool> {
        let step = self.state.step;
        let metric = self.data.metric;
        let Some((score, dev_loss)) = self.dev_score(progress)? else { return Ok(false) };
        let best = score >= self.state.best_score;
        if best {
            // A number that no answer on dev depends on would be saved all the same.
            self.check_parameters(step)?;
            // A run that is tuned further in place replaces the parameters that it began with: from now on a resume
            // must not need them.
            if self.saved.is_none() {
                self.save()?;
            }
            let best = Best { model: self.model, metric: metric.name(), score, step };
            if self.journal.is_some() {
                self.state.best_sha256 = Some(self.run.save_best(&best)?);
            }
            (self.state.best_score, self.state.best_step) = (score, step);
        }
        let line = MetricRecord {
            step,
            epoch: self.state.epoch,
            train_loss: self.state.loss_sum / self.state.loss_rows as f64,
            metric: metric.name().to_owned(),
            dev_score: score,
            dev_loss,
            learning_rate: self.learning_rate(step - 1),
            gradient_norm: self.state.gradient_norm,
            best,
        };
        if let Some(journal) = &mut self.journal {
            journal.append(&line)?;
        }
        self.state.evaluated = step;
        self.dev = Some(score);
        progress.note(&self.found());
        (self.state.loss_sum, self.state.loss_rows) = (0.0, 0);
        self.save()?;
        Ok(true)
    }

    /// Score and loss on dev; nothing if `progress` asked to stop.
    fn dev_score(&self, progress: &dyn Progress) -> Result<Option<(f64, f64)>> {
        let verbalizer = &self.run.verbalizer.ids;
        let told = Beside { told: progress, known: self.found(), work: Mutex::new((0, 0)) };
        let options = PassOptions { progress: &told, part: "dev", ..PassOptions::new(self.workers) };
        let not_finite =
            |what: String, found: f64| TuneError::NotFinite { step: self.state.step, what, found };
        let group = self.workers.group();
        let dev = shard(self.data.dev, group.rank(), group.size())?;
        let evaluation = match evaluate(self.model, dev, verbalizer, &options) {
            Ok(evaluation) => evaluation,
            Err(ProbingError::Cancelled) => return Ok(None),
            Err(ProbingError::Logit { row, found, .. }) => {
                return Err(not_finite(format!("logits of dev row {row}"), found.into()));
            }
            Err(error) => return Err(error.into()),
        };
        let metric = self.data.metric;
        let score = metric.compute(&evaluation.predicted, &evaluation.labels, verbalizer.len());
        for (what, found) in [("loss on dev", evaluation.loss), ("score on dev", score)] {
            if !found.is_finite() {
                return Err(not_finite(what.to_owned(), found));
            }
        }
        Ok(Some((score, evaluation.loss)))
    }

    fn save(&mut self) -> Result<()> {
        if self.saved.as_ref() == Some(&self.state) {
            return Ok(());
        }
        if let Some(journal) = &mut self.journal {
            self.state.metrics_bytes = journal.sync()?;
            self.state.metrics_sha256 = Some(journal.sha256());
            let bytes =
                Checkpoint::encode(self.model.parameters(), &self.adam, &self.state, &self.fingerprint)?;
            self.checkpoints.save(&bytes)?;
        }
        self.saved = Some(self.state.clone());
        Ok(())
    }
}

/// Refuses processes that do not begin a training alike: `found` is said of this one's state.
fn same_beginning(workers: &Workers, found: &str) -> Result<()> {
    let all = workers.group().share_out(Ok(found.as_bytes().to_vec()))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match all.iter().position(|one| *one != all[0]) {
        None => Ok(()),
        Some(rank) => {
            let what = format!("checkpoint that rank {rank} goes on from");
            Err(TuneError::setting(what, format!("that of rank 0 ({})", said(&all[0])), said(&all[rank])))
        }
    }
}

/// The metrics of the training, to be added to, and the folder of the checkpoints as the one that was loaded wants it.
fn journal(run: &TrainRun, checkpoints: &mut CheckpointFolder, loaded: Option<&Loaded>) -> Result<Journal> {
    let Some(loaded) = loaded else {
        // Nothing of an earlier training goes before this one can write.
        return Journal::begin(&run.metrics(), || checkpoints.clear());
    };
    let state = loaded.checkpoint.state();
    run.check_resumed(state)?;
    checkpoints.settle(loaded)?;
    let journal = match &state.metrics_sha256 {
        Some(sha256) => Journal::resume(&run.metrics(), state.metrics_bytes, sha256),
        None => Journal::open(&run.metrics(), state.metrics_bytes),
    };
    journal.map_err(|error| match error {
        source @ ArtifactError::Format { .. } => {
            TuneError::Beside { source, checkpoint: checkpoints.current().into(), step: state.step }
        }
        error => error.into(),
    })
}

/// Lets an evaluation be stopped, and says how far it is beside the progress of the training, which it is no part of.
struct Beside<'a> {
    told: &'a dyn Progress,
    /// What is known of the training.
    known: String,
    /// How much of the evaluation is done, and how much there is.
    work: Mutex<(u64, u64)>,
}

impl Progress for Beside<'_> {
    fn begin(&self, work: Work<'_>) {
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = (0, work.amount);
    }

    fn advance(&self, amount: u64) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.0 += amount;
        let percent = 100 * work.0 / work.1.max(1);
        self.told.note(&format!("{}, dev {percent} % done", self.known));
    }

    fn cancelled(&self) -> bool {
        self.told.cancelled()
    }
}

impl EpochOrder {
    fn of(&mut self, epoch: u64, rows: usize, seed: u64) -> &[u32] {
        if self.epoch != Some(epoch) {
            (self.epoch, self.rows) = (Some(epoch), epoch_order(rows, seed, epoch));
        }
        &self.rows
    }
}

/// Checks what the model, the data and the options say of each other.
fn check(model: &LanguageModel, data: &TrainData<'_>, options: &TrainOptions, run: &TrainRun) -> Result<()> {
    data.check(run.verbalizer.ids.len())?;
    if model.tuning()?.method().is_none() || model.parameters().is_empty() {
        return Err(TuneError::setting(
            "model",
            "a tuning method with gradients for it",
            "nothing that trains",
        ));
    }
    if options.clip == ClipScope::Backbone && model.backbone().is_empty() {
        let expected = "a model with gradients for its backbone too";
        return Err(TuneError::setting("clipping by the backbone's norm", expected, "a frozen one"));
    }
    Ok(())
}
