use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use skn_kernels::Activation;

use crate::error::{ModelError, Result};
use crate::family::Family;

/// The shape of a model: `config.json` of a Hugging Face model folder, checked. [`Family`] tells which there are.
///
/// There is no second type for pruned models: every layer has its own FFN width (`skn_intermediate_sizes`, absent
/// when all are `intermediate_size`). Keys that this crate does not know are kept and written back.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What the model computes beside its shape, and what its tensors are called; by `model_type`.
    pub family: Family,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width H of the hidden states.
    pub hidden_size: usize,
    /// Attention heads; they divide [`Self::hidden_size`].
    pub num_attention_heads: usize,
    /// FFN width of each layer; its length is the number of layers L.
    pub intermediate_sizes: Vec<usize>,
    /// FFN width of the model before pruning.
    pub intermediate_size: usize,
    /// For each layer the neurons that pruning kept, by their index before pruning and in ascending order; `None`
    /// for a whole layer. `None` altogether if the model was never pruned.
    pub kept_neurons: Option<Vec<Option<Vec<u32>>>>,
    /// Rows of the position table. Positions count from [`Self::first_position`], so a sequence, prompt included,
    /// has at most [`Self::max_sequence`] rows.
    pub max_position_embeddings: usize,
    /// Rows of the token type table; see [`Self::segments`].
    pub type_vocab_size: usize,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// Dropout probability of hidden states while training.
    pub hidden_dropout: f32,
    /// Dropout probability of attention weights while training.
    pub attention_dropout: f32,
    /// Position of the first row: of a RoBERTa the id of the padding token + 1, of a BERT 0.
    pub first_position: usize,
    activation: Activation,
    raw: Map<String, Value>,
}

/// Numbers above these are not of this world, and are refused before anything is allocated for them.
const MAX_VOCABULARY: u64 = 16_000_000;
const MAX_WIDTH: u64 = 1 << 20;
const MAX_LAYERS: u64 = 4096;
const MAX_PARAMETERS: u128 = 1 << 38;

