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

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use skn_random::{Key, Purpose};

use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::family::Family;
use crate::hash::hash_of_values;
use crate::shapes::shapes;
use crate::weights::Weights;
pub(crate) use adapter_shapes::adapter_of;
use adapter_shapes::{adapter_shapes, adapter_width};

mod absent;
mod adapter_hub;
mod adapter_shapes;
mod files;
mod method;
mod names;
mod peft;
mod place;
mod read;
mod read_tuning;
mod source;

pub use absent::{no_tuning, not_a_tuning_folder};
pub use method::Method;
use names::FRONT_PROMPT;
pub(crate) use names::PROMPT_NAME;
pub use place::PromptPlace;
pub use read_tuning::ReadTuning;
pub use source::ReadAs;

/// Who draws a prompt says its size by this.
const PROMPT_SIZE: &str = "option `prompt_size`";

/// A [`Method`] with the values of its parameters, or the bare model.
#[derive(Clone, Debug)]
pub struct Tuning {
    method: Option<Method>,
    mask_row: bool,
    place: PromptPlace,
    tensors: BTreeMap<String, Tensor>,
}

impl Tuning {
    /// The model as it is, ready to answer: an encoder with the `<mask>` row before the text, a decoder with the text alone.
    pub fn bare(config: &Config) -> Self {
        if config.is_decoder() { Self::plain_text() } else { Self::none() }
    }

    /// The model as it is: the `<mask>` row, then the text.
    pub fn none() -> Self {
        Self { method: None, mask_row: true, place: PromptPlace::After, tensors: BTreeMap::new() }
    }

    /// The model as it is with nothing before the text, for masked language modelling.
    pub fn plain_text() -> Self {
        Self { mask_row: false, ..Self::none() }
    }

    /// A new prompt of `size` positions, the `<mask>` row of an encoder counted, of N(0, 1) / 30, as the published implementation
    /// begins.
    ///
    /// # Errors
    /// If `size` is 0.
    pub fn new_prompt(config: &Config, size: usize, seed: u64) -> Result<Self> {
        Self::drawn(config, size, seed, |normal| normal / 30.0)
    }

    /// As [`Self::new_prompt`], but for models other than RoBERTa and BERT of N(0, 1) times the root mean square of the words'
    /// embeddings, as the layers see them.
    ///
    /// # Errors
    /// If `size` is 0, or the weights can't be read.
    pub fn new_prompt_for(config: &Config, weights: &Weights, size: usize, seed: u64) -> Result<Self> {
        if matches!(config.family, Family::Roberta | Family::Bert) {
            return Self::new_prompt(config, size, seed);
        }
        let scale = weights.word_size()? * config.architecture.word_scale.map_or(1.0, f64::from);
        Self::drawn(config, size, seed, |normal| normal * scale)
    }

    /// A prompt that somebody wrote: the embeddings of its tokens as the layers see them, behind the `<mask>` row of an encoder. So a
    /// model reads it as the same tokens without a position of their own.
    ///
    /// # Errors
    /// If there are no tokens, more than the model has positions for, or one is not in the vocabulary.
    pub fn written_prompt(config: &Config, weights: &Weights, ids: &[u32]) -> Result<Self> {
        let mask_row = !config.is_decoder();
        let size = ids.len() + usize::from(mask_row);
        if ids.is_empty() || size >= config.max_sequence() {
            let expected =
                format!("1 token or more, fewer than the model's {} positions", config.max_sequence());
            return Err(ModelError::input("a written prompt", expected, ids.len()));
        }
        let scale = config.architecture.word_scale.map_or(1.0, f64::from);
        Self::prompt((weights.token_embeddings(ids)? * scale)?, mask_row)
    }

