use tokenizers::Tokenizer;

/// Start, end, mask and unknown token, and how many end tokens stand between the texts of a pair.
const FAMILIES: [([&str; 4], usize); 2] =
    [(["<s>", "</s>", "<mask>", "<unk>"], 2), (["[CLS]", "[SEP]", "[MASK]", "[UNK]"], 1)];

/// The ids of a tokenizer's special tokens.
pub(super) struct SpecialTokens {
    /// `<s>` or `[CLS]`.
    pub(super) start: u32,
    /// `</s>` or `[SEP]`.
    pub(super) end: u32,
    /// `<mask>` or `[MASK]`.
    pub(super) mask: u32,
    /// `<unk>` or `[UNK]`; not every vocabulary has one.
    pub(super) unknown: Option<u32>,
    /// How many end tokens stand between the texts of a pair.
    pub(super) separators: usize,
}

impl SpecialTokens {
    /// Those of RoBERTa or those of BERT, whichever the tokenizer has.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub(super) fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let ids = |tokens: &[&str; 4]| tokens.map(|token| tokenizer.token_to_id(token));
        let family = FAMILIES.iter().max_by_key(|(tokens, _)| {
            // Of a damaged one the family that it was; a stray `[MASK]` does not make a BERT.
            let found = ids(tokens).iter().flatten().count();
            (found, tokens[0] == FAMILIES[0].0[0])
        });
        let (tokens, separators) = family.unwrap_or(&FAMILIES[0]);
        let [start, end, mask, unknown] = ids(tokens);
        let needed = |id: Option<u32>, token: usize| {
            id.ok_or_else(|| format!("expected a token {:?}, found none", tokens[token]))
        };
        let (start, end, mask) = (needed(start, 0)?, needed(end, 1)?, needed(mask, 2)?);
        Ok(Self { start, end, mask, unknown, separators: *separators })
    }
}
