//! Folders of tokenizers as transformers reads them: `tokenizers/make.py` made the folders, and asked transformers.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use skn_data::{Example, Join, TextEncoder, TokenizerFiles};

#[derive(Deserialize)]
struct Cases {
    asked: Vec<(String, Option<String>, Option<usize>)>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    base: String,
    drop: Vec<String>,
    patch: BTreeMap<String, Map<String, Value>>,
    write: BTreeMap<String, Value>,
    refused: Option<String>,
    refused_pair: Option<String>,
    size: Option<usize>,
    #[serde(default)]
    ids: Vec<(Vec<u32>, Option<usize>)>,
}

impl Case {
    fn all() -> Cases {
        serde_json::from_slice(&read("cases.json").unwrap()).unwrap()
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        match self.write.get(name) {
            Some(Value::String(text)) => return Some(text.clone().into_bytes()),
            Some(value) => return Some(value.to_string().into_bytes()),
            None if self.drop.iter().any(|gone| gone == name) => return None,
            None => {}
        }
        let bytes = read(&format!("{}/{name}", self.base))?;
        let Some(patch) = self.patch.get(name) else { return Some(bytes) };
        let mut whole: Map<String, Value> = serde_json::from_slice(&bytes).unwrap();
        whole.extend(patch.clone());
        Some(Value::Object(whole).to_string().into_bytes())
    }

    fn files(&self) -> TokenizerFiles<'static> {
        let file = |name: &str| Ok::<_, Infallible>(self.file(name).map(Cow::Owned));
        TokenizerFiles::gather("F", file).unwrap()
    }

    fn encoder(&self) -> Result<TextEncoder, String> {
        TextEncoder::from_files(&self.files()).map_err(|error| error.to_string())
    }
}

fn read(name: &str) -> Option<Vec<u8>> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers").join(name)).ok()
}

#[test]
fn ids_are_those_of_transformers() {
    let all = Case::all();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for case in all.cases.iter().filter(|case| case.refused.is_none()) {
        let encoder = case.encoder().unwrap_or_else(|error| panic!("{}: {error}", case.name));
        if Some(encoder.vocabulary_size()) != case.size {
            wrong.push(format!("{}: {:?} tokens, found {}", case.name, case.size, encoder.vocabulary_size()));
        }
        assert_eq!(case.ids.len(), all.asked.len());
        for ((text, pair, most), (ids, second)) in all.asked.iter().zip(&case.ids) {
            let example = Example {
                text: text.as_str().into(),
                pair: pair.as_deref().map(Into::into),
                more: Box::default(),
                label: 0,
            };
            let found = encoder.encode(&example, most.unwrap_or(999), Join::Separated);
            if let (Some(refused), Some(_)) = (&case.refused_pair, pair) {
                assert_eq!(found.unwrap_err().to_string(), format!("F/{refused}"), "{}", case.name);
                continue;
            }
            let (found, place) = found.unwrap();
            if found != *ids || second.is_some_and(|second| second != place) {
                wrong.push(format!(
                    "{}: {text:?} {pair:?} {most:?}: expected {ids:?} {second:?}, found {found:?} {place}",
                    case.name
                ));
            }
            compared += 1;
        }
        encoder.try_out().unwrap();
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 900, "{compared} texts");
}

#[test]
fn what_cannot_be_followed_is_named() {
    let mut refused = 0;
    for case in Case::all().cases {
        let Some(expected) = &case.refused else { continue };
        // Of the whole folder where no file is to blame.
        let expected =
            if expected.starts_with(':') { format!("F{expected}") } else { format!("F/{expected}") };
        assert_eq!(case.encoder().map(|_| ()), Err(expected), "{}", case.name);
        refused += 1;
    }
    assert!(refused > 20, "{refused} cases");
}
