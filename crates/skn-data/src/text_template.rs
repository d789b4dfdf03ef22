//! A task's template: what stands around a row's texts.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// What a row says to the model, with places for its columns: `Review: {text}\nSentiment:`.
///
/// A name in braces is a column, which may stand in several places; `{{` and `}}` are braces.
///
/// ```
/// use skn_data::TextTemplate;
///
/// let template: TextTemplate = "{{{name}}} says: {text}\nIs {name} pleased?".parse()?;
/// assert_eq!(template.columns(), ["name", "text"]);
/// assert_eq!(template.fill(&["Ada", "so good"]).text, "{Ada} says: so good\nIs Ada pleased?");
/// # Ok::<(), skn_data::WrongTemplate>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTemplate {
    source: String,
    pieces: Vec<Piece>,
    columns: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// As it stands there.
    Said(String),
    /// The text of a column, by its place in `columns`.
    Column(usize),
}

/// A template with a row's texts in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// All of it.
    pub text: String,
    /// Where in it columns' texts stand, in bytes: one stretch for each time that the template names a column.
    pub columns: Vec<Range<usize>>,
}

/// Why a text is no template: `a template in which ..`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a template {reason}")]
pub struct WrongTemplate {
    reason: String,
}

impl TextTemplate {
    /// The columns that it names, each once, in the order in which they come first.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// SHA-256 of the template as it is written, in hexadecimal: the `skn.template_sha256` of artifacts.
    pub fn sha256(&self) -> String {
        format!("{:x}", Sha256::digest(&self.source))
    }

    /// The template with the texts of its columns, in the order of [`Self::columns`]; a text that is not given is empty.
    pub fn fill(&self, texts: &[&str]) -> Filled {
        let mut filled = Filled { text: String::new(), columns: Vec::new() };
        for piece in &self.pieces {
            match piece {
                Piece::Said(said) => filled.text.push_str(said),
                Piece::Column(column) => {
                    let start = filled.text.len();
                    filled.text.push_str(texts.get(*column).copied().unwrap_or_default());
                    filled.columns.push(start..filled.text.len());
                }
            }
        }
        filled
    }

    fn add(&mut self, piece: Piece) {
        match (self.pieces.last_mut(), piece) {
            (Some(Piece::Said(before)), Piece::Said(said)) => before.push_str(&said),
            (_, piece) => self.pieces.push(piece),
        }
    }

    fn add_column(&mut self, name: &str) {
        let known = self.columns.iter().position(|column| column == name);
        let place = known.unwrap_or_else(|| {
            self.columns.push(name.to_owned());
            self.columns.len() - 1
        });
        self.add(Piece::Column(place));
    }
}

impl FromStr for TextTemplate {
    type Err = WrongTemplate;

    fn from_str(source: &str) -> Result<Self, WrongTemplate> {
        let mut template = Self { source: source.to_owned(), pieces: Vec::new(), columns: Vec::new() };
        let mut rest = source;
        while let Some((said, brace, behind)) = next_brace(rest) {
            template.add(Piece::Said(said.to_owned()));
            let wrong = |what: &str| {
                let place = source.chars().count() - behind.chars().count();
                WrongTemplate { reason: format!("in which {what}, at character {place}") }
            };
            rest = match (brace, behind.strip_prefix(brace)) {
                (_, Some(behind)) => {
                    template.add(Piece::Said(brace.to_string()));
                    behind
                }
                ('{', None) => {
                    let (name, behind) = behind
                        .split_once('}')
                        .ok_or_else(|| wrong("a { is never closed (a brace itself is {{)"))?;
                    if name.trim().is_empty() || name.contains('{') {
                        return Err(wrong(&format!("{name:?} stands for a column (a brace itself is {{{{)")));
                    }
                    template.add_column(name);
                    behind
                }
                _ => return Err(wrong("a } closes nothing (a brace itself is }})")),
            };
        }
        template.add(Piece::Said(rest.to_owned()));
        template.pieces.retain(|piece| *piece != Piece::Said(String::new()));
        if template.columns.is_empty() {
            return Err(WrongTemplate { reason: "that names no column, as {text} does".to_owned() });
        }
        Ok(template)
    }
}

/// What stands before the next brace, the brace, and what stands behind it.
fn next_brace(text: &str) -> Option<(&str, char, &str)> {
    let (said, _) = text.split_once(['{', '}'])?;
    let mut behind = text.get(said.len()..)?.chars();
    let brace = behind.next()?;
    Some((said, brace, behind.as_str()))
}

impl fmt::Display for TextTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Serialize for TextTemplate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for TextTemplate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(source: &str) -> TextTemplate {
        source.parse().unwrap()
    }

    #[test]
    fn columns_are_filled_where_they_stand() {
        let filled = template("a {x}{y}, é{x}!").fill(&["1", "{y}"]);
        assert_eq!((filled.text.as_str(), &filled.columns[..]), ("a 1{y}, é1!", &[2..3, 3..6, 10..11][..]));
        // What is not there is empty, and what nobody asks for is not there.
        assert_eq!(template("{x}-{y}").fill(&["1"]).text, "1-");
        assert_eq!(template("{x}").fill(&["1", "2"]).text, "1");
    }

    #[test]
    fn doubled_braces_are_braces() {
        assert_eq!(template("{{{x}}}{{}}").fill(&["1"]).text, "{1}{}");
        assert_eq!(template("{{x}} {x}").columns(), ["x"]);
        assert_eq!(template("{a column: 1}").columns(), ["a column: 1"]);
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_place() {
        for (source, reason) in [
            ("a {text", "a { is never closed (a brace itself is {{), at character 3"),
            ("a {", "a { is never closed (a brace itself is {{), at character 3"),
            ("é }{text}", "a } closes nothing (a brace itself is }}), at character 3"),
            ("{}", "\"\" stands for a column (a brace itself is {{), at character 1"),
            ("{ }", "\" \" stands for a column"),
            ("{a{b}", "\"a{b\" stands for a column"),
            ("no column", "that names no column, as {text} does"),
            ("{{text}}", "that names no column"),
            ("", "that names no column"),
        ] {
            let error = source.parse::<TextTemplate>().unwrap_err().to_string();
            assert!(error.starts_with("a template ") && error.contains(reason), "{source}: {error}");
        }
    }

    #[test]
    fn the_hash_is_of_what_is_written() {
        assert_eq!(template("{x}").sha256(), format!("{:x}", Sha256::digest("{x}")));
        assert_ne!(template("{x}").sha256(), template("{x} ").sha256());
        let written = serde_json::to_string(&template("{x}\n\"{{\"")).unwrap();
        assert_eq!(serde_json::from_str::<TextTemplate>(&written).unwrap(), template("{x}\n\"{{\""));
    }

    proptest! {
        /// Whatever it says: no panic, and what is filled in stands where it is said to stand.
        #[test]
        fn any_text_is_a_template_or_refused(source in "[{}ab é\n]{0,12}", texts in prop::collection::vec(".{0,4}", 0..3)) {
            if let Ok(template) = source.parse::<TextTemplate>() {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let filled = template.fill(&texts);
                for stretch in filled.columns {
                    let found = &filled.text[stretch];
                    prop_assert!(found.is_empty() || texts.contains(&found));
                }
            }
        }
    }
}
