//! The texts that excite some neurons most.

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

use std::cmp::Ordering;
use std::collections::BTreeMap;

use skn_artifact::names::top;
use skn_artifact::{Array, ArtifactError, TensorBundle, TensorFile, names::key};

use crate::error::{CountsError, Result};
use crate::pool::Pool;

/// A neuron, and where it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NeuronPlace {
    /// The layer, from 0.
    pub layer: usize,
    /// The index in the layer, from 0.
    pub index: usize,
    /// The prompt position, from 0; 0 where a text's activations are pooled.
    pub position: usize,
}

/// A text, and how much it excites a neuron.
#[derive(Clone, Debug, PartialEq)]
pub struct TopText {
    /// The neuron's activation.
    pub activation: f32,
    /// The text's row in its part of the data, from 0.
    pub row: u64,
    /// The text's class, from 0.
    pub class: usize,
    /// How the text begins; empty until [`TopTexts::describe`] says it.
    pub excerpt: String,
}

impl TopText {
    /// The largest activation first; of equals the lower row.
    fn order(&self, other: &Self) -> Ordering {
        other.activation.total_cmp(&self.activation).then(self.row.cmp(&other.row))
    }
}

/// For each of some neurons the texts with its largest activations, at most [`Self::KEPT`]: the file `dev_top`. What it holds does not
/// grow with the texts, and is the same in any order of them.
///
/// ```
/// use skn_counts::{NeuronPlace, Pool, TopTexts};
///
/// let mut top = TopTexts::new(Pool::Position, vec![NeuronPlace { layer: 2, index: 87, position: 3 }]);
/// for (row, activation) in [0.25, -1.0, 0.5, 0.25].into_iter().enumerate() {
///     top.see(0, activation, row as u64, row % 2);
/// }
/// top.describe(|row| format!("text {row}"));
/// let best: Vec<&str> = top.texts(0).iter().map(|text| text.excerpt.as_str()).collect();
/// assert_eq!(best, ["text 2", "text 0", "text 3", "text 1"]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TopTexts {
    pool: Pool,
    neurons: Vec<NeuronPlace>,
    /// For each neuron, in order.
    texts: Vec<Vec<TopText>>,
}

impl TopTexts {
    /// How many texts of each neuron are kept.
    pub const KEPT: usize = 10;
    /// How many characters of a text are kept.
    pub const LETTERS: usize = 120;

    /// Of no texts yet.
    pub fn new(pool: Pool, neurons: Vec<NeuronPlace>) -> Self {
        let texts = vec![Vec::new(); neurons.len()];
        Self { pool, neurons, texts }
    }

    /// What is taken of a text's activations.
    pub fn pool(&self) -> Pool {
        self.pool
    }

    /// The neurons, in the order that they were given in.
    pub fn neurons(&self) -> &[NeuronPlace] {
        &self.neurons
    }

    /// The texts of a neuron, by its number in that order: the one that excites it most first.
    pub fn texts(&self, neuron: usize) -> &[TopText] {
        self.texts.get(neuron).map_or(&[], Vec::as_slice)
    }

    /// Takes account of a text of a neuron.
    pub fn see(&mut self, neuron: usize, activation: f32, row: u64, class: usize) {
        let text = TopText { activation, row, class, excerpt: String::new() };
        if let Some(texts) = self.texts.get_mut(neuron) {
            put(texts, text);
        }
    }

    /// Says how each text begins: of what `text` says of a row at most [`Self::LETTERS`] characters, without control characters.
    pub fn describe(&mut self, text: impl Fn(u64) -> String) {
        for found in self.texts.iter_mut().flatten() {
            found.excerpt = excerpt(&text(found.row));
        }
    }

