//! What tuned parameters and their files are called.

/// The tensor of a soft prompt, in memory and in a PEFT file.
pub(crate) const PROMPT_NAME: &str = "prompt_embeddings";
/// What stands for it in the hash of a decoder's prompt that stands in front.
pub(crate) const FRONT_PROMPT: &str = "front.prompt_embeddings";
/// The name of our adapters inside an AdapterHub file.
pub(crate) const ADAPTER_NAME: &str = "skn";
