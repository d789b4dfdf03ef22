//! A tokenizer as its settings change it.
//!
//! Transformers 4 takes `tokenizer.json` and changes in it what the class of its tokenizer has settings for. Transformers 5
//! takes the vocabulary from it, and makes the rest anew as the class has it. For the files of a class's own models both come
//! to the same. Where they don't, this follows transformers 4, which wrote those files, and says so.

use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::class::{ATTRIBUTES, Class};
use super::settings::{NamedToken, Settings};

/// Why a tokenizer can't be what its files say together: in `tokenizer.json`, or in the file that is named.
pub(super) type Reason = (Option<&'static str>, String);

/// Changes a tokenizer as the settings say, and says whether they did.
///
/// # Errors
///
/// What can't be followed.
pub(super) fn adapt(tokenizer: &mut Tokenizer, settings: &Settings, file: &str) -> Result<bool, Reason> {
    check_chance(tokenizer)?;
    let of_class = match settings.class {
        Some(Class::Bert) => normalise_as_bert(tokenizer, settings, file)?,
        Some(Class::Roberta) => begin_with_space(tokenizer, settings.prefix_space.unwrap_or(false)),
        _ => false,
    };
    tell_of_kept_parts(tokenizer, settings, file);
    check_space(tokenizer, settings)?;
    let before = tokenizer.get_added_tokens_decoder();
    add_tokens(tokenizer, settings)?;
    tokenizer.set_encode_special_tokens(settings.split_special);
    Ok(of_class || settings.split_special || before != tokenizer.get_added_tokens_decoder())
}

/// Refuses a tokenizer that gives other ids each time.
fn check_chance(tokenizer: &Tokenizer) -> Result<(), Reason> {
    match tokenizer.get_model() {
        ModelWrapper::BPE(model) if model.dropout.is_some_and(|share| share > 0.0) => {
            let found = model.dropout.unwrap_or_default();
            Err((
                None,
                format!("model: dropout: expected 0 or null, found {found}: ids would be left to chance"),
            ))
        }
        _ => Ok(()),
    }
}

/// BERT's classes have their settings, with their defaults, precedence over the file.
fn normalise_as_bert(tokenizer: &mut Tokenizer, settings: &Settings, file: &str) -> Result<bool, Reason> {
    let there = match tokenizer.get_normalizer() {
        None => BertNormalizer::default(),
        Some(NormalizerWrapper::BertNormalizer(normalizer)) => *normalizer,
        Some(_) => return Ok(false),
    };
    let lowercase = settings.lowercase.unwrap_or(true);
    if settings.lowercase.is_none() && !there.lowercase {
        tracing::warn!(
            "{file} keeps case, but transformers lowers it, because no tokenizer_config.json says \"do_lower_case\": false; \
             so it is done here"
        );
    }
    let (chinese, accents) = (settings.chinese.unwrap_or(true), settings.strip_accents);
    let says_so =
        (there.lowercase, there.handle_chinese_chars, there.strip_accents) == (lowercase, chinese, accents);
    if says_so && tokenizer.get_normalizer().is_some() {
        return Ok(false);
    }
    let wanted = BertNormalizer::new(there.clean_text, chinese, accents, lowercase);
    tokenizer.with_normalizer(Some(wanted)).map_err(|error| (None, format!("normalizer: {error}")))?;
    Ok(true)
}

/// RoBERTa's class has its setting precedence over the file.
fn begin_with_space(tokenizer: &mut Tokenizer, wanted: bool) -> bool {
    let Some(PreTokenizerWrapper::ByteLevel(level)) = tokenizer.get_pre_tokenizer() else { return false };
    let changes = level.add_prefix_space != wanted;
    let level = level.add_prefix_space(wanted);
    tokenizer.with_pre_tokenizer(Some(level));
    changes
}

/// Tells of parts that transformers 5 would replace by those of the class.
fn tell_of_kept_parts(tokenizer: &Tokenizer, settings: &Settings, file: &str) {
    let (normalizer, pre_tokenizer) = (tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer());
    let is_usual = match settings.class {
        None | Some(Class::AsWritten) => true,
        Some(Class::Roberta) => {
            normalizer.is_none() && matches!(pre_tokenizer, Some(PreTokenizerWrapper::ByteLevel(_)))
        }
        Some(Class::Bert) => {
            matches!(normalizer, Some(NormalizerWrapper::BertNormalizer(_)))
                && matches!(pre_tokenizer, Some(PreTokenizerWrapper::BertPreTokenizer(_)))
        }
        Some(Class::XlmRoberta | Class::Camembert) => {
            matches!(normalizer, None | Some(NormalizerWrapper::Precompiled(_)))
                && matches!(pre_tokenizer, Some(PreTokenizerWrapper::Sequence(_)))
        }
    };
    if !is_usual {
        tracing::info!(
            "{file}: its normalizer and pre_tokenizer are taken as they stand, as transformers 4 does; transformers 5 has its own \
             for this tokenizer_class"
        );
    }
}

/// Refuses a file that says otherwise than a setting which some versions of transformers pass over, and some do not.
fn check_space(tokenizer: &Tokenizer, settings: &Settings) -> Result<(), Reason> {
    let Some(said) = settings.prefix_space else { return Ok(()) };
    let there = match (settings.class, tokenizer.get_pre_tokenizer()) {
        (Some(Class::Bert), _) | (_, None) => return Ok(()),
        (None | Some(Class::AsWritten), Some(PreTokenizerWrapper::ByteLevel(level))) => {
            vec![level.add_prefix_space]
        }
        (None | Some(Class::AsWritten), _) => return Ok(()),
        (_, Some(parts)) => prefix_spaces(&serde_json::to_value(parts).unwrap_or_default()),
    };
    match there.into_iter().find(|there| *there != said) {
        None => Ok(()),
        Some(there) => Err((
            None,
            format!(
                "pre_tokenizer: expected add_prefix_space {said}, as tokenizer_config.json says, found {there}; \
                 versions of transformers disagree about it, so make both say the same"
            ),
        )),
    }
}

/// What the parts of a pre-tokenizer say of a space before the text.
fn prefix_spaces(part: &Value) -> Vec<bool> {
    let inner = part["pretokenizers"].as_array().into_iter().flatten().flat_map(prefix_spaces);
    let own = match part["type"].as_str() {
        Some("ByteLevel") => part["add_prefix_space"].as_bool(),
        Some("Metaspace") => part["prepend_scheme"].as_str().map(|scheme| scheme != "never"),
        _ => None,
    };
    own.into_iter().chain(inner).collect()
}

/// Tokens beside the vocabulary, and special tokens that are not yet known as such.
fn add_tokens(tokenizer: &mut Tokenizer, settings: &Settings) -> Result<(), Reason> {
    let there = tokenizer.get_added_tokens_decoder();
    let new = settings.added.iter().filter(|(id, _)| !(settings.added_is_older && there.contains_key(id)));
    let new: Vec<(u32, AddedToken)> = new.map(|(id, token)| (*id, token.clone())).collect();
    add(tokenizer, new.iter().map(|(_, token)| token.clone()).collect())?;
    for (id, token) in &new {
        let found = tokenizer.token_to_id(&token.content);
        if found != Some(*id) {
            let found = found.map_or_else(|| "none".to_owned(), |id| id.to_string());
            return Err((
                Some(settings.added_file),
                format!(
                    "expected {:?} to have the id {found}, the next one of the vocabulary, as the tokenizers library gives it; \
                     found {id}",
                    token.content
                ),
            ));
        }
    }
    let special = special_tokens(tokenizer, settings);
    add(tokenizer, special)
}

/// The special tokens that are not among the added ones, in the order of transformers. Those that only the class names are
/// of no use where the vocabulary has no place for them.
fn special_tokens(tokenizer: &Tokenizer, settings: &Settings) -> Vec<AddedToken> {
    let mut known: Vec<String> =
        tokenizer.get_added_tokens_decoder().values().map(|token| token.content.clone()).collect();
    let named = ATTRIBUTES.into_iter().filter_map(|attribute| {
        let token = settings.token(attribute)?;
        let takes_space = attribute == "mask_token" && settings.class.is_some_and(Class::mask_takes_space);
        Some((token.to_added(takes_space), settings.named.contains_key(attribute)))
    });
    let extra = settings.extra.iter().map(|token| (token.to_added(false), true));
    let of_class = settings.class.map(Class::default_extra).unwrap_or_default().iter();
    let of_class = of_class.map(|name| (NamedToken::Name((*name).to_owned()).to_added(false), false));
    let mut new = Vec::new();
    for (token, wanted) in named.chain(extra).chain(of_class) {
        let has_place = wanted || tokenizer.token_to_id(&token.content).is_some();
        if has_place && !known.contains(&token.content) {
            known.push(token.content.clone());
            new.push(token);
        }
    }
    new
}

fn add(tokenizer: &mut Tokenizer, tokens: Vec<AddedToken>) -> Result<(), Reason> {
    tokenizer.add_tokens(tokens).map_err(|error| (None, error.to_string()))?;
    Ok(())
}
