//! What a file says of its model, by key.

use super::GgufFile;
use super::value::{Kind, List, Value};
use crate::error::{ArtifactError, Result};

impl GgufFile {
    /// The keys under which it says something, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Whether it says something under a key.
    pub fn says(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A text, if it says something there.
    ///
    /// # Errors
    /// If that is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let Value::Text(range) = value else { return Err(self.wrong(key, "a text", value)) };
        let bytes = self.header.get(range.clone()).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.wrong_text(key, bytes)),
        }
    }

    /// An integer that is not negative, if it says something there.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn integer(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let found = if let Value::Integer(found) = value { u64::try_from(*found).ok() } else { None };
        found.map(Some).ok_or_else(|| self.wrong(key, "an integer that is not negative", value))
    }

    /// A finite number, if it says something there. One of 32 bits is the number that its shortest decimal means.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Number(found)) if found.is_finite() => Ok(Some(*found)),
            Some(other) => Err(self.wrong(key, "a finite number", other)),
        }
    }

    /// A truth value, if it says something there.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Flag(found)) => Ok(Some(*found)),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    /// A list of texts, if it says something there.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(List { count, bytes, .. }) = self.list(key, "a list of texts", &[Kind::Text])? else {
            return Ok(None);
        };
        let mut rest = self.header.get(bytes.clone()).unwrap_or_default();
        let mut texts = Vec::with_capacity(*count);
        while let Some((length, behind)) = rest.split_first_chunk() {
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let Some((text, behind)) = behind.split_at_checked(length) else { break };
            texts.push(std::str::from_utf8(text).map_err(|_| self.wrong_text(key, text))?);
            rest = behind;
        }
        Ok(Some(texts))
    }

    /// A list of integers, if it says something there.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        let kinds = [Kind::I32, Kind::U32, Kind::I64, Kind::U64, Kind::I16, Kind::U16, Kind::I8, Kind::U8];
        let Some(list) = self.list(key, "a list of integers", &kinds)? else { return Ok(None) };
        let integer =
            |value: Value| if let Value::Integer(found) = value { i64::try_from(found).ok() } else { None };
        let found: Option<Vec<i64>> = self.each(list).map(|value| integer(value?)).collect();
        found.map(Some).ok_or_else(|| self.wrong_list(key, "integers of 64 bits"))
    }

    /// A list of truth values, if it says something there.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn flags(&self, key: &str) -> Result<Option<Vec<bool>>> {
        let Some(list) = self.list(key, "a list of truth values", &[Kind::Flag])? else { return Ok(None) };
        let flag = |value: Value| if let Value::Flag(found) = value { Some(found) } else { None };
        let found: Option<Vec<bool>> = self.each(list).map(|value| flag(value?)).collect();
        found.map(Some).ok_or_else(|| self.wrong_list(key, "0 or 1"))
    }

    /// A list of numbers, if it says something there.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(list) = self.list(key, "a list of numbers", &[Kind::F32, Kind::F64])? else {
            return Ok(None);
        };
        let number = |value: Value| if let Value::Number(found) = value { Some(found) } else { None };
        let found: Option<Vec<f64>> = self.each(list).map(|value| number(value?)).collect();
        found.map(Some).ok_or_else(|| self.wrong_list(key, "numbers"))
    }

    /// Whether something is a list.
    pub fn is_list(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some(Value::List(_)))
    }

    fn list(&self, key: &str, expected: &str, kinds: &[Kind]) -> Result<Option<&List>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::List(list)) if kinds.contains(&list.kind) => Ok(Some(list)),
            Some(other) => Err(self.wrong(key, expected, other)),
        }
    }

    /// The values of a list whose kind has a size.
    fn each<'s>(&'s self, list: &'s List) -> impl Iterator<Item = Option<Value>> + 's {
        let bytes = self.header.get(list.bytes.clone()).unwrap_or_default();
        bytes.chunks_exact(list.kind.size().unwrap_or(1)).map(|bytes| Value::of(list.kind, bytes))
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> ArtifactError {
        let found = match found {
            Value::Integer(found) => found.to_string(),
            Value::Number(found) => found.to_string(),
            Value::Flag(found) => found.to_string(),
            Value::Text(range) => {
                format!("{:?}", String::from_utf8_lossy(self.header.get(range.clone()).unwrap_or_default()))
            }
            Value::List(list) => format!("a list of {} ({:?})", list.count, list.kind),
        };
        ArtifactError::format(&self.path, format!("key `{key}`"), expected, found)
    }

    fn wrong_text(&self, key: &str, found: &[u8]) -> ArtifactError {
        let found = format!("{:?}", String::from_utf8_lossy(found));
        ArtifactError::format(&self.path, format!("key `{key}`"), "text in UTF-8", found)
    }

    fn wrong_list(&self, key: &str, expected: &str) -> ArtifactError {
        ArtifactError::format(&self.path, format!("key `{key}`"), expected, "another value")
    }
}
