//! What a model computes beside the sizes of its parts.

use std::sync::Arc;

use skn_kernels::{Activation, Sees};

/// How a model computes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Architecture {
    pub(crate) attention: AttentionSizes,
    /// What differs from layer to layer.
    pub(crate) layers: Vec<LayerForm>,
    pub(crate) norm: NormForm,
    /// Whether a neuron is a product of two: of an activated gate and what it lets through.
    pub(crate) gated: bool,
    /// Whether the FFN reads what attention reads, and both are added at once.
    pub(crate) parallel: bool,
    /// What words' embeddings are multiplied with.
    pub(crate) word_scale: Option<f32>,
    pub(crate) head: HeadForm,
    /// c of `c tanh(logit / c)`.
    pub(crate) logit_cap: Option<f32>,
    pub(crate) biases: Biases,
}

/// What all layers' attention has in common.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttentionSizes {
    pub(crate) heads: usize,
    /// Heads of keys and values; they divide [`Self::heads`].
    pub(crate) key_value_heads: usize,
    pub(crate) head_width: usize,
    /// What products of queries and keys are multiplied with.
    pub(crate) scale: f32,
    /// c of `c tanh(score / c)`.
    pub(crate) cap: Option<f32>,
    pub(crate) norms: HeadNorms,
}

/// How queries and keys are normed before they are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadNorms {
    None,
    /// Each head by itself.
    Each,
    /// All heads together.
    Together,
}

/// What differs from layer to layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerForm {
    pub(crate) sees: Sees,
    /// The inverse frequencies by which pairs of a head's numbers are rotated.
    pub(crate) rotation: Option<Arc<[f64]>>,
    /// Whether what attention reads is normed, if the family does that.
    pub(crate) normed: bool,
}

/// The norm of all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormForm {
    /// LayerNorm.
    Layer { bias: bool },
    /// RMSNorm.
    Rms,
    /// RMSNorm whose weights are stored without the 1 that is added to them.
    RmsPlusOne,
}

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadForm {
    /// A masked-LM head: a matrix, this activation, a norm, then the words' embeddings.
    Masked(Activation),
    /// The words' embeddings.
    Tied,
    /// A table of its own.
    Untied,
}

/// Which matrices have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Biases {
    /// Queries, keys and values.
    pub(crate) attention_in: bool,
    pub(crate) attention_out: bool,
    /// The FFN's first matrix, or both of a gated one.
    pub(crate) ffn_in: bool,
    pub(crate) ffn_out: bool,
    /// The matrix of a masked-LM head.
    pub(crate) head: bool,
    /// The logits of a masked-LM head.
    pub(crate) logits: bool,
}

impl Biases {
    pub(crate) const ALL: Self = Self {
        attention_in: true,
        attention_out: true,
        ffn_in: true,
        ffn_out: true,
        head: true,
        logits: true,
    };
    pub(crate) const NONE: Self = Self {
        attention_in: false,
        attention_out: false,
        ffn_in: false,
        ffn_out: false,
        head: false,
        logits: false,
    };
}
