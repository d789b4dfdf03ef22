//! Stages one after another in one run, which may be gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use skn_artifact::RunRecord;
use skn_artifact::names::file;

use crate::done::{Now, State};
use crate::error::{Result, SessionError};
use crate::options::{Made, Stage, TunedMethod};
use crate::outcome::Outcome;
use crate::session::Session;

/// What a chain is at.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ChainEvent<'a> {
    /// A stage begins.
    Begins(&'a Stage),
    /// A stage was done by the run that is resumed.
    DoneBefore(&'a Stage),
    /// A stage is done.
    Done(&'a Outcome),
}

/// A stage of a chain, and which of its steps it belongs to: several stages may make one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// From 1.
    pub number: usize,
    /// Of how many.
    pub count: usize,
    /// The stage.
    pub stage: Stage,
}

/// What is done with what earlier runs left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Again {
    /// It is replaced.
    pub(crate) overwrite: bool,
    /// It is gone on with.
    pub(crate) resume: bool,
}

impl Session {
    /// Does a step, unless the run that is resumed has done it with what there is `now`.
    pub(crate) fn step<E: From<SessionError>>(
        &self,
        how: Again,
        now: Option<&Now>,
        mut step: Step,
        task: &str,
        told: &mut impl FnMut(&Step, ChainEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let is_report = matches!(step.stage, Stage::Report(_));
        let now = now.filter(|_| !is_report);
        let found = now.map(|now| self.done(now, &step.stage, task)).transpose()?.flatten();
        if found == Some(State::AsItWas) {
            return told(&step, ChainEvent::DoneBefore(&step.stage));
        }
        // A training that goes on replaces what it is to replace by itself; one of other parameters can't be gone on with.
        let replaces = match &mut step.stage {
            Stage::Train(train) => {
                train.resume &= found != Some(State::Outdated);
                !train.resume
            }
            _ => true,
        };
        step.stage.set_overwrite(how.overwrite || (how.resume && replaces) || is_report);
        told(&step, ChainEvent::Begins(&step.stage))?;
        let outcome = self.run(&step.stage)?;
        told(&step, ChainEvent::Done(&outcome))
    }

    /// What became of a stage that the run has, done with these options; nothing of one that it does not have.
    fn done(&self, now: &Now, stage: &Stage, task: &str) -> Result<Option<State>> {
        let (folder, entry) = (stage.out(), stage.entry(task));
        let record = RunRecord::read(&folder)?;
        let Some(done) = record.stages.get(&entry) else { return Ok(None) };
        let state = State::of(&folder, done)?;
        if state != State::AsItWas {
            return Ok(Some(state));
        }
        let file = folder.join(file::RUN).display().to_string();
        let earlier = match &done.options {
            Some(options) => Made::deserialize(options).ok(),
            // A record in the form that had none.
            None => self.made_by(&entry, &done.arguments),
        };
        let Some(earlier) = earlier else {
            tracing::info!("{file}: stage {entry}: its options are not known here; it is done again");
            return Ok(Some(State::Changed));
        };
        let asked = Made::new(stage.clone(), self.compute());
        if !earlier.is_as(&asked)? {
            let (earlier, now) = (Box::new(earlier), Box::new(asked));
            return Err(SessionError::OtherOptions { file, entry, earlier, now });
        }
        now.check(&folder, &entry, done, computes_with_pruned(stage))?;
        Ok(Some(State::AsItWas))
    }
}

impl Again {
    /// Refuses a folder with something in it, unless that may be replaced or gone on with.
    ///
    /// # Errors
    /// If there is something.
    pub(crate) fn check_free(self, out: &Path) -> Result<()> {
        // An untuned model's numbers are all there is of a run that was stopped early.
        let is_lock = |entry: &DirEntry| entry.file_name() == file::LOCK;
        let empty = out.read_dir().map_or(true, |entries| entries.flatten().all(|entry| is_lock(&entry)));
        if empty || self.overwrite || self.resume {
            return Ok(());
        }
        Err(SessionError::input(format!(
            "{}: a run is there; option `resume` goes on with it, option `overwrite` replaces it, option `out` RUN writes \
         elsewhere",
            out.display()
        )))
    }
}

/// Whether a stage computes with a model that an earlier one pruned.
fn computes_with_pruned(stage: &Stage) -> bool {
    let method = match stage {
        Stage::Train(train) => train.tuned.method,
        Stage::Probe(probe) => probe.tuned.method,
        _ => None,
    };
    method == Some(TunedMethod::PrunePrompt)
}

/// The entries that steps have in the records of their runs, by the folders of these.
pub(crate) type Entries = BTreeMap<PathBuf, BTreeSet<String>>;

/// Those of steps.
pub(crate) fn entries(steps: &[Step], task: &str) -> Entries {
    let mut entries = Entries::new();
    for Step { stage, .. } in steps {
        entries.entry(stage.out()).or_default().insert(stage.entry(task));
    }
    entries
}

/// Removes what stages of earlier runs left in a run and in those that a chain keeps within it, of another task say: a run that
/// replaces has the folder to itself. What its own steps did has replaced what there was under the same entries.
///
/// # Errors
/// If a record can't be read, or a file not be removed.
pub(crate) fn remove_others(out: &Path, own: &Entries) -> Result<()> {
    let none = BTreeSet::new();
    let within = [file::UNTUNED, file::PRUNED, file::PRUNED_TUNED].map(|name| out.join(name));
    for folder in within.iter().map(PathBuf::as_path).chain([out]) {
        for file in RunRecord::forget_but(folder, own.get(folder).unwrap_or(&none))? {
            tracing::info!("{}: removed; an earlier run's", folder.join(file).display());
        }
    }
    Ok(())
}
