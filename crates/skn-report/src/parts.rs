//! What lies in a run folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use skn_artifact::{
    ArtifactError, InferencePerformance, InferenceTime, MetricRecord, PerturbationResult, RankingComparison,
    RunRecord, SkillConfig, Summary, TensorFile, UntunedSummary, is_file, is_folder, is_there, open_regular,
    read_json,
};

use skn_artifact::names::{file, key, kind, rank};
use skn_counts::{Performance, Pool, Predictor, Rule, ScoreRule};

use crate::error::{ReportError, Result};
use crate::evidence::Weighed;
use crate::scoring::{Scoring, with_areas};

/// What a task's folder may hold, one of which makes it one.
fn task_files() -> Vec<String> {
    let average = file::tensors(kind::AVERAGE);
    let counts = Pool::ALL.map(|pool| file::tensors(&pool.performance_file("dev")));
    let of_test = file::tensors(&Pool::Position.performance_file("test"));
    let positions = ["dev", "test"].map(file::positions_folder);
    let inference = [file::INFERENCE_PERFORMANCE, file::INFERENCE_TIME].map(String::from);
    [average, of_test].into_iter().chain(counts).chain(positions).chain(inference).collect()
}

/// A run folder's artifacts.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) summary: Option<Summary>,
    /// The same of a run that tunes nothing.
    pub(crate) untuned: Option<UntunedSummary>,
    pub(crate) config: Option<SkillConfig>,
    pub(crate) metrics: Vec<MetricRecord>,
    pub(crate) tasks: Vec<Task>,
    /// `mask_perf.json`.
    pub(crate) skill: Vec<PerturbationResult>,
    /// `cmp_perf.json`.
    pub(crate) random: Vec<PerturbationResult>,
    /// `matched_perf.json`.
    pub(crate) matched: Vec<PerturbationResult>,
    /// `class_perf.json`.
    pub(crate) classes: Vec<PerturbationResult>,
    pub(crate) record: RunRecord,
}

/// What a probe of one task left.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) probe: Option<Probe>,
    /// What speaks for its neurons.
    pub(crate) weighed: Option<Weighed>,
    /// Counts of a text's mean and maximum, with what was taken.
    pub(crate) pooled: Vec<(&'static str, Probe)>,
    /// Activations of the best neuron on dev.
    pub(crate) activations: Option<Activations>,
    /// Those of neurons that were asked for.
    pub(crate) asked: Vec<Asked>,
    /// Which neurons were selected: those of the share that perturbing tells of.
    pub(crate) selected: Option<Selected>,
    pub(crate) performance: Option<InferencePerformance>,
    pub(crate) time: Option<InferenceTime>,
    /// Rankings of neurons compared.
    pub(crate) rankings: Option<RankingComparison>,
    /// Whether there is a comparison of other tuned parameters than the counts are of, which is not shown.
    pub(crate) has_other_rankings: bool,
}

/// Counts on dev, and what they say of the neurons.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) dev: Performance,
    /// What its right answers come to.
    pub(crate) score: ScoreRule,
    /// Which number of a neuron was read, where the FFN is gated.
    pub(crate) site: Option<String>,
    /// The hash of the tuned parameters that were probed.
    pub(crate) tuning: Option<String>,
    pub(crate) test: Option<Performance>,
    /// Every neuron that is there, by falling predictivity on dev; at least one.
    pub(crate) ranked: Vec<Predictor>,
    /// The best predictivity on dev, `[L][P]`.
    pub(crate) by_place: Vec<Vec<f64>>,
}

/// A neuron that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) layer: usize,
    pub(crate) index: usize,
    /// Whether it hardly varies over train, so that it has no rule.
    pub(crate) dead: bool,
    /// Nothing where the run does not have them.
    pub(crate) found: Option<Activations>,
}

/// A mask of a task.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    /// Its name.
    pub(crate) mask: String,
    pub(crate) file: PathBuf,
    /// `[L, F]`.
    pub(crate) neurons: Vec<bool>,
}

/// Activations of one neuron at the position of its best rule, with the texts' classes.
#[derive(Clone, Debug)]
pub(crate) struct Activations {
    /// The neuron's best rule on dev, and how often that is right.
    pub(crate) rule: Rule,
    pub(crate) predictivity: f64,
    pub(crate) values: Vec<f32>,
    pub(crate) labels: Vec<usize>,
    /// What they are compared with: the mean over train.
    pub(crate) threshold: Option<f32>,
}

