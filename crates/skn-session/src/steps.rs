//! Stages one after another in one run, which may be gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use skn_artifact::names::file;
use skn_artifact::{RunRecord, StageRecord, hash_file, is_file};

use crate::error::{Result, SessionError};
use crate::options::{Made, Stage};
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
    /// Does a step, unless the run that is resumed has done it.
    pub(crate) fn step<E: From<SessionError>>(
        &self,
        how: Again,
        mut step: Step,
        task: &str,
        told: &mut impl FnMut(&Step, ChainEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let is_report = matches!(step.stage, Stage::Report(_));
        if how.resume && !is_report && self.is_done(&step.stage, task)? {
            return told(&step, ChainEvent::DoneBefore(&step.stage));
        }
        // A training that goes on replaces what it is to replace by itself.
        let replaces = how.resume && !matches!(step.stage, Stage::Train(_));
        step.stage.set_overwrite(how.overwrite || replaces || is_report);
        told(&step, ChainEvent::Begins(&step.stage))?;
        let outcome = self.run(&step.stage)?;
        told(&step, ChainEvent::Done(&outcome))
    }

    /// Whether the run has a stage, done with these options, and everything is as it left it.
    fn is_done(&self, stage: &Stage, task: &str) -> Result<bool> {
        let (folder, entry) = (stage.out(), stage.entry(task));
        let record = RunRecord::read(&folder)?;
        let Some(done) = record.stages.get(&entry) else { return Ok(false) };
        if !is_as_it_was(&folder, done)? {
            return Ok(false);
        }
        let file = folder.join(file::RUN).display().to_string();
        let earlier = match &done.options {
            Some(options) => Made::deserialize(options).ok(),
            // A record in the form that had none.
            None => self.made_by(&entry, &done.arguments),
        };
        let Some(earlier) = earlier else {
            tracing::info!("{file}: stage {entry}: its options are not known here; it is done again");
            return Ok(false);
        };
        let now = Made::new(stage.clone(), self.compute());
        if earlier.is_as(&now)? {
            return Ok(true);
        }
        let (earlier, now) = (Box::new(earlier), Box::new(now));
        Err(SessionError::OtherOptions { file, entry, earlier, now })
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

/// Whether a stage's files are what it wrote, and those of the chain that it read are what it read: a run that was being
/// replaced when it was stopped has some of each.
fn is_as_it_was(folder: &Path, stage: &StageRecord) -> Result<bool> {
    for (name, expected) in &stage.outputs {
        let file = folder.join(name);
        if !is_file(&file)? || hash_file(&file)? != *expected {
            return Ok(false);
        }
    }
    for (name, expected) in &stage.inputs {
        for file in [folder.join(name), PathBuf::from(name)] {
            if is_file(&file)? {
                if hash_file(&file)? != *expected {
                    return Ok(false);
                }
                break;
            }
        }
    }
    Ok(true)
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
