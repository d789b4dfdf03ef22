use std::sync::Arc;

use skn_artifact::TensorBundle;
use skn_artifact::names::top;
use skn_counts::{NeuronPlace, Pool, TopTexts};
use skn_model::LanguageModel;

use crate::error::{ProbingError, Result};
use crate::record::{Metadata, Record, other};
use crate::statistic::{BatchTexts, Row, Statistic, part};

/// Keeps the texts that excite some neurons most: the [`Statistic`] of [`TopTexts`]. Only layers that one of the neurons lies in are
/// read.
#[derive(Clone, Debug)]
pub struct Top {
    neurons: Arc<[NeuronPlace]>,
    texts: TopTexts,
    /// The row of each text of a batch; empty of all.
    rows: Vec<u64>,
}

impl Top {
    /// For neurons of a model.
    ///
    /// # Errors
    /// If there are none, or the model does not have one.
    pub fn new(model: &LanguageModel, pool: Pool, neurons: Vec<NeuronPlace>) -> Result<Self> {
        let widths = &model.config().intermediate_sizes;
        let positions = if pool.is_of_text() { 1 } else { model.prompt_rows() };
        if neurons.is_empty() {
            return Err(ProbingError::mismatch("neurons whose texts are kept", "one at least", 0));
        }
        for neuron in &neurons {
            let NeuronPlace { layer, index, position } = *neuron;
            if widths.get(layer).is_none_or(|&width| index >= width) || position >= positions {
                let expected = format!(
                    "a layer, an index and a position of the model, {} x {widths:?} x {positions}",
                    widths.len()
                );
                return Err(ProbingError::mismatch(
                    "neuron",
                    expected,
                    format!("{layer},{index} at {position}"),
                ));
            }
        }
        Ok(Self { neurons: neurons.clone().into(), texts: TopTexts::new(pool, neurons), rows: Vec::new() })
    }
}

impl Statistic for Top {
    fn reads(&self, pool: Pool, layer: usize) -> bool {
        pool == self.texts.pool() && self.neurons.iter().any(|neuron| neuron.layer == layer)
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        let none = TopTexts::new(self.texts.pool(), self.neurons.to_vec());
        Ok(Box::new(Self { neurons: self.neurons.clone(), texts: none, rows: texts.rows.to_vec() }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        for (number, neuron) in self.neurons.iter().enumerate() {
            if (neuron.layer, neuron.position) == (row.layer, row.position) {
                self.texts.see(number, row.values[neuron.index], self.rows[row.text], row.label);
            }
        }
        Ok(())
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        Ok(self.texts.merge(&part::<Self>(of_batch)?.texts)?)
    }

    fn file(&self, split: &str) -> String {
        top::file(self.texts.pool().name(), split)
    }

    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
        Ok(Box::new(self.texts))
    }
}

impl Record for TopTexts {
    fn merge(&mut self, shard: &dyn Record) -> Result<()> {
        Ok(self.merge(other::<Self>(shard)?)?)
    }

    fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
        Ok(self.to_bundle(metadata)?)
    }
}
