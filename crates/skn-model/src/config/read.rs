use std::path::Path;

use serde_json::{Map, Value, json};
use skn_artifact::parse_json;

use super::Config;
use super::decoders::{gemma, gpt_neox, gpt2, llama_like};
use super::encoders::{bert_like, modern_bert};
use super::fields::Fields;
use super::pruned::{FULL_WIDTH, OUTPUT_BIAS};
use super::sizes::{MAX_VOCABULARY, MAX_WIDTH};
use crate::error::Result;
use crate::family::Family;

/// A model of more parameters is not of this world, and is refused before anything is allocated for it.
const MAX_PARAMETERS: u128 = 1 << 38;

impl Config {
    /// Reads the text of a `config.json`; `file` is named in errors.
    ///
    /// # Errors
    /// If the text is not a JSON object, or a field is missing, of the wrong type or out of range, or says that something is
    /// computed that is not computed here.
    pub fn from_json(bytes: &[u8], file: &Path) -> Result<Self> {
        let raw: Map<String, Value> = parse_json(file, bytes, "a JSON object")?;
        let fields = Fields { raw: &raw, file };
        let family = fields.family()?;
        fields.supported(family)?;
        let (sizes, mut rest) = match family {
            Family::Roberta | Family::Bert => bert_like(&fields, family)?,
            Family::ModernBert => modern_bert(&fields)?,
            Family::Gemma2 | Family::Gemma3 => gemma(&fields, family)?,
            Family::GptNeox => gpt_neox(&fields)?,
            Family::Gpt2 => gpt2(&fields)?,
            Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3 | Family::Olmo2 => {
                llama_like(&fields, family)?
            }
        };
        rest.architecture.biases.ffn_out |= fields.flag(OUTPUT_BIAS, false)?;
        let config = Self {
            family,
            activation: rest.activation,
            vocab_size: fields.integer("vocab_size", 1..=MAX_VOCABULARY)?,
            hidden_size: sizes.hidden,
            num_attention_heads: sizes.heads,
            intermediate_sizes: fields.widths(sizes.layers, sizes.width)?,
            intermediate_size: fields.integer_or(FULL_WIDTH, sizes.width as u64..=MAX_WIDTH, sizes.width)?,
            kept_neurons: fields.kept_neurons()?,
            max_position_embeddings: sizes.positions,
            type_vocab_size: rest.type_vocab_size,
            layer_norm_eps: rest.norm_eps,
            hidden_dropout: rest.hidden_dropout,
            attention_dropout: rest.attention_dropout,
            first_position: rest.first_position,
            architecture: rest.architecture,
            raw: raw.clone(),
        };
        config.check_relations(&fields)?;
        Ok(config)
    }

