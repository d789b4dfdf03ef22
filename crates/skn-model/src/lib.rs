//! A RoBERTa masked language model made to be looked into: hooks at every FFN, soft prompts, BitFit and adapters,
//! FFN widths that differ from layer to layer, and pruning. XLM-RoBERTa, CamemBERT and BERT are the same model configured
//! otherwise ([`Family`]).
//!
//! The forward pass is written once ([`LanguageModel::forward`]) and serves training, probing, perturbing, pruning and
//! prediction. Its input is a packed batch of token ids ([`Sequences`]): no padding, no tokenizer, no data format.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use skn_model::{Gradients, ModelFolder, Pass, Result, LanguageModel, Rows, Scored, Sequences, Site, Tuning, Weights};
//!
//! # fn main() -> Result<()> {
//! # // In place of the folder of a real model: one with its vocabulary, but small and of zeros.
//! # let (place, config) = (tempfile::tempdir().unwrap(), skn_model::Config::new(50265, [4, 2, 8, 2], 64)?);
//! # let zeros = skn_model::shapes(&config).into_iter().map(|(name, shape)| {
//! #     Ok((name, Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu)?))
//! # });
//! # let weights = Weights::from_tensors(&config, zeros.collect::<Result<_>>()?)?;
//! # std::fs::write(place.path().join("config.json"), config.to_json()).unwrap();
//! # std::fs::write(place.path().join("model.safetensors"), weights.to_bytes()?).unwrap();
//! # let roberta_base = place.path();
//! let folder = ModelFolder::open(roberta_base)?; // config.json and model.safetensors
//! let config = folder.config()?;
//! let weights = Weights::read(&folder, &config, &Device::Cpu)?;
//! let model = LanguageModel::new(&config, &weights, &Tuning::none(), 50264, Gradients::Nothing)?;
//!
//! // Two texts, `<s> .. </s>`; the hook sees every neuron of every layer.
//! let batch =
//!     Sequences { ids: &[0, 713, 2, 0, 713, 16, 2], starts: &[0, 3, 7], samples: &[0, 1], seconds: &[] };
//! let mut watch = |site: Site, rows: &Rows<'_>, x: Tensor| {
//!     println!("{site}: {} rows of width {}", rows.len(), x.dim(1)?);
//!     Ok(x)
//! };
//! let answers = model.forward(batch, &Pass::default(), &mut watch)?;
//! let logits = model.logits(&answers, Scored::Tokens(&[33407, 22173]))?; // "negative", "positive"
//! assert_eq!(logits.dims(), [2, 2]);
//! # Ok(())
//! # }
//! ```

mod architecture;
mod config;
mod error;
mod family;
mod finite;
mod folder;
mod gguf;
mod hash;
mod hook;
mod language_model;
mod layout;
mod neuron_site;
mod neuron_words;
mod neutral;
mod pass;
mod prune;
mod sequences;
mod shapes;
mod site;
mod tuning;
mod weights;

pub use crate::config::Config;
pub use crate::error::{ModelError, Result};
pub use crate::family::Family;
pub use crate::folder::ModelFolder;
pub use crate::hook::{Chain, Hook, NoHook, Reads, Rows};
pub use crate::language_model::{Gradients, LanguageModel, Scored};
pub use crate::layout::{Layout, RowPlace};
pub use crate::neuron_site::NeuronSite;
pub use crate::neuron_words::output_weights;
pub use crate::pass::{Output, Pass, TrainingDropout};
pub use crate::prune::{LayerCut, PrunedForm, prune};
pub use crate::sequences::Sequences;
pub use crate::shapes::shapes;
pub use crate::site::Site;
pub use crate::tuning::{Method, PromptPlace, ReadAs, ReadTuning, Tuning, no_tuning, not_a_tuning_folder};
pub use crate::weights::Weights;
pub use skn_kernels::{
    Backend, Isa, Precision, TellingAllocator, give_back_freed_memory, keep_candle_on_calling_thread,
    keep_freed_memory, tell_of_memory,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
