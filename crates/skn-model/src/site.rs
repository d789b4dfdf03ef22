use std::fmt;

/// A place in the forward pass where a [`Hook`](crate::Hook) may look at, or replace, what flows through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Site {
    /// A gated FFN's gate after its activation, `[rows, width(layer)]`. A hook reads it only if it says so
    /// ([`Hook::reads`](crate::Hook::reads)); a plain FFN has none.
    FfnGate {
        /// The layer, from 0.
        layer: usize,
    },
    /// What a gated FFN's gate lets through, `[rows, width(layer)]`; as [`Self::FfnGate`].
    FfnUp {
        /// The layer, from 0.
        layer: usize,
    },
    /// The FFN's activations `[rows, width(layer)]`, which its second matrix is multiplied with: the neurons. Of a gated FFN
    /// they are products of the activated gate and what it lets through.
    FfnAct {
        /// The layer, from 0.
        layer: usize,
    },
    /// The layer's output `[rows, hidden]`, before a norm behind the last layer.
    LayerOut {
        /// The layer, from 0.
        layer: usize,
    },
}

impl Site {
    /// The sites of a layer, in the order of the pass.
    pub(crate) fn of_layer(layer: usize) -> [Self; 4] {
        [Self::FfnGate { layer }, Self::FfnUp { layer }, Self::FfnAct { layer }, Self::LayerOut { layer }]
    }

    /// The layer, from 0.
    pub fn layer(self) -> usize {
        match self {
            Self::FfnGate { layer }
            | Self::FfnUp { layer }
            | Self::FfnAct { layer }
            | Self::LayerOut { layer } => layer,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FfnGate { layer } => write!(f, "FFN gate of layer {layer}"),
            Self::FfnUp { layer } => write!(f, "FFN up of layer {layer}"),
            Self::FfnAct { layer } => write!(f, "FFN activations of layer {layer}"),
            Self::LayerOut { layer } => write!(f, "output of layer {layer}"),
        }
    }
}
