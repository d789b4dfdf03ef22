use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::architecture::{LayerPart, Module, Part};
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
}

/// Removes neurons of a model: the rows of the first FFN matrix, the columns of the second, and
/// `b' = b + W_out . folded` for the output bias. `cuts` has one entry a layer, `None` for a layer left whole.
///
/// # Errors
/// If an entry does not fit its layer.
pub fn prune(
    config: &Config,
    weights: &Weights,
    cuts: &[Option<LayerCut>],
    form: PrunedForm,
) -> Result<(Config, Weights)> {
    let kept: Vec<_> = cuts.iter().map(|cut| cut.as_ref().map(|cut| cut.kept.clone())).collect();
    let narrow = config.pruned(&kept)?;
    let mut tensors = weights.to_tensors()?;
    for (layer, cut) in cuts.iter().enumerate() {
        if let Some(cut) = cut {
            let [up, down] =
                [LayerPart::Up, LayerPart::Down].map(|part| config.module(Part::Layer(layer, part)));
            if let (Some(up), Some(down)) = (up, down) {
                cut_layer(&mut tensors, weights, [&up, &down], cut, form)?;
            }
        }
    }
    let config = if form == PrunedForm::Narrow { narrow } else { config.clone() };
    let weights = Weights::from_tensors(&config, tensors)?;
    Ok((config, weights))
}

fn cut_layer(
    tensors: &mut BTreeMap<String, Tensor>,
    weights: &Weights,
    [up, down]: [&Module; 2],
    cut: &LayerCut,
    form: PrunedForm,
) -> Result<()> {
    let output = weights.get(&down.weight())?;
    let (hidden, width) = output.dims2()?;
    if cut.folded.len() != width {
        return Err(ModelError::input(format!("means of {}", up.name), width, cut.folded.len()));
    }
    let device = output.device();
    let rows = output.to_vec2::<f32>()?;
    let bias = weights.get(&down.bias())?.to_vec1::<f32>()?;
    let bias: Vec<f32> = rows.iter().zip(bias).map(|(row, bias)| fold(row, bias, &cut.folded)).collect();
    tensors.insert(down.bias(), Tensor::new(bias, device)?);
    if form == PrunedForm::Dense {
        let mut keep = vec![0f32; width];
        cut.kept.iter().for_each(|&neuron| keep[neuron as usize] = 1.0);
        tensors.insert(down.weight(), output.broadcast_mul(&Tensor::new(keep, device)?)?);
        return Ok(());
    }
    for part in [up.weight(), up.bias()] {
        let tensor = weights.get(&part)?;
        let shape = tensor.dims().iter().skip(1);
        let shape: Vec<usize> = std::iter::once(cut.kept.len()).chain(shape.copied()).collect();
        let values = tensor.to_device(&candle_core::Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let stride = values.len() / width;
        let kept = cut.kept.iter().flat_map(|&neuron| &values[neuron as usize * stride..][..stride]).copied();
        tensors.insert(part, Tensor::from_vec(kept.collect::<Vec<_>>(), shape, device)?);
    }
    let columns = rows.iter().flat_map(|row| cut.kept.iter().map(|&neuron| row[neuron as usize]));
    let columns = Tensor::from_vec(columns.collect::<Vec<_>>(), (hidden, cut.kept.len()), device)?;
    tensors.insert(down.weight(), columns);
    Ok(())
}

/// `bias + row . folded`, summed in f64.
fn fold(row: &[f32], bias: f32, folded: &[f32]) -> f32 {
    let sum: f64 = row.iter().zip(folded).map(|(&weight, &value)| f64::from(weight) * f64::from(value)).sum();
    (f64::from(bias) + sum) as f32
}
