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

    /// What the encoder's tensors begin with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Roberta => "roberta",
            Self::Bert => "bert",
        }
    }

    /// A part of the embeddings, such as `word_embeddings`.
    pub(crate) fn embeddings(self, part: &str) -> String {
        format!("{}.embeddings.{part}", self.prefix())
    }

    /// What the tensors of a layer begin with.
    pub(crate) fn layer(self, layer: usize) -> String {
        format!("{}.encoder.layer.{layer}", self.prefix())
    }

    /// What the tensors of the masked-LM head begin with.
    pub(crate) fn head(self) -> &'static str {
        match self {
            Self::Roberta => "lm_head",
            Self::Bert => "cls.predictions",
        }
    }

    /// Names that transformers gives to a tensor beside the one it has here: the decoder's, which is tied.
    pub(crate) fn twins(self) -> [(&'static str, String); 2] {
        let [weight, bias] = match self {
            Self::Roberta => ["lm_head.decoder.weight", "lm_head.decoder.bias"],
            Self::Bert => ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"],
        };
        [(weight, self.embeddings("word_embeddings.weight")), (bias, self.head_bias().into())]
    }

    /// The name under which this crate knows a stored tensor: older files say `gamma` and `beta`, those of an encoder
    /// saved alone leave out what all its names begin with.
    pub(crate) fn canonical(self, stored: &str) -> String {
        let renamed = [(".gamma", ".weight"), (".beta", ".bias")].into_iter();
        let mut renamed = renamed.filter_map(|(old, new)| Some(stored.strip_suffix(old)?.to_owned() + new));
        let name = renamed.next().unwrap_or_else(|| stored.into());
        let bare = ["embeddings.", "encoder."].iter().any(|prefix| name.starts_with(prefix));
        if bare { format!("{}.{name}", self.prefix()) } else { name }
    }

    /// Whether a tensor belongs to the pooler, which no masked language model computes.
    pub(crate) fn is_pooler(self, name: &str) -> bool {
        let bare = name.strip_prefix(self.prefix()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
        bare.starts_with("pooler.")
    }

    /// The matrix of the masked-LM head.
    pub(crate) fn head_dense(self) -> &'static str {
        match self {
            Self::Roberta => "lm_head.dense",
            Self::Bert => "cls.predictions.transform.dense",
        }
    }

    /// The LayerNorm of the masked-LM head.
    pub(crate) fn head_norm(self) -> &'static str {
        match self {
            Self::Roberta => "lm_head.layer_norm",
            Self::Bert => "cls.predictions.transform.LayerNorm",
        }
    }

    /// The bias of each token's logit.
    pub(crate) fn head_bias(self) -> &'static str {
        match self {
            Self::Roberta => "lm_head.bias",
            Self::Bert => "cls.predictions.bias",
        }
    }
}
