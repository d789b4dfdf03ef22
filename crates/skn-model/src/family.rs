use crate::architecture::{BERT, Names, ROBERTA};

/// What differs between the models that this crate computes, beside their shape: where positions begin, whether the
/// second text of a pair has a token type of its own, and what the tensors are called in Hugging Face files.
///
/// XLM-RoBERTa and CamemBERT are RoBERTas with other vocabularies, DistilRoBERTa one with fewer layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Positions from the padding token's id + 1, one token type.
    Roberta,
    /// Positions from 0, two token types.
    Bert,
}

impl Family {
    /// Every family.
    pub(crate) const ALL: [Self; 2] = [Self::Roberta, Self::Bert];

    /// Every `model_type` of a `config.json`, its family, and the name of transformers' class with the masked-LM head.
    pub(crate) const MODEL_TYPES: [(&str, Self, &str); 4] = [
        ("roberta", Self::Roberta, "RobertaForMaskedLM"),
        ("xlm-roberta", Self::Roberta, "XLMRobertaForMaskedLM"),
        ("camembert", Self::Roberta, "CamembertForMaskedLM"),
        ("bert", Self::Bert, "BertForMaskedLM"),
    ];

    /// The family of a `model_type`, if there is one.
    pub fn of(model_type: &str) -> Option<Self> {
        Self::MODEL_TYPES.iter().find(|(name, ..)| *name == model_type).map(|(_, family, _)| *family)
    }

    /// What its tensors are called.
    pub(crate) fn names(self) -> &'static Names {
        match self {
            Self::Roberta => &ROBERTA,
            Self::Bert => &BERT,
        }
    }
}
