//! What a stage, or a chain of them, would read, write and take.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use skn_artifact::is_there;
use skn_probing::ProbeType;
use tracing::subscriber::{NoSubscriber, with_default};

use crate::cache::Cache;
use crate::chain::subject;
use crate::error::{Result, SessionError};
use crate::loaded::available_memory;
use crate::options::{Chain, Perturb, Probe, Stage, Train, Training, Tuned, Usual};
use crate::rehearsal::{Part, Pass, Seen, most_memory, seconds_since};
use crate::session::Session;
use crate::steps::{Again, Step};

/// Texts of each part that a rehearsal begins with ..
const FIRST: usize = 8;
/// .. until its passes take so many seconds ..
const SECONDS: f64 = 1.0;
/// .. and how often it is done at most.
const ROUNDS: usize = 5;

/// What a stage would do, as a rehearsal with some of the texts tells.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DryRun {
    /// The run's folder.
    pub run: PathBuf,
    /// What would be read.
    pub reads: Vec<PlannedRead>,
    /// What would be written.
    pub writes: Vec<PlannedFile>,
    /// What would be done.
    pub work: Vec<PlannedWork>,
    /// Seconds that all of it takes on this machine as busy as it is now, about; without what has none in `work`.
    pub seconds: f64,
    /// The most bytes of memory at once, about, where the system tells.
    pub memory: Option<u64>,
    /// Bytes of memory that this machine has left, where the system tells.
    pub available_memory: Option<u64>,
    /// Texts of each part that it was rehearsed with, at most; one of each label, where there are more labels.
    pub rehearsed_with: usize,
}

/// Something that would be read.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedRead {
    /// A file's path, or the name of a model or of data.
    pub name: String,
    /// The hash of its content.
    pub sha256: String,
}

/// A file that would be written.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedFile {
    /// Its path.
    pub path: PathBuf,
    /// Its bytes, about, where they are known.
    pub bytes: Option<u64>,
    /// Whether it takes the place of one that is there.
    pub replaces: bool,
}

/// A part of the work.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedWork {
    /// What is done.
    pub what: String,
    /// Texts that pass through the model, each as often as it does.
    pub texts: Option<u64>,
    /// Seconds that it takes, about; nothing where nobody knows.
    pub seconds: Option<f64>,
    /// Whether it was timed itself; else it is reckoned from what was.
    pub timed: bool,
}

/// What a rehearsal told.
struct Rehearsed {
    seen: Seen,
    /// Seconds beside the passes: reading model and data, making files.
    beside: f64,
    sample: usize,
}

impl Session {
    /// Tells what a stage would read, write and take, by rehearsing it with some of its texts. Nothing is written, no run is
    /// locked, and what the stage would refuse is refused.
    ///
    /// A chain's later stages read what earlier ones write: what they take is reckoned from the passes of those that can be rehearsed.
    ///
    /// # Errors
    /// As the stage; of one that goes on with what was begun; and of all but training, probing, perturbing, pruning and the whole
    /// chain, which alone can be rehearsed.
    pub fn dry_run(mut self, stage: &Stage) -> Result<DryRun> {
        self.require_alone("a rehearsal")?;
        // What one rehearsal has read the next one finds read.
        self.cache = Cache::default();
        let goes_on = match stage {
            Stage::Train(train) => train.resume,
            Stage::Chain(chain) => chain.resume,
            _ => false,
        };
        if goes_on {
            let why = "option `resume`: what is left of a run can't be rehearsed; leave it out";
            return Err(SessionError::usage(why));
        }
        match stage {
            Stage::Chain(chain) => self.dry_chain(chain),
            Stage::Train(_) | Stage::Probe(_) | Stage::Perturb(_) | Stage::Prune(_) => {
                let told = self.rehearse(stage, false)?;
                let mut work = told.passes();
                work.insert(0, told.beside());
                told.into_dry_run(stage.out(), work)
            }
            _ => Err(SessionError::usage(
                "only training, probing, perturbing, pruning and the whole chain can be rehearsed",
            )),
        }
    }

