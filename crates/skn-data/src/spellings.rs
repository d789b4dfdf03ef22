// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The spellings of each class's name, in class order, as a task file says them: a name, or a list of names, for each
/// class.
pub(crate) fn spellings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spellings {
        One(String),
        Several(Vec<String>),
    }
    let classes = Vec::<Spellings>::deserialize(deserializer)?;
    let all = |spellings| match spellings {
        Spellings::One(name) => vec![name],
        Spellings::Several(names) => names,
    };
    Ok(classes.into_iter().map(all).collect())
}

/// A column, or a list of columns.
pub(crate) fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Columns;

    impl<'de> Visitor<'de> for Columns {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a column, or a list of columns")
        }

        fn visit_str<E: Error>(self, column: &str) -> Result<Vec<String>, E> {
            Ok(vec![column.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, columns: A) -> Result<Vec<String>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(columns))
        }
    }

    deserializer.deserialize_any(Columns)
}
