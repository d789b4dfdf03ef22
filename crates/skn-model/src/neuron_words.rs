use crate::architecture::{LayerPart, Part};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::weights::Weights;

/// What each neuron of a layer adds to the hidden state when it fires: its column of the FFN's second matrix, row-major
/// `[neurons, hidden]` (the values of Geva et al. 2021, section 2).
///
/// # Errors
/// If there is no such layer, or the matrix can't be read.
pub fn output_weights(config: &Config, weights: &Weights, layer: usize) -> Result<Vec<f32>> {
    let down = config.module(Part::Layer(layer, LayerPart::Down));
    let down =
        down.ok_or_else(|| ModelError::input("layer", format!("less than {}", config.layers()), layer))?;
    let stored = weights.get(&down.weight())?;
    // As it is stored a neuron is a column, unless the family stores matrices transposed.
    let by_neuron = if down.transposed { stored } else { stored.t()?.contiguous()? };
    Ok(by_neuron.flatten_all()?.to_vec1()?)
}

impl Weights {
    /// The embeddings of all words of the vocabulary, row-major `[words, hidden]`.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn word_embeddings(&self) -> Result<Vec<f32>> {
        let words: Vec<u32> = (0u32..).take(self.table(&self.words())?.len()?).collect();
        Ok(self.table(&self.words())?.rows(&words)?.flatten_all()?.to_vec1()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{Device, Tensor};

    use super::*;
    use crate::shapes::shapes;

    #[test]
    fn weights_are_those_of_the_matrices() {
        let config = Config::new(20, [8, 2, 16, 2], 34).unwrap();
        let tensors: BTreeMap<String, Tensor> = shapes(&config)
            .into_iter()
            .map(|(name, shape)| {
                let count = shape.iter().product::<usize>();
                let values: Vec<f32> = (0..count).map(|place| place as f32).collect();
                (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
            })
            .collect();
        let weights = Weights::from_tensors(&config, tensors).unwrap();
        let found = output_weights(&config, &weights, 1).unwrap();
        // Stored [hidden, neurons] = [8, 16]: neuron 3 has the numbers 3, 19, 35 ..
        assert_eq!(found.len(), 16 * 8);
        assert_eq!(found[3 * 8..3 * 8 + 3], [3.0, 19.0, 35.0]);
        let words = weights.word_embeddings().unwrap();
        assert_eq!((words.len(), words[8]), (20 * 8, 8.0));
        assert!(output_weights(&config, &weights, 2).is_err());
    }
}