    /// Rehearses a stage, of a chain or by itself, with more and more texts, until its passes take long enough to tell.
    fn rehearse(&mut self, stage: &Stage, of_chain: bool) -> Result<Rehearsed> {
        let mut sample = FIRST.max(least(stage));
        let mut beside = None;
        for round in 1.. {
            self.rehearse_with(Some(sample), of_chain);
            let began = Instant::now();
            // What is told of model and data is told once.
            let ended = if round == 1 {
                self.run(stage)
            } else {
                with_default(NoSubscriber::new(), || self.run(stage))
            };
            let seconds = seconds_since(began);
            match ended {
                Err(SessionError::Rehearsed) => {}
                Err(error) => return Err(error),
                Ok(_) => return Err(SessionError::failed("a rehearsal did the stage to its end")),
            }
            let seen = self.rehearsal().map(|rehearsal| rehearsal.seen().clone()).unwrap_or_default();
            let timed: f64 = seen.passes.iter().map(|pass| pass.measured).sum();
            // The first one reads what the others find read.
            let beside = *beside.get_or_insert((seconds - timed).max(0.0));
            let all = seen.parts.iter().all(|part| part.taken == part.texts);
            if seen.passes.is_empty() || (round > 1 && (all || timed >= SECONDS || round >= ROUNDS)) {
                let more: f64 = seen.parts.iter().map(|part| part.tokenising).sum();
                self.rehearse_with(None, false);
                return Ok(Rehearsed { seen, beside: beside + more, sample });
            }
            let factor = (1.5 * SECONDS / timed.max(1e-6)).clamp(1.0, 16.0);
            sample = (sample as f64 * factor).ceil() as usize;
        }
        Err(SessionError::failed("no rehearsal"))
    }

    fn dry_chain(&mut self, chain: &Chain) -> Result<DryRun> {
        let steps = Self::steps(chain)?;
        let replaces = chain.overwrite;
        Again { overwrite: replaces, resume: false }.check_free(&chain.folder())?;
        let (mut untuned, mut train, mut probe) = (None, None, None);
        for Step { stage, .. } in &steps {
            match stage {
                Stage::Probe(speed) if untuned.is_none() => {
                    let new = Probe { overwrite: replaces, ..speed.clone() };
                    untuned = Some(self.rehearse(&new.into(), true)?);
                }
                Stage::Train(first) if train.is_none() => {
                    let new = Train { overwrite: replaces, ..first.clone() };
                    train = Some((self.rehearse(&new.into(), true)?, epochs_of(&first.training)));
                }
                // What it costs does not depend on what the prompt was tuned to.
                Stage::Probe(all) if probe.is_none() && all.asks(ProbeType::Acc) => {
                    let tuned = Tuned { prompt_size: Some(chain.prompt_size), ..Tuned::default() };
                    let subject = subject(chain);
                    let new = Probe { subject, tuned, overwrite: replaces, ..all.clone() };
                    probe = Some(self.rehearse(&new.into(), true)?);
                }
                _ => {}
            }
        }
        let (Some(untuned), Some((train, epochs)), Some(probe)) = (untuned, train, probe) else {
            return Err(SessionError::failed("a chain without training or probes"));
        };
        let passes = (untuned.pass_seconds() / 2.0, train.of("evaluating dev") / train.evaluations());
        let known =
            Known { untuned: &untuned, train: &train, epochs, probe: &probe, test: passes.0, dev: passes.1 };
        let mut work: Vec<PlannedWork> = Vec::new();
        let mut probes = 0;
        for step in &steps {
            let (seconds, texts, timed) = known.takes(step, chain, &mut probes);
            let what = format!("{}/{} {}", step.number, step.count, name(&step.stage));
            work.push(PlannedWork { what, texts, seconds, timed });
        }
        let Rehearsed { seen, .. } = train;
        let (parts, reads) = (probe.seen.parts.clone(), seen.reads);
        let mut writes = seen.writes;
        writes.extend(untuned.seen.writes);
        writes.extend(probe.seen.writes);
        let seen = Seen { parts, reads, writes, passes: Vec::new() };
        let all = Rehearsed { seen, beside: 0.0, sample: probe.sample };
        all.into_dry_run(chain.folder(), work)
    }
}

/// What the stages of a chain take that can be rehearsed, for those that can't.
struct Known<'a> {
    untuned: &'a Rehearsed,
    train: &'a Rehearsed,
    epochs: u64,
    probe: &'a Rehearsed,
    /// Seconds of a pass over test ..
    test: f64,
    /// .. and over dev.
    dev: f64,
}