impl Config {
    /// Reads the text of a `config.json`; `file` is named in errors.
    ///
    /// # Errors
    /// If the text is not a JSON object, or a field is missing, of the wrong type or out of range.
    pub fn from_json(bytes: &[u8], file: &Path) -> Result<Self> {
        let raw: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| ModelError::Config {
            file: file.into(),
            field: "(whole file)".into(),
            expected: "a JSON object".into(),
            found: error.to_string(),
        })?;
        let fields = Fields { raw: &raw, file };
        let family = fields.family()?;
        fields.supported()?;
        let layers = fields.integer("num_hidden_layers", 1..=MAX_LAYERS)?;
        let intermediate_size = fields.integer("intermediate_size", 1..=MAX_WIDTH)?;
        let config = Self {
            family,
            activation: fields.activation()?,
            vocab_size: fields.integer("vocab_size", 1..=MAX_VOCABULARY)?,
            hidden_size: fields.integer("hidden_size", 1..=MAX_WIDTH)?,
            num_attention_heads: fields.integer("num_attention_heads", 1..=MAX_WIDTH)?,
            intermediate_sizes: fields.widths(layers, intermediate_size)?,
            intermediate_size,
            kept_neurons: fields.kept_neurons()?,
            max_position_embeddings: fields.integer("max_position_embeddings", 1..=MAX_VOCABULARY)?,
            type_vocab_size: fields.integer_or("type_vocab_size", 1..=MAX_WIDTH, 2)?,
            layer_norm_eps: fields.number_or("layer_norm_eps", 0.0..=1.0, 1e-12)?,
            hidden_dropout: fields.number_or("hidden_dropout_prob", 0.0..=0.999, 0.1)? as f32,
            attention_dropout: fields.number_or("attention_probs_dropout_prob", 0.0..=0.999, 0.1)? as f32,
            first_position: match family {
                Family::Roberta => fields.integer_or("pad_token_id", 0..=MAX_VOCABULARY, 1)? + 1,
                Family::Bert => 0,
            },
            raw: raw.clone(),
        };
        config.check_relations(&fields)?;
        Ok(config)
    }

    /// A new RoBERTa configuration of one FFN width, without dropout, for a model to be pre-trained from scratch.
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

    /// `model_type`, as transformers names the architecture.
    pub fn model_type(&self) -> &str {
        self.raw.get("model_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// transformers' class of this model with its masked-LM head.
    pub(crate) fn model_class(&self) -> &'static str {
        let found = Family::MODEL_TYPES.iter().find(|(name, ..)| *name == self.model_type());
        found.map_or("AutoModelForMaskedLM", |(_, _, class)| class)
    }

    /// Whether the second text of a pair has a token type of its own.
    pub fn segments(&self) -> bool {
        self.family == Family::Bert && self.type_vocab_size > 1
    }

    /// What follows the first matrix of a FFN.
    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// What follows the matrix of the masked-LM head, which is a GELU in every RoBERTa.
    pub(crate) fn head_activation(&self) -> Activation {
        match self.family {
            Family::Roberta => Activation::Gelu,
            Family::Bert => self.activation,
        }
    }

    /// The number of layers L.
    pub fn layers(&self) -> usize {
        self.intermediate_sizes.len()
    }

    /// The largest FFN width of all layers, F in `[L, P, F]` arrays.
    pub fn widest(&self) -> usize {
        self.intermediate_sizes.iter().copied().max().unwrap_or(0)
    }

    /// The most rows, prompt included, that a sequence may have.
    pub fn max_sequence(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position)
    }

    /// The text of this configuration's `config.json`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(&self.raw).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// This configuration with the given neurons kept in each layer (`None`: all of them), by their index now.
    ///
    /// # Errors
    /// If `kept` has not one entry a layer, or an entry is not ascending or names a neuron that is not there.
    pub fn pruned(&self, kept: &[Option<Vec<u32>>]) -> Result<Self> {
        if kept.len() != self.layers() {
            return Err(ModelError::input("kept neurons", format!("{} layers", self.layers()), kept.len()));
        }
        let original = (0..self.layers()).map(|layer| self.compose_kept(layer, kept[layer].as_deref()));
        let original = original.collect::<Result<Vec<_>>>()?;
        let sizes: Vec<usize> = (0..self.layers())
            .map(|layer| original[layer].as_ref().map_or(self.intermediate_sizes[layer], Vec::len))
            .collect();
        let mut config = self.clone();
        config.raw.insert("skn_intermediate_sizes".into(), json!(sizes));
        config.raw.insert("skn_kept_neurons".into(), json!(original));
        config.intermediate_sizes = sizes;
        config.kept_neurons = Some(original);
        Ok(config)
    }

    /// Neurons `kept` of a layer, named as they were before any pruning.
    fn compose_kept(&self, layer: usize, kept: Option<&[u32]>) -> Result<Option<Vec<u32>>> {
        let earlier = self.kept_neurons.as_ref().and_then(|layers| layers[layer].clone());
        let Some(kept) = kept else { return Ok(earlier) };
        let width = self.intermediate_sizes[layer];
        let ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || kept.last().is_some_and(|&last| last as usize >= width) {
            let expected = format!("ascending indexes below {width}");
            return Err(ModelError::input(
                format!("kept neurons of layer {layer}"),
                expected,
                format!("{kept:?}"),
            ));
        }
        Ok(Some(match earlier {
            Some(earlier) => kept.iter().map(|&index| earlier[index as usize]).collect(),
            None => kept.to_vec(),
        }))
    }

    /// Parameters of the whole model, its tied decoder counted once.
    pub fn parameters(&self) -> u64 {
        u64::try_from(self.parameters_exact()).unwrap_or(u64::MAX)
    }

    fn parameters_exact(&self) -> u128 {
        let hidden = self.hidden_size as u128;
        let tables = self.vocab_size + self.max_position_embeddings + self.type_vocab_size;
        let attention = 4 * (hidden * hidden + hidden) + 4 * hidden;
        let ffn = |&width: &usize| width as u128 * (2 * hidden + 1) + hidden;
        let layers: u128 = self.intermediate_sizes.iter().map(|width| attention + ffn(width)).sum();
        let head = hidden * hidden + 3 * hidden + self.vocab_size as u128;
        tables as u128 * hidden + 2 * hidden + layers + head
    }

    /// Multiply-adds of one sequence of `rows` rows up to the answer's logits. The last layer is computed at the answer's row,
    /// where keys and values are absorbed ([`skn_kernels::SelfAttention`]): four products with a matrix `[hidden, hidden]` for
    /// that row, and for each head a product of every row's whole width with the query, and one with the weights.
    pub fn multiply_adds(&self, rows: usize) -> u64 {
        let (hidden, rows, heads) = (self.hidden_size as u64, rows as u64, self.num_attention_heads as u64);
        let layer =
            |width: usize| rows * (4 * hidden * hidden + 2 * rows * hidden + 2 * hidden * width as u64);
        let last = |width: usize| 4 * hidden * hidden + 2 * heads * rows * hidden + 2 * hidden * width as u64;
        let (&of_last, below) = self.intermediate_sizes.split_last().unwrap_or((&0, &[]));
        below.iter().map(|&width| layer(width)).sum::<u64>() + last(of_last) + hidden * hidden
    }

    /// Bytes that the weights take in memory as f32.
    pub fn weight_bytes(&self) -> u64 {
        self.parameters().saturating_mul(4)
    }

    fn check_relations(&self, fields: &Fields) -> Result<()> {
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a divisor of hidden_size {}", self.hidden_size);
            return Err(fields.error("num_attention_heads", expected, self.num_attention_heads));
        }
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
                    && neurons.windows(2).all(|pair| pair[0] < pair[1])
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