    /// Takes account of another shard's texts.
    ///
    /// # Errors
    /// If they are of other neurons.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if (self.pool, &self.neurons) != (other.pool, &other.neurons) {
            let said = |of: &Self| format!("{:?} {:?}", of.pool, of.neurons);
            return Err(CountsError::mismatch("neurons of a shard", said(self), said(other)));
        }
        for (texts, more) in self.texts.iter_mut().zip(&other.texts) {
            more.iter().for_each(|text| put(texts, text.clone()));
        }
        Ok(())
    }

    /// The file: `neuron` I64 `[N, 3]`, of each neuron layer, index and position; `activation` F32, `row` I64 and `label` I64 `[N, K]`;
    /// `text` U8 `[N, K, B]`, UTF-8 with zeros behind.
    ///
    /// # Errors
    /// If there are no neurons or no texts, or neurons have different numbers of them.
    pub fn to_bundle(&self, metadata: &BTreeMap<String, String>) -> Result<TensorBundle> {
        let (count, kept) = (self.neurons.len(), self.texts.first().map_or(0, Vec::len));
        if kept == 0 || self.texts.iter().any(|texts| texts.len() != kept) {
            return Err(CountsError::mismatch("texts of a neuron", "as many of each, one at least", kept));
        }
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let places = self.neurons.iter().flat_map(|of| [of.layer, of.index, of.position].map(number));
        let all = || self.texts.iter().flatten();
        let bytes = all().map(|text| text.excerpt.len()).max().unwrap_or(0).max(1);
        let mut letters = Vec::with_capacity(count * kept * bytes);
        for text in all() {
            letters.extend_from_slice(text.excerpt.as_bytes());
            letters.resize(letters.len() + bytes - text.excerpt.len(), 0);
        }
        let mut bundle = TensorBundle::new();
        for (name, value) in metadata {
            bundle.describe(name, value);
        }
        bundle.describe(key::KIND, top::kind(self.pool.name()));
        let shape = vec![count, kept];
        let rows = all().map(|text| i64::try_from(text.row).unwrap_or(i64::MAX)).collect();
        bundle.insert("neuron", Array::i64(vec![count, 3], places.collect())?);
        bundle.insert("activation", Array::f32(shape.clone(), all().map(|text| text.activation).collect())?);
        bundle.insert("row", Array::i64(shape.clone(), rows)?);
        bundle.insert("label", Array::i64(shape, all().map(|text| number(text.class)).collect())?);
        bundle.insert("text", Array::u8(vec![count, kept, bytes], letters)?);
        Ok(bundle)
    }

    /// Reads what [`Self::to_bundle`] made.
    ///
    /// # Errors
    /// If the file is of another kind or shape, a number is below 0 or not finite, texts are not in order, or one is no UTF-8.
    pub fn read(file: &TensorFile, pool: Pool) -> Result<Self> {
        file.expect_kind(&top::kind(pool.name()))?;
        let (shape, activations) = file.f32("activation", None)?;
        let &[count, kept] = shape.as_slice() else {
            return Err(wrong(file, "activation", "shape [neurons, texts]", format!("{shape:?}")));
        };
        if count == 0 || !(1..=Self::KEPT).contains(&kept) {
            let expected = format!("one neuron or more, with 1 to {} texts", Self::KEPT);
            return Err(wrong(file, "activation", expected, format!("{shape:?}")));
        }
        let numbers = |name: &str, shape: &[usize]| -> Result<Vec<usize>> {
            let (_, numbers) = file.i64(name, Some(shape))?;
            let number =
                |&number: &i64| usize::try_from(number).map_err(|_| wrong(file, name, "0 or more", number));
            numbers.iter().map(number).collect()
        };
        let places = numbers("neuron", &[count, 3])?;
        let (rows, classes) = (numbers("row", &[count, kept])?, numbers("label", &[count, kept])?);
        let &[_, _, bytes] = file.shape("text")? else {
            return Err(wrong(
                file,
                "text",
                "shape [neurons, texts, bytes]",
                format!("{:?}", file.shape("text")?),
            ));
        };
        let all = count.saturating_mul(kept).saturating_mul(bytes);
        let letters = file.u8_range("text", Some(&[count, kept, bytes]), 0..all)?;
        if let Some(found) = activations.iter().find(|value| !value.is_finite()) {
            return Err(wrong(file, "activation", "finite numbers", found));
        }
        let neurons = places.chunks_exact(3).filter_map(|place| match place {
            &[layer, index, position] => Some(NeuronPlace { layer, index, position }),
            _ => None,
        });
        let mut found = Vec::with_capacity(rows.len());
        let texts = letters.chunks_exact(bytes.max(1));
        for (((activation, row), class), text) in activations.into_iter().zip(rows).zip(classes).zip(texts) {
            let end = text.iter().rposition(|&byte| byte != 0).map_or(0, |last| last.saturating_add(1));
            let text = std::str::from_utf8(text.get(..end).unwrap_or_default());
            let excerpt = text.map_err(|error| wrong(file, "text", "UTF-8", error))?.to_owned();
            let row = u64::try_from(row).unwrap_or(u64::MAX);
            found.push(TopText { activation, row, class, excerpt });
        }
        let texts: Vec<Vec<TopText>> = found.chunks_exact(kept).map(<[TopText]>::to_vec).collect();
        if texts.iter().any(|texts| !texts.is_sorted_by(|a, b| a.order(b) == Ordering::Less)) {
            return Err(wrong(
                file,
                "activation",
                "falling numbers, of equals the lower row first",
                "another order",
            ));
        }
        Ok(Self { pool, neurons: neurons.collect(), texts })
    }
}

/// Puts a text where it belongs, and lets go of what is too many.
fn put(texts: &mut Vec<TopText>, text: TopText) {
    let place = texts.partition_point(|other| other.order(&text) == Ordering::Less);
    if place < TopTexts::KEPT {
        texts.insert(place, text);
        texts.truncate(TopTexts::KEPT);
    }
}

