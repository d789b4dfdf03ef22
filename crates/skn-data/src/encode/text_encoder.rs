use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use super::special_tokens::SpecialTokens;
use super::tokenizer_json::roberta_tokenizer;
use crate::error::{DataError, Result};

/// A model's tokenizer: RoBERTa's (byte-level BPE) and XLM-RoBERTa's and CamemBERT's (unigrams) with `<s>`, `</s>` and
/// `<mask>`, or BERT's (WordPiece) with `[CLS]`, `[SEP]` and `[MASK]`.
///
/// ```
/// use skn_data::{Example, Join, TextEncoder, bert_tokenizer};
///
/// // A model has its tokenizer.json; this one is of nine tokens.
/// let vocabulary = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nplay\nis\ndull\n";
/// let json = bert_tokenizer(vocabulary, None, "model")?;
/// let encoder = TextEncoder::from_json(&json, "model/tokenizer.json")?;
/// let example = Example { text: "The play is dull".into(), pair: None, label: 0 };
/// let (ids, _) = encoder.encode(&example, 5, Join::Separated)?;
/// assert_eq!(ids, [2, 5, 6, 7, 3]); // cut, [SEP] kept
/// assert_eq!((ids[0], ids[4]), (encoder.start_id(), encoder.end_id()));
/// # Ok::<(), skn_data::DataError>(())
/// ```
pub struct TextEncoder {
    tokenizer: Tokenizer,
    file: String,
    sha256: String,
    special: SpecialTokens,
}

/// What stands for the blank before a word in a vocabulary of unigrams.
const BLANK: &str = "\u{2581}";

impl TextEncoder {
    /// From the bytes of a `tokenizer.json`; `file` is the name that errors give it. Padding and truncation that
    /// it asks for are ignored.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`] if it is damaged, or has neither `<s>`, `</s>` and `<mask>` nor `[CLS]`, `[SEP]` and
    /// `[MASK]`. (The parser panics on some damaged files; that is caught, and the panic hook has had its say by then.)
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let wrong = |reason: String| DataError::Tokenizer { file: file.to_owned(), reason };
        let parsed =
            catch_unwind(|| parse(bytes)).unwrap_or_else(|_| Err("the parser failed on it".to_owned()));
        let tokenizer = parsed.map_err(|reason| wrong(format!("not a tokenizer: {reason}")))?;
        let special = SpecialTokens::of(&tokenizer).map_err(wrong)?;
        let sha256 = format!("{:x}", Sha256::digest(bytes));
        Ok(Self { file: file.to_owned(), sha256, special, tokenizer })
    }

    /// From the bytes of RoBERTa's older pair of files, `vocab.json` and `merges.txt`; `folder` is the name that
    /// errors give the folder they are in.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`], as for [`TextEncoder::from_json`], naming the file and the line.
    pub fn from_vocab_and_merges(vocab: &[u8], merges: &[u8], folder: &str) -> Result<Self> {
        let json = roberta_tokenizer(vocab, merges, folder)?;
        Self::from_json(&json, &format!("{folder}/vocab.json and merges.txt"))
    }

    /// SHA-256 of the tokenizer's file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The id of `<s>` or `[CLS]`.
    pub fn start_id(&self) -> u32 {
        self.special.start
    }

    /// The id of `</s>` or `[SEP]`.
    pub fn end_id(&self) -> u32 {
        self.special.end
    }

    /// The id of `<mask>` or `[MASK]`.
    pub fn mask_id(&self) -> u32 {
        self.special.mask
    }

    /// How many end tokens stand between the texts of a pair.
    pub(super) fn separators(&self) -> usize {
        self.special.separators
    }

    /// The number of token ids, those of added tokens included.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The ids of a text as it is written, without `<s>` and `</s>`.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`] if the tokenizer cannot take the text.
    pub fn ids_of_text(&self, text: &str) -> Result<Vec<u32>> {
        // Damaged vocabularies make the tokenizer panic only once it is used.
        let encoded = catch_unwind(AssertUnwindSafe(|| self.tokenizer.encode_fast(text, false)));
        match encoded {
            Ok(Ok(encoding)) => Ok(encoding.get_ids().to_vec()),
            Ok(Err(error)) => Err(self.unusable(error.to_string())),
            Err(_) => Err(self.unusable("the tokenizer failed".to_owned())),
        }
    }

    /// The text of a token, as it stands in a text; nothing for an id without a token.
    pub fn token_text(&self, id: u32) -> Option<String> {
        let decoded = catch_unwind(AssertUnwindSafe(|| self.tokenizer.decode(&[id], false)));
        decoded.ok()?.ok().filter(|text| !text.is_empty())
    }

    /// Uses it on texts that have everything: all of ASCII, other scripts, blanks, a long word, nothing. A damaged
    /// tokenizer is often one only in use.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`] if it cannot take one of the texts, or makes far more tokens of it than it has bytes.
    pub fn try_out(&self) -> Result<()> {
        let ascii: String = (0u8..128).map(char::from).collect();
        let long = "supercalifragilistic".repeat(50);
        let texts = [
            "",
            " ",
            "The play is superb, isn't it? I'd say 12,345 times so.",
            " \n\t  two  blanks\u{a0}\u{3000}",
            "Zürich, garçon, naïve; Привет; 日本語のテキスト; مرحبا; 🙂👩‍👩‍👧",
            "e\u{301} \u{feff}\u{200b}\u{0} \u{10ffff}",
            "<s></s><mask><pad><unk>[CLS][SEP][MASK]",
            &ascii,
            &long,
        ];
        for text in texts {
            let tokens = self.ids_of_text(text)?;
            let most = 8 * (text.len() + 8);
            if tokens.len() > most {
                let found = tokens.len();
                return Err(
                    self.unusable(format!("expected at most {most} tokens of {text:?}, found {found}"))
                );
            }
            for id in tokens.iter().take(64) {
                self.token_text(*id);
            }
        }
        Ok(())
    }

    /// Whether a token tells nothing of a word: the unknown one, and the blank before a word that has no token with it.
    pub(crate) fn is_wordless(&self, id: u32) -> bool {
        self.special.unknown == Some(id) || self.tokenizer.id_to_token(id).as_deref() == Some(BLANK)
    }

    fn unusable(&self, reason: String) -> DataError {
        DataError::Tokenizer { file: self.file.clone(), reason }
    }
}

