// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use serde_json::{Map, Value};
use skn_kernels::Activation;

use crate::architecture::{Architecture, HeadForm, LayerPart, Part};
use crate::family::Family;

mod count;
mod decoders;
mod encoders;
mod fields;
mod pruned;
mod read;
mod rotary;
mod sizes;

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
    /// Attention heads.
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
    /// Rows of the token type table; 0 if there is none. See [`Self::segments`].
    pub type_vocab_size: usize,
    /// Added to the variance in every LayerNorm, or to the mean square in every RMSNorm.
    pub layer_norm_eps: f64,
    /// Dropout probability of hidden states while training.
    pub hidden_dropout: f32,
    /// Dropout probability of attention weights while training.
    pub attention_dropout: f32,
    /// Position of the first row: of a RoBERTa the id of the padding token + 1, of a BERT 0.
    pub first_position: usize,
    activation: Activation,
    pub(crate) architecture: Architecture,
    raw: Map<String, Value>,
}

impl Config {
    /// `model_type`, as transformers names the architecture.
    pub fn model_type(&self) -> &str {
        self.raw.get("model_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Names that transformers gives to a tensor beside the one that it has here, and that one.
    pub(crate) fn twins(&self) -> &'static [(&'static str, &'static str)] {
        if self.architecture.head == HeadForm::Untied { &[] } else { self.family.names().twins }
    }

    /// Whether it is a decoder: a row sees no row behind it, and the answer is read at the last one.
    pub fn is_decoder(&self) -> bool {
        !matches!(self.architecture.head, HeadForm::Masked(_))
    }

    /// Whether a neuron is a product of two numbers, an activated gate and what it lets through.
    pub fn is_gated(&self) -> bool {
        self.module(Part::Layer(0, LayerPart::Gate)).is_some()
    }

    /// transformers' class of this model with the head that names words.
    pub(crate) fn model_class(&self) -> &'static str {
        let found = Family::MODEL_TYPES.iter().find(|(name, ..)| *name == self.model_type());
        found.map_or("AutoModel", |(_, _, class)| class)
    }

    /// Whether the second text of a pair has a token type of its own.
    pub fn segments(&self) -> bool {
        self.family == Family::Bert && self.type_vocab_size > 1
    }

    /// What follows the first matrix of a FFN.
    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// Whether another configuration says the same of what is computed, in whatever fields.
    pub fn computes_as(&self, other: &Self) -> bool {
        Self { raw: Map::new(), ..self.clone() } == Self { raw: Map::new(), ..other.clone() }
    }

    /// What the model computes beside what the shapes of its tensors say, in words: with the tensors' hash this tells it from
    /// any other.
    pub fn arithmetic(&self) -> String {
        let (heads, eps, first) = (self.num_attention_heads, self.layer_norm_eps, self.first_position);
        format!(
            "{}, {heads} heads, {:?}, layer_norm_eps {eps}, positions from {first}",
            self.model_type(),
            self.activation
        )
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use serde_json::json;
    use std::path::Path;

    pub(super) fn golden() -> Map<String, Value> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model/config.json");
        serde_json::from_slice(&skn_artifact::read_regular(Path::new(path), 1 << 20).unwrap()).unwrap()
    }

    pub(super) fn parse(raw: &Map<String, Value>) -> Result<Config> {
        Config::from_json(&serde_json::to_vec(raw).unwrap(), Path::new("config.json"))
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
}
