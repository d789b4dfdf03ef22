//! What a stage, or a chain of them, would read, write and take.

mod chain;
mod experiment;
mod planned;
mod predict;
mod rehearsed;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::subscriber::{NoSubscriber, with_default};

pub use self::planned::{DryRun, PlannedFile, PlannedRead, PlannedWork};
use self::rehearsed::Rehearsed;
use crate::cache::Cache;
use crate::error::{Result, SessionError};
use crate::options::{CompareRuns, Evaluate, PretrainDemo, Probe, Stage, Train, Usual};
use crate::outcome::Outcome;
use crate::rehearsal::{Seen, seconds_since};
use crate::session::Session;

/// Texts of each part that a rehearsal begins with ..
const FIRST: usize = 8;
/// .. until its passes take so many seconds ..
const SECONDS: f64 = 1.0;
/// .. and how often it is done at most.
const ROUNDS: usize = 5;

/// What is done beside passes: of a stage that computes a model ..
const WITH_TEXTS: &str = "reading, tokenising, making files";
/// .. and of another.
const WITHOUT_TEXTS: &str = "reading, computing, making files";

impl Session {
    /// Tells what a stage would read, write and take, by rehearsing it, with some of its texts where it computes a model. Nothing is
    /// written, no run is locked, and what the stage would refuse is refused.
    ///
    /// Later stages of a chain, and of experiments, read what earlier ones write: what they take is reckoned from the passes of those that
    /// can be rehearsed.
    ///
    /// # Errors
    /// As the stage; of one that goes on with what was begun; and of the numbers of an untuned model, each step of which reads what the
    /// one before it writes.
    pub fn dry_run(mut self, stage: &Stage) -> Result<DryRun> {
        self.require_alone("a rehearsal")?;
        // What one rehearsal has read the next one finds read.
        self.cache = Cache::default();
        let goes_on = match stage {
            Stage::Train(train) => train.resume,
            Stage::Chain(chain) => chain.resume,
            Stage::Experiment(experiment) => experiment.resume,
            _ => false,
        };
        if goes_on {
            let why = "option `resume`: what is left of a run can't be rehearsed; leave it out";
            return Err(SessionError::usage(why));
        }
        let beside = match stage {
            Stage::Chain(chain) => return self.dry_chain(chain),
            Stage::Experiment(experiment) => return self.dry_experiment(experiment),
            Stage::Untuned(_) => {
                let why = "the numbers of an untuned model can't be rehearsed: each step reads what the one before it writes";
                return Err(SessionError::usage(why));
            }
            Stage::Merge(_) | Stage::Select(_) | Stage::Report(_) => WITHOUT_TEXTS,
            _ => WITH_TEXTS,
        };
        // One that is evaluated need leave nothing.
        let none = matches!(stage, Stage::Evaluate(Evaluate { out: None, calibrate: false, .. }));
        let told = self.rehearse(stage, false)?;
        let work = told.work(beside);
        told.into_dry_run((!none).then(|| stage.out()), work)
    }

    /// The same of drawing several runs side by side.
    ///
    /// # Errors
    /// As [`Self::compare`].
    pub fn dry_compare(mut self, options: &CompareRuns) -> Result<DryRun> {
        let told = self.rehearse_call(FIRST, false, |session| session.compare(options).map(drop))?;
        let work = told.work(WITHOUT_TEXTS);
        told.into_dry_run(None, work)
    }

    /// The same of making the demo, from some of its steps.
    ///
    /// # Errors
    /// As [`Self::pretrain_demo`].
    pub fn dry_pretrain(mut self, recipe: &PretrainDemo) -> Result<DryRun> {
        let told = self.rehearse_call(FIRST, false, |session| session.pretrain_demo(recipe).map(drop))?;
        let work = told.work("making the tokenizer, the tasks and files");
        told.into_dry_run(Some(recipe.out.clone()), work)
    }

