use tokenizers::Tokenizer;

use super::class::{Class, is_decoder};
use super::settings::{NamedToken, Settings};

/// Start, end, mask and unknown token, and how many end tokens stand between the texts of a pair.
const FAMILIES: [([&str; 4], usize); 2] =
    [(["<s>", "</s>", "<mask>", "<unk>"], 2), (["[CLS]", "[SEP]", "[MASK]", "[UNK]"], 1)];

/// The ids of the special tokens by which an encoder was trained.
#[derive(Clone)]
pub(super) struct Around {
    /// `<s>` or `[CLS]`.
    pub(super) start: u32,
    /// `</s>` or `[SEP]`.
    pub(super) end: u32,
    /// `<mask>` or `[MASK]`.
    pub(super) mask: u32,
    /// How many end tokens stand between the texts of a pair where no post-processor says it.
    pub(super) separators: usize,
    /// Whether they are BERT's.
    pub(super) is_bert: bool,
}

/// The ids of a tokenizer's special tokens.
#[derive(Clone)]
pub(super) struct SpecialTokens {
    /// Those of an encoder; a decoder need not have any.
    pub(super) around: Option<Around>,
    /// `<unk>` or `[UNK]`; not every vocabulary has one.
    pub(super) unknown: Option<u32>,
}

impl SpecialTokens {
    /// Those that the settings name; else, but for a decoder, those of RoBERTa or those of BERT, whichever the tokenizer has.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub(super) fn of(tokenizer: &Tokenizer, settings: &Settings) -> Result<Self, String> {
        if settings.model_type.as_deref().is_some_and(is_decoder) {
            let unknown =
                settings.token("unk_token").and_then(|token| tokenizer.token_to_id(token.content()));
            return Ok(Self { around: None, unknown });
        }
        let ids = |tokens: &[&str; 4]| tokens.map(|token| tokenizer.token_to_id(token));
        let family = FAMILIES.iter().max_by_key(|(tokens, _)| {
            // Of a damaged one the family that it was; a stray `[MASK]` does not make a BERT.
            let found = ids(tokens).iter().flatten().count();
            (found, tokens[0] == FAMILIES[0].0[0])
        });
        let ([start, end, mask, unknown], separators) = family.unwrap_or(&FAMILIES[0]);
        let name = |attribute: &str, of_family: &str| {
            settings.token(attribute).unwrap_or_else(|| NamedToken::Name(of_family.to_owned()))
        };
        let id = |attribute: &str, of_family: &str| {
            let name = name(attribute, of_family);
            let id = tokenizer.token_to_id(name.content());
            id.ok_or_else(|| format!("expected a token {:?}, found none", name.content()))
        };
        let (start, end, mask) = (id("cls_token", start)?, id("sep_token", end)?, id("mask_token", mask)?);
        let separators = settings.class.and_then(Class::separators).unwrap_or(*separators);
        Ok(Self {
            around: Some(Around { start, end, mask, separators, is_bert: separators == 1 }),
            unknown: id("unk_token", unknown).ok(),
        })
    }
}
