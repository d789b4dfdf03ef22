use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use candle_core::Tensor;
use skn_counts::{Performance, Pool};
use skn_data::Encoded;
use skn_kernels::{ColumnCounts, Misfit};
use skn_model::LanguageModel;
use skn_stats::FireAccumulator;

use crate::average::check_same;
use crate::collect::collect;
use crate::error::{ProbingError, Result};
use crate::pass::PassOptions;
use crate::positions::{Capture, Positions};
use crate::record::Record;
use crate::shared::{Shared, Spare};
use crate::statistic::{BatchTexts, Block, Row, Statistic, TakeBlocks, part};
use crate::threshold::Threshold;
use crate::watch::Dims;

/// For how many texts of each class every neuron's activation was above its threshold.
#[derive(Clone, Debug)]
pub struct Count {
    threshold: Arc<Threshold>,
    widths: Vec<usize>,
    fires: FireAccumulator,
    on_device: Shared<OnDevice>,
    spare: Spare<FireAccumulator>,
}

/// Of a layer.
struct OnDevice {
    threshold: Tensor,
    counts: ColumnCounts,
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
        let (fires, threshold) =
            (FireAccumulator::new(dims.elements(), classes)?, Arc::new(threshold.clone()));
        Ok(Self { threshold, widths, fires, on_device: Shared::default(), spare: Spare::default() })
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
        let mut fires = FireAccumulator::new(0, self.fires.classes())?;
        texts.labels.iter().try_for_each(|&label| fires.add_row_label(label))?;
        let (threshold, widths, on_device) =
            (self.threshold.clone(), self.widths.clone(), self.on_device.share());
        Ok(Box::new(Self { fires, threshold, widths, on_device, spare: self.spare.share() }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        if self.fires.neurons() == 0 {
            // The first row of a part.
            let mut whole = match self.spare.take() {
                Some(used) => used,
                None => FireAccumulator::new(self.threshold.dims.elements(), self.fires.classes())?,
            };
            whole.clear();
            whole.merge_texts(&self.fires)?;
            self.fires = whole;
        }
        let offset = self.threshold.dims.offset(row);
        let threshold = &self.threshold.values[offset..][..row.values.len()];
        Ok(self.fires.add(row.label, offset, row.values, threshold)?)
    }

    fn blocks(&mut self) -> Option<&mut dyn TakeBlocks> {
        Some(self)
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        let part: Self = part(of_batch)?;
        match part.fires.neurons() {
            // No row was taken here.
            0 => Ok(self.fires.merge_texts(&part.fires)?),
            _ => {
                self.merge(&part)?;
                self.spare.keep(part.fires);
                Ok(())
            }
        }
    }

    fn file(&self, split: &str) -> String {
        self.pool().performance_file(split)
    }

    fn into_record(mut self: Box<Self>) -> Result<Box<dyn Record>> {
        self.finish()?;
        Ok(Box::new(self.performance()?))
    }
}

impl TakeBlocks for Count {
    fn take_block(&mut self, block: &Block<'_>, misfit: &mut Misfit) -> Result<()> {
        let mut layers = self.on_device.lock();
        let of_layer = match layers.entry(block.layer) {
            Entry::Occupied(of_layer) => of_layer.into_mut(),
            Entry::Vacant(place) => {
                let (shape, device) = ([block.rows.groups(), block.values.dim(1)?], block.values.device());
                place.insert(OnDevice {
                    threshold: self.threshold.on_device(block.layer, shape, device)?,
                    counts: ColumnCounts::new(self.fires.classes(), shape, device)?,
                })
            }
        };
        Ok(of_layer.counts.add(block.values, block.rows, &of_layer.threshold, misfit)?)
    }

    fn finish(&mut self) -> Result<()> {
        for (layer, OnDevice { counts, .. }) in self.on_device.take() {
            let ([positions, width], counts) = (counts.shape(), counts.counts()?);
            for (place, counts) in counts.chunks_exact(width.max(1)).enumerate() {
                let (class, position) = (place / positions, place % positions);
                self.fires.add_counts(class, self.threshold.dims.place(layer, position), counts)?;
            }
        }
        Ok(())
    }
}