impl Parts {
    /// What a run has; of the activations of single neurons those of the best, and of `neurons` (layer and index).
    pub(crate) fn read(run: &Path, neurons: &[(usize, usize)]) -> Result<Self> {
        if !is_folder(run)? {
            return Err(ReportError::NoFolder { folder: run.into() });
        }
        let (summary, untuned) = summaries(&run.join(file::SUMMARY))?;
        let record = RunRecord::read(run)?;
        let (skill, random) =
            (perturbations(&run.join(file::SKILL))?, perturbations(&run.join(file::RANDOM))?);
        let share = summary.as_ref().map(|found| found.perturbation.share.clone());
        let share = share.or_else(|| skill.last().map(|result| result.mask.clone()));
        let parts = Self {
            summary,
            untuned,
            config: optional(&run.join(file::BEST).join(file::SKILL_CONFIG))?,
            metrics: journal(&run.join(file::METRICS))?,
            tasks: tasks(run, &Wanted { record: &record, neurons, share: share.as_deref() })?,
            skill,
            random,
            matched: perturbations(&run.join(file::MATCHED))?,
            classes: perturbations(&run.join(file::CLASSES))?,
            record,
        };
        if parts.is_empty() {
            let expected =
                "summary.json, metrics.jsonl, mask_perf.json, cmp_perf.json or <task>/dev_perf.safetensors";
            return Err(ReportError::Empty { folder: run.into(), expected: expected.into() });
        }
        Ok(parts)
    }

    /// The files that these are, of those in a run's folder.
    pub(crate) fn files(&self, run: &Path) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let config = format!("{}/{}", file::BEST, file::SKILL_CONFIG);
        let perturbed = [file::SKILL, file::RANDOM, file::MATCHED, file::CLASSES];
        for name in [file::SUMMARY, &config, file::METRICS].into_iter().chain(perturbed) {
            found.push(run.join(name));
        }
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
            let asked = task.asked.iter().filter_map(|asked| asked.found.as_ref());
            let single: Vec<&Activations> = task.activations.iter().chain(asked).collect();
            for Activations { rule, .. } in &single {
                found.push(folder.join(file::positions("dev", rule.layer, rule.index)));
            }
            if !single.is_empty() {
                found.push(folder.join(file::tensors(kind::AVERAGE)));
            }
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
        let perturbed = [&self.skill, &self.random, &self.matched, &self.classes].map(Vec::len);
        nothing && [self.metrics.len(), self.tasks.len()] == [0; 2] && perturbed == [0; 4]
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
        summary.or_else(|| self.config.as_ref().map(|config| config.model.id.as_str()))
    }

    /// The task's metric.
    pub(crate) fn metric(&self) -> Option<&str> {
        let config = self.config.as_ref().map(|config| config.metric.as_str());
        let metrics = || self.metrics.first().map(|record| record.metric.as_str());
        let perturbed = || self.skill.iter().chain(&self.random).next().map(|result| result.metric.as_str());
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

impl Probe {
    fn read(folder: &Path, pool: Pool, scoring: Scoring) -> Result<Option<Self>> {
        let read = |split: &str| -> Result<Option<(Performance, [Option<String>; 2])>> {
            let path = folder.join(file::tensors(&pool.performance_file(split)));
            Ok(match is_file(&path)? {
                true => {
                    let counts = TensorFile::read(&path)?;
                    let said = [key::SITE, key::TUNING].map(|key| counts.metadata().get(key).cloned());
                    Some((with_areas(Performance::read(&counts)?, &counts, split)?, said))
                }
                false => None,
            })
        };
        let Some((dev, [site, tuning])) = read("dev")? else { return Ok(None) };
        let test = read("test")?.map(|(test, _)| test);
        for found in [Some(&dev), test.as_ref()].into_iter().flatten() {
            if found.pooled() != pool.is_of_text() {
                let expected = if pool.is_of_text() { "[.., L, F]" } else { "[.., L, P, F]" };
                return Err(mismatch(found.file(), "correct", expected.into(), found.shape()));
            }
        }
        if let Some(test) = test.as_ref().filter(|test| !dev.fits(test)) {
            let shape = |of: &Performance| (of.shape(), of.widths().to_vec());
            let (expected, found) = (shape(&dev), shape(test));
            let expected = format!("the shape and widths of dev, {expected:?}");
            return Err(mismatch(test.file(), "correct", expected, found));
        }
        let score = scoring.of(&dev);
        let (ranked, by_place) = (dev.ranked(score)?, dev.best_by_place(score)?);
        Ok((!ranked.is_empty()).then_some(Self { dev, score, site, tuning, test, ranked, by_place }))
    }

    /// The predictivity that `share` of the neurons reach.
    pub(crate) fn reached_by(&self, share: f64) -> f64 {
        let rank = (share * self.ranked.len() as f64).ceil() as usize;
        self.ranked[rank.clamp(1, self.ranked.len()) - 1].predictivity
    }

    /// The neuron that predicts the label best on dev.
    pub(crate) fn best(&self) -> &Predictor {
        &self.ranked[0]
    }
}

/// What is read of a task besides what every one has.
struct Wanted<'a> {
    /// What the run says of its stages.
    record: &'a RunRecord,
    /// Neurons whose activations are asked for: layer and index.
    neurons: &'a [(usize, usize)],
    /// The share whose mask is shown.
    share: Option<&'a str>,
}

