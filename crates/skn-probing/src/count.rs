use std::collections::BTreeMap;
use std::sync::Arc;

use skn_counts::{Performance, Pool};
use skn_data::Encoded;
use skn_model::LanguageModel;
use skn_stats::FireAccumulator;

use crate::average::check_same;
use crate::collect::collect;
use crate::error::{ProbingError, Result};
use crate::pass::PassOptions;
use crate::positions::{Capture, Positions};
use crate::record::Record;
use crate::statistic::{BatchTexts, Row, Statistic, part};
use crate::threshold::Threshold;
use crate::watch::Dims;

/// For how many texts of each class every neuron's activation was above its threshold.
#[derive(Clone, Debug)]
pub struct Count {
    threshold: Arc<Threshold>,
    widths: Vec<usize>,
    fires: FireAccumulator,
}

impl Count {
    /// Counts of nothing yet, for the neurons of a model.
    ///
    /// # Errors
    /// If the thresholds are of another shape than the model, or there are absurdly many classes.
    pub fn new(model: &LanguageModel, threshold: &Threshold, classes: usize) -> Result<Self> {
        let dims = Dims::of(model, threshold.pool())?;
        if threshold.dims != dims {
            return Err(wrong_threshold(model, threshold.pool(), threshold)?);
        }
        let widths = model.config().intermediate_sizes.clone();
        let fires = FireAccumulator::new(dims.elements(), classes)?;
        Ok(Self { threshold: Arc::new(threshold.clone()), widths, fires })
    }

    /// What was taken of a text's activations.
    pub fn pool(&self) -> Pool {
        self.threshold.pool()
    }

    /// `[L, P, F]` for [`Pool::Position`], else `[L, F]`. Neurons that a pruned layer does not have never fire.
    pub fn dims(&self) -> &[usize] {
        self.threshold.dims()
    }

    /// The counts by neuron and class.
    pub fn fires(&self) -> &FireAccumulator {
        &self.fires
    }

    /// The counts in the form of the exchange file.
    ///
    /// # Errors
    /// If there are fewer than two classes.
    pub fn performance(&self) -> Result<Performance> {
        let positions = if self.pool().is_of_text() { 1 } else { self.dims()[1] };
        let counted = Performance::of(self.pool(), positions, &self.widths, &self.fires)?;
        match self.threshold.dead() {
            Some(dead) => Ok(counted.with_dead(dead.to_vec())?),
            None => Ok(counted),
        }
    }

    /// Adds the counts of another shard.
    ///
    /// # Errors
    /// If it is of another pool, shape or number of classes.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(self.pool(), &self.threshold.dims, other.pool(), &other.threshold.dims)?;
        Ok(self.fires.merge(&other.fires)?)
    }
}

/// What one pass over dev or test gives.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Counts for every threshold given.
    pub counts: BTreeMap<Pool, Count>,
    /// The activations of the neuron asked for.
    pub positions: Option<Positions>,
}

impl Counts {
    /// Adds another shard; captured activations are put behind the ones here.
    ///
    /// # Errors
    /// If it was made for other probes, shapes or classes.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if !self.counts.keys().eq(other.counts.keys())
            || self.positions.is_some() != other.positions.is_some()
        {
            let pools =
                |counts: &Self| format!("{:?}, pos {}", counts.counts.keys(), counts.positions.is_some());
            return Err(ProbingError::mismatch("shard to merge", pools(self), pools(other)));
        }
        for (whole, part) in self.counts.values_mut().zip(other.counts.values()) {
            whole.merge(part)?;
        }
        match (&mut self.positions, &other.positions) {
            (Some(whole), Some(part)) => whole.append(part),
            _ => Ok(()),
        }
    }
}

/// Compares the activations over `texts` with thresholds, and captures those of one neuron (layer, index) at the prompt
/// positions, all in one pass.
///
/// # Errors
/// If there are no texts, one does not fit into the model or has a label that is not below `classes`, a threshold is of
/// another shape than the model, the neuron is not in it, or an activation is not finite.
pub fn counts(
    model: &LanguageModel,
    texts: &[Encoded],
    classes: usize,
    thresholds: &BTreeMap<Pool, Threshold>,
    neuron: Option<(usize, usize)>,
    options: &PassOptions<'_>,
) -> Result<Counts> {
    let pools: Vec<Pool> = thresholds.keys().copied().collect();
    let mut statistics = Vec::<Box<dyn Statistic>>::new();
    for (&pool, threshold) in thresholds {
        if threshold.pool() != pool {
            return Err(wrong_threshold(model, pool, threshold)?);
        }
        statistics.push(Box::new(Count::new(model, threshold, classes)?));
    }
    if let Some(neuron) = neuron {
        statistics.push(Box::new(Capture::new(model, neuron, texts)?));
    }
    let mut taken = collect("counting", model, texts, classes, statistics, options)?.into_iter();
    let counts = pools.into_iter().zip(&mut taken).map(|(pool, count)| Ok((pool, part(count)?)));
    let counts = counts.collect::<Result<_>>()?;
    let positions =
        taken.next().map(|capture| Ok::<_, ProbingError>(part::<Capture>(capture)?.into_positions()));
    Ok(Counts { counts, positions: positions.transpose()? })
}

fn wrong_threshold(model: &LanguageModel, pool: Pool, found: &Threshold) -> Result<ProbingError> {
    let what = format!("thresholds {}", pool.average_file());
    let expected = format!("shape {:?}", Dims::of(model, pool)?.sizes());
    let found = format!("{} {:?}", found.pool().average_file(), found.dims());
    Ok(ProbingError::mismatch(what, expected, found))
}

impl Statistic for Count {
    fn reads(&self, pool: Pool, _: usize) -> bool {
        pool == self.threshold.pool()
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        let mut fires = FireAccumulator::new(self.dims().iter().product(), self.fires.classes())?;
        texts.labels.iter().try_for_each(|&label| fires.add_row_label(label))?;
        Ok(Box::new(Self { fires, threshold: self.threshold.clone(), widths: self.widths.clone() }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        let offset = self.threshold.dims.offset(row);
        let threshold = &self.threshold.values[offset..][..row.values.len()];
        Ok(self.fires.add(row.label, offset, row.values, threshold)?)
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        self.merge(&part::<Self>(of_batch)?)
    }

    fn file(&self, split: &str) -> String {
        self.pool().performance_file(split)
    }

    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
        Ok(Box::new(self.performance()?))
    }
}
