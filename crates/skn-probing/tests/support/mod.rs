//! A small model of fixed weights, and texts for it.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]
#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use skn_artifact::{TensorBundle, TensorFile};
use skn_data::Encoded;
use skn_model::{Config, Gradients, LanguageModel, Tuning, Weights, shapes};

/// Layers of 16 neurons, behind a prompt of 4 rows.
pub(crate) const LAYERS: usize = 2;
pub(crate) const POSITIONS: usize = 4;
pub(crate) const NEURONS: usize = 16;

/// Numbers from -1 to 1, the same on every machine.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> f32 {
        // xorshift64*, of which the upper bits are good.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        bits as f32 / (1u64 << 23) as f32 - 1.0
    }
}

fn config() -> Config {
    Config::new(40, [8, 2, NEURONS, LAYERS], 34).unwrap()
}

/// The tensors of the model, by their names.
pub(crate) fn weights() -> BTreeMap<String, Tensor> {
    weights_of(&config())
}

fn weights_of(config: &Config) -> BTreeMap<String, Tensor> {
    let mut numbers = Numbers::new(7);
    let tensors = shapes(config).into_iter().map(|(name, shape)| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| numbers.next()).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    });
    tensors.collect()
}

pub(crate) fn model() -> LanguageModel {
    model_with(&[NEURONS; LAYERS], |_| {})
}

/// A model whose layers have so many neurons, as a pruned one, and whose weights were changed.
pub(crate) fn model_with(
    widths: &[usize],
    change: impl FnOnce(&mut BTreeMap<String, Tensor>),
) -> LanguageModel {
    let mut config = config();
    config.intermediate_sizes = widths.to_vec();
    let mut weights = weights_of(&config);
    change(&mut weights);
    let weights = Weights::from_tensors(&config, weights.into_iter().collect()).unwrap();
    let prompt = Tuning::new_prompt(&config, POSITIONS, 0).unwrap();
    LanguageModel::new(&config, &weights, &prompt, 3, Gradients::Nothing).unwrap()
}

/// Texts of one to five words; the class is told by the first.
pub(crate) fn texts(count: u64, seed: u64) -> Vec<Encoded> {
    let mut numbers = Numbers::new(seed);
    let mut word = || 10 + ((numbers.next() + 1.0) * 14.0) as u32;
    let text = |row| {
        let mut ids = vec![0];
        ids.extend((0..=row % 5).map(|_| word()));
        ids.push(2);
        Encoded { second: ids.len(), label: (ids[1] % 2) as usize, row, ids: ids.into() }
    };
    (0..count).map(text).collect()
}

/// What another process would read.
pub(crate) fn through_a_file(bundle: &TensorBundle) -> TensorFile {
    TensorFile::from_bytes("part.safetensors".as_ref(), bundle.to_bytes().unwrap()).unwrap()
}
