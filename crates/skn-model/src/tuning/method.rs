use super::names::PROMPT_NAME;

/// A way to adapt a frozen model to a task. They differ in which parameters train, what goes in before the text, and
/// what is inserted into the layers; the forward pass is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// A soft prompt (Lester et al., 2021): rows before the text.
    Prompt,
    /// BitFit (Ben Zaken et al., 2022): every bias.
    Bias,
    /// Bottleneck adapters after the FFN (Pfeiffer et al., 2021).
    Adapter,
}

impl Method {
    /// Whether a parameter of this name trains.
    pub fn trains(self, name: &str) -> bool {
        match self {
            Self::Prompt => name == PROMPT_NAME,
            Self::Bias => name.ends_with(".bias"),
            Self::Adapter => name.contains(".adapters."),
        }
    }
}