fn tasks(run: &Path, wanted: &Wanted<'_>) -> Result<Vec<Task>> {
    let io = |source| ArtifactError::Io { file: run.into(), operation: "read", source };
    let (mut names, task_files) = (Vec::new(), task_files());
    for entry in fs::read_dir(run).map_err(io)? {
        let entry = entry.map_err(io)?;
        let folder = entry.path();
        for file in &task_files {
            if is_there(&folder.join(file))? {
                // A name that is no Unicode can't be a task's.
                names.extend(entry.file_name().into_string());
                break;
            }
        }
    }
    names.sort();
    names.into_iter().map(|name| Task::read(run, name, wanted)).collect()
}

impl Task {
    fn read(run: &Path, name: String, wanted: &Wanted<'_>) -> Result<Self> {
        let (folder, scoring) = (&run.join(&name), Scoring::read(run, &name, wanted.record)?);
        let probe = Probe::read(folder, Pool::Position, scoring)?;
        let mut pooled = Vec::new();
        for (what, pool) in
            [("mean over text", Pool::Mean), ("maximum over text", Pool::Max), ("last token", Pool::Last)]
        {
            pooled.extend(Probe::read(folder, pool, scoring)?.map(|probe| (what, probe)));
        }
        let activations = match &probe {
            Some(probe) => Activations::read(folder, probe, probe.best())?,
            None => None,
        };
        let mut asked = Vec::new();
        if let Some(probe) = &probe {
            for &(layer, index) in wanted.neurons {
                let known = |of: &&Predictor| (of.rule.layer, of.rule.index) == (layer, index);
                if probe.dev.widths().get(layer).is_none_or(|&width| index >= width) {
                    return Err(ReportError::NoNeuron { layer, index, file: probe.dev.file().into() });
                }
                let predictor = probe.ranked.iter().find(known);
                let read = predictor.map(|predictor| Activations::read(folder, probe, predictor));
                asked.push(Asked {
                    layer,
                    index,
                    dead: predictor.is_none(),
                    found: read.transpose()?.flatten(),
                });
            }
        }
        let selected = match (&probe, wanted.share) {
            (Some(probe), Some(share)) => Selected::read(run, &name, share, &probe.dev)?,
            _ => None,
        };
        let performance = optional(&folder.join(file::INFERENCE_PERFORMANCE))?;
        let time = optional(&folder.join(file::INFERENCE_TIME))?;
        let rankings = comparison(&folder.join(rank::COMPARISON))?;
        let of_counts = probe.as_ref().and_then(|probe| probe.tuning.as_ref());
        let is_other = |found: &RankingComparison| {
            of_counts.zip(found.tuning_sha256.as_ref()).is_some_and(|(counts, found)| counts != found)
        };
        let has_other_rankings = rankings.as_ref().is_some_and(is_other);
        let rankings = rankings.filter(|_| !has_other_rankings);
        let weighed = Weighed::read(run, &name)?;
        Ok(Self {
            name,
            probe,
            weighed,
            pooled,
            activations,
            asked,
            selected,
            performance,
            time,
            rankings,
            has_other_rankings,
        })
    }

    /// All that was probed, with what was taken of the activations.
    pub(crate) fn kinds(&self) -> Vec<(&'static str, &Probe)> {
        let own = self.probe.as_ref().map(|probe| ("prompt position", probe));
        own.into_iter().chain(self.pooled.iter().map(|(what, probe)| (*what, probe))).collect()
    }
}

impl Selected {
    /// A task's mask of a share, if the run has it.
    fn read(run: &Path, task: &str, share: &str, counts: &Performance) -> Result<Option<Self>> {
        let file = run.join(file::mask(task, share));
        if !is_file(&file)? {
            return Ok(None);
        }
        let shape = [counts.layers(), counts.neurons()];
        let (_, neurons) = TensorFile::read(&file)?.bool("mask", Some(&shape))?;
        Ok(Some(Self { mask: share.into(), file, neurons }))
    }
}

