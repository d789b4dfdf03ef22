use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use tokenizers::models::ModelWrapper;
use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{Encoding, PostProcessorWrapper, Tokenizer};

use super::adapt::{Reason, adapt};
use super::class::Class;
use super::files::{self, TokenizerFiles, without_mark};
use super::settings::Settings;
use super::special_tokens::SpecialTokens;
use super::template::Template;
use super::tokenizer_json::converted;
use crate::error::{DataError, Result};

/// A model's tokenizer: RoBERTa's (byte-level BPE) and XLM-RoBERTa's and CamemBERT's (unigrams) with `<s>`, `</s>` and
/// `<mask>`, BERT's (WordPiece) with `[CLS]`, `[SEP]` and `[MASK]`, or a decoder's as its file has it.
///
/// ```
/// use skn_data::{Example, Join, TextEncoder, bert_tokenizer};
///
/// // A model has its tokenizer.json; this one is of nine tokens.
/// let vocabulary = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nplay\nis\ndull\n";
/// let json = bert_tokenizer(vocabulary, None, "model")?;
/// let encoder = TextEncoder::from_json(&json, "model/tokenizer.json")?;
/// let example = Example { text: "The play is dull".into(), pair: None, more: Box::default(), label: 0 };
/// let (ids, _) = encoder.encode(&example, 5, Join::Separated)?;
/// assert_eq!(ids, [2, 5, 6, 7, 3]); // cut, [SEP] kept
/// assert_eq!((Some(ids[0]), Some(ids[4])), (encoder.start_id(), encoder.end_id()));
/// # Ok::<(), skn_data::DataError>(())
/// ```
pub struct TextEncoder {
    tokenizer: Tokenizer,
    file: String,
    sha256: String,
    special: SpecialTokens,
    template: Template,
    cuts_left: bool,
    forgetful: OnceLock<Box<TextEncoder>>,
}

/// What stands for the blank before a word in a vocabulary of unigrams.
const BLANK: &str = "\u{2581}";

impl TextEncoder {
    /// From the files of a model folder, which decide together as transformers' `AutoTokenizer` decides.
    ///
    /// `tokenizer.json` says what stands around texts; `tokenizer_config.json` has precedence where transformers gives it to
    /// it: a space before the text, BERT's case and accents, further tokens, the side where texts are cut.
    ///
    /// # Errors
    ///
    /// As for [`TextEncoder::from_json`]; or if the files contradict each other in a way that versions of transformers
    /// read differently, or ask for what is not done here. The message names file and key.
    pub fn from_files(files: &TokenizerFiles) -> Result<Self> {
        let settings = Settings::of(files)?;
        let whole = files.bytes(files::JSON)?;
        let json = match whole {
            Some(bytes) => Cow::Borrowed(bytes),
            None => Cow::Owned(converted(files, &settings)?),
        };
        let made = made(&json, &settings, &files.main_file(), whole.is_some());
        made.map_err(|(name, reason)| DataError::Tokenizer {
            file: name.map_or_else(|| files.main_file(), |name| files.place(name)),
            reason,
        })
    }

