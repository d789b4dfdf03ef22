use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Device, Tensor};
use skn_model::{
    Config, Gradients, LanguageModel, LayerCut, PrunedForm, Result, Tuning, Weights, prune, shapes,
};
use skn_random::{Key, Purpose};

/// Hidden width, heads, FFN width and layers of RoBERTa-base.
const BASE: [usize; 4] = [768, 12, 3072, 12];

/// Entries of the vocabulary: RoBERTa-base has 50265, which would take another 139 MB. No time depends on it, because
/// embeddings are looked up and of the decoder only the [`VERBALIZER`]'s rows are multiplied.
pub const VOCABULARY: usize = 5000;

/// The `<mask>` token: the last one, as in RoBERTa.
pub const MASK: u32 = VOCABULARY as u32 - 1;

/// The tokens that answer for the two classes.
pub const VERBALIZER: [u32; 2] = [100, 200];

/// The layers that pruning cuts, from 0: skill neurons sit in the upper ones.
pub const CUT_LAYERS: Range<usize> = 3..12;

/// Neurons left in a cut layer: 2 % of 3072.
pub const PRUNED_NEURONS: usize = 61;

/// Shape and weights of a model, without a tuning in it.
#[derive(Clone, Debug)]
pub struct Backbone {
    /// The shape.
    pub config: Config,
    /// The weights.
    pub weights: Weights,
}

impl Backbone {
    /// RoBERTa-base's shape with uniform weights of standard deviation 0.02, its own initial one, and LayerNorms that
    /// scale by 1.
    ///
    /// # Errors
    /// Does not fail.
    pub fn base() -> Result<Self> {
        Self::of(VOCABULARY, BASE)
    }

    /// The same of another shape: hidden width, heads, FFN width and layers.
    ///
    /// # Errors
    /// If the heads do not divide the hidden width.
    pub fn of(vocabulary: usize, sizes: [usize; 4]) -> Result<Self> {
        let config = Config::new(vocabulary, sizes, 514)?;
        let mut tensors = BTreeMap::new();
        for (index, (name, shape)) in shapes(&config).into_iter().enumerate() {
            let is_scale = name.ends_with("orm.weight");
            let values = if is_scale { vec![1.0; shape.iter().product()] } else { uniform(index, &shape) };
            tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        let weights = Weights::from_tensors(&config, tensors)?;
        Ok(Self { config, weights })
    }

    /// The same with `neurons` random neurons left in each of the [`CUT_LAYERS`], the others held at a mean.
    ///
    /// # Errors
    /// If there are not so many neurons.
    pub fn pruned(&self, neurons: usize) -> Result<Self> {
        let width = self.config.intermediate_size;
        let cut = |layer: usize| {
            let mut rng = Key::new(0, Purpose::Control).layer(layer as u32).rng();
            let kept = rng.choose(width, neurons).into_iter().map(|neuron| neuron as u32);
            LayerCut::hold_others(kept.collect(), &vec![0.05; width])
        };
        let cuts = (0..self.config.layers()).map(|layer| CUT_LAYERS.contains(&layer).then(|| cut(layer)));
        let cuts = cuts.map(Option::transpose).collect::<Result<Vec<_>>>()?;
        let (config, weights) = prune(&self.config, &self.weights, &cuts, PrunedForm::Narrow)?;
        Ok(Self { config, weights })
    }

    /// The model with `tuning` in it.
    ///
    /// # Errors
    /// If the tuning is of another shape.
    pub fn model(&self, tuning: &Tuning, gradients: Gradients) -> Result<LanguageModel> {
        LanguageModel::new(&self.config, &self.weights, tuning, MASK, gradients)
    }

    /// The frozen model with a random prompt of `rows` rows, the `<mask>` row counted.
    ///
    /// # Errors
    /// If the prompt does not fit into the model.
    pub fn prompted(&self, rows: usize) -> Result<LanguageModel> {
        self.model(&Tuning::new_prompt(&self.config, rows, 0)?, Gradients::Nothing)
    }
}

/// Numbers with mean 0 and standard deviation 0.02, other ones for each tensor of the model.
fn uniform(tensor: usize, shape: &[usize]) -> Vec<f32> {
    let mut rng = Key::new(0, Purpose::WeightInit).layer(tensor as u32).rng();
    let reach = 0.02 * 3f32.sqrt();
    let next = || (rng.next_u32() >> 8) as f32 / (1u32 << 23) as f32 * reach - reach;
    std::iter::repeat_with(next).take(shape.iter().product()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_right_spread() {
        let values = uniform(3, &[100, 100]);
        let mean = values.iter().sum::<f32>() / 1e4;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / 1e4;
        assert!(mean.abs() < 1e-3 && (variance.sqrt() - 0.02).abs() < 1e-3, "{mean}, {variance}");
        assert_ne!(values, uniform(4, &[100, 100]));
    }
}