fn excerpt(text: &str) -> String {
    let text = text.trim().replace(char::is_control, " ");
    match text.char_indices().nth(TopTexts::LETTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default().trim_end()),
        None => text,
    }
}

fn wrong(file: &TensorFile, tensor: &str, expected: impl ToString, found: impl ToString) -> CountsError {
    let (expected, found) = (expected.to_string(), found.to_string());
    ArtifactError::Tensor { file: file.path().into(), tensor: tensor.into(), expected, found }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [NeuronPlace; 2] =
        [NeuronPlace { layer: 0, index: 4, position: 1 }, NeuronPlace { layer: 3, index: 1, position: 0 }];

    /// Activations that tie often: of 40 texts some have the same.
    fn of(rows: impl Iterator<Item = u64>) -> TopTexts {
        let mut top = TopTexts::new(Pool::Position, PLACES.to_vec());
        for row in rows {
            let level = (row * 7 % 13) as f32;
            top.see(0, level, row, (row % 3) as usize);
            top.see(1, -level, row, (row % 3) as usize);
        }
        top.describe(|row| format!("row {row}"));
        top
    }

    fn file(top: &TopTexts) -> TensorFile {
        let bytes = top.to_bundle(&BTreeMap::new()).unwrap().to_bytes().unwrap();
        TensorFile::from_bytes("dev_top.safetensors".as_ref(), bytes).unwrap()
    }

    #[test]
    fn the_largest_are_kept_and_ties_go_to_the_lower_row() {
        let whole = of(0..40);
        let mut expected: Vec<(i64, u64)> = (0..40).map(|row| (-((row * 7 % 13) as i64), row)).collect();
        expected.sort_unstable();
        let found: Vec<(i64, u64)> =
            whole.texts(0).iter().map(|text| (-(text.activation as i64), text.row)).collect();
        assert_eq!(found, expected[..10]);
        // Whatever the order of texts, and however they are parted.
        assert_eq!(of((0..40).rev()), whole);
        for cut in [1, 5, 20, 37] {
            let mut parts = of(0..cut);
            parts.merge(&of(cut..40)).unwrap();
            assert_eq!(parts, whole, "{cut}");
        }
        let mut other = TopTexts::new(Pool::Position, vec![PLACES[1]]);
        assert!(other.merge(&whole).is_err());
    }

    #[test]
    fn a_file_is_read_back() {
        let mut top = of(0..4);
        assert_eq!(TopTexts::read(&file(&top), Pool::Position).unwrap(), top);
        assert!(TopTexts::read(&file(&top), Pool::Last).is_err());
        top.describe(|row| if row == 2 { format!("\tα{}\n", "ö".repeat(500)) } else { String::new() });
        let read = TopTexts::read(&file(&top), Pool::Position).unwrap();
        assert_eq!(read, top);
        let long = read.texts(0).iter().find(|text| text.row == 2).unwrap();
        assert_eq!(long.excerpt, format!("α{}…", "ö".repeat(119)));
        assert!(TopTexts::new(Pool::Position, PLACES.to_vec()).to_bundle(&BTreeMap::new()).is_err());
    }

    #[test]
    fn damaged_files_are_refused() {
        let damaged = |change: &dyn Fn(&mut TensorBundle)| {
            let mut bundle = of(0..3).to_bundle(&BTreeMap::new()).unwrap();
            change(&mut bundle);
            let bytes = bundle.to_bytes().unwrap();
            let file = TensorFile::from_bytes("dev_top.safetensors".as_ref(), bytes).unwrap();
            TopTexts::read(&file, Pool::Position).unwrap_err().to_string()
        };
        let f32s = |values: Vec<f32>| Array::f32(vec![2, 3], values).unwrap();
        let said = damaged(&|of| {
            of.insert("activation", f32s(vec![1.0, 2.0, 0.0, 0.0, 0.0, 0.0]));
        });
        assert!(said.contains("falling numbers"), "{said}");
        let said = damaged(&|of| {
            of.insert("activation", f32s(vec![f32::NAN; 6]));
        });
        assert!(said.contains("finite"), "{said}");
        let said = damaged(&|of| {
            of.insert("row", Array::i64(vec![2, 3], vec![-1; 6]).unwrap());
        });
        assert!(said.contains("`row`") && said.contains("0 or more"), "{said}");
        let said = damaged(&|of| {
            of.insert("text", Array::u8(vec![2, 3, 1], vec![255; 6]).unwrap());
        });
        assert!(said.contains("UTF-8"), "{said}");
        let said = damaged(&|of| {
            of.insert("neuron", Array::i64(vec![2, 2], vec![0; 4]).unwrap());
        });
        assert!(said.contains("`neuron`"), "{said}");
    }
}
