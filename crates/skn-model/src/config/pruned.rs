use serde_json::json;

use super::Config;
use super::sizes::SizeNames;
use crate::error::{ModelError, Result};
use crate::family::Family;

/// The field that says that FFNs have an output bias although the family has none.
pub(super) const OUTPUT_BIAS: &str = "skn_ffn_output_bias";

/// The field that says how wide every layer was before all were pruned to one width.
pub(super) const FULL_WIDTH: &str = "skn_full_intermediate_size";

const WIDTHS: &str = "skn_intermediate_sizes";

/// Whether the matrices of an FFN have biases in transformers.
enum FfnBiases {
    Always,
    /// All of them or none, as this field says.
    AsSaid(&'static str),
    Never,
}

impl FfnBiases {
    fn of(family: Family) -> Self {
        match family {
            Family::Roberta | Family::Bert | Family::GptNeox | Family::Gpt2 => Self::Always,
            Family::Llama | Family::ModernBert => Self::AsSaid("mlp_bias"),
            Family::Mistral
            | Family::Qwen2
            | Family::Qwen3
            | Family::Gemma2
            | Family::Gemma3
            | Family::Olmo2 => Self::Never,
        }
    }
}

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
        config.raw.insert(WIDTHS.into(), json!(sizes));
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

    /// As [`Self::pruned`], where as many neurons are kept in each layer, so that transformers has such a model: its width is the
    /// family's own field, and what the removed neurons are held at goes into a bias that transformers has too.
    ///
    /// # Errors
    /// As [`Self::pruned`]; if layers differ, keep nothing, or the family's FFN has no bias in transformers.
    pub fn uniform(&self, kept: &[Option<Vec<u32>>]) -> Result<Self> {
        let mut config = self.pruned(kept)?.with_ffn_biases()?;
        let width = match config.intermediate_sizes.first() {
            Some(&width) if width > 0 && config.intermediate_sizes.iter().all(|&other| other == width) => {
                width
            }
            _ => {
                let found = format!("{:?}", config.intermediate_sizes);
                return Err(ModelError::input("uniform form", "one width of all layers, from 1 on", found));
            }
        };
        config.raw.remove(WIDTHS);
        config.raw.insert(SizeNames::of(config.family).width.into(), json!(width));
        config.raw.insert(FULL_WIDTH.into(), json!(config.intermediate_size));
        Ok(config)
    }

    /// This configuration at its own width, as transformers reads it, with biases of the FFN that hold something.
    ///
    /// # Errors
    /// If layers differ in their width, or the family's FFN has no bias in transformers.
    pub(crate) fn dense(&self) -> Result<Self> {
        if self.raw.contains_key(WIDTHS) {
            let expected = "a model of one width, which transformers knows";
            let found = format!("widths {:?}", self.intermediate_sizes);
            return Err(ModelError::input("dense form", expected, found));
        }
        self.with_ffn_biases()
    }

    /// The same with biases of all matrices of the FFN, as numbers of 32 bits; for transformers.
    ///
    /// # Errors
    /// If the family's FFN has no bias in transformers.
    pub(crate) fn with_ffn_biases(&self) -> Result<Self> {
        let mut config = self.clone();
        match FfnBiases::of(self.family) {
            FfnBiases::Always => {}
            FfnBiases::AsSaid(field) => {
                config.raw.insert(field.into(), json!(true));
                config.raw.remove(OUTPUT_BIAS);
                (config.architecture.biases.ffn_in, config.architecture.biases.ffn_out) = (true, true);
            }
            FfnBiases::Never => {
                let has_some = |family: &Family| !matches!(FfnBiases::of(*family), FfnBiases::Never);
                let types = Family::MODEL_TYPES.iter().filter(|(_, family, _)| has_some(family));
                let types: Vec<_> = types.map(|(name, ..)| *name).collect();
                let expected = format!(
                    "a model whose FFN has biases in transformers, which hold the removed neurons' means ({})",
                    types.join(", ")
                );
                let what = "a form that transformers loads";
                return Err(ModelError::input(
                    what,
                    expected,
                    format!("{}, which has none", self.model_type()),
                ));
            }
        }
        // What is written is F32; transformers would round it to what the original was stored in.
        for field in ["dtype", "torch_dtype"] {
            if let Some(dtype) = config.raw.get_mut(field) {
                *dtype = json!("float32");
            }
        }
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
    use serde_json::json;

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

    #[test]
    fn one_width_is_the_familys_own_field() {
        let mut raw = golden();
        raw.insert("torch_dtype".into(), json!("bfloat16"));
        let config = parse(&raw).unwrap();
        let kept = [vec![3, 5, 9], vec![0, 1, 2], vec![7, 8, 159], vec![1, 2, 4]].map(Some);
        let once = config.uniform(&kept).unwrap();
        let read =
            |config: &crate::Config| parse(&serde_json::from_slice(&config.to_json()).unwrap()).unwrap();
        assert_eq!((read(&once), once.intermediate_size), (once.clone(), 160));
        let text = String::from_utf8(once.to_json()).unwrap();
        assert!(
            text.contains("\"intermediate_size\": 3") && !text.contains("skn_intermediate_sizes"),
            "{text}"
        );
        assert!(text.contains("\"torch_dtype\": \"float32\""), "{text}");
        // Neurons are called as before any pruning, in either form.
        let twice = once.uniform(&[vec![0, 2], vec![1, 2], vec![0, 2], vec![0, 1]].map(Some)).unwrap();
        assert_eq!(twice.kept_neurons.as_ref().unwrap()[2], Some(vec![7, 159]));
        assert_eq!((read(&twice), twice.widest()), (twice.clone(), 2));
        let narrow = twice.pruned(&[None, Some(vec![1]), None, Some(vec![])]).unwrap();
        assert_eq!(read(&narrow).intermediate_sizes, [2, 1, 2, 0]);
        for wrong in
            [[Some(vec![]), Some(vec![]), Some(vec![]), Some(vec![])], [None, Some(vec![1]), None, None]]
        {
            let message = config.uniform(&wrong).unwrap_err().to_string();
            assert!(message.contains("one width of all layers") && message.contains("found ["), "{message}");
        }
        raw = golden();
        raw.insert("skn_full_intermediate_size".into(), json!(159));
        assert!(parse(&raw).unwrap_err().to_string().contains("skn_full_intermediate_size"));
    }
}
