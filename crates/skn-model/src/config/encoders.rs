//! Configurations of encoders with a masked-LM head.

use std::sync::Arc;

use skn_kernels::{Activation, Sees};

use super::fields::Fields;
use super::rotary::{Rotary, USUAL_THETA};
use super::sizes::{MAX_VOCABULARY, MAX_WIDTH, Rest, SizeNames, Sizes};
use crate::architecture::{Architecture, AttentionSizes, Biases, HeadForm, HeadNorms, LayerForm, NormForm};
use crate::error::Result;
use crate::family::Family;

/// RoBERTa and BERT.
pub(super) fn bert_like(fields: &Fields<'_>, family: Family) -> Result<(Sizes, Rest)> {
    let sizes = Sizes::read(fields, &SizeNames::USUAL)?;
    let activation = fields.activation("hidden_act", Activation::Gelu)?;
    // It is a GELU in every RoBERTa.
    let head = if family == Family::Bert { activation } else { Activation::Gelu };
    let width = sizes.head_width(fields)?;
    let rest = Rest {
        type_vocab_size: fields.integer_or("type_vocab_size", 1..=MAX_WIDTH, 2)?,
        norm_eps: fields.number_or("layer_norm_eps", 0.0..=1.0, 1e-12)?,
        hidden_dropout: fields.share_or("hidden_dropout_prob", 0.1)?,
        attention_dropout: fields.share_or("attention_probs_dropout_prob", 0.1)?,
        first_position: match family {
            Family::Bert => 0,
            _ => fields.integer_or("pad_token_id", 0..=MAX_VOCABULARY, 1)? + 1,
        },
        activation,
        architecture: Architecture {
            attention: AttentionSizes {
                heads: sizes.heads,
                key_value_heads: sizes.heads,
                head_width: width,
                scale: 1.0 / (width as f32).sqrt(),
                cap: None,
                norms: HeadNorms::None,
            },
            layers: vec![LayerForm { sees: Sees::ALL, rotation: None, normed: false }; sizes.layers],
            norm: NormForm::Layer { bias: true },
            gated: false,
            parallel: false,
            word_scale: None,
            head: HeadForm::Masked(head),
            logit_cap: None,
            biases: Biases::ALL,
        },
    };
    Ok((sizes, rest))
}

/// ModernBERT.
pub(super) fn modern_bert(fields: &Fields<'_>) -> Result<(Sizes, Rest)> {
    let sizes = Sizes::read(fields, &SizeNames::USUAL)?;
    let activation = fields.activation("hidden_activation", Activation::Gelu)?;
    let width = sizes.head_width(fields)?;
    let every = fields.integer_or("global_attn_every_n_layers", 1..=MAX_WIDTH, 3)?;
    let local = fields.integer_or("local_attention", 1..=MAX_VOCABULARY, 128)? / 2;
    let is_local = fields.sliding_layers(sizes.layers, |layer| layer % every != 0)?;
    let rotation = |kind, theta| Rotary::of_kind(fields, kind, theta, true)?.inverse_frequencies(width);
    let full = rotation("full_attention", ("global_rope_theta", 160_000.0))?;
    let sliding = rotation("sliding_attention", ("local_rope_theta", USUAL_THETA))?;
    let layers = is_local.into_iter().enumerate().map(|(layer, is_local)| LayerForm {
        sees: if is_local { Sees { before: Some(local), after: Some(local) } } else { Sees::ALL },
        rotation: Some(Arc::clone(if is_local { &sliding } else { &full })),
        // Its embeddings are normed already.
        normed: layer > 0,
    });
    for field in ["embedding_dropout", "mlp_dropout"] {
        fields.tell_dropout(field)?;
    }
    let attention_bias = fields.flag("attention_bias", false)?;
    let ffn_bias = fields.flag("mlp_bias", false)?;
    let rest = Rest {
        type_vocab_size: 0,
        norm_eps: fields.number_or("norm_eps", 0.0..=1.0, 1e-5)?,
        hidden_dropout: 0.0,
        attention_dropout: fields.share_or("attention_dropout", 0.0)?,
        first_position: 0,
        activation,
        architecture: Architecture {
            attention: AttentionSizes {
                heads: sizes.heads,
                key_value_heads: sizes.heads,
                head_width: width,
                scale: 1.0 / (width as f32).sqrt(),
                cap: None,
                norms: HeadNorms::None,
            },
            layers: layers.collect(),
            norm: NormForm::Layer { bias: fields.flag("norm_bias", false)? },
            gated: true,
            parallel: false,
            word_scale: None,
            head: HeadForm::Masked(fields.activation("classifier_activation", Activation::Gelu)?),
            logit_cap: None,
            biases: Biases {
                attention_in: attention_bias,
                attention_out: attention_bias,
                ffn_in: ffn_bias,
                ffn_out: ffn_bias,
                head: fields.flag("classifier_bias", false)?,
                logits: fields.flag("decoder_bias", true)?,
            },
        },
    };
    Ok((sizes, rest))
}
