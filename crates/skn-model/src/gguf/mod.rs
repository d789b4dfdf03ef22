//! Models in GGUF files, the form of llama.cpp: what they say as a configuration, and their tensors as those of a model in
//! Hugging Face form.

mod beside;
mod blocks;
mod config;
mod kind;
mod rope;
mod rows;
mod says;
mod weights;

pub(crate) use config::{Beside, config_json};
pub(crate) use weights::GgufWeights;