impl Activations {
    /// Those of a neuron at the position of its rule.
    fn read(folder: &Path, probe: &Probe, neuron: &Predictor) -> Result<Option<Self>> {
        let best: &Rule = &neuron.rule;
        let path = folder.join(file::positions("dev", best.layer, best.index));
        if !is_file(&path)? {
            return Ok(None);
        }
        let activations = TensorFile::read(&path)?;
        let (shape, all) = activations.f32("activation", None)?;
        let positions = match shape[..] {
            [texts, positions] if texts > 0 && positions > best.position => positions,
            _ => {
                let expected = format!("texts x more than {} positions", best.position);
                return Err(mismatch(&path, "activation", expected, shape));
            }
        };
        let (_, labels) = activations.i64("label", Some(&shape[..1]))?;
        let values: Vec<f32> = all.chunks_exact(positions).map(|row| row[best.position]).collect();
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(mismatch(&path, "activation", "finite numbers".into(), value));
        }
        let classes = probe.dev.classes();
        let class = |label: i64| {
            let class = usize::try_from(label).ok().filter(|&class| class < classes);
            class.ok_or_else(|| mismatch(&path, "label", format!("0 to {}", classes - 1), label))
        };
        let labels = labels.into_iter().map(class).collect::<Result<_>>()?;
        let average = folder.join(file::tensors(kind::AVERAGE));
        let (layers, rows, width) = (probe.dev.layers(), probe.dev.positions(), probe.dev.neurons());
        let threshold = if is_file(&average)? {
            let (_, averages) =
                TensorFile::read(&average)?.f32(kind::AVERAGE, Some(&[layers, rows, width]))?;
            Some(averages[(best.layer * rows + best.position) * width + best.index])
        } else {
            None
        };
        let (rule, predictivity) = (*best, neuron.predictivity);
        Ok(Some(Self { rule, predictivity, values, labels, threshold }))
    }

    /// The activations of each class.
    pub(crate) fn by_class(&self) -> BTreeMap<usize, Vec<f64>> {
        let mut classes: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (&label, &value) in self.labels.iter().zip(&self.values) {
            classes.entry(label).or_default().push(f64::from(value));
        }
        classes
    }

    /// The activations of the other classes, and those of this one.
    pub(crate) fn of_class(&self, class: usize) -> [Vec<f64>; 2] {
        let mut groups = [Vec::new(), Vec::new()];
        for (&label, &value) in self.labels.iter().zip(&self.values) {
            groups[usize::from(label == class)].push(f64::from(value));
        }
        groups
    }
}

/// What a whole run found, tuned or untuned: that of the latter says how frequent the larger class is.
fn summaries(path: &Path) -> Result<(Option<Summary>, Option<UntunedSummary>)> {
    let Some(value) = optional::<Value>(path)? else { return Ok((None, None)) };
    let wrong = |error: serde_json::Error| format(path, "the summary".into(), "what skn-run writes", error);
    match value.get("majority") {
        None => Ok((optional(path)?, None)),
        Some(_) => Ok((None, Some(serde_json::from_value(value).map_err(wrong)?))),
    }
}

/// What comparing rankings gave: numbers for every share.
fn comparison(path: &Path) -> Result<Option<RankingComparison>> {
    let Some(found) = optional::<RankingComparison>(path)? else { return Ok(None) };
    let shares = found.shares.len();
    let fits = |of: &skn_artifact::RankingDamage| of.scores.len() == shares && of.intervals.len() == shares;
    let all = found.agreement.iter().all(|of| of.overlap.len() == shares);
    if shares > 0 && found.random.len() == shares && found.rankings.iter().all(fits) && all {
        return Ok(Some(found));
    }
    let expected = format!("numbers for each of {shares} shares, one at least");
    Err(format(path, "the comparison".into(), expected.as_str(), "another number of them"))
}

fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    Ok(is_file(path)?.then(|| read_json(path)).transpose()?)
}

/// A file with one result, or with a list of them.
fn perturbations(path: &Path) -> Result<Vec<PerturbationResult>> {
    let values = match optional(path)? {
        None => Vec::new(),
        Some(Value::Array(values)) => values,
        Some(value) => vec![value],
    };
    let parse = |(place, value)| {
        serde_json::from_value(value)
            .map_err(|error| format(path, format!("result {place}"), "a perturbation's result", error))
    };
    values.into_iter().enumerate().map(parse).collect()
}

/// The lines of a journal. A line without its end is being written, or was when the machine stopped; it is left out, as
/// a resumed run cuts it off.
fn journal(path: &Path) -> Result<Vec<MetricRecord>> {
    if !is_file(path)? {
        return Ok(Vec::new());
    }
    let text = open_regular(path).and_then(std::io::read_to_string).map_err(|source| ArtifactError::Io {
        file: path.into(),
        operation: "read",
        source,
    })?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            format(path, format!("line {}", number + 1), "an evaluation while training", error)
        })
    };
    whole.lines().enumerate().map(parse).collect()
}

fn format(path: &Path, place: String, expected: &str, found: impl ToString) -> ReportError {
    let (expected, found) = (expected.into(), found.to_string());
    ArtifactError::Format { file: path.into(), place, expected, found }.into()
}

fn mismatch(path: &Path, tensor: &str, expected: String, found: impl std::fmt::Debug) -> ReportError {
    let found = format!("{found:?}");
    ArtifactError::Tensor { file: path.into(), tensor: tensor.into(), expected, found }.into()
}