    /// From the bytes of a `tokenizer.json` alone; `file` is the name that errors give it. Padding and truncation that
    /// it asks for are ignored, but for the side where texts are cut.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`] if it is damaged, or has neither `<s>`, `</s>` and `<mask>` nor `[CLS]`, `[SEP]` and
    /// `[MASK]`, or puts texts together as it is not done here. (The parser panics on some damaged files; that is caught, and
    /// the panic hook has had its say by then.)
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let made = made(without_mark(bytes), &Settings::default(), file, false);
        made.map_err(|(_, reason)| DataError::Tokenizer { file: file.to_owned(), reason })
    }

    /// From the bytes of RoBERTa's older pair of files, `vocab.json` and `merges.txt`; `folder` is the name that
    /// errors give the folder they are in.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`], as for [`TextEncoder::from_json`], naming the file and the line.
    pub fn from_vocab_and_merges(vocab: &[u8], merges: &[u8], folder: &str) -> Result<Self> {
        let mut files = TokenizerFiles::new(folder);
        files.insert(files::VOCAB, vocab);
        files.insert(files::MERGES, merges);
        Self::from_files(&files)
    }

    /// The same, but that byte-level BPE keeps fewer of the words that it has met, of which each thread keeps its own: for texts so many that
    /// these words would take more memory than their tokens. It is a copy, with the vocabulary, which is made once and kept: a thread
    /// never lets go of the words of one that is gone. What is no BPE is its own.
    pub fn forgetful(&self) -> &Self {
        /// About 300 bytes each; the library's own number is 10,000.
        const WORDS: usize = 2_000;
        let ModelWrapper::BPE(model) = self.tokenizer.get_model() else { return self };
        self.forgetful.get_or_init(|| {
            let (mut tokenizer, mut model) = (self.tokenizer.clone(), model.clone());
            model.resize_cache(WORDS);
            tokenizer.with_model(model);
            let Self { file, sha256, special, template, cuts_left, .. } = self;
            Box::new(Self {
                tokenizer,
                file: file.clone(),
                sha256: sha256.clone(),
                special: special.clone(),
                template: template.clone(),
                cuts_left: *cuts_left,
                forgetful: OnceLock::new(),
            })
        })
    }

    /// SHA-256 of the `tokenizer.json`, as it is after all settings, in hexadecimal: of the file itself where they change
    /// nothing.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The id of `<s>` or `[CLS]`, with which a text begins; a decoder's text may begin with nothing.
    pub fn start_id(&self) -> Option<u32> {
        let around = self.special.around.as_ref();
        self.template.single.before.first().copied().or_else(|| Some(around?.start))
    }

    /// The id of `</s>` or `[SEP]`, with which a text ends; a decoder's text may end with nothing.
    pub fn end_id(&self) -> Option<u32> {
        let around = self.special.around.as_ref();
        self.template.single.after.last().copied().or_else(|| Some(around?.end))
    }

    /// The id of `<mask>` or `[MASK]`; a decoder has none.
    pub fn mask_id(&self) -> Option<u32> {
        Some(self.special.around.as_ref()?.mask)
    }

    /// How many tokens stand around a text.
    pub fn tokens_around(&self) -> usize {
        self.template.single.before.len() + self.template.single.after.len()
    }

    /// What stands around texts.
    pub(super) fn template(&self) -> &Template {
        &self.template
    }

    /// Whether a text that is too long loses its beginning.
    pub(super) fn cuts_left(&self) -> bool {
        self.cuts_left
    }

    /// The number of token ids, those of added tokens included.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The id of a token by its name, if there is one.
    pub fn id_of(&self, name: &str) -> Option<u32> {
        self.tokenizer.token_to_id(name)
    }

    /// The names of a token: one, but in a damaged vocabulary. Sorted.
    pub fn names_of(&self, id: u32) -> Vec<String> {
        let all = self.tokenizer.get_vocab(true).into_iter();
        let mut names: Vec<String> = all.filter(|(_, other)| *other == id).map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }

    /// The token of the largest id, with its name, if ids are not 0 to the number of tokens less one.
    pub fn beyond_vocabulary(&self) -> Option<(String, u32)> {
        // As many ids as there are tokens: then none is larger. It spares a copy of the vocabulary.
        let size = u32::try_from(self.vocabulary_size()).unwrap_or(u32::MAX);
        if (0..size).all(|id| self.tokenizer.id_to_token(id).is_some()) {
            return None;
        }
        let largest = self.tokenizer.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        largest.filter(|(_, id)| *id >= size)
    }

    /// The ids of a text as it is written, without `<s>` and `</s>`.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`] if the tokenizer cannot take the text.
    pub fn ids_of_text(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.guarded(|| self.tokenizer.encode_fast(text, false))?.get_ids().to_vec())
    }

    /// The same, and where in the text each token stands, in bytes, the blank that belongs to it included.
    pub(super) fn ids_and_places(&self, text: &str) -> Result<Vec<(u32, (usize, usize))>> {
        let encoding = self.guarded(|| self.tokenizer.encode(text, false))?;
        let places = encoding.get_offsets().iter().copied();
        Ok(encoding.get_ids().iter().copied().zip(places).collect())
    }

    /// Damaged vocabularies make the tokenizer panic only once it is used.
    fn guarded(&self, encode: impl FnOnce() -> tokenizers::Result<Encoding>) -> Result<Encoding> {
        match catch_unwind(AssertUnwindSafe(encode)) {
            Ok(Ok(encoding)) => Ok(encoding),
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

    /// An error of this tokenizer.
    pub(super) fn unusable(&self, reason: String) -> DataError {
        DataError::Tokenizer { file: self.file.clone(), reason }
    }
}

impl fmt::Debug for TextEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextEncoder").field("file", &self.file).field("sha256", &self.sha256).finish()
    }
}

/// An encoder of the bytes of a `tokenizer.json` and of what is said beside it. `is_file` is whether they are a file, of which
/// something can be told.
fn made(bytes: &[u8], settings: &Settings, file: &str, is_file: bool) -> Result<TextEncoder, Reason> {
    let failed = |_| Err((None, "not a tokenizer: the parser failed on it".to_owned()));
    let (mut tokenizer, cut_left, changed) =
        catch_unwind(|| parse(bytes, settings, file)).unwrap_or_else(failed)?;
    let special = SpecialTokens::of(&tokenizer, settings).map_err(|reason| (None, reason))?;
    let template =
        template(&tokenizer, settings, &special, file, is_file).map_err(|reason| (None, reason))?;
    let sha256 = match changed {
        None => format!("{:x}", Sha256::digest(bytes)),
        Some(json) => format!("{:x}", Sha256::digest(json)),
    };
    // What it writes is known now; what else it does is to take the blank from where a token stands.
    tokenizer.with_post_processor(None::<PostProcessorWrapper>);
    let cuts_left = settings.cut_left.unwrap_or(cut_left);
    Ok(TextEncoder {
        file: file.to_owned(),
        sha256,
        special,
        template,
        cuts_left,
        tokenizer,
        forgetful: OnceLock::new(),
    })
}

