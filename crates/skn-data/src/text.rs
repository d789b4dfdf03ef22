use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::shared::Shared;

/// A text of a row: a stretch of a string that it shares with the rows around it.
///
/// A million rows are a few hundred strings, not a million: 16 bytes a text beside its own, and cloning copies none
/// of it. It reads as a `&str`, and is made of one.
///
/// ```
/// use skn_data::Text;
///
/// let text = Text::from("so good");
/// assert_eq!((text.len(), text.as_str()), (7, "so good"));
/// assert_eq!(std::mem::size_of::<Option<Text>>(), 16);
/// ```
#[derive(Clone)]
pub struct Text(Shared<str>);

impl Text {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The stretch `start..end` of a shared string, unless it cuts a character, or ends beyond the string.
    pub(crate) fn within(all: &Arc<Box<str>>, start: usize, end: usize) -> Option<Self> {
        all.get(start..end)?;
        Shared::stretch(all, start..end).map(Self)
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::from("")
    }
}

impl From<Box<str>> for Text {
    fn from(text: Box<str>) -> Self {
        Self(Shared::whole(text))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::from(Box::<str>::from(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.into_boxed_str())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        str::cmp(self, other)
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        str::hash(self, state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_whole_characters_of_the_string() {
        let all: Arc<Box<str>> = Arc::new("aé!".into());
        assert_eq!(Text::within(&all, 1, 3).unwrap().as_str(), "é");
        assert_eq!(Text::within(&all, 4, 4).unwrap().as_str(), "");
        for (start, end) in [(1, 2), (2, 3), (3, 5), (3, 1)] {
            assert!(Text::within(&all, start, end).is_none(), "{start}..{end}");
        }
    }

    #[test]
    fn texts_are_equal_by_what_they_say() {
        let all: Arc<Box<str>> = Arc::new("so so".into());
        assert_eq!(Text::within(&all, 0, 2), Text::within(&all, 3, 5));
        assert_eq!(Text::within(&all, 0, 2).unwrap(), "so".into());
        assert_eq!(serde_json::to_string(&Text::from("a\"")).unwrap(), "\"a\\\"\"");
    }
}
