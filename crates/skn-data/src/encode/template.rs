//! What stands before, between and after texts: the post-processor of a `tokenizer.json`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::special_tokens::Around;

/// What stands around texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// Around one text.
    pub(super) single: Single,
    /// Around two, or why a pair can't be put together so.
    pub(super) pair: Result<Pair, String>,
}

/// What stands around one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Single {
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
}

/// What stands around two texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) before: Vec<u32>,
    pub(super) between: Vec<u32>,
    pub(super) after: Vec<u32>,
}

/// A step of a post-processor: a token, or one of the texts, each with its token type.
#[derive(Deserialize)]
enum Piece {
    SpecialToken { id: String, type_id: u32 },
    Sequence { id: String, type_id: u32 },
}

/// A token by its name in a template.
#[derive(Deserialize)]
struct Named {
    ids: Vec<u32>,
    tokens: Vec<String>,
}

/// A step with the ids of its tokens; a text has none.
struct Step {
    text: Option<String>,
    ids: Vec<u32>,
    kind: u32,
}

impl Template {
    /// The template of a family: `<s> a </s></s> b </s>`, or `[CLS] a [SEP] b [SEP]`.
    pub(super) fn of_family(special: &Around) -> Self {
        let (start, end) = (vec![special.start], vec![special.end]);
        let between = vec![special.end; special.separators];
        Self {
            single: Single { before: start.clone(), after: end.clone() },
            pair: Ok(Pair { before: start, between, after: end }),
        }
    }

    /// The template of a decoder that has none: texts as they are, those of a pair one after the other.
    pub(super) fn bare() -> Self {
        let nothing = Pair { before: Vec::new(), between: Vec::new(), after: Vec::new() };
        Self { single: Single { before: Vec::new(), after: Vec::new() }, pair: Ok(nothing) }
    }

    /// The template that a tokenizer's post-processor writes; none if that writes no token. `typed` is whether the model has
    /// token types: then they must be 0 up to the second text and 1 from there on, as it is given them here.
    ///
    /// # Errors
    ///
    /// What can't be done so, in words.
    pub(super) fn of(tokenizer: &Tokenizer, typed: bool) -> Result<Option<Self>, String> {
        let wrong = |error: serde_json::Error| format!("post_processor: {error}");
        let whole = serde_json::to_value(tokenizer.get_post_processor()).map_err(wrong)?;
        let mut writing = Vec::new();
        collect_writing(&whole, &mut writing);
        let processor = match writing[..] {
            [] => return Ok(None),
            [processor] => processor,
            _ => {
                return Err(format!(
                    "post_processor: expected one that adds tokens, found {}",
                    writing.len()
                ));
            }
        };
        let (single, pair) = steps(processor).map_err(|error| format!("post_processor: {error}"))?;
        check_ids(tokenizer, processor)?;
        Ok(Some(Self {
            single: one(&single, typed).map_err(|error| format!("post_processor: single: {error}"))?,
            pair: two(&pair, typed).map_err(|error| format!("post_processor: pair: {error}")),
        }))
    }

    /// Whether nothing at all stands around a text.
    pub(super) fn is_bare(&self) -> bool {
        self.single.before.is_empty() && self.single.after.is_empty()
    }
}

/// The processors that add tokens. ByteLevel only corrects offsets, which nobody asks for here.
fn collect_writing<'v>(processor: &'v Value, found: &mut Vec<&'v Value>) {
    match processor["type"].as_str() {
        Some("Sequence") => {
            let inner = processor["processors"].as_array().into_iter().flatten();
            inner.for_each(|inner| collect_writing(inner, found));
        }
        None | Some("ByteLevel") => {}
        Some(_) => found.push(processor),
    }
}