    fn drawn(config: &Config, size: usize, seed: u64, scaled: impl Fn(f64) -> f64) -> Result<Self> {
        let mask_row = !config.is_decoder();
        let rows = size.checked_sub(usize::from(mask_row)).filter(|_| size > 0);
        let rows = rows.ok_or_else(|| ModelError::input(PROMPT_SIZE, "at least 1", size))?;
        if size >= config.max_sequence() {
            let expected = format!("fewer than the model's {} positions", config.max_sequence());
            return Err(ModelError::input(PROMPT_SIZE, expected, size));
        }
        let mut rng = Key::new(seed, Purpose::PromptInit).rng();
        #[expect(clippy::cast_possible_truncation, reason = "it is rounded")]
        let values: Vec<f32> = (0..rows * config.hidden_size).map(|_| scaled(rng.normal()) as f32).collect();
        Self::prompt(Tensor::from_vec(values, (rows, config.hidden_size), &Device::Cpu)?, mask_row)
    }

    /// A prompt of the given rows `[n, hidden]`, after a `<mask>` row or (`mask_row` false) in its place.
    ///
    /// # Errors
    /// If `rows` is not a matrix, or is empty with nothing else to read the answer at.
    pub fn prompt(rows: Tensor, mask_row: bool) -> Result<Self> {
        let (count, _) = rows.dims2()?;
        if count == 0 && !mask_row {
            return Err(ModelError::input("prompt", "at least one row", "none"));
        }
        let tensors = BTreeMap::from([(PROMPT_NAME.to_string(), rows)]);
        Ok(Self { method: Some(Method::Prompt), mask_row, tensors, ..Self::none() })
    }

    /// The same with a decoder's prompt at another place. That of an encoder stands in front wherever this says.
    #[must_use]
    pub fn with_place(self, place: PromptPlace) -> Self {
        Self { place, ..self }
    }

    /// Where a decoder's prompt stands.
    pub fn place(&self) -> PromptPlace {
        self.place
    }

    /// The same, if this is a prompt of such a model and that a decoder.
    pub fn place_in(&self, config: &Config) -> Option<PromptPlace> {
        (config.is_decoder() && self.method == Some(Method::Prompt)).then_some(self.place)
    }

    /// BitFit that starts from the model's own biases, of an encoder.
    pub fn new_bias() -> Self {
        Self { method: Some(Method::Bias), ..Self::none() }
    }

    /// BitFit that starts from the model's own biases.
    pub fn new_bias_for(config: &Config) -> Self {
        Self { method: Some(Method::Bias), ..Self::bare(config) }
    }

