//! What experiments would do: of each task the training and the probe of its prompt are rehearsed, and each other way of tuning for one
//! task. The rest is reckoned from these.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use skn_artifact::names::file;
use skn_probing::ProbeType;

use super::FIRST;
use super::chain::{NOT_LISTED, name, variants};
use super::planned::{DryRun, PlannedWork};
use super::rehearsed::Rehearsed;
use crate::error::{Result, SessionError};
use crate::experiments::{Plan, Planned, PlannedTask, stages};
use crate::options::{Experiment, ExperimentName, Probe, Select, Stage, Train, Tuned, TunedMethod};
use crate::rehearsal::{Part, Seen};
use crate::session::Session;
use crate::steps::Again;

/// What was rehearsed.
#[derive(Default)]
struct Known {
    /// The training of a prompt, by task.
    trains: BTreeMap<String, Rehearsed>,
    /// Its probe.
    probes: BTreeMap<String, Rehearsed>,
    /// Training by another method, and the task that it was rehearsed for.
    methods: Vec<(TunedMethod, String, Rehearsed)>,
    /// Which of the steps these are.
    steps: BTreeSet<usize>,
}

impl Session {
    pub(super) fn dry_experiment(&mut self, options: &Experiment) -> Result<DryRun> {
        let plan = Plan::new(options)?;
        Again { overwrite: options.overwrite, resume: false }.check_free(&plan.out)?;
        let planned = stages(&plan);
        let mut known = Known::default();
        for (step, planned) in planned.iter().enumerate() {
            self.rehearse_step(options, &plan, planned, step, &mut known)?;
        }
        let random = match options.chosen().contains(&ExperimentName::RandomModel) {
            true => Some(self.rehearse_call(FIRST, true, |session| session.write_random_model(&plan))?),
            false => None,
        };
        let mut work = Vec::new();
        if let Some(made) = &random {
            let (what, seconds) = ("a model of random weights".to_owned(), Some(made.beside));
            work.push(PlannedWork { what, texts: None, seconds, timed: true });
        }
        let count = planned.len();
        for (step, planned) in planned.iter().enumerate() {
            let out = planned.stage.out();
            let folder = out.strip_prefix(&plan.out).unwrap_or(&out).display();
            // Selecting for a class, or the worst, goes to the same run.
            let of = match &planned.stage {
                Stage::Select(Select { task: Some(task), .. }) => format!(" ({task})"),
                _ => String::new(),
            };
            let what = format!("{}/{count} {} {folder}{of}", step + 1, name(&planned.stage));
            let takes = known.takes(planned)?;
            let (seconds, texts) =
                takes.map_or((None, None), |(seconds, texts)| (Some(seconds), Some(texts)));
            let texts = texts.map(|texts| texts.round() as u64);
            work.push(PlannedWork { what, texts, seconds, timed: known.steps.contains(&step) });
        }
        let sample = known.probes.values().filter_map(|probe| probe.sample).max();
        let runs: BTreeSet<PathBuf> = planned.iter().map(|planned| planned.stage.out()).collect();
        let mut seen = known.seen(&plan, &runs);
        seen.writes.extend(random.into_iter().flat_map(|made| made.seen.writes));
        for name in [file::EXPERIMENTS, file::REPORT, file::RUN] {
            seen.writes.push((plan.out.join(name), None));
        }
        let csv = plan.out.join(file::CSV);
        seen.notes = vec![format!("{NOT_LISTED}; nor are the tables of {}", csv.display())];
        let all = Rehearsed { seen, beside: 0.0, sample };
        all.into_dry_run(Some(plan.out.clone()), work)
    }

    /// Rehearses a step that can be, if none like it was.
    fn rehearse_step(
        &mut self,
        options: &Experiment,
        plan: &Plan<'_>,
        Planned { stage, task, seed }: &Planned,
        step: usize,
        known: &mut Known,
    ) -> Result<()> {
        let overwrite = options.overwrite;
        let is_first = *seed == plan.first_seed() && stage.out() == plan.run(task, *seed);
        match stage {
            Stage::Train(train) => {
                let method = train.tuned.new_method();
                let again = Train { overwrite, ..train.clone() };
                if method == TunedMethod::Prompt {
                    if is_first {
                        known.trains.insert(task.name.clone(), self.rehearse_told(step, &again.into())?);
                        known.steps.insert(step);
                    }
                } else if known.methods.iter().all(|(known, ..)| *known != method) {
                    let told = self.rehearse_told(step, &again.into())?;
                    known.methods.push((method, task.name.clone(), told));
                    known.steps.insert(step);
                }
            }
            // What it costs does not depend on what the prompt was tuned to.
            Stage::Probe(probe) if is_first && probe.asks(ProbeType::Acc) => {
                let tuned = Tuned { prompt_size: Some(options.prompt_size), ..Tuned::default() };
                let new = Probe { tuned, overwrite, ..probe.clone() };
                known.probes.insert(task.name.clone(), self.rehearse_told(step, &new.into())?);
                known.steps.insert(step);
            }
            _ => {}
        }
        Ok(())
    }

