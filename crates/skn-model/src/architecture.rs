//! A model as data: which parts it has, what their tensors are called and of which shape they are, and
//! how they compute.

mod decoders;
mod encoders;
mod forms;
mod names;
mod part;
mod tensors;

pub(crate) use decoders::{GEMMA, GPT_NEOX, GPT2, LLAMA, OLMO2, QWEN3};
pub(crate) use encoders::{BERT, MODERN_BERT, ROBERTA};
pub(crate) use forms::{Architecture, AttentionSizes, Biases, HeadForm, HeadNorms, LayerForm, NormForm};
pub(crate) use names::Names;
pub(crate) use part::{LayerPart, Part};
pub(crate) use tensors::{Form, Module, Piece};