impl fmt::Debug for TextEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextEncoder").field("file", &self.file).field("sha256", &self.sha256).finish()
    }
}

/// A tokenizer that neither pads nor cuts.
fn parse(bytes: &[u8]) -> Result<Tokenizer, String> {
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())?;
    tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Example, Join, golden};

    #[test]
    fn damaged_files_are_errors_that_name_them() {
        let refused = |bytes: &[u8]| TextEncoder::from_json(bytes, "t.json").unwrap_err().to_string();
        assert!(refused(b"{").starts_with("t.json: not a tokenizer: "));
        let text = String::from_utf8(golden::bytes("model/tokenizer.json")).unwrap();
        assert_eq!(
            refused(text.replace("<mask>", "<msk>").as_bytes()),
            "t.json: expected a token \"<mask>\", found none"
        );
    }

    #[test]
    fn flipped_bytes_give_a_tokenizer_or_an_error() {
        let bytes = golden::bytes("model/tokenizer.json");
        // Panics of the parser are caught; their messages are of no use here.
        std::panic::set_hook(Box::new(|_| {}));
        let text = Example { text: "the play is dull".into(), pair: None, label: 0 };
        let mut refused = 0;
        for place in (0..bytes.len()).step_by(1 + bytes.len() / 400) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << (place % 7);
            match TextEncoder::from_json(&damaged, "t.json") {
                Ok(encoder) => drop(encoder.encode(&text, 9, Join::Separated)),
                Err(_) => refused += 1,
            }
        }
        let _ = std::panic::take_hook();
        assert!(refused > 100, "{refused} of the mutants were noticed");
    }
}