    /// Rehearses a stage, of a chain or by itself.
    fn rehearse(&mut self, stage: &Stage, of_chain: bool) -> Result<Rehearsed> {
        self.rehearse_call(least(stage), of_chain, |session| match session.run(stage)? {
            // All may be merged already.
            Outcome::Merged(merged) => {
                if let Some(rehearsal) = session.rehearsal() {
                    let (run, shards) = (merged.run.display(), merged.shards);
                    rehearsal.tell(format!("{run}: all that its {shards} shards have is merged already"));
                }
                Ok(())
            }
            _ => Err(SessionError::failed("a rehearsal did the stage to its end")),
        })
    }

    /// Rehearses what a call does with more and more texts, until its passes take long enough to tell; once where there are none. It ends
    /// by [`SessionError::Rehearsed`], or well where it has nothing to write.
    fn rehearse_call(
        &mut self,
        least: usize,
        of_chain: bool,
        call: impl Fn(&Self) -> Result<()>,
    ) -> Result<Rehearsed> {
        self.require_alone("a rehearsal")?;
        let mut sample = FIRST.max(least);
        let mut beside = None;
        for round in 1.. {
            self.rehearse_with(Some(sample), of_chain);
            let began = Instant::now();
            // What is told of model and data is told once.
            let ended =
                if round == 1 { call(self) } else { with_default(NoSubscriber::new(), || call(self)) };
            let seconds = seconds_since(began);
            match ended {
                Ok(()) | Err(SessionError::Rehearsed) => {}
                Err(error) => return Err(error),
            }
            let seen = self.rehearsal().map(|rehearsal| rehearsal.seen().clone()).unwrap_or_default();
            let timed: f64 = seen.passes.iter().map(|pass| pass.measured).sum();
            // The first one reads what the others find read.
            let beside = *beside.get_or_insert((seconds - timed).max(0.0));
            let all = seen.parts.iter().all(|part| part.taken == part.texts);
            let none = seen.passes.is_empty() || seen.parts.is_empty();
            if none || (round > 1 && (all || timed >= SECONDS || round >= ROUNDS)) {
                let more: f64 = seen.parts.iter().map(|part| part.tokenising).sum();
                self.rehearse_with(None, false);
                let sample = seen.parts.iter().map(|part| part.taken).max();
                return Ok(Rehearsed { seen, beside: beside + more, sample });
            }
            let factor = (1.5 * SECONDS / timed.max(1e-6)).clamp(1.0, 16.0);
            sample = (sample as f64 * factor).ceil() as usize;
        }
        Err(SessionError::failed("no rehearsal"))
    }
}

impl DryRun {
    /// Of what was made in full and not written: of a program that makes files of no model. `reads` are names with hashes, `files` paths
    /// with bytes.
    ///
    /// # Errors
    /// If the system can't say whether a file is there.
    pub fn of_files(
        folder: &Path,
        reads: Vec<(String, String)>,
        files: Vec<(PathBuf, u64)>,
        took: Duration,
    ) -> Result<Self> {
        let seen = Seen {
            reads: reads.into_iter().map(|(name, sha256)| (name, Some(sha256))).collect(),
            writes: files.into_iter().map(|(path, bytes)| (path, Some(bytes))).collect(),
            ..Seen::default()
        };
        let told = Rehearsed { seen, beside: took.as_secs_f64(), sample: None };
        let work = told.work(WITHOUT_TEXTS);
        told.into_dry_run(Some(folder.into()), work)
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skn_probing::{ProbingError, Progress};

    use super::*;
    use crate::options::{Chain, Compute, Experiment, Subject, Untuned};

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
    fn what_can_not_be_rehearsed_is_refused_before_any_work() {
        let goes_on = Train { resume: true, ..Train::new(Subject::demo("sentiment"), "nowhere") };
        let chain = Chain { resume: true, ..Chain::default() };
        let experiment = Experiment { resume: true, ..Experiment::default() };
        let stages: [(Stage, &str); 4] = [
            (goes_on.into(), "option `resume`"),
            (chain.into(), "option `resume`"),
            (experiment.into(), "option `resume`"),
            (Untuned::default().into(), "an untuned model can't be rehearsed"),
        ];
        for (stage, part) in stages {
            let error = Session::new(Compute::default()).unwrap().dry_run(&stage).unwrap_err();
            let usage = matches!(error, SessionError::Usage(_));
            assert!(usage && error.to_string().contains(part), "{error}");
        }
    }
}
