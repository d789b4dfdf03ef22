use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Make the embedded demo. The defaults are the recipe of what the crate `skn-demo` embeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PretrainDemo {
    /// Seed of text, weights and masks; default 0.
    pub seed: u64,
    /// Steps of training; default 6000.
    pub steps: u64,
    /// Documents a step; default 64.
    pub batch: u64,
    /// Peak learning rate; default 2e-3.
    pub learning_rate: f64,
    /// Hidden size, attention heads, FFN width, layers; default 96, 4, 384, 4.
    pub shape: [usize; 4],
    /// Steps between reports of how well label words are named; default 250.
    pub report_every: u64,
    /// Whether to make the model, not the tokenizer and the tasks only; default yes.
    pub model: bool,
    /// The folder to write to.
    pub out: PathBuf,
    /// Whether files that are there are replaced.
    pub overwrite: bool,
}

impl Default for PretrainDemo {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 6000,
            batch: 64,
            learning_rate: 2e-3,
            shape: [96, 4, 384, 4],
            report_every: 250,
            model: true,
            out: PathBuf::new(),
            overwrite: false,
        }
    }
}
