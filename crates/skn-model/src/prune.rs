use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use candle_core::{Device, Tensor};
use skn_kernels::zeros_on;

use crate::architecture::{LayerPart, Module, Part, Piece};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::weights::Weights;

/// What pruning does to one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCut {
    /// Neurons that stay, ascending.
    pub kept: Vec<u32>,
    /// For every neuron of the layer the value folded into the output bias: the mean activation of a removed one. What
    /// stands at a kept neuron is added too, so it is 0, except in the published implementation's variant.
    pub folded: Vec<f32>,
}

impl LayerCut {
    /// Keeps `kept` and holds every other neuron at its value in `means` `[width]`.
    ///
    /// # Errors
    /// If `kept` is not ascending or names a neuron that is not there.
    pub fn hold_others(kept: Vec<u32>, means: &[f32]) -> Result<Self> {
        let ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || kept.last().is_some_and(|&last| last as usize >= means.len()) {
            let expected = format!("ascending indexes below {}", means.len());
            return Err(ModelError::input("kept neurons", expected, format!("{kept:?}")));
        }
        let mut folded = means.to_vec();
        for &neuron in &kept {
            folded[neuron as usize] = 0.0;
        }
        Ok(Self { kept, folded })
    }

    /// As [`Self::hold_others`], but folds the means of the kept neurons too, as the published implementation does.
    ///
    /// # Errors
    /// As [`Self::hold_others`].
    pub fn fold_all(kept: Vec<u32>, means: &[f32]) -> Result<Self> {
        Ok(Self { folded: means.to_vec(), ..Self::hold_others(kept, means)? })
    }
}

/// How a pruned model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrunedForm {
    /// Removed neurons are gone: small and fast.
    Narrow,
    /// Removed neurons stay with an output weight of 0: the same function at full width, which every program that
    /// reads such models can run.
    Dense,
    /// Removed neurons are gone, as many in each layer: transformers loads the model without code of ours, and answers the same.
    Uniform,
}

impl PrunedForm {
    /// Whether a model can be written in this form at all.
    ///
    /// # Errors
    /// If the form is for transformers, whose FFN has no bias in this family; or it is dense, and the model has layers of several
    /// widths.
    pub fn check(self, config: &Config) -> Result<()> {
        match self {
            Self::Narrow => Ok(()),
            Self::Dense => config.dense().map(drop),
            Self::Uniform => config.with_ffn_biases().map(drop),
        }
    }

    /// The configuration of a model that is pruned to `kept`.
    fn config(self, config: &Config, kept: &[Option<Vec<u32>>]) -> Result<Config> {
        match self {
            Self::Narrow => config.pruned(kept),
            Self::Dense => config.pruned(kept).and_then(|_| config.dense()),
            Self::Uniform => config.uniform(kept),
        }
    }
}

/// Removes neurons of a model: the outputs of the first FFN matrix (of a gated one's two), the inputs of the second, and
/// `b' = b + W_out . folded` for the output bias, which a model that has none gets. `cuts` has one entry a layer, `None` for a layer
/// left whole.
///
/// # Errors
/// If an entry does not fit its layer, the model can't have the form ([`PrunedForm::check`]), or layers of the uniform one
/// would differ.
pub fn prune(
    config: &Config,
    weights: &Weights,
    cuts: &[Option<LayerCut>],
    form: PrunedForm,
) -> Result<(Config, Weights)> {
    let kept: Vec<_> = cuts.iter().map(|cut| cut.as_ref().map(|cut| cut.kept.clone())).collect();
    let pruned = form.config(config, &kept)?;
    let mut tensors = weights.to_tensors()?;
    for (layer, cut) in cuts.iter().enumerate() {
        if let Some(cut) = cut {
            Cutting { config, weights, layer, cut, form }.cut(&mut tensors)?;
        }
        add_biases(&pruned, layer, weights.device(), &mut tensors)?;
    }
    let weights = Weights::from_tensors(&pruned, tensors)?;
    Ok((pruned, weights))
}