    /// New adapters whose bottleneck is `hidden / reduction` wide: weights of N(0, 0.02), biases 0.
    ///
    /// # Errors
    /// If the bottleneck would have no width.
    pub fn new_adapter(config: &Config, reduction: usize, seed: u64) -> Result<Self> {
        if !matches!(config.family, Family::Roberta | Family::Bert) {
            let expected = "a model of the BERT kind, for which AdapterHub has a layout";
            return Err(ModelError::input("adapters", expected, config.model_type()));
        }
        let width = config.hidden_size.checked_div(reduction).unwrap_or(0);
        if width == 0 {
            let expected = format!("1 to hidden_size {}", config.hidden_size);
            return Err(ModelError::input("adapter reduction", expected, reduction));
        }
        let mut tensors = BTreeMap::new();
        let shapes = (0..config.layers()).flat_map(|layer| adapter_shapes(config, layer, width));
        for (place, (name, shape)) in (0u32..).zip(shapes) {
            let mut values = vec![0f32; shape.iter().product()];
            if name.ends_with(".weight") {
                let key = Key::new(seed, Purpose::AdapterInit).layer(place);
                let mut rng = key.rng();
                #[expect(clippy::cast_possible_truncation, reason = "it is rounded")]
                values.fill_with(|| (rng.normal() * 0.02) as f32);
            }
            tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(Self { method: Some(Method::Adapter), tensors, ..Self::none() })
    }

    /// The method, or `None` for the bare model.
    pub fn method(&self) -> Option<Method> {
        self.method
    }

    /// Whether the `<mask>` row stands before everything else.
    pub fn has_mask_row(&self) -> bool {
        self.mask_row
    }

    /// P: the rows before `<s>`, the `<mask>` row included.
    pub fn prompt_rows(&self) -> usize {
        let prompt = match self.method {
            Some(Method::Prompt) => {
                self.tensors.get(PROMPT_NAME).map_or(0, |rows| rows.dims().first().copied().unwrap_or(0))
            }
            _ => 0,
        };
        prompt + usize::from(self.mask_row)
    }

    /// Whether a parameter of this name trains.
    pub fn trains(&self, name: &str) -> bool {
        self.method.is_some_and(|method| method.trains(name))
    }

    /// `skn.tuning_sha256`: the hash of what this tuning brings, which tells two prompts of one size apart, and a decoder's prompt in
    /// front of the text from one behind it. That of the bare model, and of biases that are still the model's own, is the hash
    /// of nothing.
    ///
    /// # Errors
    /// If the values can't be read from the device.
    pub fn sha256(&self) -> Result<String> {
        let in_front = self.place == PromptPlace::Front;
        let name = |name| if in_front && name == PROMPT_NAME { FRONT_PROMPT } else { name };
        hash_of_values(self.tensors.iter().map(|(own, tensor)| (name(own.as_str()), tensor)))
    }

    /// The parameters that this tuning brings, by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// This tuning with other values.
    pub fn with_tensors(&self, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { tensors, ..self.clone() }
    }

    /// Checks that every tensor fits a model.
    pub(crate) fn check(&self, config: &Config) -> Result<()> {
        if self.prompt_rows() >= config.max_sequence() {
            let expected = format!("fewer rows than the model's {} positions", config.max_sequence());
            return Err(ModelError::input("prompt", expected, self.prompt_rows()));
        }
        if config.is_decoder() && self.mask_row {
            return Err(ModelError::input("tuning", "no <mask> row: a decoder has none", "one"));
        }
        if self.method == Some(Method::Adapter) && !matches!(config.family, Family::Roberta | Family::Bert) {
            let expected = "a model of the BERT kind, for which AdapterHub has a layout";
            return Err(ModelError::input("adapters", expected, config.model_type()));
        }
        let expected = self.expected_shapes(config)?;
        if self.method == Some(Method::Bias) && expected.is_empty() {
            return Err(ModelError::input("biases", "a model that has some", config.model_type()));
        }
        for (name, tensor) in &self.tensors {
            let Some(shape) = expected.get(name) else {
                return Err(ModelError::input(name, "a parameter of the tuning method", "an unknown name"));
            };
            if tensor.dims() != shape {
                return Err(ModelError::input(name, format!("{shape:?}"), format!("{:?}", tensor.dims())));
            }
        }
        match self.method {
            Some(Method::Adapter) => self.check_complete(&expected),
            _ => Ok(()),
        }
    }

    /// A layer's adapter is whole, or left out.
    fn check_complete(&self, expected: &BTreeMap<String, Vec<usize>>) -> Result<()> {
        if expected.is_empty() {
            return Err(ModelError::input("adapters", "an adapter in a layer or more", "none"));
        }
        match expected.keys().find(|name| !self.tensors.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(ModelError::input(name, "a tensor of the layer's adapter", "nothing")),
        }
    }

    fn expected_shapes(&self, config: &Config) -> Result<BTreeMap<String, Vec<usize>>> {
        Ok(match self.method {
            None => BTreeMap::new(),
            Some(Method::Prompt) => {
                let rows = self.prompt_rows() - usize::from(self.mask_row);
                BTreeMap::from([(PROMPT_NAME.to_string(), vec![rows, config.hidden_size])])
            }
            Some(Method::Bias) => shapes(config).into_iter().filter(|(name, _)| self.trains(name)).collect(),
            Some(Method::Adapter) => {
                let of = |layer| Some((layer, adapter_width(&self.tensors, config, layer)?));
                let layers = (0..config.layers()).filter_map(of);
                layers.flat_map(|(layer, width)| adapter_shapes(config, layer, width)).collect()
            }
        })
    }
}
