//! What a chain would do: some of its stages are rehearsed, and the others reckoned from these.

use skn_probing::ProbeType;

use super::planned::{DryRun, PlannedWork};
use super::rehearsed::Rehearsed;
use crate::chain::subject;
use crate::error::{Result, SessionError};
use crate::options::{Chain, EditChoice, Perturb, Probe, Stage, Train, Training, Tuned, Usual};
use crate::rehearsal::Seen;
use crate::session::Session;
use crate::steps::{Again, Step};

/// What is told of files that no rehearsal notes.
pub(super) const NOT_LISTED: &str = "files of steps that read what earlier ones write are not listed";

impl Session {
    pub(super) fn dry_chain(&mut self, chain: &Chain) -> Result<DryRun> {
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
            let (seconds, texts, timed) = known.takes(step, &mut probes);
            let what = format!("{}/{} {}", step.number, step.count, name(&step.stage));
            work.push(PlannedWork { what, texts, seconds, timed });
        }
        let Rehearsed { seen, .. } = train;
        let (parts, reads, sizes) = (probe.seen.parts.clone(), seen.reads, seen.sizes);
        let mut writes = seen.writes;
        writes.extend(untuned.seen.writes);
        writes.extend(probe.seen.writes);
        let notes = vec![NOT_LISTED.to_owned()];
        let seen = Seen { parts, reads, sizes, writes, notes, passes: Vec::new() };
        let all = Rehearsed { seen, beside: 0.0, sample: probe.sample };
        all.into_dry_run(Some(chain.folder()), work)
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
    fn takes(&self, step: &Step, probes: &mut usize) -> (Option<f64>, Option<u64>, bool) {
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
                let passes = variants(perturb) as f64;
                reckoned(passes * self.test, passes * test)
            }
            Stage::Prune(_) => reckoned(2.0 * self.dev, 2.0 * dev),
            _ => (None, None, false),
        }
    }
}

/// How many models are evaluated that a perturbation asks for: the one as it is, each mask and each mask of a class under each draw of the
/// noise, and for each mask as many draws of random neurons as asked, for some of them of matched variance too.
pub(super) fn variants(perturb: &Perturb) -> usize {
    let noises = match perturb.edit {
        EditChoice::Gaussian { repeats, .. } => repeats.get(),
        EditChoice::Zero | EditChoice::Mean { .. } => 1,
    };
    let (masks, draws) = (perturb.masks.len(), perturb.controls);
    let matched = match (&perturb.matched, perturb.matched_masks.len()) {
        (None, _) => 0,
        (Some(_), 0) => masks,
        (Some(_), some) => some,
    };
    1 + (masks + perturb.class_masks.len()) * noises + (masks + matched) * draws
}

/// A chain says how many; who doesn't trains as published.
pub(super) fn epochs_of(training: &Training) -> u64 {
    training.epochs.unwrap_or_else(|| Usual::of(false, false).epochs)
}

/// What a step does.
pub(super) fn name(stage: &Stage) -> &'static str {
    match stage {
        Stage::Train(train) if train.tuned.load => "tune the pruned model",
        Stage::Train(_) => "tune",
        Stage::Probe(probe) if probe.asks(ProbeType::Speed) && probe.pools().next().is_none() => "measure",
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
    use std::num::NonZeroUsize;

    use super::*;
    use crate::options::NeuronNoise;

    #[test]
    fn masks_of_classes_are_perturbed_too() {
        let mut perturb = Perturb::of("run", vec!["0.1".into(), "0.3".into()], EditChoice::Zero);
        assert_eq!(variants(&perturb), 1 + 2);
        perturb.controls = 2;
        assert_eq!(variants(&perturb), 1 + 2 * 3);
        (perturb.matched, perturb.matched_masks) = (Some("train_avg".into()), vec!["0.3".into()]);
        assert_eq!(variants(&perturb), 1 + 2 * 3 + 2);
        perturb.class_masks = vec!["a".into(), "b".into(), "c".into()];
        assert_eq!(variants(&perturb), 1 + 2 * 3 + 2 + 3);
        perturb.matched_masks.clear();
        assert_eq!(variants(&perturb), 1 + 2 * 3 + 2 * 2 + 3, "each mask has matched ones");
        let repeats = NonZeroUsize::new(5).unwrap();
        perturb.edit = EditChoice::Gaussian { alpha: 0.1, noise: NeuronNoise::PerText, repeats };
        assert_eq!(variants(&perturb), 1 + (2 + 3) * 5 + 2 * 2 + 2 * 2, "random neurons have a draw each");
    }
}
