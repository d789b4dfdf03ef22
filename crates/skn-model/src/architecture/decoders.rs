//! Decoders: language models that see only what comes before.

use super::names::{Names, Stored};
use super::part::{LayerPart, Part};

const LLAMA_PARTS: &[(Part, &str)] =
    &[(Part::Words, "model.embed_tokens"), (Part::FinalNorm, "model.norm"), (Part::Decoder, "lm_head")];

const LLAMA_TWINS: &[(&str, &str)] = &[("lm_head.weight", "model.embed_tokens.weight")];

/// Llama and those that are built like it; they differ in which parts a layer has.
const fn like_llama(in_layers: &'static [(LayerPart, &'static str)]) -> Names {
    Names {
        trunk: "model",
        bare: &["embed_tokens.", "layers.", "norm."],
        layers: "model.layers",
        head: "lm_head",
        parts: LLAMA_PARTS,
        in_layers,
        twins: LLAMA_TWINS,
        aliases: &[],
        unused: &[],
        buffers: &["rotary_emb.inv_freq"],
        stored: Stored::Apart,
    }
}

pub(crate) const LLAMA: Names = like_llama(&[
    (LayerPart::InputNorm, "input_layernorm"),
    (LayerPart::Query, "self_attn.q_proj"),
    (LayerPart::Key, "self_attn.k_proj"),
    (LayerPart::Value, "self_attn.v_proj"),
    (LayerPart::AttentionOutput, "self_attn.o_proj"),
    (LayerPart::FfnNorm, "post_attention_layernorm"),
    (LayerPart::Gate, "mlp.gate_proj"),
    (LayerPart::Up, "mlp.up_proj"),
    (LayerPart::Down, "mlp.down_proj"),
]);

pub(crate) const QWEN3: Names = like_llama(&[
    (LayerPart::InputNorm, "input_layernorm"),
    (LayerPart::Query, "self_attn.q_proj"),
    (LayerPart::Key, "self_attn.k_proj"),
    (LayerPart::Value, "self_attn.v_proj"),
    (LayerPart::QueryNorm, "self_attn.q_norm"),
    (LayerPart::KeyNorm, "self_attn.k_norm"),
    (LayerPart::AttentionOutput, "self_attn.o_proj"),
    (LayerPart::FfnNorm, "post_attention_layernorm"),
    (LayerPart::Gate, "mlp.gate_proj"),
    (LayerPart::Up, "mlp.up_proj"),
    (LayerPart::Down, "mlp.down_proj"),
]);

/// Gemma 2, and Gemma 3, which has norms of queries and keys too.
pub(crate) const GEMMA: Names = like_llama(&[
    (LayerPart::InputNorm, "input_layernorm"),
    (LayerPart::Query, "self_attn.q_proj"),
    (LayerPart::Key, "self_attn.k_proj"),
    (LayerPart::Value, "self_attn.v_proj"),
    (LayerPart::QueryNorm, "self_attn.q_norm"),
    (LayerPart::KeyNorm, "self_attn.k_norm"),
    (LayerPart::AttentionOutput, "self_attn.o_proj"),
    (LayerPart::AttentionEndNorm, "post_attention_layernorm"),
    (LayerPart::FfnNorm, "pre_feedforward_layernorm"),
    (LayerPart::Gate, "mlp.gate_proj"),
    (LayerPart::Up, "mlp.up_proj"),
    (LayerPart::Down, "mlp.down_proj"),
    (LayerPart::FfnEndNorm, "post_feedforward_layernorm"),
]);

pub(crate) const OLMO2: Names = like_llama(&[
    (LayerPart::Query, "self_attn.q_proj"),
    (LayerPart::Key, "self_attn.k_proj"),
    (LayerPart::Value, "self_attn.v_proj"),
    (LayerPart::QueryNorm, "self_attn.q_norm"),
    (LayerPart::KeyNorm, "self_attn.k_norm"),
    (LayerPart::AttentionOutput, "self_attn.o_proj"),
    (LayerPart::AttentionEndNorm, "post_attention_layernorm"),
    (LayerPart::Gate, "mlp.gate_proj"),
    (LayerPart::Up, "mlp.up_proj"),
    (LayerPart::Down, "mlp.down_proj"),
    (LayerPart::FfnEndNorm, "post_feedforward_layernorm"),
]);

pub(crate) const GPT_NEOX: Names = Names {
    trunk: "gpt_neox",
    bare: &["embed_in.", "layers.", "final_layer_norm."],
    layers: "gpt_neox.layers",
    head: "embed_out",
    parts: &[
        (Part::Words, "gpt_neox.embed_in"),
        (Part::FinalNorm, "gpt_neox.final_layer_norm"),
        (Part::Decoder, "embed_out"),
    ],
    in_layers: &[
        (LayerPart::InputNorm, "input_layernorm"),
        (LayerPart::Query, "attention.query_key_value"),
        (LayerPart::Key, "attention.query_key_value"),
        (LayerPart::Value, "attention.query_key_value"),
        (LayerPart::AttentionOutput, "attention.dense"),
        (LayerPart::FfnNorm, "post_attention_layernorm"),
        (LayerPart::Up, "mlp.dense_h_to_4h"),
        (LayerPart::Down, "mlp.dense_4h_to_h"),
    ],
    twins: &[("embed_out.weight", "gpt_neox.embed_in.weight")],
    aliases: &[("lm_head.weight", "embed_out.weight")],
    unused: &[],
    buffers: &["attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"],
    stored: Stored::HeadByHead,
};

pub(crate) const GPT2: Names = Names {
    trunk: "transformer",
    bare: &["wte.", "wpe.", "h.", "ln_f."],
    layers: "transformer.h",
    head: "lm_head",
    parts: &[
        (Part::Words, "transformer.wte"),
        (Part::Positions, "transformer.wpe"),
        (Part::FinalNorm, "transformer.ln_f"),
        (Part::Decoder, "lm_head"),
    ],
    in_layers: &[
        (LayerPart::InputNorm, "ln_1"),
        (LayerPart::Query, "attn.c_attn"),
        (LayerPart::Key, "attn.c_attn"),
        (LayerPart::Value, "attn.c_attn"),
        (LayerPart::AttentionOutput, "attn.c_proj"),
        (LayerPart::FfnNorm, "ln_2"),
        (LayerPart::Up, "mlp.c_fc"),
        (LayerPart::Down, "mlp.c_proj"),
    ],
    twins: &[("lm_head.weight", "transformer.wte.weight")],
    aliases: &[],
    unused: &[],
    buffers: &[".attn.bias", ".attn.masked_bias"],
    stored: Stored::Transposed,
};