/// A tokenizer that neither pads nor cuts; on which side it would cut; and what it is now if the settings changed it.
fn parse(bytes: &[u8], settings: &Settings, file: &str) -> Result<(Tokenizer, bool, Option<String>), Reason> {
    let wrong = |error: tokenizers::Error| {
        let said = error.to_string().replace("EOF while parsing", "the text ends within");
        (None, format!("not a tokenizer: {said}"))
    };
    let text = str::from_utf8(bytes).map_err(|error| (None, format!("not a tokenizer: {error}")))?;
    // Not `from_bytes`: it is generic, and all that reads a tokenizer would be compiled once more in this crate.
    let mut tokenizer: Tokenizer = text.parse().map_err(wrong)?;
    let cut = tokenizer.get_truncation();
    let cut_left = cut.is_some_and(|cut| matches!(cut.direction, TruncationDirection::Left));
    tokenizer.with_truncation(None).map_err(wrong)?;
    tokenizer.with_padding(None);
    let changed = adapt(&mut tokenizer, settings, file)?;
    let now = if changed { Some(tokenizer.to_string(false).map_err(wrong)?) } else { None };
    Ok((tokenizer, cut_left, now))
}

/// What stands around texts, by the post-processor; without one, by what is usual in the family.
fn template(
    tokenizer: &Tokenizer,
    settings: &Settings,
    special: &SpecialTokens,
    file: &str,
    is_file: bool,
) -> Result<Template, String> {
    let Some(special) = &special.around else { return of_decoder(tokenizer, settings) };
    let typed = settings.model_type.as_deref().map_or(special.is_bert, |model| model == "bert");
    let usual = Template::of_family(special);
    let has_usual = settings.class.is_none_or(Class::has_convention);
    match Template::of(tokenizer, typed)? {
        Some(template) if template.is_bare() => Err(bare()),
        Some(template) => {
            if is_file && has_usual && template != usual {
                tracing::info!(
                    "{file}: texts are put together as its post_processor says, as transformers 4 does; transformers 5 has its own \
                     way for this tokenizer_class"
                );
            }
            Ok(template)
        }
        None if !has_usual => Err(bare()),
        None => {
            if is_file {
                tracing::info!(
                    "{file}: no post_processor puts tokens around texts; it is done as transformers 5 does for this tokenizer_class"
                );
            }
            Ok(usual)
        }
    }
}

/// What stands around a decoder's texts, by the post-processor; what `tokenizer_config.json` says of it must be the same, because
/// some versions of transformers follow the one and some the other.
fn of_decoder(tokenizer: &Tokenizer, settings: &Settings) -> Result<Template, String> {
    let template = Template::of(tokenizer, false)?.unwrap_or_else(Template::bare);
    let around = &template.single;
    let both = [
        ("add_bos_token", settings.adds_start, around.before.len()),
        ("add_eos_token", settings.adds_end, around.after.len()),
    ];
    for (field, said, found) in both {
        if let Some(said) = said.filter(|said| *said != (found > 0)) {
            let done = if found > 0 { "writes" } else { "does not write" };
            return Err(format!(
                "post_processor: it {done} such a token, but tokenizer_config.json says {field} {said}; make both say the same"
            ));
        }
    }
    Ok(template)
}

fn bare() -> String {
    "post_processor: expected one that puts tokens around a text, such as <s> and </s>, found none; in Python: \
     tokenizer.backend_tokenizer.post_processor = tokenizers.processors.RobertaProcessing(..)"
        .to_owned()
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
    fn one_that_forgets_makes_the_same_tokens() {
        let encoder = golden::encoder();
        let forgetful = encoder.forgetful();
        assert_eq!(forgetful.sha256(), encoder.sha256());
        assert!(!std::ptr::eq(forgetful, &raw const encoder), "a copy");
        assert!(std::ptr::eq(forgetful, encoder.forgetful()), "one for all parts");
        // More words than it keeps, each twice.
        for word in (0..3_000).chain(0..3_000) {
            let text = format!(" superb{word}");
            assert_eq!(forgetful.ids_of_text(&text).unwrap(), encoder.ids_of_text(&text).unwrap());
        }
    }

    #[test]
    fn flipped_bytes_give_a_tokenizer_or_an_error() {
        let bytes = golden::bytes("model/tokenizer.json");
        // Panics of the parser are caught; their messages are of no use here.
        std::panic::set_hook(Box::new(|_| {}));
        let text = Example { text: "the play is dull".into(), pair: None, more: Box::default(), label: 0 };
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
