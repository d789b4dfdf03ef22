//! What `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and `config.json` say together.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::class::{ATTRIBUTES, Class};
use super::files::{ADDED, MODEL, SETTINGS, SPECIAL, TokenizerFiles};
use crate::error::Result;

/// What the files beside a vocabulary say about it, as transformers puts it together. The default is that they say nothing.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Whose tokenizer it is.
    pub(super) class: Option<Class>,
    /// `model_type` of `config.json`.
    pub(super) model_type: Option<String>,
    /// Whether a text begins with a space.
    pub(super) prefix_space: Option<bool>,
    /// Whether BERT lowers case ..
    pub(super) lowercase: Option<bool>,
    /// .. takes accents away ..
    pub(super) strip_accents: Option<bool>,
    /// .. and parts Chinese characters.
    pub(super) chinese: Option<bool>,
    /// Special tokens by attribute, of those that are named.
    pub(super) named: BTreeMap<String, NamedToken>,
    /// Further special tokens.
    pub(super) extra: Vec<NamedToken>,
    /// Tokens beside the vocabulary, by id.
    pub(super) added: BTreeMap<u32, AddedToken>,
    /// The file that says so.
    pub(super) added_file: &'static str,
    /// Whether `tokenizer.json` has precedence over them, as it has over the older `added_tokens.json`.
    pub(super) added_is_older: bool,
    /// Whether texts are cut at their beginning, if that is said.
    pub(super) cut_left: Option<bool>,
    /// Whether a token stands before a text, if that is said ..
    pub(super) adds_start: Option<bool>,
    /// .. and behind it.
    pub(super) adds_end: Option<bool>,
    /// Whether special tokens that stand in a text are text.
    pub(super) split_special: bool,
}

/// A special token: by its name, or with all that it does.
#[derive(Clone, Debug)]
pub(super) enum NamedToken {
    Name(String),
    Whole(AddedToken),
}

impl NamedToken {
    pub(super) fn content(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Whole(token) => &token.content,
        }
    }

    /// The token; of a name alone one that no normaliser changes, and that takes the space before it along if `takes_space`.
    pub(super) fn to_added(&self, takes_space: bool) -> AddedToken {
        match self {
            Self::Name(name) => AddedToken::from(name.clone(), true).lstrip(takes_space),
            Self::Whole(token) => token.clone().special(true),
        }
    }
}

/// A token as transformers writes one; what is missing has the default of its constructor.
#[derive(Deserialize)]
struct Written {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Written {
    fn token(self) -> AddedToken {
        AddedToken::from(self.content, self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }
}

impl Settings {
    /// What the files say.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`](crate::DataError::Tokenizer), naming the file and the key.
    pub(super) fn of(files: &TokenizerFiles) -> Result<Self> {
        let said: Map<String, Value> = files.parsed(SETTINGS)?;
        let model: Map<String, Value> = files.parsed(MODEL)?;
        let source = Source { files, name: SETTINGS, said: &said };
        let mut settings = Self {
            model_type: model.get("model_type").and_then(Value::as_str).map(str::to_owned),
            prefix_space: source.flag("add_prefix_space")?,
            lowercase: source.flag("do_lower_case")?,
            strip_accents: source.flag("strip_accents")?,
            chinese: source.flag("tokenize_chinese_chars")?,
            split_special: source.flag("split_special_tokens")?.unwrap_or(false),
            cut_left: source.cut_left()?,
            adds_start: source.flag("add_bos_token")?,
            adds_end: source.flag("add_eos_token")?,
            added_file: SETTINGS,
            ..Self::default()
        };
        let of_model = Source { files, name: MODEL, said: &model };
        settings.class = match source.class()? {
            Some(class) => Some(class),
            None => of_model.class()?.or_else(|| Class::of_model(settings.model_type.as_deref()?)),
        };
        source.check_files()?;
        source.name_tokens(&mut settings)?;
        match said.get("added_tokens_decoder") {
            Some(decoder) => settings.added = source.decoder(decoder)?,
            None => settings.read_older(files)?,
        }
        Ok(settings)
    }

    /// The two files that `added_tokens_decoder` replaced; where it is, they are not looked at.
    fn read_older(&mut self, files: &TokenizerFiles) -> Result<()> {
        let said: Map<String, Value> = files.parsed(SPECIAL)?;
        Source { files, name: SPECIAL, said: &said }.name_tokens(self)?;
        let added: BTreeMap<String, u32> = files.parsed(ADDED)?;
        (self.added_file, self.added_is_older) = (ADDED, true);
        for (content, id) in added {
            let named = self.named.values().chain(&self.extra);
            let special = named.into_iter().any(|token| token.content() == content);
            if let Some(other) = self.added.insert(id, AddedToken::from(content, special)) {
                return Err(files.wrong(
                    ADDED,
                    format!("expected one token with id {id}, found {:?} and another", other.content),
                ));
            }
        }
        Ok(())
    }

