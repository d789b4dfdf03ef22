use std::sync::Arc;

use skn_artifact::TensorBundle;
use skn_artifact::names::top;
use skn_counts::{NeuronPlace, Pool, TopTexts};
use skn_kernels::{ColumnNumbers, Misfit};
use skn_model::LanguageModel;

use crate::error::{ProbingError, Result};
use crate::picked::Picked;
use crate::record::{Metadata, Record, other};
use crate::shared::Shared;
use crate::statistic::{BatchTexts, Block, Row, Statistic, TakeBlocks, part};

/// Keeps the texts that excite some neurons most: the [`Statistic`] of [`TopTexts`]. Only layers that one of the neurons lies in are
/// read.
#[derive(Clone, Debug)]
pub struct Top {
    neurons: Arc<[NeuronPlace]>,
    texts: TopTexts,
    /// The row of each text of a batch and its class; empty of all.
    rows: Vec<(u64, usize)>,
    /// Activations that are still on a device, by layer.
    picked: Vec<(usize, Picked)>,
    columns: Shared<ColumnNumbers>,
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
        let texts = TopTexts::new(pool, neurons.clone());
        Ok(Self {
            neurons: neurons.into(),
            texts,
            rows: Vec::new(),
            picked: Vec::new(),
            columns: Shared::default(),
        })
    }

    /// The numbers of the neurons of a layer.
    fn of_layer(&self, layer: usize) -> impl Iterator<Item = (usize, &NeuronPlace)> {
        self.neurons.iter().enumerate().filter(move |(_, neuron)| neuron.layer == layer)
    }

    /// Takes what is still on a device.
    fn unpack(&mut self) -> Result<()> {
        for (layer, picked) in std::mem::take(&mut self.picked) {
            let numbers: Vec<(usize, usize)> =
                self.of_layer(layer).map(|(number, neuron)| (number, neuron.position)).collect();
            let (texts, rows) = (&mut self.texts, &self.rows);
            picked.each(|position, text, activations| {
                for ((number, wanted), activation) in numbers.iter().zip(activations) {
                    if *wanted == position {
                        let (row, class) = rows[text];
                        texts.see(*number, *activation, row, class);
                    }
                }
            })?;
        }
        Ok(())
    }
}

impl Statistic for Top {
    fn reads(&self, pool: Pool, layer: usize) -> bool {
        pool == self.texts.pool() && self.neurons.iter().any(|neuron| neuron.layer == layer)
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        let none = TopTexts::new(self.texts.pool(), self.neurons.to_vec());
        Ok(Box::new(Self {
            neurons: self.neurons.clone(),
            texts: none,
            rows: texts.rows.iter().copied().zip(texts.labels.iter().copied()).collect(),
            picked: Vec::new(),
            columns: self.columns.share(),
        }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        for (number, neuron) in self.neurons.iter().enumerate() {
            if (neuron.layer, neuron.position) == (row.layer, row.position) {
                self.texts.see(number, row.values[neuron.index], self.rows[row.text].0, row.label);
            }
        }
        Ok(())
    }

    fn blocks(&mut self) -> Option<&mut dyn TakeBlocks> {
        Some(self)
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        let mut of_batch: Self = part(of_batch)?;
        of_batch.unpack()?;
        Ok(self.texts.merge(&of_batch.texts)?)
    }

    fn file(&self, split: &str) -> String {
        top::file(self.texts.pool().name(), split)
    }

    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
        Ok(Box::new(self.texts))
    }
}

impl TakeBlocks for Top {
    /// The activations of these neurons alone come to the host, when the batch is done.
    fn take_block(&mut self, block: &Block<'_>, misfit: &mut Misfit) -> Result<()> {
        let columns = {
            let indexes = self.of_layer(block.layer).map(|(_, neuron)| neuron.index as u32).collect();
            self.columns.lock().entry(block.layer).or_insert_with(|| ColumnNumbers::new(indexes)).clone()
        };
        self.picked.push((block.layer, Picked::of(block, &columns, misfit)?));
        Ok(())
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
