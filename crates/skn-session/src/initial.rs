//! The weights of a model that nothing has trained.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use skn_model::{Config, shapes};
use skn_random::{Key, Purpose};

use crate::error::Result;

/// Weights of standard deviation 1/sqrt(hidden size), LayerNorm scales of 1, biases of 0. (With BERT's 0.02 a model this
/// small stays for thousands of steps where it ignores the context.)
pub(crate) fn initial_weights(config: &Config, seed: u64) -> Result<BTreeMap<String, Tensor>> {
    let deviation = 1.0 / (config.hidden_size as f64).sqrt();
    let tensor = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
        let count = shape.iter().product();
        let mut rng = Key::new(seed, Purpose::WeightInit).layer(index as u32).rng();
        let deviation = if name.contains("position_embeddings") { 0.02 } else { deviation };
        let values: Vec<f32> = if name.ends_with("bias") {
            vec![0.0; count]
        } else if shape.len() == 1 {
            vec![1.0; count]
        } else {
            (0..count).map(|_| (rng.normal() * deviation) as f32).collect()
        };
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    shapes(config).into_iter().enumerate().map(tensor).collect()
}
