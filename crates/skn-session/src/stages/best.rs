use std::path::Path;

use serde::{Serialize, Serializer};
use skn_artifact::TensorFile;
use skn_artifact::names::file;
use skn_counts::{Performance, Rule, ScoreRule};
use skn_probing::ProbeType;

use crate::error::Result;
use crate::provenance;

/// The best neuron of a run's counts.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BestPredictor {
    /// Its layer, from 0.
    pub layer: usize,
    /// Its index, from 0.
    pub index: usize,
    /// The prompt position it is read at, from 0; nothing where it is read of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// The probe that found it.
    #[serde(serialize_with = "name_of")]
    pub probe: ProbeType,
    /// The class that it tells from the rest, of more than two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    /// What its predictivity is of: accuracy or balanced accuracy.
    #[serde(serialize_with = "name_of_score")]
    pub score: ScoreRule,
    /// Its predictivity on dev, where it was chosen.
    pub dev: f64,
    /// The same on test, if that was counted and can tell.
    pub test: Option<f64>,
}

fn name_of<S: Serializer>(probe: &ProbeType, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(probe.name())
}

fn name_of_score<S: Serializer>(score: &ScoreRule, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(score.name())
}

impl BestPredictor {
    /// The best neuron of a probe's counts in a task's folder, by the score of the published implementation where `paper` says
    /// so; nothing if the probe counts nothing, its texts are all of one class, or all neurons are dead.
    ///
    /// # Errors
    /// If they are missing or damaged.
    pub(crate) fn of(folder: &Path, probe: ProbeType, paper: bool) -> Result<Option<Self>> {
        let Some(pool) = probe.pool() else { return Ok(None) };
        let path = |split: &str| folder.join(file::tensors(&pool.performance_file(split)));
        let read = |split: &str| -> Result<Performance> {
            provenance::check(&path(split))?;
            Ok(Performance::read(&TensorFile::read(&path(split))?)?)
        };
        let dev = read("dev")?;
        let score = dev.score_of(paper);
        if !dev.tells_any(score) {
            return Ok(None);
        }
        let Some(rule) = dev.ranked(score)?.first().map(|best| best.rule) else {
            tracing::warn!(
                "{}: every neuron has the same activation for all texts of train, so none predicts",
                path("dev").display()
            );
            return Ok(None);
        };
        let test = if provenance::is_there(&path("test"))? { Some(read("test")?) } else { None };
        let told = |test: &Performance| test.tells(rule.class.unwrap_or(0), score);
        let test = test.filter(told).map(|test| test.accuracy_of(&rule, score)).transpose()?;
        let Rule { layer, index, position, class, .. } = rule;
        let position = (!pool.is_of_text()).then_some(position);
        let dev = dev.accuracy_of(&rule, score)?;
        Ok(Some(Self { layer, index, position, probe, class, score, dev, test }))
    }
}
