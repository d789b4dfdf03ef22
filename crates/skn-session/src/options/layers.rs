use serde::{Deserialize, Serialize};

/// A range of a model's layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayerRange {
    /// First layer, from 0; default: 0, and when pruning a quarter of the layers.
    pub low_layer: Option<usize>,
    /// One past the last layer; default: all.
    pub high_layer: Option<usize>,
}
