//! What tuned parameters and their files are called.

/// The tensor of a soft prompt, in memory and in a PEFT file.
pub(crate) const PROMPT_NAME: &str = "prompt_embeddings";
/// The name of our adapters inside an AdapterHub file.
pub(crate) const ADAPTER_NAME: &str = "skn";

pub(super) const PEFT_TENSORS: &str = "adapter_model.safetensors";
pub(super) const ADAPTER_TENSORS: &str = "adapter.safetensors";
pub(super) const ADAPTER_CONFIG: &str = "adapter_config.json";
pub(super) const BIAS_TENSORS: &str = "bitfit.safetensors";
