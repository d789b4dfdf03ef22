use candle_core::Tensor;
use skn_kernels::{Activation, LayerNorm, Linear, Precision};

use super::encoder::Encoder;
use super::supply::TensorSupply;
use crate::architecture::Part;
use crate::config::Config;
use crate::error::Result;
use crate::sequences::check_tokens;

/// The vocabulary rows that logits are computed for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Scored<'a> {
    /// The whole vocabulary.
    All,
    /// These token ids, in this order: a verbalizer.
    Tokens(&'a [u32]),
}

/// The masked-LM head, without the table of words that it shares with the encoder.
pub(super) struct Head {
    dense: Linear,
    activation: Activation,
    norm: LayerNorm,
    bias: Tensor,
}

impl Head {
    pub(super) fn new(supply: &mut TensorSupply<'_>, config: &Config) -> Result<Self> {
        Ok(Self {
            dense: supply.dense(Part::HeadDense)?,
            activation: config.head_activation(),
            norm: supply.norm(Part::HeadNorm)?,
            bias: supply.bias(Part::HeadBias)?,
        })
    }

    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.dense.set_precision(precision);
    }

    /// Logits `[rows, scored]` of hidden states `[rows, hidden]` of the encoder.
    pub(super) fn logits(&self, encoder: &Encoder, hidden: &Tensor, scored: Scored<'_>) -> Result<Tensor> {
        let transformed = self.dense.forward(hidden, self.activation)?;
        let transformed = self.norm.forward(&transformed)?;
        let words = encoder.embeddings.words();
        let (weight, bias) = match scored {
            Scored::All => (words.tensor()?, self.bias.clone()),
            Scored::Tokens(ids) => {
                check_tokens(ids, encoder.config.vocab_size)?;
                (words.rows(ids)?, self.bias.index_select(&Tensor::new(ids, encoder.device())?, 0)?)
            }
        };
        Ok(Linear::new(weight, Some(bias))?.forward(&transformed, Activation::Identity)?)
    }
}
