//! What the environment says, as Python's `huggingface_hub` reads it (its `constants.py`, and `datasets`' `config.py`).

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{HubError, Result};
use crate::repository::Kind;

/// Either of them forbids connections; the first one that is set decides.
const OFFLINE: [&str; 2] = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];

/// Forbids connections to fetch data sets.
const OFFLINE_DATA: &str = "HF_DATASETS_OFFLINE";

/// Variables, and the user's home folder.
pub(crate) struct Environment<V> {
    variable: V,
    home: Option<PathBuf>,
}

impl Environment<fn(&str) -> Option<OsString>> {
    /// That of this process.
    pub(crate) fn real() -> Self {
        Self { variable, home: std::env::home_dir() }
    }
}

impl<V: Fn(&str) -> Option<OsString>> Environment<V> {
    #[cfg(test)]
    pub(crate) fn new(variable: V, home: Option<PathBuf>) -> Self {
        Self { variable, home }
    }

    /// The cache: `HF_HUB_CACHE`, else its old name, else `hub` where Hugging Face's programs keep their things. Nothing
    /// if not even a home folder is known.
    pub(crate) fn cache(&self) -> Result<Option<PathBuf>> {
        self.place(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"], "hub")
    }

    /// Where the login programs leave a token: `HF_TOKEN_PATH`, else `token` where Hugging Face's programs keep their
    /// things.
    pub(crate) fn token(&self) -> Result<Option<PathBuf>> {
        self.place(&["HF_TOKEN_PATH"], "token")
    }

    /// What the first of some variables names that is set, else a name below `HF_HOME`.
    fn place(&self, variables: &[&str], name: &str) -> Result<Option<PathBuf>> {
        for variable in variables {
            if let Some(value) = (self.variable)(variable) {
                return self.expanded(variable, value).map(Some);
            }
        }
        let Some(home) = self.home()? else { return Ok(None) };
        // Python expands what came out of the first time again.
        self.expanded("HF_HOME", home.join(name).into()).map(Some)
    }

    /// Where Hugging Face's programs keep their things: `HF_HOME`, else `huggingface` in `XDG_CACHE_HOME`, else
    /// `~/.cache/huggingface`.
    fn home(&self) -> Result<Option<PathBuf>> {
        if let Some(value) = (self.variable)("HF_HOME") {
            return self.expanded("HF_HOME", value).map(Some);
        }
        let below = |folder: PathBuf| folder.join("huggingface");
        if let Some(value) = (self.variable)("XDG_CACHE_HOME") {
            return self.expanded("XDG_CACHE_HOME", value).map(below).map(Some);
        }
        Ok(self.home.as_ref().map(|home| below(home.join(".cache"))))
    }

    /// The variable that forbids connections.
    pub(crate) fn offline(&self, kind: Kind) -> Option<&'static str> {
        let first = OFFLINE.into_iter().find(|name| (self.variable)(name).is_some());
        let of_data = (kind == Kind::Dataset).then_some(OFFLINE_DATA);
        first.filter(|name| self.is_on(name)).or_else(|| of_data.filter(|name| self.is_on(name)))
    }

    /// Whether a variable is 1, true, yes or on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        let value = (self.variable)(name).and_then(|value| value.into_string().ok());
        value.is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str()))
    }

    /// A path with the user's home folder for `~` at its beginning, and then with the values of variables for `$NAME` and
    /// `${NAME}`. A variable that is not set stays as it stands, as in Python.
    pub(crate) fn expanded(&self, variable: &str, value: OsString) -> Result<PathBuf> {
        let no_path = |reason| {
            let value = value.to_string_lossy().into_owned();
            Err(HubError::NoPath { variable: variable.to_string(), value, reason })
        };
        let Some(text) = value.to_str() else {
            return match value.as_encoded_bytes().iter().any(|byte| matches!(byte, b'~' | b'$')) {
                true => no_path("`~` and `$` are understood in UTF-8 alone"),
                false => Ok(value.into()),
            };
        };
        let text = match text.strip_prefix('~') {
            None => text.to_string(),
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                let Some(home) = self.home.as_ref().and_then(|home| home.to_str()) else {
                    return no_path("the home folder is not known: HOME is not set");
                };
                match format!("{}{rest}", home.trim_end_matches('/')) {
                    root if root.is_empty() => "/".to_string(),
                    path => path,
                }
            }
            Some(_) => return no_path("another user's home folder is not looked up; give its path"),
        };
        let Some(path) = self.with_variables(&text) else {
            return no_path("a variable in it is not UTF-8");
        };
        match path.starts_with('~') {
            true => {
                no_path("`~` from a variable stands for no home folder; for a folder of this name say `./~`")
            }
            false => Ok(path.into()),
        }
    }

    /// A text with the values of variables; nothing if one is not UTF-8. A value is not looked through again.
    fn with_variables(&self, text: &str) -> Option<String> {
        let (mut done, mut rest) = (String::new(), text);
        while let Some(place) = rest.find('$') {
            let (before, from) = rest.split_at(place);
            done += before;
            let length = reference(from);
            let (written, after) = from.split_at(length.max(1));
            let name = written.trim_start_matches('$');
            let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
            // The system has no variable without a name, and may panic if asked for one with `=` in it.
            let asked = !name.is_empty() && !name.contains(['=', '\0']);
            match asked.then(|| (self.variable)(name)).flatten() {
                Some(value) => done += value.to_str()?,
                None => done += written,
            }
            rest = after;
        }
        Some(done + rest)
    }
}

/// How long `$NAME` or `${NAME}` at the beginning of a text is; 0 if neither is there.
fn reference(text: &str) -> usize {
    let Some(rest) = text.strip_prefix('$') else { return 0 };
    if rest.starts_with('{') {
        return rest.find('}').map_or(0, |end| end + 2);
    }
    let word = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    if word == 0 { 0 } else { word + 1 }
}

/// A variable of the environment, unless it is empty.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether a variable of the environment is 1, true, yes or on.
pub fn is_on(name: &str) -> bool {
    Environment::real().is_on(name)
}

/// The variable of the environment that forbids connections: `HF_HUB_OFFLINE`, else `TRANSFORMERS_OFFLINE`; for data sets
/// `HF_DATASETS_OFFLINE` too.
pub fn offline_by(kind: Kind) -> Option<&'static str> {
    Environment::real().offline(kind)
}

/// The file where the login programs leave a token: `HF_TOKEN_PATH`, else `HF_HOME/token`. Nothing if no home folder is
/// known.
///
/// # Errors
/// If a variable names no path.
pub fn token_file() -> Result<Option<PathBuf>> {
    Environment::real().token()
}

/// The path that a variable or a flag named `name` means: with the home folder for `~`, and with the values of variables.
///
/// # Errors
/// If it is no path.
pub fn expanded(name: &str, value: impl Into<OsString>) -> Result<PathBuf> {
    Environment::real().expanded(name, value.into())
}
