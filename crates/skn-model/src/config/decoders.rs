//! Configurations of decoders.

use std::sync::Arc;

use skn_kernels::{Activation, Sees};

use super::fields::Fields;
use super::rotary::{Rotary, USUAL_THETA};
use super::sizes::{MAX_VOCABULARY, MAX_WIDTH, Rest, SizeNames, Sizes};
use crate::architecture::{Architecture, AttentionSizes, Biases, HeadForm, HeadNorms, LayerForm, NormForm};
use crate::error::Result;
use crate::family::Family;

/// Llama, and those that are built like it: Mistral, Qwen 2 and 3, OLMo 2.
pub(super) fn llama_like(fields: &Fields<'_>, family: Family) -> Result<(Sizes, Rest)> {
    let sizes = Sizes::read(fields, &SizeNames::USUAL)?;
    let width = match (family, fields.has("head_dim")) {
        (Family::Qwen2 | Family::Olmo2, _) => sizes.head_width(fields)?,
        (_, true) => fields.integer("head_dim", 1..=MAX_WIDTH)?,
        (Family::Qwen3, false) => 128,
        _ => sizes.head_width(fields)?,
    };
    let key_value_heads = match family {
        Family::Mistral => key_value_heads(fields, &sizes, Some(8))?,
        Family::Qwen2 | Family::Qwen3 => key_value_heads(fields, &sizes, Some(32))?,
        _ => key_value_heads(fields, &sizes, None)?,
    };
    let sees = match family {
        Family::Mistral if fields.is_null("sliding_window") => Sees::CAUSAL,
        Family::Mistral => last(fields.integer_or("sliding_window", 1..=MAX_VOCABULARY, 4096)?),
        _ => Sees::CAUSAL,
    };
    let rotary = Rotary::of_all(fields, ("rope_theta", USUAL_THETA), ("(none)", 1.0))?;
    let rotation = rotary.inverse_frequencies(width)?;
    let layer = LayerForm { sees, rotation: Some(rotation), normed: true };
    let has_attention_bias = matches!(family, Family::Llama | Family::Qwen3 | Family::Olmo2);
    let attention_bias = has_attention_bias && fields.flag("attention_bias", false)?;
    let ffn_bias = family == Family::Llama && fields.flag("mlp_bias", false)?;
    let rest = Rest {
        type_vocab_size: 0,
        norm_eps: fields.number_or(
            "rms_norm_eps",
            0.0..=1.0,
            if family == Family::Olmo2 { 1e-5 } else { 1e-6 },
        )?,
        hidden_dropout: 0.0,
        attention_dropout: fields.share_or("attention_dropout", 0.0)?,
        first_position: 0,
        activation: fields.activation("hidden_act", Activation::Silu)?,
        architecture: Architecture {
            attention: AttentionSizes {
                heads: sizes.heads,
                key_value_heads,
                head_width: width,
                scale: 1.0 / (width as f32).sqrt(),
                cap: None,
                norms: match family {
                    Family::Qwen3 => HeadNorms::Each,
                    Family::Olmo2 => HeadNorms::Together,
                    _ => HeadNorms::None,
                },
            },
            layers: vec![layer; sizes.layers],
            norm: NormForm::Rms,
            gated: true,
            parallel: false,
            word_scale: None,
            head: head(fields, false)?,
            logit_cap: None,
            biases: Biases {
                attention_in: attention_bias || family == Family::Qwen2,
                attention_out: attention_bias,
                ffn_in: ffn_bias,
                ffn_out: ffn_bias,
                ..Biases::NONE
            },
        },
    };
    Ok((sizes, rest))
}

/// Gemma 2 and the text model of Gemma 3.
pub(super) fn gemma(fields: &Fields<'_>, family: Family) -> Result<(Sizes, Rest)> {
    let sizes = Sizes::read(fields, &SizeNames::USUAL)?;
    let width = fields.integer_or("head_dim", 1..=MAX_WIDTH, 256)?;
    let third = family == Family::Gemma3;
    let every = fields.integer_or("sliding_window_pattern", 1..=MAX_WIDTH, 6)?;
    let slides =
        |layer: usize| if third { !(layer + 1).is_multiple_of(every) } else { layer.is_multiple_of(2) };
    let slides = fields.sliding_layers(sizes.layers, slides)?;
    let window = fields.integer_or("sliding_window", 1..=MAX_VOCABULARY, 4096)?;
    let [full, sliding] = if third {
        let of =
            |kind, theta, scaled| Rotary::of_kind(fields, kind, theta, scaled)?.inverse_frequencies(width);
        [
            of("full_attention", ("rope_theta", 1_000_000.0), true)?,
            of("sliding_attention", ("rope_local_base_freq", USUAL_THETA), false)?,
        ]
    } else {
        let rotary = Rotary::of_all(fields, ("rope_theta", USUAL_THETA), ("(none)", 1.0))?;
        let rotation = rotary.inverse_frequencies(width)?;
        [Arc::clone(&rotation), rotation]
    };
    let layers = slides.into_iter().map(|slides| LayerForm {
        sees: if slides { last(window) } else { Sees::CAUSAL },
        rotation: Some(Arc::clone(if slides { &sliding } else { &full })),
        normed: true,
    });
    let scale = fields.number_or("query_pre_attn_scalar", 1e-6..=1e9, 256.0)?;
    let attention_bias = fields.flag("attention_bias", false)?;
    // Gemma 2 caps where nothing is said, and not where null is.
    let cap = |field: &str, usual: f64| -> Result<Option<f32>> {
        if fields.is_null(field) || (third && !fields.has(field)) {
            return Ok(None);
        }
        Ok(Some(rounded(fields.number_or(field, 1e-6..=1e9, usual)?)))
    };
    let rest = Rest {
        type_vocab_size: 0,
        norm_eps: fields.number_or("rms_norm_eps", 0.0..=1.0, 1e-6)?,
        hidden_dropout: 0.0,
        attention_dropout: fields.share_or("attention_dropout", 0.0)?,
        first_position: 0,
        activation: fields.activation("hidden_activation", Activation::GeluTanh)?,
        architecture: Architecture {
            attention: AttentionSizes {
                heads: sizes.heads,
                key_value_heads: key_value_heads(fields, &sizes, Some(4))?,
                head_width: width,
                scale: rounded(scale.powf(-0.5)),
                cap: cap("attn_logit_softcapping", 50.0)?,
                norms: if third { HeadNorms::Each } else { HeadNorms::None },
            },
            layers: layers.collect(),
            norm: NormForm::RmsPlusOne,
            gated: true,
            parallel: false,
            word_scale: Some((sizes.hidden as f32).sqrt()),
            head: head(fields, true)?,
            logit_cap: cap("final_logit_softcapping", 30.0)?,
            biases: Biases { attention_in: attention_bias, attention_out: attention_bias, ..Biases::NONE },
        },
    };
    Ok((sizes, rest))
}

