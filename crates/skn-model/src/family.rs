use crate::architecture::{BERT, GEMMA, GPT_NEOX, GPT2, LLAMA, MODERN_BERT, Names, OLMO2, QWEN3, ROBERTA};

/// The kinds of models that this crate computes, by what `config.json` calls them.
///
/// XLM-RoBERTa and CamemBERT are RoBERTas with other vocabularies, DistilRoBERTa one with fewer layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Positions from the padding token's id + 1, one token type.
    Roberta,
    /// Positions from 0, two token types.
    Bert,
    /// Norms before, rotated positions, a gated FFN, windows of attention in most layers.
    ModernBert,
    /// A decoder with RMSNorm, rotated positions and a gated FFN.
    Llama,
    /// Llama with a window of attention.
    Mistral,
    /// Llama with biases of queries, keys and values.
    Qwen2,
    /// Llama with norms of queries and keys.
    Qwen3,
    /// Norms before and after, soft caps, windows of attention in every other layer.
    Gemma2,
    /// Gemma 2 with norms of queries and keys.
    Gemma3,
    /// A decoder whose attention and FFN read the same: Pythia.
    GptNeox,
    /// A decoder with learned positions.
    Gpt2,
    /// Llama with norms behind attention and FFN.
    Olmo2,
}

impl Family {
    /// Every family.
    pub(crate) const ALL: [Self; 12] = [
        Self::Roberta,
        Self::Bert,
        Self::ModernBert,
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma2,
        Self::Gemma3,
        Self::GptNeox,
        Self::Gpt2,
        Self::Olmo2,
    ];

    /// Every `model_type` of a `config.json`, its family, and the name of transformers' class with the head that names words.
    pub(crate) const MODEL_TYPES: [(&str, Self, &str); 14] = [
        ("roberta", Self::Roberta, "RobertaForMaskedLM"),
        ("xlm-roberta", Self::Roberta, "XLMRobertaForMaskedLM"),
        ("camembert", Self::Roberta, "CamembertForMaskedLM"),
        ("bert", Self::Bert, "BertForMaskedLM"),
        ("modernbert", Self::ModernBert, "ModernBertForMaskedLM"),
        ("llama", Self::Llama, "LlamaForCausalLM"),
        ("mistral", Self::Mistral, "MistralForCausalLM"),
        ("qwen2", Self::Qwen2, "Qwen2ForCausalLM"),
        ("qwen3", Self::Qwen3, "Qwen3ForCausalLM"),
        ("gemma2", Self::Gemma2, "Gemma2ForCausalLM"),
        ("gemma3_text", Self::Gemma3, "Gemma3ForCausalLM"),
        ("gpt_neox", Self::GptNeox, "GPTNeoXForCausalLM"),
        ("gpt2", Self::Gpt2, "GPT2LMHeadModel"),
        ("olmo2", Self::Olmo2, "Olmo2ForCausalLM"),
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
            Self::ModernBert => &MODERN_BERT,
            Self::Llama | Self::Mistral | Self::Qwen2 => &LLAMA,
            Self::Qwen3 => &QWEN3,
            Self::Gemma2 | Self::Gemma3 => &GEMMA,
            Self::GptNeox => &GPT_NEOX,
            Self::Gpt2 => &GPT2,
            Self::Olmo2 => &OLMO2,
        }
    }
}
