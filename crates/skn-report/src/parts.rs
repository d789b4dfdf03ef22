//! What lies in a run folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use skn_artifact::names::{file, input, kind, rank, setting, top};
use skn_artifact::{
    MetricRecord, RunRecord, SkillConfig, StageRecord, Summary, UntunedSummary, is_file, is_folder,
};
use skn_counts::Pool;

use crate::error::{ReportError, Result};
use crate::probe::Activations;
use crate::reading::{journal, optional, summaries};
use crate::sweep::Sweep;
use crate::task::{Task, Wanted, tasks};

/// A run folder's artifacts.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) summary: Option<Summary>,
    /// The same of a run that tunes nothing.
    pub(crate) untuned: Option<UntunedSummary>,
    pub(crate) config: Option<SkillConfig>,
    pub(crate) metrics: Vec<MetricRecord>,
    pub(crate) tasks: Vec<Task>,
    /// What perturbing found that lies in the run itself.
    pub(crate) own: Sweep,
    /// The same of each named sweep.
    pub(crate) sweeps: Vec<Sweep>,
    pub(crate) record: RunRecord,
    /// Those of its files that were made before something that they are made from was written anew, each with that.
    pub(crate) outdated: Vec<(String, String)>,
}

impl Parts {
    /// What a run has; of the activations of single neurons those of the best, and of `neurons` (layer and index).
    pub(crate) fn read(run: &Path, neurons: &[(usize, usize)]) -> Result<Self> {
        if !is_folder(run)? {
            return Err(ReportError::NoFolder { folder: run.into() });
        }
        let (summary, untuned) = summaries(&run.join(file::SUMMARY))?;
        let record = RunRecord::read(run)?;
        let (own, sweeps) = (Sweep::own(run)?, Sweep::named(run)?);
        let share = summary.as_ref().map(|found| found.perturbation.share.clone());
        let share = share.or_else(|| {
            let last = std::iter::once(&own).chain(&sweeps).find_map(|sweep| sweep.skill.last());
            last.map(|result| result.mask.clone())
        });
        let mut parts = Self {
            summary,
            untuned,
            config: optional(&run.join(file::BEST).join(file::SKILL_CONFIG))?,
            metrics: journal(&run.join(file::METRICS))?,
            tasks: tasks(run, &Wanted { record: &record, neurons, share: share.as_deref() })?,
            own,
            sweeps,
            record,
            outdated: Vec::new(),
        };
        if parts.is_empty() {
            let expected =
                "summary.json, metrics.jsonl, mask_perf.json, cmp_perf.json or <task>/dev_perf.safetensors";
            return Err(ReportError::Empty { folder: run.into(), expected: expected.into() });
        }
        let (files, all) = (parts.files(run)?, parts.record.outdated());
        parts.outdated = all.into_iter().filter(|(name, _)| files.contains(&run.join(name))).collect();
        Ok(parts)
    }