/// GPT-NeoX: Pythia.
pub(super) fn gpt_neox(fields: &Fields<'_>) -> Result<(Sizes, Rest)> {
    let sizes = Sizes::read(fields, &SizeNames::USUAL)?;
    let width = sizes.head_width(fields)?;
    let rotary = Rotary::of_all(fields, ("rotary_emb_base", USUAL_THETA), ("rotary_pct", 0.25))?;
    let layer =
        LayerForm { sees: Sees::CAUSAL, rotation: Some(rotary.inverse_frequencies(width)?), normed: true };
    let attention_bias = fields.flag("attention_bias", true)?;
    let rest = Rest {
        type_vocab_size: 0,
        norm_eps: fields.number_or("layer_norm_eps", 0.0..=1.0, 1e-5)?,
        hidden_dropout: fields.share_or("hidden_dropout", 0.0)?,
        attention_dropout: fields.share_or("attention_dropout", 0.0)?,
        first_position: 0,
        activation: fields.activation("hidden_act", Activation::Gelu)?,
        architecture: Architecture {
            attention: AttentionSizes {
                heads: sizes.heads,
                key_value_heads: sizes.heads,
                head_width: width,
                scale: 1.0 / (width as f32).sqrt(),
                cap: None,
                norms: HeadNorms::None,
            },
            layers: vec![layer; sizes.layers],
            norm: NormForm::Layer { bias: true },
            gated: false,
            parallel: fields.flag("use_parallel_residual", true)?,
            word_scale: None,
            head: head(fields, false)?,
            logit_cap: None,
            biases: Biases { attention_in: attention_bias, attention_out: attention_bias, ..Biases::ALL },
        },
    };
    Ok((sizes, rest))
}

/// GPT-2.
pub(super) fn gpt2(fields: &Fields<'_>) -> Result<(Sizes, Rest)> {
    let sizes = Sizes::read(fields, &SizeNames::GPT2)?;
    let width = sizes.head_width(fields)?;
    fields.tell_dropout_unlike("embd_pdrop", "resid_pdrop", 0.1)?;
    let rest = Rest {
        type_vocab_size: 0,
        norm_eps: fields.number_or("layer_norm_epsilon", 0.0..=1.0, 1e-5)?,
        hidden_dropout: fields.share_or("resid_pdrop", 0.1)?,
        attention_dropout: fields.share_or("attn_pdrop", 0.1)?,
        first_position: 0,
        activation: fields.activation("activation_function", Activation::GeluTanh)?,
        architecture: Architecture {
            attention: AttentionSizes {
                heads: sizes.heads,
                key_value_heads: sizes.heads,
                head_width: width,
                scale: 1.0 / (width as f32).sqrt(),
                cap: None,
                norms: HeadNorms::None,
            },
            layers: vec![LayerForm { sees: Sees::CAUSAL, rotation: None, normed: true }; sizes.layers],
            norm: NormForm::Layer { bias: true },
            gated: false,
            parallel: false,
            word_scale: None,
            head: head(fields, true)?,
            logit_cap: None,
            biases: Biases::ALL,
        },
    };
    Ok((sizes, rest))
}

/// What answers, by `tie_word_embeddings`.
fn head(fields: &Fields<'_>, tied: bool) -> Result<HeadForm> {
    Ok(if fields.flag("tie_word_embeddings", tied)? { HeadForm::Tied } else { HeadForm::Untied })
}

/// `num_key_value_heads`; where there is none as many as transformers takes, or as there are heads.
fn key_value_heads(fields: &Fields<'_>, sizes: &Sizes, usual: Option<usize>) -> Result<usize> {
    let field = "num_key_value_heads";
    let usual = if fields.is_null(field) { None } else { usual };
    let found = fields.integer_or(field, 1..=MAX_WIDTH, usual.unwrap_or(sizes.heads))?;
    if sizes.heads.is_multiple_of(found) {
        return Ok(found);
    }
    Err(fields.error(field, format!("a divisor of the {} attention heads", sizes.heads), found))
}

/// The last `window` rows, the row itself among them.
fn last(window: usize) -> Sees {
    Sees { before: Some(window.saturating_sub(1)), after: Some(0) }
}

#[expect(clippy::cast_possible_truncation, reason = "it is rounded")]
fn rounded(number: f64) -> f32 {
    number as f32
}
