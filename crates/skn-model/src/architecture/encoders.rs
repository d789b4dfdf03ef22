//! Encoders with a masked-LM head, of the BERT kind.

use super::names::{Names, Stored};
use super::part::{LayerPart, Part};

const LAYER: &[(LayerPart, &str)] = &[
    (LayerPart::Query, "attention.self.query"),
    (LayerPart::Key, "attention.self.key"),
    (LayerPart::Value, "attention.self.value"),
    (LayerPart::AttentionOutput, "attention.output.dense"),
    (LayerPart::AttentionSumNorm, "attention.output.LayerNorm"),
    (LayerPart::Up, "intermediate.dense"),
    (LayerPart::Down, "output.dense"),
    (LayerPart::FfnSumNorm, "output.LayerNorm"),
];

const BUFFERS: &[&str] = &["position_ids", "token_type_ids"];
const BARE: &[&str] = &["embeddings.", "encoder."];

pub(crate) const ROBERTA: Names = Names {
    trunk: "roberta",
    bare: BARE,
    layers: "roberta.encoder.layer",
    head: "lm_head",
    parts: &[
        (Part::Words, "roberta.embeddings.word_embeddings"),
        (Part::Positions, "roberta.embeddings.position_embeddings"),
        (Part::TokenTypes, "roberta.embeddings.token_type_embeddings"),
        (Part::EmbeddingNorm, "roberta.embeddings.LayerNorm"),
        (Part::HeadDense, "lm_head.dense"),
        (Part::HeadNorm, "lm_head.layer_norm"),
        (Part::HeadBias, "lm_head"),
    ],
    in_layers: LAYER,
    twins: &[
        ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
        ("lm_head.decoder.bias", "lm_head.bias"),
    ],
    aliases: &[],
    unused: &["roberta.pooler", "pooler"],
    buffers: BUFFERS,
    stored: Stored::Apart,
};

pub(crate) const BERT: Names = Names {
    trunk: "bert",
    bare: BARE,
    layers: "bert.encoder.layer",
    head: "cls.predictions",
    parts: &[
        (Part::Words, "bert.embeddings.word_embeddings"),
        (Part::Positions, "bert.embeddings.position_embeddings"),
        (Part::TokenTypes, "bert.embeddings.token_type_embeddings"),
        (Part::EmbeddingNorm, "bert.embeddings.LayerNorm"),
        (Part::HeadDense, "cls.predictions.transform.dense"),
        (Part::HeadNorm, "cls.predictions.transform.LayerNorm"),
        (Part::HeadBias, "cls.predictions"),
    ],
    in_layers: LAYER,
    twins: &[
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
    aliases: &[],
    unused: &["bert.pooler", "pooler", "cls.seq_relationship"],
    buffers: BUFFERS,
    stored: Stored::Apart,
};

pub(crate) const MODERN_BERT: Names = Names {
    trunk: "model",
    bare: &["embeddings.", "layers.", "final_norm."],
    layers: "model.layers",
    head: "head",
    parts: &[
        (Part::Words, "model.embeddings.tok_embeddings"),
        (Part::EmbeddingNorm, "model.embeddings.norm"),
        (Part::FinalNorm, "model.final_norm"),
        (Part::HeadDense, "head.dense"),
        (Part::HeadNorm, "head.norm"),
        (Part::HeadBias, "decoder"),
    ],
    in_layers: &[
        (LayerPart::InputNorm, "attn_norm"),
        (LayerPart::Query, "attn.Wqkv"),
        (LayerPart::Key, "attn.Wqkv"),
        (LayerPart::Value, "attn.Wqkv"),
        (LayerPart::AttentionOutput, "attn.Wo"),
        (LayerPart::FfnNorm, "mlp_norm"),
        (LayerPart::Gate, "mlp.Wi"),
        (LayerPart::Up, "mlp.Wi"),
        (LayerPart::Down, "mlp.Wo"),
    ],
    twins: &[("decoder.weight", "model.embeddings.tok_embeddings.weight")],
    aliases: &[],
    unused: &[],
    buffers: BUFFERS,
    stored: Stored::Fused,
};