    /// A new RoBERTa configuration of one FFN width, with its usual dropout of 0.1, for a model to be pre-trained from scratch.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn new(
        vocab_size: usize,
        [hidden_size, heads, intermediate_size, layers]: [usize; 4],
        max_position_embeddings: usize,
    ) -> Result<Self> {
        let json = json!({
            "architectures": ["RobertaForMaskedLM"], "model_type": "roberta", "hidden_act": "gelu",
            "vocab_size": vocab_size, "hidden_size": hidden_size, "num_attention_heads": heads,
            "intermediate_size": intermediate_size, "num_hidden_layers": layers,
            "max_position_embeddings": max_position_embeddings, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
            "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "position_embedding_type": "absolute",
            "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": true,
        });
        Self::from_json(json.to_string().as_bytes(), Path::new("config.json"))
    }

    fn check_relations(&self, fields: &Fields) -> Result<()> {
        if self.max_sequence() == 0 {
            let expected = format!("more than the first position, {}", self.first_position);
            return Err(fields.error("max_position_embeddings", expected, self.max_position_embeddings));
        }
        if self.parameters_exact() > MAX_PARAMETERS {
            let expected = format!("a model of at most {MAX_PARAMETERS} parameters");
            return Err(fields.error("(sizes together)", expected, self.parameters_exact()));
        }
        self.check_kept(fields)
    }

    fn check_kept(&self, fields: &Fields) -> Result<()> {
        let Some(kept) = &self.kept_neurons else { return Ok(()) };
        let fits = |(neurons, &width): (&Option<Vec<u32>>, &usize)| match neurons {
            None => width == self.intermediate_size,
            Some(neurons) => {
                neurons.len() == width
                    && neurons.is_sorted_by(|one, next| one < next)
                    && neurons.last().is_none_or(|&last| (last as usize) < self.intermediate_size)
            }
        };
        if kept.len() == self.layers() && kept.iter().zip(&self.intermediate_sizes).all(fits) {
            return Ok(());
        }
        let expected = "for each layer null or as many ascending indexes as skn_intermediate_sizes says";
        Err(fields.error("skn_kept_neurons", expected, "something else"))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{golden, parse};
    use serde_json::json;

    #[test]
    fn reads_the_golden_configuration() {
        let config = parse(&golden()).unwrap();
        assert_eq!((config.layers(), config.hidden_size, config.widest()), (4, 48, 160));
        assert_eq!(config.max_sequence(), 128);
        assert_eq!(parse(&serde_json::from_slice(&config.to_json()).unwrap()).unwrap(), config);
    }

    #[test]
    fn absurd_numbers_are_refused_by_name() {
        let fields =
            ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"];
        let values = [
            json!(-1),
            json!(0),
            json!(1u64 << 31),
            json!(1u64 << 63),
            json!(1e308),
            json!("12"),
            json!(null),
        ];
        for field in fields.iter().chain(&["max_position_embeddings"]) {
            for value in &values {
                let mut raw = golden();
                raw.insert(field.to_string(), value.clone());
                let message = parse(&raw).unwrap_err().to_string();
                assert!(
                    message.contains(field) && message.contains("config.json"),
                    "{field}={value}: {message}"
                );
            }
            let mut raw = golden();
            raw.remove(*field);
            assert!(parse(&raw).unwrap_err().to_string().contains("nothing"));
        }
    }

    /// What transformers and adapters write of a model in which nothing is changed.
    #[test]
    fn fields_that_change_nothing_are_accepted() {
        let plain = parse(&golden()).unwrap();
        for (field, value) in [
            ("pruned_heads", json!({})),
            ("quantization_config", json!(null)),
            ("adapters", json!({"adapters": {}, "config_map": {}, "fusion_config_map": {}, "fusions": {}})),
            ("position_embedding_type", json!(null)),
            ("chunk_size_feed_forward", json!(64)),
            ("auto_map", json!({"AutoConfig": "configuration.C", "AutoModel": "modeling.M"})),
        ] {
            let mut raw = golden();
            raw.insert(field.into(), value);
            let config = parse(&raw).unwrap();
            assert_eq!(
                (config.layers(), config.max_sequence()),
                (plain.layers(), plain.max_sequence()),
                "{field}"
            );
        }
    }

    #[test]
    fn other_architectures_are_refused() {
        for (field, value, expected) in [
            (
                "hidden_act",
                json!("mish"),
                "one of gelu, gelu_python, gelu_new, gelu_pytorch_tanh, relu, silu",
            ),
            ("model_type", json!("t5"), "gpt2, olmo2, found \"t5\""),
            ("model_type", json!(null), "one of roberta, xlm-roberta, camembert, bert, modernbert, llama"),
            ("position_embedding_type", json!("relative_key"), "absolute"),
            ("is_decoder", json!(true), "false"),
            ("tie_word_embeddings", json!(false), "true"),
            ("tie_word_embeddings", json!(null), "true"),
            ("add_cross_attention", json!(true), "false"),
            ("pruned_heads", json!({"3": [0, 2]}), "heads"),
            (
                "quantization_config",
                json!({"quant_method": "bitsandbytes", "load_in_8bit": true}),
                "dequantize",
            ),
            // As adapters 1.3 writes it (ModelAdaptersConfig.to_dict) when a whole model is saved.
            (
                "adapters",
                json!({"adapters": {"sst2": "seq_bn"}, "config_map": {}, "fusions": {}}),
                "save_adapter",
            ),
            ("adapters", json!(["sst2"]), "save_adapter"),
        ] {
            let mut raw = golden();
            raw.insert(field.into(), value);
            let message = parse(&raw).unwrap_err().to_string();
            assert!(message.contains(field) && message.contains(expected), "{message}");
            assert!(message.contains("config.json"), "{message}");
        }
    }
}