/// Typed access to the fields of a JSON object, with errors that name file and field.
struct Fields<'a> {
    raw: &'a Map<String, Value>,
    file: &'a Path,
}

impl Fields<'_> {
    fn error(&self, field: &str, expected: impl ToString, found: impl ToString) -> ModelError {
        ModelError::Config {
            file: PathBuf::from(self.file),
            field: field.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    fn present(&self, field: &str) -> Option<&Value> {
        self.raw.get(field).filter(|value| !value.is_null())
    }

    fn integer(&self, field: &str, range: std::ops::RangeInclusive<u64>) -> Result<usize> {
        let expected = || format!("an integer from {} to {}", range.start(), range.end());
        let value = self.present(field).ok_or_else(|| self.error(field, expected(), "nothing"))?;
        let number = value.as_u64().filter(|number| range.contains(number));
        number.map(|number| number as usize).ok_or_else(|| self.error(field, expected(), value))
    }

    fn integer_or(&self, field: &str, range: std::ops::RangeInclusive<u64>, default: usize) -> Result<usize> {
        if self.present(field).is_none() { Ok(default) } else { self.integer(field, range) }
    }

    fn number_or(&self, field: &str, range: std::ops::RangeInclusive<f64>, default: f64) -> Result<f64> {
        let Some(value) = self.present(field) else { return Ok(default) };
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        value
            .as_f64()
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.error(field, expected(), value))
    }

    /// `model_type`; without it nothing tells a RoBERTa's positions from a BERT's.
    fn family(&self) -> Result<Family> {
        let field = "model_type";
        let expected = || format!("one of {}", Family::MODEL_TYPES.map(|(name, ..)| name).join(", "));
        let value = self.present(field).ok_or_else(|| self.error(field, expected(), "nothing"))?;
        value.as_str().and_then(Family::of).ok_or_else(|| self.error(field, expected(), value))
    }

    /// transformers' names of what is computed here; both `gelu`s are the exact one.
    fn activation(&self) -> Result<Activation> {
        let names = [
            ("gelu", Activation::Gelu),
            ("gelu_python", Activation::Gelu),
            ("gelu_new", Activation::GeluTanh),
            ("gelu_pytorch_tanh", Activation::GeluTanh),
            ("relu", Activation::Relu),
        ];
        let Some(value) = self.present("hidden_act") else { return Ok(Activation::Gelu) };
        let found = names.iter().find(|(name, _)| value.as_str() == Some(name));
        let expected = || format!("one of {}", names.map(|(name, _)| name).join(", "));
        found.map(|(_, activation)| *activation).ok_or_else(|| self.error("hidden_act", expected(), value))
    }

    /// What would change the formula and is not computed here.
    fn supported(&self) -> Result<()> {
        let accepted = [
            ("position_embedding_type", json!("absolute")),
            ("is_decoder", json!(false)),
            ("tie_word_embeddings", json!(true)),
        ];
        for (field, expected) in accepted {
            if let Some(value) = self.present(field)
                && *value != expected
            {
                return Err(self.error(field, expected, value));
            }
        }
        Ok(())
    }

    fn widths(&self, layers: usize, width: usize) -> Result<Vec<usize>> {
        let field = "skn_intermediate_sizes";
        let Some(value) = self.present(field) else { return Ok(vec![width; layers]) };
        let widths: Option<Vec<usize>> = value.as_array().and_then(|items| {
            let widths = items.iter().map(|item| item.as_u64().filter(|&item| item <= width as u64));
            widths.map(|width| width.map(|width| width as usize)).collect()
        });
        let expected = format!("{layers} integers from 0 to {width}");
        widths.filter(|widths| widths.len() == layers).ok_or_else(|| self.error(field, expected, value))
    }

    fn kept_neurons(&self) -> Result<Option<Vec<Option<Vec<u32>>>>> {
        let field = "skn_kept_neurons";
        let Some(value) = self.present(field) else { return Ok(None) };
        let expected = "a list with null or a list of indexes for each layer";
        serde_json::from_value(value.clone()).map(Some).map_err(|error| self.error(field, expected, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> Map<String, Value> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model/config.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn parse(raw: &Map<String, Value>) -> Result<Config> {
        Config::from_json(&serde_json::to_vec(raw).unwrap(), Path::new("config.json"))
    }

    #[test]
    fn reads_the_golden_configuration() {
        let config = parse(&golden()).unwrap();
        assert_eq!((config.layers(), config.hidden_size, config.widest()), (4, 48, 160));
        assert_eq!(config.max_sequence(), 128);
        assert_eq!(parse(&serde_json::from_slice(&config.to_json()).unwrap()).unwrap(), config);
    }

    #[test]
    fn roberta_base_has_the_published_number_of_parameters() {
        let mut raw = golden();
        for (field, value) in [
            ("vocab_size", 50265),
            ("hidden_size", 768),
            ("num_attention_heads", 12),
            ("intermediate_size", 3072),
            ("num_hidden_layers", 12),
            ("max_position_embeddings", 514),
        ] {
            raw.insert(field.into(), json!(value));
        }
        let config = parse(&raw).unwrap();
        assert_eq!(config.parameters(), 124_697_433);
        let kept: Vec<_> = (0..12).map(|layer| (layer >= 3).then(|| (0..61).collect())).collect();
        assert_eq!((config.pruned(&kept).unwrap().parameters() as f64 / 1e6 * 100.0).round() / 100.0, 83.05);
    }

    #[test]
    fn multiply_adds_by_hand() {
        let config = parse(&golden()).unwrap();
        assert_eq!((config.num_attention_heads, config.intermediate_size), (4, 160));
        let config = config.pruned(&[None, None, None, Some(vec![3, 7])]).unwrap();
        // Three rows of the first three layers: four projections, scores and mixing, the FFN.
        let below = 3 * 3 * (4 * 48 * 48 + 2 * 3 * 48 + 2 * 48 * 160);
        // One row of the last: as many projections, four heads over three whole rows twice, two neurons; then the head.
        let last = 4 * 48 * 48 + 2 * 4 * 3 * 48 + 2 * 48 * 2;
        assert_eq!(config.multiply_adds(3), below + last + 48 * 48);
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

    #[test]
    fn other_architectures_are_refused() {
        for (field, value, expected) in [
            ("hidden_act", json!("silu"), "one of gelu, gelu_python, gelu_new, gelu_pytorch_tanh, relu"),
            ("model_type", json!("gpt2"), "one of roberta, xlm-roberta, camembert, bert, found \"gpt2\""),
            ("model_type", json!(null), "one of roberta, xlm-roberta, camembert, bert, found nothing"),
            ("position_embedding_type", json!("relative_key"), "absolute"),
            ("is_decoder", json!(true), "false"),
            ("tie_word_embeddings", json!(false), "true"),
        ] {
            let mut raw = golden();
            raw.insert(field.into(), value);
            let message = parse(&raw).unwrap_err().to_string();
            assert!(message.contains(field) && message.contains(expected), "{message}");
            assert!(message.contains("config.json"), "{message}");
        }
    }

    /// Sizes as published, and what transformers counts for the masked language model.
    #[test]
    fn families_have_the_published_numbers_of_parameters() {
        let sizes =
            ["vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers"];
        let mut raw = golden();
        raw.insert("max_position_embeddings".into(), json!(514));
        for (model_type, values, parameters) in [
            ("roberta", [50265, 1024, 16, 4096, 24], 355_412_057),
            ("roberta", [50265, 768, 12, 3072, 6], 82_170_201),
            ("xlm-roberta", [250_002, 768, 12, 3072, 12], 278_295_186),
            ("camembert", [32005, 768, 12, 3072, 12], 110_655_493),
        ] {
            raw.insert("model_type".into(), json!(model_type));
            sizes.iter().zip(values).for_each(|(size, value)| drop(raw.insert((*size).into(), json!(value))));
            let config = parse(&raw).unwrap();
            assert_eq!(config.parameters(), parameters, "{model_type}");
            assert_eq!((config.max_sequence(), config.first_position), (512, 2), "{model_type}");
            assert!(!config.segments());
        }
        let bert = [
            ("model_type", json!("bert")),
            ("vocab_size", json!(30522)),
            ("max_position_embeddings", json!(512)),
            ("type_vocab_size", json!(2)),
            ("pad_token_id", json!(0)),
        ];
        bert.into_iter().for_each(|(field, value)| drop(raw.insert(field.into(), value)));
        let config = parse(&raw).unwrap();
        assert_eq!(config.parameters(), 109_514_298);
        assert_eq!((config.max_sequence(), config.first_position), (512, 0));
        assert!(config.segments());
    }

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
