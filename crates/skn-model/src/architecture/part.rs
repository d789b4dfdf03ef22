/// A part of a model that has tensors, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The table of word embeddings, by which tokens are scored too unless there is a [`Self::Decoder`].
    Words,
    /// The table of learned positions.
    Positions,
    /// The table of token types.
    TokenTypes,
    /// The norm of what rows are before the first layer.
    EmbeddingNorm,
    /// A part of a layer, by the layer's number from 0.
    Layer(usize, LayerPart),
    /// The norm behind the last layer.
    FinalNorm,
    /// The matrix of the masked-LM head.
    HeadDense,
    /// The norm of the masked-LM head.
    HeadNorm,
    /// The bias of each token's logit.
    HeadBias,
    /// The table by which tokens are scored, where it is not that of the words.
    Decoder,
}

impl Part {
    /// Whether it belongs to the head, which a model may lack.
    pub(crate) fn is_of_head(self) -> bool {
        matches!(self, Self::HeadDense | Self::HeadNorm | Self::HeadBias | Self::Decoder)
    }
}

/// A part of a layer that has tensors. Families differ in which norms they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerPart {
    /// The norm of what attention reads.
    InputNorm,
    /// What the queries of attention are made with.
    Query,
    /// What its keys are made with.
    Key,
    /// What its values are made with.
    Value,
    /// The norm of queries.
    QueryNorm,
    /// The norm of keys.
    KeyNorm,
    /// The matrix behind the heads.
    AttentionOutput,
    /// The norm of what attention gives, before it is added to its input.
    AttentionEndNorm,
    /// The norm of the sum of attention and its input.
    AttentionSumNorm,
    /// The norm of what the FFN reads.
    FfnNorm,
    /// The first matrix of a gated FFN whose outputs are activated.
    Gate,
    /// The first matrix of the FFN. Its outputs are the neurons, activated, or times an activated gate.
    Up,
    /// The second matrix of the FFN: its inputs are the neurons.
    Down,
    /// The norm of what the FFN gives, before it is added to its input.
    FfnEndNorm,
    /// The norm of the sum of the FFN and its input.
    FfnSumNorm,
}