    /// The files that these are, of those in a run's folder.
    pub(crate) fn files(&self, run: &Path) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let config = format!("{}/{}", file::BEST, file::SKILL_CONFIG);
        for name in [file::SUMMARY, &config, file::METRICS] {
            found.push(run.join(name));
        }
        found.extend(self.perturbed().flat_map(|sweep| sweep.files(run)));
        for task in &self.tasks {
            let folder = run.join(&task.name);
            for pool in Pool::ALL {
                let counts = ["dev", "test"].map(|split| file::tensors(&pool.performance_file(split)));
                let [dev, test] = counts.map(|name| folder.join(name));
                // Without dev nothing is shown of test.
                if is_file(&dev)? {
                    found.extend([dev, test]);
                }
            }
            // Predictivities by area are of these.
            found.extend(["dev", "test"].map(|split| folder.join(file::tensors(&rank::areas(split)))));
            let asked = task.asked.iter().filter_map(|asked| asked.found.as_ref());
            let single: Vec<&Activations> = task.activations.iter().chain(asked).collect();
            for Activations { rule, .. } in &single {
                found.push(folder.join(file::positions("dev", rule.layer, rule.index)));
            }
            if !single.is_empty() {
                found.push(folder.join(file::tensors(kind::AVERAGE)));
            }
            let top = task.top.as_ref().map(|of| file::tensors(&top::file(of.pool().name(), "dev")));
            found.extend(top.map(|name| folder.join(name)));
            found.extend(task.selected.iter().map(|selected| selected.file.clone()));
            let others = [file::INFERENCE_PERFORMANCE, file::INFERENCE_TIME, rank::COMPARISON];
            found.extend(others.map(|name| folder.join(name)));
            found.push(run.join(file::evidence(&task.name)));
        }
        let mut there = Vec::new();
        for path in found {
            if is_file(&path)? {
                there.push(path);
            }
        }
        Ok(there)
    }

    fn is_empty(&self) -> bool {
        let nothing = self.summary.is_none()
            && self.untuned.is_none()
            && self.config.is_none()
            && self.record.stages.is_empty();
        let perturbed = self.perturbed().any(|sweep| !sweep.is_empty());
        nothing && [self.metrics.len(), self.tasks.len()] == [0; 2] && !perturbed
    }

    /// All that perturbing found: what lies in the run itself, then the named sweeps.
    pub(crate) fn perturbed(&self) -> impl Iterator<Item = &Sweep> {
        std::iter::once(&self.own).chain(&self.sweeps)
    }

    /// The name of the task that the run was tuned for, or else of the first that was probed.
    pub(crate) fn task(&self) -> Option<&str> {
        let tuned = self.summary.as_ref().map(|summary| summary.task.as_str());
        let tuned = tuned.or_else(|| self.untuned.as_ref().map(|summary| summary.task.as_str()));
        let config = || self.config.as_ref().map(|config| config.task.as_str());
        tuned.or_else(config).or_else(|| self.tasks.first().map(|task| task.name.as_str()))
    }

    /// The model's id.
    pub(crate) fn model(&self) -> Option<&str> {
        let summary = self.summary.as_ref().map(|summary| summary.model.as_str());
        let summary = summary.or_else(|| self.untuned.as_ref().map(|summary| summary.model.as_str()));
        let config = || self.config.as_ref().map(|config| config.model.id.as_str());
        summary.or_else(config).or_else(|| self.model_read())
    }

    /// The one model that stages read; nothing where they read several.
    fn model_read(&self) -> Option<&str> {
        let inputs = self.record.stages.values().flat_map(|stage| stage.inputs.keys());
        let models: BTreeSet<&str> = inputs.filter_map(|name| name.strip_prefix(input::MODEL)).collect();
        models.first().copied().filter(|_| models.len() == 1)
    }

    /// Whether the model has no masked-LM head, so that nothing can be tuned and nothing answers.
    pub(crate) fn lacks_head(&self) -> bool {
        let of = |stage: &StageRecord| {
            stage.settings.get(setting::HEAD).is_some_and(|head| head == setting::NO_HEAD)
        };
        self.config.is_none() && self.record.stages.values().any(of)
    }

    /// Whether nothing was tuned, as far as the run says.
    pub(crate) fn is_untuned(&self) -> bool {
        self.untuned.is_some() || self.lacks_head()
    }

    /// The task's metric.
    pub(crate) fn metric(&self) -> Option<&str> {
        let config = self.config.as_ref().map(|config| config.metric.as_str());
        let metrics = || self.metrics.first().map(|record| record.metric.as_str());
        let results = || self.perturbed().flat_map(|sweep| sweep.skill.iter().chain(&sweep.random));
        let perturbed = || results().next().map(|result| result.metric.as_str());
        config.or_else(metrics).or_else(perturbed)
    }

    /// What a class is called: its number, with its word if the run says one.
    pub(crate) fn class(&self, task: &str, class: usize) -> String {
        let config = self.config.as_ref().filter(|config| config.task == task);
        match config.and_then(|config| config.verbalizer.words.get(class)) {
            Some(word) => format!("{class} ({})", word.trim()),
            None => class.to_string(),
        }
    }
}
