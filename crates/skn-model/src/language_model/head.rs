use std::sync::OnceLock;

use candle_core::Tensor;
use skn_kernels::{Activation, Linear, Precision, rows_of};

use super::encoder::Encoder;
use super::norm::Norm;
use super::supply::TensorSupply;
use crate::architecture::{HeadForm, Part};
use crate::config::Config;
use crate::error::Result;
use crate::sequences::check_tokens;
use crate::weights::Table;

/// The vocabulary rows that logits are computed for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Scored<'a> {
    /// The whole vocabulary.
    All,
    /// These token ids, in this order: a verbalizer.
    Tokens(&'a [u32]),
}

/// What names words, without the table of words that it may share with the trunk.
pub(super) struct Head {
    transform: Option<Transform>,
    /// A table of its own.
    decoder: Option<Table>,
    bias: Option<Tensor>,
    /// c of `c tanh(logit / c)`.
    cap: Option<f32>,
    /// The label words that were scored first, where nothing of them trains, until the model goes: mostly it never scores others.
    kept: OnceLock<(Box<[u32]>, Linear)>,
}

/// What a masked-LM head does before words are compared.
struct Transform {
    dense: Linear,
    activation: Activation,
    norm: Norm,
}

impl Head {
    pub(super) fn new(supply: &mut TensorSupply<'_>, config: &Config) -> Result<Self> {
        let how = &config.architecture;
        let transform = match how.head {
            HeadForm::Masked(activation) => Some(Transform {
                dense: supply.dense(Part::HeadDense)?,
                activation,
                norm: supply.norm(Part::HeadNorm)?,
            }),
            HeadForm::Tied | HeadForm::Untied => None,
        };
        let decoder = if how.head == HeadForm::Untied { Some(supply.table(Part::Decoder)?) } else { None };
        Ok(Self {
            transform,
            decoder,
            bias: supply.bias(Part::HeadBias)?,
            cap: how.logit_cap,
            kept: OnceLock::new(),
        })
    }

    pub(super) fn set_precision(&mut self, precision: Precision) {
        if let Some(transform) = &mut self.transform {
            transform.dense.set_precision(precision);
        }
    }

    /// Bytes that its matrix takes now, beside the table of words and what it keeps of label words.
    pub(super) fn weight_bytes(&self) -> usize {
        self.transform.as_ref().map_or(0, |transform| transform.dense.weight_bytes())
    }

    /// The layer that compares with words.
    pub(super) fn words(&self, encoder: &Encoder, scored: Scored<'_>) -> Result<Linear> {
        let words = self.decoder.as_ref().unwrap_or(encoder.embeddings.words());
        let ids = match scored {
            Scored::All => return Ok(Linear::new(words.tensor()?, self.bias.clone())?),
            Scored::Tokens(ids) => ids,
        };
        if let Some((_, kept)) = self.kept.get().filter(|(of, _)| **of == *ids) {
            return Ok(kept.clone());
        }
        check_tokens(ids, encoder.config.vocab_size)?;
        let bias = self.bias.as_ref().map(|bias| rows_of(bias, ids)).transpose()?;
        let weight = words.rows(ids)?;
        let trains = weight.track_op() || bias.as_ref().is_some_and(Tensor::track_op);
        let made = Linear::new(weight, bias)?;
        if !trains && !ids.is_empty() {
            self.kept.get_or_init(|| (ids.into(), made.clone()));
        }
        Ok(made)
    }

    /// Logits `[rows, scored]` of hidden states `[rows, hidden]` of the trunk, by the layer of the words.
    pub(super) fn logits(&self, hidden: &Tensor, words: &Linear) -> Result<Tensor> {
        let transformed = match &self.transform {
            Some(transform) => {
                let transformed = transform.dense.forward(hidden, transform.activation)?;
                transform.norm.forward(&transformed)?
            }
            None => hidden.clone(),
        };
        let logits = words.forward(&transformed, Activation::Identity)?;
        Ok(match self.cap.map(f64::from) {
            Some(cap) => ((logits / cap)?.tanh()? * cap)?,
            None => logits,
        })
    }
}
