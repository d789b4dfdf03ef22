/// A part of a model that has tensors, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The table of word embeddings, by which tokens are scored too.
    Words,
    /// The table of learned positions.
    Positions,
    /// The table of token types.
    TokenTypes,
    /// The norm of what rows are before the first layer.
    EmbeddingNorm,
    /// A part of a layer, by the layer's number from 0.
    Layer(usize, LayerPart),
    /// The matrix of the masked-LM head.
    HeadDense,
    /// The norm of the masked-LM head.
    HeadNorm,
    /// The bias of each token's logit.
    HeadBias,
}

impl Part {
    /// Whether it belongs to the head, which a model may lack.
    pub(crate) fn is_of_head(self) -> bool {
        matches!(self, Self::HeadDense | Self::HeadNorm | Self::HeadBias)
    }
}

/// A part of a layer that has tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerPart {
    /// What the queries of attention are made with.
    Query,
    /// What its keys are made with.
    Key,
    /// What its values are made with.
    Value,
    /// The matrix behind the heads.
    AttentionOutput,
    /// The norm of the sum of attention and its input.
    AttentionNorm,
    /// The first matrix of the FFN: its outputs are the neurons.
    Up,
    /// The second matrix of the FFN: its inputs are the neurons.
    Down,
    /// The norm of the sum of the FFN and its input.
    OutputNorm,
}
