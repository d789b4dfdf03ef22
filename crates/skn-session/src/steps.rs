//! Stages one after another in one run, which may be gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use skn_artifact::names::{file, top};
use skn_artifact::{RunRecord, StageRecord, within};
use skn_probing::ProbeType;

use crate::done::{Now, State};
use crate::error::{Result, SessionError};
use crate::options::{Made, Perturb, Stage, TunedMethod};
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
        if lacks_texts(stage, done) {
            return Ok(Some(State::Changed));
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
            if let Some(with_classes) = with_class_masks(&earlier, stage)
                && with_classes.is_as(&asked)?
            {
                return Ok(Some(State::Changed));
            }
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
    /// If there is something, or it can't be looked at.
    pub(crate) fn check_free(self, out: &Path) -> Result<()> {
        // An untuned model's numbers are all there is of a run that was stopped early.
        let is_lock = |path: &PathBuf| path.file_name().is_some_and(|name| name == file::LOCK);
        if self.overwrite || self.resume || within(out)?.iter().all(is_lock) {
            return Ok(());
        }
        Err(SessionError::input(format!(
            "{}: a run is there; option `resume` goes on with it, option `overwrite` replaces it, option `out` RUN writes \
         elsewhere",
            out.display()
        )))
    }
}

/// Whether texts of the best neurons were asked for and are gone: a probe that makes the counts anew takes them from the run and from the
/// record, so that no file is missed, though the new counts may be the same bytes.
fn lacks_texts(stage: &Stage, done: &StageRecord) -> bool {
    let is_top = |name: &String| file::stem(name).ends_with(top::END);
    matches!(stage, Stage::Probe(probe) if probe.asks(ProbeType::Top)) && !done.outputs.keys().any(is_top)
}

/// What an earlier program did without masks of classes, with those that are asked for now: it had none.
fn with_class_masks(earlier: &Made, asked: &Stage) -> Option<Made> {
    let (Stage::Perturb(before), Stage::Perturb(now)) = (&earlier.stage, asked) else { return None };
    if !before.class_masks.is_empty() || now.class_masks.is_empty() {
        return None;
    }
    let stage = Perturb { class_masks: now.class_masks.clone(), ..before.clone() };
    Some(Made { stage: stage.into(), compute: earlier.compute })
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

#[cfg(test)]
mod tests {
    use skn_artifact::{Overwrite, sha256_hex, write_file};

    use super::*;
    use crate::options::{Compute, EditChoice, Probe, Subject};

    /// A session, and what it goes on with.
    fn now() -> (Session, Now) {
        let session = Session::new(Compute::default()).unwrap();
        let now = Now::read(&session, &Subject::demo("topic")).unwrap();
        (session, now)
    }

    /// What became of a stage that a run did as the first one, with files of these names, for a chain that asks the other.
    fn found(
        (session, now): &(Session, Now),
        files: &[&str],
        stages: impl FnOnce(&Path) -> [Stage; 2],
    ) -> Result<Option<State>> {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        let [earlier, asked] = stages(run);
        let mut done = StageRecord::default();
        for name in files {
            write_file(&run.join(name), Overwrite::Refuse, name.as_bytes()).unwrap();
            done.outputs.insert((*name).to_owned(), sha256_hex(name.as_bytes()));
        }
        done.options = Some(serde_json::to_value(Made::new(earlier, Compute::default())).unwrap());
        RunRecord::update(run, &asked.entry("topic"), done, &[]).unwrap();
        session.done(now, &asked, "topic")
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_looked_at_is_not_free() {
        let desk = tempfile::tempdir().unwrap();
        let [out, a_loop] = ["out", "loop"].map(|name| desk.path().join(name));
        let check = |out: &Path| Again { overwrite: false, resume: false }.check_free(out);
        check(&out).unwrap();
        write_file(&out.join(file::LOCK), Overwrite::Refuse, b"").unwrap();
        check(&out).unwrap();
        write_file(&out.join(file::RUN), Overwrite::Refuse, b"{}").unwrap();
        let message = check(&out).unwrap_err().to_string();
        assert!(message.contains("out: a run is there"), "{message}");
        std::os::unix::fs::symlink(&a_loop, &a_loop).unwrap();
        let message = check(&a_loop).unwrap_err().to_string();
        assert!(message.contains("loop: can't look at: "), "{message}");
    }

    #[test]
    fn a_probe_whose_texts_went_is_done_again() {
        let now = now();
        for (types, files, state) in [
            (&[ProbeType::Pos, ProbeType::Top][..], &["topic/dev_top.safetensors"][..], State::AsItWas),
            (&[ProbeType::Top], &["topic/dev_last_top.safetensors"], State::AsItWas),
            // Of other counts, and listed no more.
            (&[ProbeType::Pos, ProbeType::Top], &["topic/pos_dev/1,2.safetensors"], State::Changed),
            (&[ProbeType::Top], &[], State::Changed),
            (&[ProbeType::Pos], &["topic/pos_dev/1,2.safetensors"], State::AsItWas),
        ] {
            let probe = |run: &Path| Stage::from(Probe::of(run, types));
            let found = found(&now, files, |run| [probe(run), probe(run)]).unwrap();
            assert_eq!(found, Some(state), "{types:?} {files:?}");
        }
    }

    #[test]
    fn perturbing_that_knew_no_masks_of_classes_is_done_again() {
        let now = now();
        let of = |earlier: &[&str], asked: &[&str], draws: usize| {
            found(&now, &["mask_perf.json"], |run| {
                let stage = |masks: &[&str], draws| {
                    let class_masks = masks.iter().map(|name| run.join(name)).collect();
                    let skill = vec![run.join("info/topic/0.1")];
                    let perturb = Perturb::of(run, skill, EditChoice::Zero);
                    Stage::from(Perturb { class_masks, controls: draws, ..perturb })
                };
                [stage(earlier, 2), stage(asked, draws)]
            })
        };
        assert_eq!(of(&[], &["a", "b", "c"], 2).unwrap(), Some(State::Changed));
        assert_eq!(of(&["a", "b"], &["a", "b"], 2).unwrap(), Some(State::AsItWas));
        for (earlier, asked, draws) in
            [(&[][..], &["a", "b", "c"][..], 3), (&["a", "b"], &["a", "b", "c"], 2), (&["a"], &[], 2)]
        {
            let refused = of(earlier, asked, draws);
            assert!(matches!(refused, Err(SessionError::OtherOptions { .. })), "{earlier:?}: {refused:?}");
        }
    }
}
