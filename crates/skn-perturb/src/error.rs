use skn_artifact::ErrorKind;

/// Why neurons could not be edited.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PerturbError {
    /// No edit has this name.
    #[error("edit `{found}`: expected one of {expected}")]
    UnknownEdit {
        /// The names there are.
        expected: String,
        /// The name given.
        found: String,
    },

    /// Something is given for another number of layers than the model has.
    #[error("{what}: expected {expected} layers, found {found}")]
    Layers {
        /// What is given by layer.
        what: &'static str,
        /// The model's layers.
        expected: usize,
        /// The layers given.
        found: usize,
    },

    /// A neuron is not in its layer.
    #[error("layer {layer}: expected neurons below {width}, found {neuron}")]
    Neuron {
        /// The layer, from 0.
        layer: usize,
        /// The neuron.
        neuron: u32,
        /// The layer's FFN width.
        width: usize,
    },

    /// There are not as many numbers as there must be.
    #[error("{what}: expected {expected} values, found {found}")]
    Length {
        /// What the numbers are.
        what: String,
        /// How many there must be.
        expected: String,
        /// How many there are.
        found: usize,
    },

    /// A number is not finite, or is out of its range.
    #[error("{what}: expected {expected}, found {found}")]
    Value {
        /// What the number is, with layer and neuron where it has them.
        what: String,
        /// What would have been accepted.
        expected: &'static str,
        /// The number.
        found: f64,
    },

    /// Averages are of neither of the two shapes that they come in.
    #[error("averages: expected shape [layers, positions, neurons] or [layers, neurons], found {found:?}")]
    Shape {
        /// Their shape.
        found: Vec<usize>,
    },

    /// A layer has not enough neurons beside the skill neurons for a control of the same size.
    #[error(
        "random control: layer {layer}: expected {asked} neurons that are not skill neurons, found {left}"
    )]
    TooFewLeft {
        /// The layer, from 0.
        layer: usize,
        /// How many are asked for.
        asked: usize,
        /// How many there are.
        left: usize,
    },

    /// There is no given noise for a text.
    #[error("given noise: expected texts below {texts}, found {sample}")]
    NoNoise {
        /// The text's number.
        sample: u64,
        /// The number of texts with noise.
        texts: usize,
    },
}

impl PerturbError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownEdit { .. } | Self::TooFewLeft { .. } => ErrorKind::Usage,
            Self::Layers { .. } | Self::Neuron { .. } | Self::Length { .. } | Self::Shape { .. } => {
                ErrorKind::Input
            }
            Self::Value { .. } | Self::NoNoise { .. } => ErrorKind::Input,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = PerturbError> = std::result::Result<T, E>;
