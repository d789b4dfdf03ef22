use serde_json::json;

use super::Config;
use crate::error::{ModelError, Result};

/// The field that says that FFNs have an output bias although the family has none.
pub(super) const OUTPUT_BIAS: &str = "skn_ffn_output_bias";

impl Config {
    /// This configuration with the given neurons kept in each layer (`None`: all of them), by their index now.
    ///
    /// # Errors
    /// If `kept` has not one entry a layer, or an entry is not ascending or names a neuron that is not there.
    pub fn pruned(&self, kept: &[Option<Vec<u32>>]) -> Result<Self> {
        if kept.len() != self.layers() {
            return Err(ModelError::input("kept neurons", format!("{} layers", self.layers()), kept.len()));
        }
        let layers = kept.iter().zip(&self.intermediate_sizes).enumerate();
        let original = layers.map(|(layer, (kept, &width))| self.compose_kept(layer, width, kept.as_deref()));
        let original = original.collect::<Result<Vec<_>>>()?;
        let sizes = original.iter().zip(&self.intermediate_sizes);
        let sizes: Vec<usize> = sizes.map(|(kept, &width)| kept.as_ref().map_or(width, Vec::len)).collect();
        let mut config = self.clone();
        config.raw.insert("skn_intermediate_sizes".into(), json!(sizes));
        config.raw.insert("skn_kept_neurons".into(), json!(original));
        if !config.architecture.biases.ffn_out {
            // What the removed neurons are held at goes into a bias, which the family lacks.
            config.raw.insert(OUTPUT_BIAS.into(), json!(true));
            config.architecture.biases.ffn_out = true;
        }
        config.intermediate_sizes = sizes;
        config.kept_neurons = Some(original);
        Ok(config)
    }

    /// Neurons `kept` of a layer, which has `width` now, named as they were before any pruning.
    fn compose_kept(&self, layer: usize, width: usize, kept: Option<&[u32]>) -> Result<Option<Vec<u32>>> {
        let earlier = self.kept_neurons.as_ref().and_then(|layers| layers.get(layer)?.clone());
        let Some(kept) = kept else { return Ok(earlier) };
        let wrong = || {
            let expected = format!("ascending indexes below {width}");
            ModelError::input(format!("kept neurons of layer {layer}"), expected, format!("{kept:?}"))
        };
        let ascending = kept.is_sorted_by(|one, next| one < next);
        if !ascending || kept.last().is_some_and(|&last| last as usize >= width) {
            return Err(wrong());
        }
        let Some(earlier) = earlier else { return Ok(Some(kept.to_vec())) };
        let names = kept.iter().map(|&index| earlier.get(index as usize).copied());
        names.collect::<Option<_>>().map(Some).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{golden, parse};

    #[test]
    fn pruning_twice_keeps_the_original_indexes() {
        let config = parse(&golden()).unwrap();
        let once = config.pruned(&[None, Some(vec![3, 5, 9]), None, None]).unwrap();
        let twice = once.pruned(&[None, Some(vec![0, 2]), None, Some(vec![])]).unwrap();
        assert_eq!(twice.intermediate_sizes, [160, 2, 160, 0]);
        assert_eq!(twice.kept_neurons.as_ref().unwrap()[1], Some(vec![3, 9]));
        assert_eq!(parse(&serde_json::from_slice(&twice.to_json()).unwrap()).unwrap(), twice);
        assert!(config.pruned(&[None, Some(vec![160]), None, None]).is_err());
        assert!(config.pruned(&[None, Some(vec![2, 1]), None, None]).is_err());
    }
}
