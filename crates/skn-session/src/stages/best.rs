use std::path::Path;

use serde::{Serialize, Serializer};
use skn_artifact::TensorFile;
use skn_artifact::names::file;
use skn_counts::{Performance, Rule};
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
    /// Its predictivity on dev, where it was chosen.
    pub dev: f64,
    /// The same on test, if that was counted and can tell.
    pub test: Option<f64>,
}

fn name_of<S: Serializer>(probe: &ProbeType, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(probe.name())
}

impl BestPredictor {
    /// The best neuron of a probe's counts in a task's folder; nothing if the probe counts nothing.
    ///
    /// # Errors
    /// If they are missing or damaged.
    pub(crate) fn of(folder: &Path, probe: ProbeType) -> Result<Option<Self>> {
        let Some(pool) = probe.pool() else { return Ok(None) };
        let path = |split: &str| folder.join(file::tensors(&pool.performance_file(split)));
        let read = |split: &str| -> Result<Performance> {
            provenance::check(&path(split))?;
            Ok(Performance::read(&TensorFile::read(&path(split))?)?)
        };
        let dev = read("dev")?;
        let rule = dev.best_rule()?;
        let test = if provenance::is_there(&path("test"))? { Some(read("test")?) } else { None };
        let told = |test: &Performance| rule.class.is_none_or(|class| test.tells(class));
        let test = test.filter(told).map(|test| test.accuracy_of(&rule)).transpose()?;
        let Rule { layer, index, position, class, .. } = rule;
        let position = (!pool.is_of_text()).then_some(position);
        Ok(Some(Self { layer, index, position, probe, class, dev: dev.accuracy_of(&rule)?, test }))
    }
}