/// What stands around one text and around two.
fn steps(processor: &Value) -> Result<(Vec<Step>, Vec<Step>), String> {
    let kind = processor["type"].as_str().unwrap_or_default();
    if kind == "TemplateProcessing" {
        let tokens: BTreeMap<String, Named> = part(&processor["special_tokens"])?;
        let single: Vec<Piece> = part(&processor["single"])?;
        let pair: Vec<Piece> = part(&processor["pair"])?;
        let steps = |pieces: Vec<Piece>| -> Result<Vec<Step>, String> {
            pieces.into_iter().map(|piece| step(piece, &tokens)).collect()
        };
        return Ok((steps(single)?, steps(pair)?));
    }
    let (cls, sep): ((String, u32), (String, u32)) = (part(&processor["cls"])?, part(&processor["sep"])?);
    let token = |id: u32, kind: u32| Step { text: None, ids: vec![id], kind };
    let text = |name: &str, kind: u32| Step { text: Some(name.to_owned()), ids: Vec::new(), kind };
    let single = vec![token(cls.1, 0), text("A", 0), token(sep.1, 0)];
    let mut pair = vec![token(cls.1, 0), text("A", 0), token(sep.1, 0)];
    match kind {
        "BertProcessing" => pair.extend([text("B", 1), token(sep.1, 1)]),
        "RobertaProcessing" => pair.extend([token(sep.1, 0), text("B", 0), token(sep.1, 0)]),
        _ => return Err(format!("{kind} is not known")),
    }
    Ok((single, pair))
}

fn part<T: for<'d> Deserialize<'d>>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string())
}

fn step(piece: Piece, tokens: &BTreeMap<String, Named>) -> Result<Step, String> {
    match piece {
        Piece::Sequence { id, type_id } => Ok(Step { text: Some(id), ids: Vec::new(), kind: type_id }),
        Piece::SpecialToken { id, type_id } => {
            let named = tokens.get(&id).ok_or_else(|| format!("expected a token {id:?}, found none"))?;
            Ok(Step { text: None, ids: named.ids.clone(), kind: type_id })
        }
    }
}

/// Refuses ids that are not those of their tokens: transformers 4 takes the ids, transformers 5 the tokens.
fn check_ids(tokenizer: &Tokenizer, processor: &Value) -> Result<(), String> {
    let pairs: Vec<(String, u32)> = match processor["special_tokens"].as_object() {
        Some(tokens) => {
            let named: Vec<Named> = tokens.values().map(part).collect::<Result<_, _>>()?;
            named.into_iter().flat_map(|named| named.tokens.into_iter().zip(named.ids)).collect()
        }
        None => vec![part(&processor["cls"])?, part(&processor["sep"])?],
    };
    for (token, id) in pairs {
        let found = tokenizer.token_to_id(&token);
        if found != Some(id) {
            let found = found.map_or_else(|| "no such token".to_owned(), |id| id.to_string());
            return Err(format!(
                "post_processor: expected {token:?} to be {id}, found {found} in the vocabulary"
            ));
        }
    }
    Ok(())
}

/// What stands around one text.
fn one(steps: &[Step], typed: bool) -> Result<Single, String> {
    let [before, after] = parted(steps, &["A"])?;
    check_types(steps.iter(), 0, typed)?;
    Ok(Single { before, after })
}

/// What stands around two texts, and that the token types are those that the model is given.
fn two(steps: &[Step], typed: bool) -> Result<Pair, String> {
    let [before, between, after] = parted(steps, &["A", "B"])?;
    let second = steps.iter().position(|step| step.text.as_deref() == Some("B")).unwrap_or(steps.len());
    check_types(steps.iter().take(second), 0, typed)?;
    check_types(steps.iter().skip(second), 1, typed)?;
    Ok(Pair { before, between, after })
}

/// The ids before, between and after the texts `names`, which must stand there once and in this order.
fn parted<const N: usize>(steps: &[Step], names: &[&str]) -> Result<[Vec<u32>; N], String> {
    let texts: Vec<&str> = steps.iter().filter_map(|step| step.text.as_deref()).collect();
    if texts != names {
        return Err(format!("expected the texts {names:?}, each once and in this order, found {texts:?}"));
    }
    let parts = steps.split(|step| step.text.is_some());
    let parts: Vec<Vec<u32>> =
        parts.map(|tokens| tokens.iter().flat_map(|step| step.ids.iter().copied()).collect()).collect();
    parts.try_into().map_err(|_| "expected tokens around the texts alone".to_owned())
}

fn check_types<'s>(mut steps: impl Iterator<Item = &'s Step>, kind: u32, typed: bool) -> Result<(), String> {
    match steps.find(|step| typed && step.kind != kind) {
        None => Ok(()),
        Some(step) => Err(format!(
            "expected token type {kind} ({}), found {}; only 0 up to the second text and 1 from there on are given to a BERT",
            if kind == 0 { "before the second text" } else { "from the second text on" },
            step.kind
        )),
    }
}