    /// The special token of an attribute: as it is named, else as its class has it.
    pub(super) fn token(&self, attribute: &str) -> Option<NamedToken> {
        let default = || Some(NamedToken::Name(self.class?.default_token(attribute)?.to_owned()));
        let token = self.named.get(attribute).cloned().or_else(default)?;
        // What is said of the token itself has precedence over what is said of its part.
        let of_added = self.added.values().find(|added| added.content == token.content());
        match of_added.filter(|_| self.named.contains_key(attribute) || !self.added_is_older) {
            Some(added) => Some(NamedToken::Whole(added.clone())),
            None => Some(token),
        }
    }
}

/// A file of settings.
struct Source<'f> {
    files: &'f TokenizerFiles<'f>,
    name: &'static str,
    said: &'f Map<String, Value>,
}

impl Source<'_> {
    fn wrong(&self, key: &str, expected: &str, found: &Value) -> crate::DataError {
        let found: String = found.to_string().chars().take(80).collect();
        self.files.wrong(self.name, format!("{key}: expected {expected}, found {found}"))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.said.get(key).filter(|value| !value.is_null())
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true, false or null", value))
    }

    fn cut_left(&self) -> Result<Option<bool>> {
        let Some(value) = self.get("truncation_side") else { return Ok(None) };
        match value.as_str() {
            Some("left") => Ok(Some(true)),
            Some("right") => Ok(Some(false)),
            _ => Err(self.wrong("truncation_side", "\"left\" or \"right\"", value)),
        }
    }

    /// The class that `tokenizer_class` names.
    fn class(&self) -> Result<Option<Class>> {
        let Some(value) = self.get("tokenizer_class") else { return Ok(None) };
        let class = value.as_str().and_then(Class::named);
        class
            .map(Some)
            .ok_or_else(|| self.wrong("tokenizer_class", &format!("one of {}", Class::known()), value))
    }

    /// Refuses other files of the tokenizer than those that are read, and code.
    fn check_files(&self) -> Result<()> {
        // A list is the older form, of the tokenizer alone.
        let of_tokenizer = |value: &&Value| {
            value.is_array() || value.get("AutoTokenizer").is_some_and(|code| !code.is_null())
        };
        if let Some(value) = self.get("auto_map").filter(of_tokenizer) {
            return Err(self.wrong("auto_map", "no code of its own for the tokenizer", value));
        }
        let Some(value) = self.get("fast_tokenizer_files") else { return Ok(()) };
        match value.as_array().is_some_and(|names| names.iter().all(|name| name == super::files::JSON)) {
            true => Ok(()),
            false => Err(self.wrong("fast_tokenizer_files", "tokenizer.json alone", value)),
        }
    }

    /// The special tokens that this file names, over those of files before.
    fn name_tokens(&self, settings: &mut Settings) -> Result<()> {
        for attribute in ATTRIBUTES {
            if let Some(value) = self.get(attribute) {
                settings.named.insert(attribute.to_owned(), self.token(attribute, value)?);
            }
        }
        for key in ["additional_special_tokens", "extra_special_tokens"] {
            let values: Vec<&Value> = match self.get(key) {
                None => Vec::new(),
                Some(Value::Array(values)) => values.iter().collect(),
                Some(Value::Object(values)) => values.values().collect(),
                Some(value) => return Err(self.wrong(key, "a list of tokens", value)),
            };
            for value in values {
                settings.extra.push(self.token(key, value)?);
            }
        }
        Ok(())
    }

    fn token(&self, key: &str, value: &Value) -> Result<NamedToken> {
        match value {
            Value::String(name) => Ok(NamedToken::Name(name.clone())),
            // The older file leaves out that its tokens are special.
            _ => Ok(NamedToken::Whole(self.written(key, value, self.name == SPECIAL)?)),
        }
    }

    fn written(&self, key: &str, value: &Value, special: bool) -> Result<AddedToken> {
        let token: Result<Written, _> = Deserialize::deserialize(value);
        let token = token.map(|token| Written { special: token.special || special, ..token }.token());
        token.map_err(|_| self.wrong(key, "a token", value))
    }

    fn decoder(&self, value: &Value) -> Result<BTreeMap<u32, AddedToken>> {
        let key = "added_tokens_decoder";
        let Some(tokens) = value.as_object() else {
            return Err(self.wrong(key, "tokens by their ids", value));
        };
        let token = |(id, token): (&String, &Value)| {
            let place = format!("{key}: {id}");
            let id = id.parse().map_err(|_| self.wrong(&place, "an id", token))?;
            Ok((id, self.written(&place, token, false)?))
        };
        tokens.iter().map(token).collect()
    }
}
