//! What experiments read of runs. All of it was written by their stages.

use std::collections::BTreeSet;
use std::path::Path;

use skn_artifact::names::{file, kind};
use skn_artifact::{InferencePerformance, PerturbationResult, TensorFile, read_json};
use skn_counts::{Performance, Predictor};
use skn_probing::ProbeType;
use skn_select::Mask;

use super::plan::{Marked, Plan, PlannedTask};
use crate::error::Result;
use crate::provenance;
use crate::score::LEVEL;
use crate::stages::BestPredictor;

/// A mask, with the score of each neuron.
pub(super) fn mask(path: &Path) -> Result<Mask> {
    provenance::check(path)?;
    Ok(Mask::read(&TensorFile::read(path)?)?)
}

/// The scores of each layer's neurons under a seed: how far from guessing their best position is.
pub(super) fn scores(plan: &Plan<'_>, task: &PlannedTask, seed: u64) -> Result<Vec<Vec<f64>>> {
    let mask = mask(&plan.mask_of(task, seed, Marked::Skill, plan.share))?;
    let layers = mask.score().chunks(mask.width().max(1));
    Ok(layers.map(|layer| layer.iter().map(|&score| f64::from(score)).collect()).collect())
}

/// The skill neurons under a seed: layer and index.
pub(super) fn skill(plan: &Plan<'_>, task: &PlannedTask, seed: u64) -> Result<BTreeSet<(usize, u32)>> {
    let mask = mask(&plan.mask_of(task, seed, Marked::Skill, plan.share))?;
    let layers = mask.neurons().into_iter().enumerate();
    Ok(layers.flat_map(|(layer, neurons)| neurons.into_iter().map(move |neuron| (layer, neuron))).collect())
}

/// How a run answers test.
pub(super) fn performance(run: &Path, task: &str) -> Result<InferencePerformance> {
    let path = run.join(task).join(file::INFERENCE_PERFORMANCE);
    provenance::check(&path)?;
    Ok(read_json(&path)?)
}

/// The best neuron of a run, with what test says of it.
pub(super) fn best(plan: &Plan<'_>, run: &Path, task: &str) -> Result<Option<BestPredictor>> {
    BestPredictor::of(&run.join(task), ProbeType::Acc, plan.options.subject.paper)
}

/// What test says of the neuron that is best on dev.
pub(super) struct OnTest {
    pub(super) value: f64,
    /// Its 95 % interval over texts.
    pub(super) interval: [f64; 2],
    pub(super) texts: u64,
}

/// What test says of a run's best neuron; nothing where test has no text of its class, or none of the rest.
pub(super) fn best_on_test(plan: &Plan<'_>, run: &Path, task: &str) -> Result<Option<OnTest>> {
    let (dev, test) = (counts(run, task, "dev")?, counts(run, task, "test")?);
    let score = dev.score_of(plan.options.subject.paper);
    let Some(rule) = dev.ranked(score)?.first().map(|best| best.rule) else { return Ok(None) };
    if !test.tells(rule.class.unwrap_or(0), score) {
        return Ok(None);
    }
    let (value, interval) = (test.accuracy_of(&rule, score)?, test.interval_of(&rule, score, LEVEL)?);
    Ok(Some(OnTest { value, interval, texts: test.total().unsigned_abs() }))
}

/// All neurons of a run by what dev says of them, the best first.
pub(super) fn ranked(plan: &Plan<'_>, run: &Path, task: &str) -> Result<Vec<Predictor>> {
    let counts = counts(run, task, "dev")?;
    Ok(counts.ranked(counts.score_of(plan.options.subject.paper))?)
}

/// All counts of a run on a part of the data.
fn counts(run: &Path, task: &str, split: &str) -> Result<Performance> {
    let path = super::plan::counts(run, task, split);
    provenance::check(&path)?;
    Ok(Performance::read(&TensorFile::read(&path)?)?)
}

/// The results of a perturbation: a file with one, or with a list of them.
pub(super) fn perturbed(run: &Path, name: &str) -> Result<Vec<PerturbationResult>> {
    let path = run.join(name);
    provenance::check(&path)?;
    let value: serde_json::Value = read_json(&path)?;
    let several = if value.is_array() { value } else { serde_json::Value::Array(vec![value]) };
    Ok(serde_json::from_value(several)?)
}

/// Which neurons a task's prompt activates by itself, before any text: `[L * F]`, and the width F.
pub(super) fn activated(run: &Path, task: &str) -> Result<(Vec<bool>, usize)> {
    let path = run.join(task).join(file::tensors(kind::PROMPT_ACTIVATION));
    provenance::check(&path)?;
    let (shape, values) = TensorFile::read(&path)?.f32("activation", None)?;
    // [samples, layers, neurons]; an experiment has one prompt a run.
    let width = shape.last().copied().unwrap_or(1);
    Ok((values.iter().map(|&value| value > 0.0).collect(), width.max(1)))
}
