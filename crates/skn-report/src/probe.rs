//! Counts of a task and what they say, and single neurons' activations.

use std::collections::BTreeMap;
use std::path::Path;

use skn_artifact::names::{file, key, kind, top};
use skn_artifact::{TensorFile, is_file};
use skn_counts::{Performance, Pool, Predictor, Rule, ScoreRule, TopTexts};

use crate::error::Result;
use crate::reading::mismatch;
use crate::scoring::{Scoring, with_areas};

/// Counts on dev, and what they say of the neurons.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// What was taken of a text's activations.
    pub(crate) pool: Pool,
    pub(crate) dev: Performance,
    /// What its right answers come to.
    pub(crate) score: ScoreRule,
    /// Which number of a neuron was read, where the FFN is gated.
    pub(crate) site: Option<String>,
    /// What the counts on dev say of themselves: of which model, tuned parameters and rows they are.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) test: Option<Performance>,
    /// Every neuron that is there, by falling predictivity on dev; at least one.
    pub(crate) ranked: Vec<Predictor>,
    /// The best predictivity on dev, `[L][P]`.
    pub(crate) by_place: Vec<Vec<f64>>,
}

impl Probe {
    pub(crate) fn read(folder: &Path, pool: Pool, scoring: Scoring) -> Result<Option<Self>> {
        let read = |split: &str| -> Result<Option<(Performance, BTreeMap<String, String>)>> {
            let path = folder.join(file::tensors(&pool.performance_file(split)));
            Ok(match is_file(&path)? {
                true => {
                    let counts = TensorFile::read(&path)?;
                    let metadata = counts.metadata().clone();
                    Some((with_areas(Performance::read(&counts)?, &counts, split)?, metadata))
                }
                false => None,
            })
        };
        let Some((dev, metadata)) = read("dev")? else { return Ok(None) };
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
        let site = metadata.get(key::SITE).cloned();
        Ok((!ranked.is_empty()).then_some(Self { pool, dev, score, site, metadata, test, ranked, by_place }))
    }

    /// What was taken of a text's activations, in words.
    pub(crate) fn read_at(&self) -> &'static str {
        match self.pool {
            Pool::Position => "prompt position",
            Pool::Mean => "mean over text",
            Pool::Max => "maximum over text",
            Pool::Last => "last token",
        }
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

/// Whether a file is of other rows, parameters or neurons than counts are, by what both say of themselves.
fn is_of_other(counts: &BTreeMap<String, String>, own: &BTreeMap<String, String>) -> bool {
    let said = [key::MODEL, key::TUNING, key::DATA, key::SITE];
    let differs = |key: &str| counts.get(key).zip(own.get(key)).is_some_and(|(counts, own)| counts != own);
    // What says of which model it is says of these that there are none.
    let known = [counts, own].iter().all(|of| of.contains_key(key::MODEL));
    let unsaid = [key::TEMPLATE, key::DTYPE];
    said.into_iter().any(differs) || (known && unsaid.into_iter().any(|key| counts.get(key) != own.get(key)))
}

/// The texts that a run has for its counts; nothing where they are of other rows, parameters or neurons.
pub(crate) fn top_texts(folder: &Path, probe: &Probe) -> Result<Option<TopTexts>> {
    let path = folder.join(file::tensors(&top::file(probe.pool.name(), "dev")));
    if !is_file(&path)? {
        return Ok(None);
    }
    let read = TensorFile::read(&path)?;
    if is_of_other(&probe.metadata, read.metadata()) {
        Ok(None)
    } else {
        Ok(Some(TopTexts::read(&read, probe.pool)?))
    }
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

impl Activations {
    /// Those of a neuron at the position of its rule.
    pub(crate) fn read(folder: &Path, probe: &Probe, neuron: &Predictor) -> Result<Option<Self>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_other_rows_or_parameters_is_told_apart() {
        let said = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let counts = said(&[(key::MODEL, "m"), (key::TUNING, "t"), (key::DATA, "d"), (key::SITE, "up")]);
        assert!(!is_of_other(&counts, &counts));
        // An older file says less.
        assert!(!is_of_other(&counts, &said(&[])) && !is_of_other(&said(&[]), &counts));
        for name in [key::MODEL, key::TUNING, key::DATA, key::SITE, key::TEMPLATE, key::DTYPE] {
            let mut other = counts.clone();
            other.insert(name.into(), "other".into());
            assert!(is_of_other(&counts, &other) && is_of_other(&other, &counts), "{name}");
        }
    }
}