impl Known<'_> {
    /// Seconds, texts, and whether it was timed itself. `probes` counts those that were met.
    fn takes(&self, step: &Step, chain: &Chain, probes: &mut usize) -> (Option<f64>, Option<u64>, bool) {
        let texts = |split: usize| self.probe.seen.parts.get(split).map_or(0.0, |part| part.texts as f64);
        let (dev, test) = (texts(1), texts(2));
        let reckoned = |seconds: f64, texts: f64| (Some(seconds), Some(texts as u64), false);
        match &step.stage {
            Stage::Probe(probe) => {
                *probes += 1;
                match *probes {
                    1 => self.untuned.takes(),
                    2 => self.probe.takes(),
                    _ if probe.asks(ProbeType::Pos) => reckoned(self.dev + self.test, dev + test),
                    _ => {
                        let passes = (probe.repeats.get() + 1) as f64;
                        reckoned(passes * self.test, passes * test)
                    }
                }
            }
            Stage::Train(train) if train.tuned.load => {
                let (seconds, texts, _) = self.train.takes();
                let share = epochs_of(&train.training) as f64 / self.epochs.max(1) as f64;
                (
                    seconds.map(|seconds| seconds * share),
                    texts.map(|texts| (texts as f64 * share) as u64),
                    false,
                )
            }
            Stage::Train(_) => self.train.takes(),
            Stage::Perturb(perturb) => {
                let passes = variants(perturb, chain.draws.get()) as f64;
                reckoned(passes * self.test, passes * test)
            }
            Stage::Prune(_) => reckoned(2.0 * self.dev, 2.0 * dev),
            _ => (None, None, false),
        }
    }
}

impl Rehearsed {
    /// Its passes, those of a name together.
    fn passes(&self) -> Vec<PlannedWork> {
        let mut work: Vec<PlannedWork> = Vec::new();
        for Pass { what, texts, seconds, .. } in &self.seen.passes {
            let texts = texts.round() as u64;
            match work.iter_mut().find(|work| work.what == *what) {
                Some(PlannedWork { texts: Some(all), seconds: Some(sum), .. }) => {
                    *all += texts;
                    *sum += seconds;
                }
                _ => work.push(PlannedWork {
                    what: what.clone(),
                    texts: Some(texts),
                    seconds: Some(*seconds),
                    timed: true,
                }),
            }
        }
        work
    }

    /// What is done beside the passes.
    fn beside(&self) -> PlannedWork {
        let what = "reading, tokenising, making files".to_owned();
        PlannedWork { what, texts: None, seconds: Some(self.beside), timed: true }
    }

    fn pass_seconds(&self) -> f64 {
        self.seen.passes.iter().map(|pass| pass.seconds).sum()
    }

    /// Seconds of the passes of a name.
    fn of(&self, what: &str) -> f64 {
        self.seen.passes.iter().filter(|pass| pass.what == what).map(|pass| pass.seconds).sum()
    }

    /// How often a training evaluates dev, its second part.
    fn evaluations(&self) -> f64 {
        let texts = self.seen.parts.get(1).map_or(1.0, |part| part.texts as f64).max(1.0);
        let all = self.seen.passes.iter().filter(|pass| pass.what == "evaluating dev");
        (all.map(|pass| pass.texts).sum::<f64>() / texts).max(1.0)
    }

    fn takes(&self) -> (Option<f64>, Option<u64>, bool) {
        let texts: f64 = self.seen.passes.iter().map(|pass| pass.texts).sum();
        (Some(self.beside + self.pass_seconds()), Some(texts.round() as u64), true)
    }

    fn into_dry_run(self, run: PathBuf, work: Vec<PlannedWork>) -> Result<DryRun> {
        // Tokens of texts that were not taken.
        let tokens = |left: f64, part: &Part| (left * (4.0 * part.tokens + 64.0)) as u64;
        let more: u64 =
            self.seen.parts.iter().map(|part| tokens((part.texts - part.taken) as f64, part)).sum();
        let reads = self.seen.reads.into_iter().map(|(name, sha256)| PlannedRead { name, sha256 }).collect();
        let mut writes: Vec<PlannedFile> = Vec::new();
        for (path, bytes) in self.seen.writes {
            if writes.iter().all(|file| file.path != path) {
                let replaces = is_there(&path)?;
                writes.push(PlannedFile { path, bytes, replaces });
            }
        }
        Ok(DryRun {
            run,
            reads,
            writes,
            seconds: work.iter().filter_map(|work| work.seconds).sum(),
            work,
            memory: most_memory().map(|most| most + more),
            available_memory: available_memory(),
            rehearsed_with: self.sample,
        })
    }
}

