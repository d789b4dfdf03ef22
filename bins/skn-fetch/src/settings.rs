//! What the flags and the environment ask for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use skn_artifact::{is_there, read_regular};
use skn_hub::{self as hub, variable};
use skn_program::Failure;
use ureq::http::Uri;

use crate::patience::Limits;

const ENDPOINT: &str = "https://huggingface.co";
const TOKEN_PATH: &str = "HF_TOKEN_PATH";

/// A file above this size holds something else than a token.
const LONGEST_TOKEN: u64 = 1 << 16;

/// Seconds that a server is waited for where no variable says it. Python waits for 10.
const PATIENCE: u64 = 30;

/// A token of the Hub. It has no `Debug` or `Display`: nothing prints it.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// `file` if that is given, else `HF_TOKEN` or its old name, else what the file holds that `HF_TOKEN_PATH` names, else
    /// `token` where the login programs leave it. `HF_HUB_DISABLE_IMPLICIT_TOKEN` leaves the first.
    ///
    /// # Errors
    /// If a file can't be read, or what it holds can't be a token.
    pub(crate) fn find(file: Option<&Path>) -> Result<Option<Self>> {
        if let Some(path) = file {
            return Self::read(&hub::expanded("--token-file", path)?).map(Some);
        }
        if hub::is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let Some(token) = variable(name) {
                return Self::new(&token.to_string_lossy(), name).map(Some);
            }
        }
        let Some(path) = hub::token_file()? else { return Ok(None) };
        let is_named = variable(TOKEN_PATH).is_some();
        match is_there(&path) {
            Ok(true) => Self::read(&path).map(Some),
            // Nobody has logged in, which is no error in Python either.
            Ok(false) => {
                if is_named {
                    let path = path.display();
                    tracing::info!("{path}: no such file, which {TOKEN_PATH} names: no token is sent");
                }
                Ok(None)
            }
            Err(error) if is_named => Err(Failure::input(format!("{TOKEN_PATH}: {error}"))),
            // Another user's home folder, as in a container: most repositories need no token.
            Err(error) => {
                tracing::warn!("{error}: no token is sent");
                Ok(None)
            }
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let bytes = read_regular(path, LONGEST_TOKEN);
        let bytes = bytes.map_err(|error| Failure::input(format!("{place}: can't be read: {error}")))?;
        Self::new(&String::from_utf8_lossy(&bytes), &place)
    }

    fn new(text: &str, place: &str) -> Result<Self> {
        let text = text.trim();
        // What stands there is not said: it may be a secret all the same.
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::input(format!(
                "{place}: expected a token of the Hub: one word of printable ASCII"
            )));
        }
        Ok(Self(text.to_string()))
    }

    /// The secret itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// The address of the Hub: `flag`, else `HF_ENDPOINT`, else the public one; without a slash at its end.
///
/// # Errors
/// If it is no http or https address.
pub(crate) fn endpoint(flag: Option<&str>) -> Result<String> {
    let variable = variable("HF_ENDPOINT").map(|value| value.to_string_lossy().into_owned());
    let (place, text) = match (flag, variable) {
        (Some(text), _) => ("--endpoint", text.to_string()),
        (None, Some(text)) => ("HF_ENDPOINT", text),
        (None, None) => ("the Hub", ENDPOINT.to_string()),
    };
    let text = text.trim_end_matches('/').to_string();
    let address = text.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none()
    });
    let has_password = address.as_ref().and_then(Uri::authority).is_some_and(|it| it.as_str().contains('@'));
    match address {
        // A password in it would be printed with every message.
        Some(_) if !has_password => Ok(text),
        _ => Err(Failure::usage(format!(
            "{place}: expected http://HOST or https://HOST, with neither user nor password"
        ))),
    }
}

/// How long the Hub is waited for: `HF_HUB_ETAG_TIMEOUT` for answers, `HF_HUB_DOWNLOAD_TIMEOUT` for what follows, and what
/// the flags say.
///
/// # Errors
/// If a variable is no number of seconds.
pub(crate) fn limits(least_rate: u64, timeout: Option<u64>) -> Result<Limits> {
    let of = |name| seconds(name, variable(name).map(|value| value.to_string_lossy().into_owned()));
    Ok(Limits {
        answer: of("HF_HUB_ETAG_TIMEOUT")?,
        silence: of("HF_HUB_DOWNLOAD_TIMEOUT")?,
        least_rate,
        whole: timeout.map(Duration::from_secs),
    })
}

/// What a variable says; as in Python, 0 is the same as nothing.
fn seconds(name: &str, value: Option<String>) -> Result<Duration> {
    let Some(value) = value else { return Ok(Duration::from_secs(PATIENCE)) };
    match value.trim().parse::<u32>() {
        Ok(0) => Ok(Duration::from_secs(PATIENCE)),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => Err(Failure::usage(format!("{name}: expected a whole number of seconds, found {value:?}"))),
    }
}

/// The cache: `flag`, else that of the environment.
///
/// # Errors
/// If no place is known, or what names it is none.
pub(crate) fn cache(flag: Option<PathBuf>) -> Result<hub::Cache> {
    // A shell leaves the `~` of `--cache=~/hub` as it is.
    let cache = match flag {
        Some(folder) => Some(hub::Cache::at(hub::expanded("--cache", folder)?)),
        None => hub::Cache::of_environment()?,
    };
    cache.ok_or_else(|| {
        Failure::usage("neither HF_HUB_CACHE, HF_HOME nor HOME is set: give the cache with --cache DIR")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_without_secrets() {
        assert_eq!(endpoint(Some("http://localhost:8080/hub/")).unwrap(), "http://localhost:8080/hub");
        for wrong in ["", "huggingface.co", "ftp://x", "https://", "https://me:secret@host", "http://h?x=1"] {
            let message = endpoint(Some(wrong)).unwrap_err().to_string();
            assert!(message.starts_with("--endpoint: expected") && !message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn times_are_whole_seconds() {
        let of = |value: &str| seconds("HF_HUB_ETAG_TIMEOUT", Some(value.into()));
        assert_eq!(of("500").unwrap(), Duration::from_secs(500));
        assert_eq!(of("0").unwrap(), seconds("HF_HUB_ETAG_TIMEOUT", None).unwrap());
        for wrong in ["soon", "-1", "1.5", "99999999999"] {
            let message = of(wrong).unwrap_err().to_string();
            let expected =
                format!("HF_HUB_ETAG_TIMEOUT: expected a whole number of seconds, found {wrong:?}");
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn a_token_is_one_word_and_an_error_does_not_show_it() {
        assert_eq!(Token::new(" hf_x\n", "f").unwrap().reveal(), "hf_x");
        for wrong in ["", " \n", "two secrets", "s\u{e4}cret"] {
            let message = Token::new(wrong, "f").err().unwrap().to_string();
            assert!(message.starts_with("f: expected a token") && !message.contains("cret"), "{message}");
        }
    }
}
