use std::fmt;

/// A place in the forward pass where a [`Hook`](crate::Hook) may look at, or replace, what flows through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Site {
    /// The FFN's activations `[rows, width(layer)]`, after GELU and before the second matrix: the neurons.
    FfnAct {
        /// The layer, from 0.
        layer: usize,
    },
    /// The layer's output `[rows, hidden]`, after its last LayerNorm.
    LayerOut {
        /// The layer, from 0.
        layer: usize,
    },
}

impl Site {
    /// The layer, from 0.
    pub fn layer(self) -> usize {
        match self {
            Self::FfnAct { layer } | Self::LayerOut { layer } => layer,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FfnAct { layer } => write!(f, "FFN activations of layer {layer}"),
            Self::LayerOut { layer } => write!(f, "output of layer {layer}"),
        }
    }
}