/// How many models a chain perturbs: the one as it is, each mask, and for each as many draws as asked; for one of them draws of matched
/// variance too; and each mask of a class.
fn variants(perturb: &Perturb, draws: usize) -> usize {
    1 + perturb.masks.len() * (1 + draws) + draws + perturb.class_masks.len()
}

/// A chain says how many; who doesn't trains as published.
fn epochs_of(training: &Training) -> u64 {
    training.epochs.unwrap_or_else(|| Usual::of(false, false).epochs)
}

/// The least texts of each part that a stage can be rehearsed with.
fn least(stage: &Stage) -> usize {
    match stage {
        Stage::Train(Train { training, .. }) => {
            // Of what suits one model or another, the more.
            let usual = [true, false].map(|demo| Usual::of(demo, false).batch);
            let batch = training.batch.or(usual.into_iter().max()).map_or(1, NonZeroUsize::get);
            batch.saturating_mul(training.accumulate.get()).min(1024)
        }
        Stage::Probe(Probe { shard: Some(shard), .. }) => shard.count.saturating_mul(FIRST),
        _ => FIRST,
    }
}

fn name(stage: &Stage) -> &'static str {
    match stage {
        Stage::Train(train) if train.tuned.load => "tune the pruned model",
        Stage::Train(_) => "tune",
        Stage::Probe(probe) if probe.asks(ProbeType::Speed) => "measure",
        Stage::Probe(_) => "probe",
        Stage::Evaluate(_) => "evaluate",
        Stage::Merge(_) => "merge",
        Stage::Select(_) => "select",
        Stage::Perturb(_) => "perturb",
        Stage::Prune(_) => "prune",
        Stage::Report(_) => "report",
        Stage::Chain(_) | Stage::Untuned(_) | Stage::Experiment(_) => "chain",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skn_probing::{ProbingError, Progress};

    use super::*;
    use crate::options::{Compute, EditChoice, Evaluate, Merge, Select, Subject};

    #[test]
    fn a_rehearsal_of_training_stops_when_it_is_told_to() {
        struct Stop;
        impl Progress for Stop {
            fn cancelled(&self) -> bool {
                true
            }
        }
        let session = Session::new(Compute::default()).unwrap().with_progress(Arc::new(Stop));
        let train = Train::new(Subject::demo("sentiment"), "nowhere");
        let error = session.dry_run(&train.into()).unwrap_err();
        assert!(matches!(error, SessionError::Probing(ProbingError::Cancelled)), "{error}");
    }

    #[test]
    fn masks_of_classes_are_perturbed_too() {
        let mut perturb = Perturb::of("run", vec!["0.1".into(), "0.3".into()], EditChoice::Zero);
        assert_eq!(variants(&perturb, 2), 1 + 2 * 3 + 2);
        perturb.class_masks = vec!["a".into(), "b".into(), "c".into()];
        assert_eq!(variants(&perturb, 2), 1 + 2 * 3 + 2 + 3);
    }

    #[test]
    fn what_can_not_be_rehearsed_is_refused_before_any_work() {
        let goes_on = Train { resume: true, ..Train::new(Subject::demo("sentiment"), "nowhere") };
        let chain = Chain { resume: true, ..Chain::default() };
        let stages: [(Stage, &str); 5] = [
            (goes_on.into(), "option `resume`"),
            (chain.into(), "option `resume`"),
            (Evaluate::of("nowhere").into(), "only training"),
            (Merge::new("nowhere").into(), "only training"),
            (Select::new("a", "nowhere").into(), "only training"),
        ];
        for (stage, part) in stages {
            let error = Session::new(Compute::default()).unwrap().dry_run(&stage).unwrap_err();
            let usage = matches!(error, SessionError::Usage(_));
            assert!(usage && error.to_string().contains(part), "{error}");
        }
    }
}