/// The biases of a layer's FFN that nothing is folded into: a layer left whole gets what its neighbours need, and a gate what
/// transformers has only together with the other biases.
fn add_biases(
    config: &Config,
    layer: usize,
    device: &Device,
    tensors: &mut BTreeMap<String, Tensor>,
) -> Result<()> {
    let parts = [LayerPart::Gate, LayerPart::Up, LayerPart::Down];
    for module in parts.into_iter().filter_map(|part| config.module(Part::Layer(layer, part))) {
        let bias = module.bias();
        for (name, shape) in module.tensors().filter(|(name, _)| *name == bias) {
            if let Entry::Vacant(place) = tensors.entry(name) {
                place.insert(zeros_on(shape, device)?);
            }
        }
    }
    Ok(())
}

/// A layer that is cut.
struct Cutting<'a> {
    config: &'a Config,
    weights: &'a Weights,
    layer: usize,
    cut: &'a LayerCut,
    form: PrunedForm,
}

impl Cutting<'_> {
    fn module(&self, part: LayerPart) -> Result<Module> {
        let module = self.config.module(Part::Layer(self.layer, part));
        module.ok_or_else(|| {
            ModelError::input(format!("{part:?} of layer {}", self.layer), "a matrix", "nothing")
        })
    }

    fn cut(&self, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let (up, down) = (self.module(LayerPart::Up)?, self.module(LayerPart::Down)?);
        let stored = self.weights.get(&down.weight())?;
        let output = if down.transposed { stored.t()?.contiguous()? } else { stored.clone() };
        let (_, width) = output.dims2()?;
        if self.cut.folded.len() != width {
            return Err(ModelError::input(format!("means of {}", up.name), width, self.cut.folded.len()));
        }
        let device = output.device();
        let rows = output.to_vec2::<f32>()?;
        let bias = match down.has_bias() {
            true => self.weights.get(&down.bias())?.to_vec1::<f32>()?,
            false => vec![0.0; rows.len()],
        };
        let bias = rows.iter().zip(bias).map(|(row, bias)| fold(row, bias, &self.cut.folded));
        tensors.insert(down.bias(), Tensor::new(bias.collect::<Vec<f32>>(), device)?);
        let inputs = usize::from(!down.transposed);
        if self.form == PrunedForm::Dense {
            let mut keep = vec![0f32; width];
            self.cut.kept.iter().for_each(|&neuron| keep[neuron as usize] = 1.0);
            let keep = Tensor::new(keep, device)?.unsqueeze(1 - inputs)?;
            tensors.insert(down.weight(), stored.broadcast_mul(&keep)?);
            return Ok(());
        }
        tensors.insert(down.weight(), self.taken(&stored, inputs, 1)?);
        let gate = self.config.module(Part::Layer(self.layer, LayerPart::Gate));
        for module in gate.into_iter().chain([up]) {
            // Gate and what it lets through may lie in one matrix.
            let blocks = match module.piece {
                Piece::Outputs { of, .. } => of / width.max(1),
                Piece::Whole | Piece::Heads { .. } => 1,
            };
            let weight = self.weights.get(&module.weight())?;
            tensors.insert(module.weight(), self.taken(&weight, usize::from(module.transposed), blocks)?);
            if module.has_bias() {
                let bias = self.weights.get(&module.bias())?;
                tensors.insert(module.bias(), self.taken(&bias, 0, blocks)?);
            }
        }
        Ok(())
    }

    /// The neurons that stay, of a tensor that has them along a dimension, in so many blocks.
    fn taken(&self, tensor: &Tensor, dimension: usize, blocks: usize) -> Result<Tensor> {
        let width = self.cut.folded.len();
        let kept = (0..blocks)
            .flat_map(|block| self.cut.kept.iter().map(move |&neuron| (block * width) as u32 + neuron));
        let kept: Vec<u32> = kept.collect();
        if kept.is_empty() {
            let mut shape = tensor.dims().to_vec();
            shape[dimension] = 0;
            return Ok(zeros_on(shape, tensor.device())?);
        }
        Ok(tensor.contiguous()?.index_select(&Tensor::new(kept, tensor.device())?, dimension)?)
    }
}

/// `bias + row . folded`, summed in f64.
fn fold(row: &[f32], bias: f32, folded: &[f32]) -> f32 {
    let sum: f64 = row.iter().zip(folded).map(|(&weight, &value)| f64::from(weight) * f64::from(value)).sum();
    (f64::from(bias) + sum) as f32
}
