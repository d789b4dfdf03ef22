use std::ops::Range;

use crate::edit::Edit;
use crate::error::{PerturbError, Result};

/// An [`Edit`] and the neurons that it is done to, checked against the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Perturbation {
    edit: Edit,
    neurons: Vec<Vec<u32>>,
    widths: Vec<usize>,
    repeat: u64,
}

impl Perturbation {
    /// Edits `neurons` of each layer (none in a layer that is to be left alone). `widths` are the model's FFN widths,
    /// [`Config::intermediate_sizes`](skn_model::Config::intermediate_sizes). The repeat is 0.
    ///
    /// # Errors
    /// If a neuron is not in the model, values are missing or not finite, or alpha is below 0.
    pub fn new(edit: Edit, mut neurons: Vec<Vec<u32>>, widths: &[usize]) -> Result<Self> {
        if neurons.len() != widths.len() {
            return Err(PerturbError::Layers {
                what: "neurons",
                expected: widths.len(),
                found: neurons.len(),
            });
        }
        for (layer, (neurons, &width)) in neurons.iter_mut().zip(widths).enumerate() {
            neurons.sort_unstable();
            neurons.dedup();
            if let Some(&neuron) = neurons.last().filter(|&&last| last as usize >= width) {
                return Err(PerturbError::Neuron { layer, neuron, width });
            }
        }
        edit.check(widths)?;
        Ok(Self { edit, neurons, widths: widths.to_vec(), repeat: 0 })
    }

    /// What changes nothing: the model as it is, to stand beside perturbations of it.
    pub fn nothing(widths: &[usize]) -> Self {
        Self { edit: Edit::Zero, neurons: vec![Vec::new(); widths.len()], widths: widths.to_vec(), repeat: 0 }
    }

    /// The same edit with the noise of another repeat.
    pub fn repeat(self, repeat: u64) -> Self {
        Self { repeat, ..self }
    }

    /// The same edit in these layers only.
    pub fn within(mut self, layers: Range<usize>) -> Self {
        for (layer, neurons) in self.neurons.iter_mut().enumerate() {
            if !layers.contains(&layer) {
                neurons.clear();
            }
        }
        self
    }

    /// What is done.
    pub fn edit(&self) -> &Edit {
        &self.edit
    }

    /// The neurons of each layer that it is done to, ascending.
    pub fn neurons(&self) -> &[Vec<u32>] {
        &self.neurons
    }

    /// The repeat that the noise is drawn for.
    pub fn repeat_number(&self) -> u64 {
        self.repeat
    }

    /// `found`, if that is the width the layer was said to have: values for another width are values for another model.
    pub(crate) fn check_width(&self, layer: usize, found: usize) -> Result<usize> {
        match self.widths.get(layer) {
            Some(&width) if width == found => Ok(found),
            width => {
                let what = format!("activations of layer {layer}");
                let expected = width.map_or_else(|| "no".to_owned(), ToString::to_string);
                Err(PerturbError::Length { what, expected, found })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neurons_are_checked_and_sorted() {
        let new = |neurons: Vec<Vec<u32>>| Perturbation::new(Edit::Zero, neurons, &[4, 3]);
        assert_eq!(new(vec![vec![2, 0, 2], vec![]]).unwrap().neurons(), [vec![0, 2], vec![]]);
        let error = new(vec![vec![3], vec![3]]).unwrap_err();
        assert_eq!(error, PerturbError::Neuron { layer: 1, neuron: 3, width: 3 });
        assert!(matches!(new(vec![vec![]]), Err(PerturbError::Layers { expected: 2, found: 1, .. })));
    }

    #[test]
    fn layers_outside_the_range_are_left_alone() {
        let all = vec![vec![0], vec![1], vec![2]];
        let perturbation = Perturbation::new(Edit::Zero, all, &[3, 3, 3]).unwrap().within(1..2);
        assert_eq!(perturbation.neurons(), [vec![], vec![1], vec![]]);
    }
}
