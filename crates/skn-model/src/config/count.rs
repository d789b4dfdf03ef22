//! How large a model is, and how much there is to compute.

use super::Config;
use crate::architecture::{Form, HeadNorms, LayerPart, Part};
use crate::shapes::tensors;

impl Config {
    /// Parameters of the whole model, its tied decoder counted once.
    pub fn parameters(&self) -> u64 {
        u64::try_from(self.parameters_exact()).unwrap_or(u64::MAX)
    }

    pub(super) fn parameters_exact(&self) -> u128 {
        let numbers = |shape: Vec<usize>| shape.into_iter().map(|size| size as u128).product::<u128>();
        tensors(self, true).map(|(_, _, shape)| numbers(shape)).sum()
    }

    /// Multiply-adds of one sequence of `rows` rows up to the answer's logits. The last layer is computed at the answer's row.
    /// Where nothing is done to its keys, they and the values are absorbed ([`skn_kernels::SelfAttention`]): a product of each with
    /// that row alone, and for each head a product of every row's whole width with the query, and one with the weights.
    pub fn multiply_adds(&self, rows: usize) -> u64 {
        let (attention, rows) = (&self.architecture.attention, rows as u64);
        let pair = 2 * (attention.heads * attention.head_width) as u64;
        let dense = |layer: usize, keys: bool| -> u64 {
            let parts = self.family.names().in_layers.iter();
            let is_key = |part| matches!(part, LayerPart::Key | LayerPart::Value);
            let parts = parts.filter(|(part, _)| is_key(*part) == keys);
            let size = |part| match self.module(Part::Layer(layer, part))?.form {
                Form::Dense { outputs, inputs, .. } => Some((outputs * inputs) as u64),
                _ => None,
            };
            parts.filter_map(|(part, _)| size(*part)).sum()
        };
        let below: u64 = (0..self.layers().saturating_sub(1))
            .map(|layer| rows * (dense(layer, true) + dense(layer, false) + rows * pair))
            .sum();
        let last = self.layers().checked_sub(1).map_or(0, |layer| {
            let turned = self.architecture.layers.get(layer).is_none_or(|form| form.rotation.is_some());
            let whole = attention.key_value_heads == attention.heads
                && attention.heads * attention.head_width == self.hidden_size;
            let is_absorbed =
                whole && !turned && attention.cap.is_none() && attention.norms == HeadNorms::None;
            let (keys, seen) =
                if is_absorbed { (1, 2 * (attention.heads * self.hidden_size) as u64) } else { (rows, pair) };
            keys * dense(layer, true) + dense(layer, false) + rows * seen
        });
        let head = if self.is_decoder() { 0 } else { (self.hidden_size * self.hidden_size) as u64 };
        below + last + head
    }

    /// Bytes that the weights take in memory as f32.
    pub fn weight_bytes(&self) -> u64 {
        self.parameters().saturating_mul(4)
    }
}
