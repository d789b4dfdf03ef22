use std::collections::BTreeMap;

use skn_counts::{Performance, Pool};
use skn_data::{Batch, Encoded};
use skn_model::{LanguageModel, NeuronSite, Output};
use skn_stats::FireAccumulator;

use crate::average::{Threshold, check_same};
use crate::error::{ProbingError, Result};
use crate::pass::{PassOptions, Texts, check_text_rows, forward};
use crate::positions::Positions;
use crate::watch::{Dims, Place, Reduction, Watch};

/// For how many texts of each class every neuron's activation was above its threshold.
#[derive(Clone, Debug)]
pub struct Count {
    pool: Pool,
    dims: Dims,
    widths: Vec<usize>,
    fires: FireAccumulator,
}

impl Count {
    fn new(model: &LanguageModel, threshold: &Threshold, classes: usize) -> Result<Self> {
        let dims = threshold.dims.clone();
        let widths = model.config().intermediate_sizes.clone();
        Ok(Self {
            pool: threshold.pool(),
            fires: FireAccumulator::new(dims.elements(), classes)?,
            dims,
            widths,
        })
    }

    /// What was taken of a text's activations.
    pub fn pool(&self) -> Pool {
        self.pool
    }

    /// `[L, P, F]` for [`Pool::Position`], else `[L, F]`. Neurons that a pruned layer does not have never fire.
    pub fn dims(&self) -> &[usize] {
        self.dims.sizes()
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
        let positions = if self.pool.is_of_text() { 1 } else { self.dims.sizes()[1] };
        Ok(Performance::of(self.pool, positions, &self.widths, &self.fires)?)
    }

    /// Adds the counts of another shard.
    ///
    /// # Errors
    /// If it is of another pool, shape or number of classes.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(self.pool, &self.dims, other.pool, &other.dims)?;
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
    check_thresholds(model, thresholds)?;
    let labels = || texts.iter().map(|text| text.label);
    let positions = neuron.map(|neuron| Positions::new(model, neuron, labels())).transpose()?;
    let mut whole = Counts { counts: empty(model, thresholds, classes)?, positions };
    if whole.counts.is_empty() && neuron.is_none() {
        return Ok(whole);
    }
    check_text_rows(texts, whole.counts.keys())?;
    let pass = Texts::new("counting", model, texts, classes, options)?;
    let map = |batch: &Batch| {
        count(model, batch, thresholds, empty(model, thresholds, classes)?, neuron, options.site)
    };
    pass.run(map, |batch, (counts, captured)| {
        for (pool, part) in &counts {
            whole.counts.get_mut(pool).map_or(Ok(()), |whole| whole.merge(part))?;
        }
        if let Some(positions) = &mut whole.positions {
            positions.fill(pass.places(batch), &captured);
        }
        Ok(())
    })?;
    Ok(whole)
}

fn check_thresholds(model: &LanguageModel, thresholds: &BTreeMap<Pool, Threshold>) -> Result<()> {
    for (&pool, threshold) in thresholds {
        let expected = Dims::of(model, pool)?;
        if threshold.pool() != pool || threshold.dims != expected {
            let what = format!("thresholds {}", pool.average_file());
            let found = format!("{} {:?}", threshold.pool().average_file(), threshold.dims());
            return Err(ProbingError::mismatch(what, format!("shape {:?}", expected.sizes()), found));
        }
    }
    Ok(())
}

fn empty(
    model: &LanguageModel,
    thresholds: &BTreeMap<Pool, Threshold>,
    classes: usize,
) -> Result<BTreeMap<Pool, Count>> {
    thresholds.iter().map(|(&pool, threshold)| Ok((pool, Count::new(model, threshold, classes)?))).collect()
}

/// The counts of a batch, and the captured activations `[texts, P]`.
fn count(
    model: &LanguageModel,
    batch: &Batch,
    thresholds: &BTreeMap<Pool, Threshold>,
    counts: BTreeMap<Pool, Count>,
    neuron: Option<(usize, usize)>,
    site: NeuronSite,
) -> Result<(BTreeMap<Pool, Count>, Vec<f32>)> {
    let positions = model.prompt_rows();
    let captured = vec![0.0; if neuron.is_some() { batch.len() * positions } else { 0 }];
    let reduction = Fires { labels: &batch.labels, thresholds, counts, neuron, positions, captured };
    let mut watch = Watch::new(batch, site, reduction);
    forward(model, batch, Output::Nothing, &mut watch)?;
    let Fires { mut counts, captured, .. } = watch.into_reduction();
    for count in counts.values_mut() {
        batch.labels.iter().try_for_each(|&label| count.fires.add_row_label(label))?;
    }
    Ok((counts, captured))
}

/// The counts of a batch while it runs.
struct Fires<'a> {
    labels: &'a [usize],
    thresholds: &'a BTreeMap<Pool, Threshold>,
    counts: BTreeMap<Pool, Count>,
    neuron: Option<(usize, usize)>,
    positions: usize,
    captured: Vec<f32>,
}

impl Reduction for Fires<'_> {
    fn wants(&self, pool: Pool, layer: usize) -> bool {
        let captured = pool == Pool::Position && self.neuron.is_some_and(|neuron| neuron.0 == layer);
        captured || self.counts.contains_key(&pool)
    }

    fn take(&mut self, place: Place, values: &[f32]) -> Result<()> {
        if let (Pool::Position, Some((layer, neuron))) = (place.pool, self.neuron)
            && layer == place.layer
        {
            self.captured[place.text * self.positions + place.position] = values[neuron];
        }
        let (Some(count), Some(threshold)) =
            (self.counts.get_mut(&place.pool), self.thresholds.get(&place.pool))
        else {
            return Ok(());
        };
        let offset = count.dims.offset(place);
        let threshold = &threshold.values[offset..][..values.len()];
        Ok(count.fires.add(self.labels[place.text], offset, values, threshold)?)
    }
}
