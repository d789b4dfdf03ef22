//! Which of transformers' tokenizer classes a folder means, as far as that decides about token ids.

/// A class of transformers' tokenizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// RoBERTa's: bytes, pairs merged.
    Roberta,
    /// XLM-RoBERTa's: unigrams.
    XlmRoberta,
    /// CamemBERT's: unigrams.
    Camembert,
    /// BERT's: pieces of words.
    Bert,
    /// One that takes `tokenizer.json` as it stands.
    AsWritten,
}

/// The classes by name, without `Fast`. Those of one line have the same code in transformers, or one that makes the same ids.
const NAMES: [(Class, &[&str]); 5] = [
    (Class::Roberta, &["RobertaTokenizer", "BartTokenizer", "LongformerTokenizer"]),
    (Class::XlmRoberta, &["XLMRobertaTokenizer"]),
    (Class::Camembert, &["CamembertTokenizer"]),
    (Class::Bert, &["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"]),
    (
        Class::AsWritten,
        &[
            "PreTrainedTokenizerFast",
            "TokenizersBackend",
            "AlbertTokenizer",
            "HerbertTokenizer",
            "GPT2Tokenizer",
            "GPTNeoXTokenizer",
            "LlamaTokenizer",
            "CodeLlamaTokenizer",
            "Qwen2Tokenizer",
            "GemmaTokenizer",
        ],
    ),
];

/// Models that have no `<mask>`: they answer behind a text.
const DECODERS: [&str; 9] =
    ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt_neox", "gpt2", "olmo2"];

/// Whether a `model_type` is one that has no `<mask>`.
pub(super) fn is_decoder(model_type: &str) -> bool {
    DECODERS.contains(&model_type)
}

/// The attributes of a tokenizer that name a special token, in the order in which transformers adds them.
pub(super) const ATTRIBUTES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl Class {
    /// The class that `tokenizer_class` names, if its ids can be made here.
    pub(super) fn named(name: &str) -> Option<Self> {
        let bare = name.strip_suffix("Fast").unwrap_or(name);
        let found =
            NAMES.iter().find(|(_, names)| names.iter().any(|known| *known == name || *known == bare));
        found.map(|(class, _)| *class)
    }

    /// The class that a model has where nothing names one.
    pub(super) fn of_model(model_type: &str) -> Option<Self> {
        match model_type {
            "roberta" => Some(Self::Roberta),
            "xlm-roberta" => Some(Self::XlmRoberta),
            "camembert" => Some(Self::Camembert),
            "bert" => Some(Self::Bert),
            decoder if is_decoder(decoder) => Some(Self::AsWritten),
            _ => None,
        }
    }

    /// The names that are known, for messages.
    pub(super) fn known() -> String {
        NAMES.iter().flat_map(|(_, names)| names.iter().copied()).collect::<Vec<_>>().join(", ")
    }

    /// The special token that an attribute has where nothing names one.
    pub(super) fn default_token(self, attribute: &str) -> Option<&'static str> {
        Some(match (self, attribute) {
            (Self::AsWritten, _) | (Self::Bert, "bos_token" | "eos_token") => return None,
            (Self::Bert, "unk_token") => "[UNK]",
            (Self::Bert, "sep_token") => "[SEP]",
            (Self::Bert, "pad_token") => "[PAD]",
            (Self::Bert, "cls_token") => "[CLS]",
            (Self::Bert, "mask_token") => "[MASK]",
            (_, "bos_token" | "cls_token") => "<s>",
            (_, "eos_token" | "sep_token") => "</s>",
            (_, "unk_token") => "<unk>",
            (_, "pad_token") => "<pad>",
            (_, "mask_token") => "<mask>",
            _ => return None,
        })
    }

    /// Further special tokens that the class has of itself.
    pub(super) fn default_extra(self) -> &'static [&'static str] {
        match self {
            Self::Camembert => &["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"],
            _ => &[],
        }
    }

    /// Whether `<mask>` takes the space before it along where only its name is known. Transformers 4 says so for all but
    /// BERT; transformers 5 for CamemBERT alone, though the models are the same.
    pub(super) fn mask_takes_space(self) -> bool {
        matches!(self, Self::Roberta | Self::XlmRoberta | Self::Camembert)
    }

    /// How many end tokens stand between the texts of a pair where no post-processor says it, if the class says it.
    pub(super) fn separators(self) -> Option<usize> {
        match self {
            Self::Roberta | Self::XlmRoberta | Self::Camembert => Some(2),
            Self::Bert => Some(1),
            Self::AsWritten => None,
        }
    }

    /// Whether texts stand between special tokens where no post-processor says anything.
    pub(super) fn has_convention(self) -> bool {
        self != Self::AsWritten
    }
}