    /// Rehearses a step, which is told: with many tasks it takes a while until all are.
    fn rehearse_told(&mut self, step: usize, stage: &Stage) -> Result<Rehearsed> {
        tracing::info!("step {}: rehearsing to {}", step + 1, name(stage));
        self.rehearse(stage, true)
    }
}

impl Known {
    /// What was rehearsed of a task: its training and its probe.
    fn of(&self, task: &PlannedTask) -> Result<(&Rehearsed, &Rehearsed)> {
        let found = self.trains.get(&task.name).zip(self.probes.get(&task.name));
        found.ok_or_else(|| SessionError::failed("experiments without a training or a probe of a task"))
    }

    /// Seconds and texts of a step; nothing of one that computes no model.
    fn takes(&self, Planned { stage, task, .. }: &Planned) -> Result<Option<(f64, f64)>> {
        let (train, probe) = self.of(task)?;
        let part = |place: usize| probe.seen.parts.get(place);
        let weight = |part: Option<&Part>| part.map_or(0.0, |part| part.texts as f64 * part.tokens);
        // A pass takes as long as it has tokens.
        let dev = train.of("evaluating dev") / train.evaluations();
        let texts = part(2).map_or(0.0, |part| part.texts as f64);
        let test = (dev * weight(part(2)) / weight(part(1)).max(1.0), texts);
        let times =
            |times: usize, (seconds, texts): (f64, f64)| (times as f64 * seconds, times as f64 * texts);
        Ok(match stage {
            Stage::Train(asked) => {
                let (seconds, texts) = train.seconds_and_texts();
                let method = asked.tuned.new_method();
                let by_method = self.methods.iter().find(|(known, ..)| *known == method);
                let longer = by_method.and_then(|(_, of, told)| {
                    Some(told.seconds_and_texts().0 / self.trains.get(of)?.seconds_and_texts().0.max(1e-9))
                });
                Some((seconds * longer.unwrap_or(1.0), texts))
            }
            Stage::Probe(asked) if asked.pools().next().is_none() => {
                Some(times(asked.repeats.get() + 1, test))
            }
            Stage::Probe(asked) => {
                let (all, speed) = (probe.seconds_and_texts(), times(2, test));
                Some(match asked.asks(ProbeType::Speed) {
                    true => all,
                    false => ((all.0 - speed.0).max(0.0), (all.1 - speed.1).max(0.0)),
                })
            }
            Stage::Perturb(asked) => Some(times(variants(asked), test)),
            _ => None,
        })
    }

    /// What all of them read, and would write into these runs; with the largest texts.
    fn seen(self, plan: &Plan<'_>, runs: &BTreeSet<PathBuf>) -> Seen {
        let mut seen = Seen::default();
        let size = |seen: &Seen| seen.parts.iter().map(|part| part.texts as f64 * part.tokens).sum::<f64>();
        let mut add = |told: Rehearsed| {
            let more = told.seen;
            if size(&more) > size(&seen) {
                seen.parts = more.parts;
            }
            seen.reads.extend(more.reads);
            seen.sizes.extend(more.sizes);
            seen.writes.extend(more.writes);
        };
        self.trains.into_values().chain(self.probes.into_values()).for_each(&mut add);
        let of_prompts = seen.writes.clone();
        let mut add = |told: Rehearsed| seen.writes.extend(told.seen.writes);
        self.methods.into_iter().for_each(|(.., told)| add(told));
        // A task's run has the same files under the other seeds.
        let first = plan.first_seed();
        for task in &plan.tasks {
            for seed in plan.seeds().filter(|seed| *seed != first) {
                let (of_first, of_seed) = (plan.run(task, first), plan.run(task, seed));
                if runs.contains(&of_seed) {
                    let within = of_prompts.iter().filter_map(|(path, bytes)| {
                        Some((of_seed.join(path.strip_prefix(&of_first).ok()?), *bytes))
                    });
                    seen.writes.extend(within);
                }
            }
        }
        seen
    }
}
