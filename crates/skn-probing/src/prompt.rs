use candle_core::Tensor;
use skn_artifact::names::kind;
use skn_artifact::{Array, TensorBundle};
use skn_data::Batch;
use skn_model::{Hook, LanguageModel, NeuronSite, Output, Reads, Rows, Site};

use crate::error::{ProbingError, Result};
use crate::pass::forward;
use crate::record::{Metadata, described};

/// The activations of all neurons at the answer row with an empty text, `[L, F]`, row-major; 0 where a pruned layer has no
/// neuron. `site` says which number of a neuron is read, and `empty_text` is what stands around a text, such as `<s></s>`, as token ids.
///
/// # Errors
/// If the text does not fit into the model, or an activation is not finite.
pub fn prompt_activations(model: &LanguageModel, empty_text: &[u32], site: NeuronSite) -> Result<Vec<f32>> {
    let end = empty_text.len();
    let batch = Batch {
        ids: empty_text.to_vec(),
        starts: vec![0, end],
        seconds: vec![end],
        labels: vec![0],
        rows: vec![0],
        places: vec![0],
    };
    let width = model.config().widest();
    let mut hook = AnswerRow { site, width, activations: vec![0.0; model.config().layers() * width] };
    forward(model, &batch, Output::Nothing, &mut hook)?;
    match hook.activations.iter().position(|value| !value.is_finite()) {
        None => Ok(hook.activations),
        Some(place) => {
            let (layer, neuron, found) = (place / width, place % width, hook.activations[place]);
            Err(ProbingError::Activation { row: 0, layer, position: 0, neuron, found })
        }
    }
}

/// Copies the answer's row of every layer.
struct AnswerRow {
    site: NeuronSite,
    width: usize,
    activations: Vec<f32>,
}

impl Hook for AnswerRow {
    fn reads(&self, site: Site) -> Reads {
        if site == self.site.at(site.layer()) { Reads::Answer } else { Reads::Nothing }
    }

    fn on(&mut self, site: Site, rows: &Rows<'_>, x: Tensor) -> skn_model::Result<Tensor> {
        let answer = rows.place().position(|place| place.is_answer).unwrap_or(0);
        let row = x.get(answer)?.to_vec1::<f32>()?;
        self.activations[site.layer() * self.width..][..row.len()].copy_from_slice(&row);
        Ok(x)
    }
}

/// The file `prompt_activation`: `activation` `[samples, L, F]`, one sample for each prompt probed.
///
/// # Errors
/// If a sample has not `layers * neurons` values.
pub fn prompt_activation_bundle(
    samples: &[Vec<f32>],
    [layers, neurons]: [usize; 2],
    metadata: &Metadata,
) -> Result<TensorBundle> {
    let expected = layers.checked_mul(neurons);
    if let Some(sample) = samples.iter().find(|sample| Some(sample.len()) != expected) {
        let expected = format!("{layers} x {neurons} values");
        return Err(ProbingError::mismatch("prompt activation", expected, sample.len()));
    }
    let mut bundle = described(kind::PROMPT_ACTIVATION, metadata);
    bundle.insert("activation", Array::f32(vec![samples.len(), layers, neurons], samples.concat())?);
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_must_have_the_shape() {
        let bundle =
            prompt_activation_bundle(&[vec![1.0, 2.0], vec![3.0, 4.0]], [1, 2], &Metadata::new()).unwrap();
        assert_eq!(bundle.tensors()["activation"].shape(), [2, 1, 2]);
        assert!(prompt_activation_bundle(&[vec![1.0]], [1, 2], &Metadata::new()).is_err());
        assert!(prompt_activation_bundle(&[vec![1.0]], [usize::MAX, 2], &Metadata::new()).is_err());
    }
}
