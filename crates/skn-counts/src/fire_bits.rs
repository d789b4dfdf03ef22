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

use skn_artifact::TensorFile;
use skn_artifact::names::{fire, key};

use crate::error::{CountsError, Result};
use crate::fire_counts::{FireCounts, texts_by_class};
use crate::performance::Performance;
use crate::pool::Pool;

/// Which neurons fire for which text: the file `dev_fire` beside `dev_perf`, read a position of a layer at a time.
///
/// `fire` is U8 `[L, P, F, ceil(N / 8)]` (P is 1 of whole texts), of which bit `i % 8`, lowest first, of byte `i / 8` is text `i`;
/// `label` and `row` are I64 `[N]`.
#[derive(Clone, Debug)]
pub struct FireBits {
    file: TensorFile,
    dims: [usize; 4],
    widths: Vec<usize>,
    classes: usize,
    labels: Vec<usize>,
    is_sample: bool,
    /// For each class the bits of its texts.
    kept: Vec<Vec<u64>>,
    /// What the bits must come to, of counts by class.
    counted: Option<FireCounts>,
}

impl FireBits {
    /// Reads the header of a file that is open ([`TensorFile::open`]), and its labels. `counts` are those of the same texts, or
    /// of all texts of which these are a sample.
    ///
    /// # Errors
    /// If the file is of another kind or shape, holds labels of no class, or does not fit the counts.
    pub fn read(file: TensorFile, counts: &Performance) -> Result<Self> {
        file.expect_kind(&fire::kind(counts.pool().unwrap_or(Pool::Position).name()))?;
        let wrong = |tensor: &str, expected: String, found: String| {
            CountsError::file(file.path(), format!("tensor `{tensor}`"), expected, found)
        };
        let (of, labels) = file.i64("label", None)?;
        let texts = of.first().copied().unwrap_or(0);
        file.i64("row", Some(&[texts]))?;
        let dims = [counts.layers(), counts.positions(), counts.neurons(), texts.div_ceil(8)];
        let found = file.shape("fire")?;
        if of.len() != 1 || texts == 0 || found != dims {
            let expected = format!("shape {dims:?}, that of {} of {texts} texts", counts.file().display());
            return Err(wrong("fire", expected, format!("{found:?}")));
        }
        file.u8_range("fire", None, 0..0)?;
        let widths = match file.metadata().get(key::WIDTHS) {
            None => vec![counts.neurons(); counts.layers()],
            Some(text) => text.split(',').filter_map(|width| width.parse().ok()).collect(),
        };
        if widths != counts.widths() {
            let (expected, place) = (format!("{:?}", counts.widths()), format!("metadata {}", key::WIDTHS));
            return Err(CountsError::file(file.path(), place, expected, format!("{widths:?}")));
        }
        let classes = counts.classes();
        let class = |label: i64| usize::try_from(label).ok().filter(|class| *class < classes);
        if let Some(bad) = labels.iter().find(|label| class(**label).is_none()) {
            return Err(wrong("label", format!("0 to {}", classes - 1), bad.to_string()));
        }
        let labels: Vec<usize> = labels.into_iter().filter_map(class).collect();
        let is_sample = file.metadata().contains_key(key::SAMPLE);
        let total = usize::try_from(counts.total()).unwrap_or(usize::MAX);
        if if is_sample { texts > total } else { texts != total } {
            let how = if is_sample { "at most " } else { "" };
            return Err(wrong(
                "label",
                format!("{how}{total} texts, as {}", counts.file().display()),
                texts.to_string(),
            ));
        }
        let kept = masks(&labels, classes);
        let with_bits: Vec<i64> = kept.iter().map(|mask| ones(mask)).collect();
        let counted = texts_by_class(counts).unwrap_or_default();
        for (class, (found, &expected)) in with_bits.iter().zip(&counted).enumerate() {
            if if is_sample { *found > expected } else { *found != expected } {
                let how = if is_sample { "at most " } else { "" };
                let expected =
                    format!("{how}{expected} texts of class {class}, as {}", counts.file().display());
                return Err(wrong("label", expected, found.to_string()));
            }
        }
        let counted = FireCounts::new(counts, &with_bits);
        Ok(Self { dims, widths, classes, labels, is_sample, kept, counted, file })
    }

    /// The number of texts, N.
    pub fn texts(&self) -> usize {
        self.labels.len()
    }

    /// The class of each text, `[N]`.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Whether these are some of the texts that were counted.
    pub fn is_sample(&self) -> bool {
        self.is_sample
    }

    /// The number of layers, L.
    pub fn layers(&self) -> usize {
        self.widths.len()
    }

    /// The number of positions, P; 1 of whole texts.
    pub fn positions(&self) -> usize {
        let [_, positions, ..] = self.dims;
        positions
    }

    /// The number of neurons in the widest layer, F.
    pub fn neurons(&self) -> usize {
        let [_, _, neurons, _] = self.dims;
        neurons
    }

    /// The neurons of each layer.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// The number of classes, C.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The bits of a layer's neurons at a position.
    ///
    /// # Errors
    /// If the file can't be read, or its bits are not those that were counted.
    pub fn position(&self, layer: usize, position: usize) -> Result<PositionBits> {
        let [_, positions, neurons, bytes] = self.dims;
        let start = (layer * positions + position) * neurons * bytes;
        let width = self.widths.get(layer).copied().unwrap_or(0);
        let read = self.file.u8_range("fire", None, start..start + width * bytes)?;
        let words = self.labels.len().div_ceil(64);
        let mut bits = Vec::with_capacity(width * words);
        for row in read.chunks_exact(bytes) {
            bits.extend(words_of(row));
        }
        let found = PositionBits { words, bits };
        for (index, row) in found.bits.chunks_exact(words).enumerate() {
            self.check(layer, position, index, row)?;
        }
        Ok(found)
    }

    /// A neuron's bits at a position, without looking at others.
    ///
    /// # Errors
    /// As [`Self::position`].
    pub(crate) fn row(&self, layer: usize, position: usize, index: usize) -> Result<Vec<u64>> {
        let [_, positions, neurons, bytes] = self.dims;
        let start = ((layer * positions + position) * neurons + index) * bytes;
        let read = self.file.u8_range("fire", None, start..start + bytes)?;
        let row: Vec<u64> = words_of(&read).collect();
        self.check(layer, position, index, &row)?;
        Ok(row)
    }

    /// Bits behind the last text are 0, and those of the texts come to the counts, or are as many as a sample can have of them.
    fn check(&self, layer: usize, position: usize, index: usize, row: &[u64]) -> Result<()> {
        let [_, positions, neurons, _] = self.dims;
        let wrong = |expected: String, found: String| {
            let place = format!("tensor `fire`, layer {layer}, position {position}, neuron {index}");
            CountsError::file(self.file.path(), place, expected, found)
        };
        let unused = match self.labels.len() % 64 {
            0 => 0,
            used => !0u64 << used,
        };
        if row.last().is_some_and(|last| last & unused != 0) {
            return Err(wrong("bits of texts alone".into(), "one behind the last text".into()));
        }
        let Some(counted) = &self.counted else { return Ok(()) };
        let of_class = |class: usize| {
            let kept = self.kept.get(class).into_iter().flatten();
            row.iter().zip(kept).map(|(bits, mask)| i64::from((bits & mask).count_ones())).sum()
        };
        let place = (layer * positions + position) * neurons + index;
        match counted.mismatch(place, ones(row), of_class) {
            Some((expected, found)) => Err(wrong(expected, found.to_string())),
            None => Ok(()),
        }
    }
}

/// The bits of one layer's neurons at one position: a row for each, of whole words.
#[derive(Clone, Debug)]
pub struct PositionBits {
    words: usize,
    bits: Vec<u64>,
}

impl PositionBits {
    /// Of rows of one length.
    pub(crate) fn of_rows(rows: &[Vec<u64>]) -> Self {
        Self { words: rows.first().map_or(1, Vec::len), bits: rows.concat() }
    }

    /// The number of neurons.
    pub fn neurons(&self) -> usize {
        self.bits.len() / self.words.max(1)
    }

    /// The words of a row: bit `i % 64`, lowest first, of word `i / 64` is text `i`.
    pub fn words(&self) -> usize {
        self.words
    }

    /// A neuron's row; nothing of one that is not there.
    pub fn row(&self, neuron: usize) -> &[u64] {
        self.bits.get(neuron * self.words..(neuron + 1) * self.words).unwrap_or(&[])
    }
}

/// Bytes as words, lowest first.
fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(8).map(|part| part.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte)))
}

/// How many bits are set.
fn ones(words: &[u64]) -> i64 {
    words.iter().map(|word| i64::from(word.count_ones())).sum()
}

/// For each class the bits of its texts.
pub(crate) fn masks(labels: &[usize], classes: usize) -> Vec<Vec<u64>> {
    let mut masks = vec![vec![0u64; labels.len().div_ceil(64)]; classes];
    for (text, &label) in labels.iter().enumerate() {
        if let Some(word) = masks.get_mut(label).and_then(|mask| mask.get_mut(text / 64)) {
            *word |= 1 << (text % 64);
        }
    }
    masks
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::performance::ByClass;

    /// A neuron fires at a position for a text: layer, position, neuron, text.
    pub(crate) type Fires<'a> = &'a dyn Fn(usize, usize, usize, usize) -> bool;

    /// A file of these tensors: name, type, shape, bytes.
    pub(crate) fn file_of(
        tensors: &[(&str, &str, &[usize], Vec<u8>)],
        metadata: &[(&str, &str)],
    ) -> TensorFile {
        let (mut header, mut data) = (Vec::new(), Vec::new());
        let said: Vec<String> = metadata.iter().map(|(key, value)| format!("{key:?}:{value:?}")).collect();
        header.push(format!("\"__metadata__\":{{{}}}", said.join(",")));
        for (name, dtype, shape, bytes) in tensors {
            let (start, end) = (data.len(), data.len() + bytes.len());
            header.push(format!(
                "{name:?}:{{\"dtype\":{dtype:?},\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
            ));
            data.extend_from_slice(bytes);
        }
        let header = format!("{{{}}}", header.join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend(data);
        TensorFile::from_bytes("a/dev_fire".as_ref(), bytes).unwrap()
    }

    fn numbers(values: &[usize]) -> Vec<u8> {
        values.iter().flat_map(|&value| (value as i64).to_le_bytes()).collect()
    }

    fn packed([layers, positions, neurons]: [usize; 3], texts: usize, fires: Fires<'_>) -> Vec<u8> {
        let mut bits = Vec::new();
        for layer in 0..layers {
            for position in 0..positions {
                for neuron in 0..neurons {
                    let mut row = vec![0u8; texts.div_ceil(8)];
                    for text in (0..texts).filter(|&text| fires(layer, position, neuron, text)) {
                        row[text / 8] |= 1 << (text % 8);
                    }
                    bits.extend(row);
                }
            }
        }
        bits
    }

    pub(crate) fn fire_file(dims: [usize; 3], labels: &[usize], fires: Fires<'_>) -> TensorFile {
        described(dims, labels, fires, &[("skn.kind", "fire")])
    }

    fn described(
        dims: [usize; 3],
        labels: &[usize],
        fires: Fires<'_>,
        metadata: &[(&str, &str)],
    ) -> TensorFile {
        let texts = labels.len();
        let shape = [dims[0], dims[1], dims[2], texts.div_ceil(8)];
        let rows: Vec<usize> = (0..texts).collect();
        let tensors = [
            ("fire", "U8", &shape[..], packed(dims, texts, fires)),
            ("label", "I64", &[texts][..], numbers(labels)),
            ("row", "I64", &[texts][..], numbers(&rows)),
        ];
        file_of(&tensors, metadata)
    }

    /// The counts of the same bits.
    pub(crate) fn counted(
        [layers, positions, neurons]: [usize; 3],
        classes: usize,
        labels: &[usize],
        fires: Fires<'_>,
    ) -> Performance {
        let ruled: Vec<usize> = if classes == 2 { vec![1] } else { (0..classes).collect() };
        let (mut correct, mut true_positive, mut positives) = (Vec::new(), Vec::new(), Vec::new());
        for &class in &ruled {
            positives.push(labels.iter().filter(|&&label| label == class).count() as i64);
            for layer in 0..layers {
                for position in 0..positions {
                    for neuron in 0..neurons {
                        let of = |say: &dyn Fn(bool, bool) -> bool| {
                            let told = labels.iter().enumerate().filter(|(text, label)| {
                                say(fires(layer, position, neuron, *text), **label == class)
                            });
                            told.count() as i64
                        };
                        correct.push(of(&|fires, is| fires == is));
                        true_positive.push(of(&|fires, is| fires && is));
                    }
                }
            }
        }
        Performance {
            file: Path::new("a/dev_perf").into(),
            pool: Some(Pool::Position),
            dims: vec![layers, positions, neurons],
            widths: vec![neurons; layers],
            correct,
            by_class: Some(ByClass { true_positive, positives }),
            dead: None,
            total: labels.len() as i64,
            areas: None,
        }
    }

    fn wave(layer: usize, position: usize, neuron: usize, text: usize) -> bool {
        (layer + 2 * position + 3 * neuron + text * (neuron + 1)) % 5 < 2
    }

    #[test]
    fn bits_are_those_of_the_texts() {
        let labels: Vec<usize> = (0..75).map(|text| text % 2).collect();
        let counts = counted([2, 3, 4], 2, &labels, &wave);
        let bits = FireBits::read(fire_file([2, 3, 4], &labels, &wave), &counts).unwrap();
        assert_eq!((bits.texts(), bits.labels(), bits.is_sample()), (75, &labels[..], false));
        let found = bits.position(1, 2).unwrap();
        assert_eq!((found.neurons(), found.words()), (4, 2));
        for neuron in 0..4 {
            for text in 0..75 {
                let bit = found.row(neuron)[text / 64] >> (text % 64) & 1 == 1;
                assert_eq!(bit, wave(1, 2, neuron, text), "{neuron} {text}");
            }
        }
        assert!(found.row(4).is_empty());
        assert_eq!(masks(&[0, 1, 1], 2), [[0b001], [0b110]]);
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        let labels: Vec<usize> = (0..20).map(|text| text % 2).collect();
        let counts = counted([1, 2, 3], 2, &labels, &wave);
        let read = |file: TensorFile| FireBits::read(file, &counts).map(|_| ()).unwrap_err().to_string();
        let message = read(fire_file([1, 2, 4], &labels, &wave));
        assert!(message.contains("a/dev_fire: tensor `fire`: expected shape [1, 2, 3, 3]"), "{message}");
        let message = read(fire_file([1, 2, 3], &labels[..19], &wave));
        assert!(message.contains("`label`: expected 20 texts, as a/dev_perf, found 19"), "{message}");
        let sample = described([1, 2, 3], &labels[..19], &wave, &[("skn.sample", "19 of 20")]);
        assert!(FireBits::read(sample, &counts).unwrap().is_sample());
        let all = described([1, 2, 3], &labels, &wave, &[("skn.sample", "20 of 20")]);
        assert!(FireBits::read(all, &counts).unwrap().is_sample());
        let more: Vec<usize> = (0..21).map(|text| text % 2).collect();
        let message = read(described([1, 2, 3], &more, &wave, &[("skn.sample", "21 of 20")]));
        assert!(message.contains("`label`: expected at most 20 texts, as a/dev_perf, found 21"), "{message}");
        let message = read(fire_file([1, 2, 3], &[2; 20], &wave));
        assert!(message.contains("`label`: expected 0 to 1, found 2"), "{message}");
        let message = read(described([1, 2, 3], &labels, &wave, &[("skn.kind", "perf")]));
        assert!(message.contains("found perf"), "{message}");
        let message = read(described([1, 2, 3], &labels, &wave, &[("skn.widths", "2")]));
        assert!(message.contains("metadata skn.widths: expected [3], found [2]"), "{message}");
        // Labels in a column, and none at all.
        let bytes = packed([1, 2, 3], 20, &wave);
        let column = file_of(
            &[
                ("fire", "U8", &[1, 2, 3, 3], bytes),
                ("label", "I64", &[20, 1], numbers(&labels)),
                ("row", "I64", &[20], numbers(&[0; 20])),
            ],
            &[],
        );
        assert!(read(column).contains("that of a/dev_perf of 20 texts"));
        assert!(read(fire_file([1, 2, 3], &[], &wave)).contains("that of a/dev_perf of 0 texts"));
        // A text for which another neuron fires than was counted.
        let other =
            |layer, position, neuron, text| wave(layer, position, neuron, text) ^ (neuron == 1 && text == 3);
        let bits = FireBits::read(fire_file([1, 2, 3], &labels, &other), &counts).unwrap();
        let message = bits.position(0, 1).unwrap_err().to_string();
        assert!(
            message.contains("layer 0, position 1, neuron 1") && message.contains("as were counted"),
            "{message}"
        );
        let behind = |layer, position, neuron, text| text >= 20 || wave(layer, position, neuron, text);
        let shape = [1, 2, 3, 3];
        let bytes = packed([1, 2, 3], 24, &behind);
        let rows: Vec<usize> = (0..20).collect();
        let file = file_of(
            &[
                ("fire", "U8", &shape, bytes),
                ("label", "I64", &[20], numbers(&labels)),
                ("row", "I64", &[20], numbers(&rows)),
            ],
            &[],
        );
        let message = FireBits::read(file, &counts).unwrap().position(0, 0).unwrap_err().to_string();
        assert!(message.contains("one behind the last text"), "{message}");
    }

    #[test]
    fn a_row_alone_is_checked_too() {
        let labels: Vec<usize> = (0..20).map(|text| text % 2).collect();
        let counts = counted([1, 2, 3], 2, &labels, &wave);
        // Texts 2 and 3 are of class 0 and of class 1.
        for (text, texts) in [(3, "texts of class 1, as were counted"), (2, "texts of other classes than 1")]
        {
            let other =
                |layer, position, neuron, of| wave(layer, position, neuron, of) ^ (neuron == 1 && of == text);
            let bits = FireBits::read(fire_file([1, 2, 3], &labels, &other), &counts).unwrap();
            let message = bits.row(0, 1, 1).unwrap_err().to_string();
            assert!(message.contains("position 1, neuron 1") && message.contains(texts), "{message}");
            assert!(bits.row(0, 1, 0).is_ok() && bits.position(0, 1).is_err());
        }
    }

    #[test]
    fn labels_are_as_many_of_each_class_as_were_counted() {
        let labels: Vec<usize> = (0..20).map(|text| text % 2).collect();
        let other: Vec<usize> = (0..20).map(|text| usize::from(text < 11)).collect();
        for (classes, names) in [(2, "expected 10 texts of class 0"), (3, "expected 10 texts of class 0")] {
            let counts = counted([1, 2, 3], classes, &labels, &wave);
            let file = fire_file([1, 2, 3], &other, &wave);
            let message = FireBits::read(file, &counts).unwrap_err().to_string();
            assert!(message.contains(names) && message.contains("found 9"), "{message}");
            let file = described([1, 2, 3], &other[..12], &wave, &[("skn.sample", "12 of 20")]);
            let message = FireBits::read(file, &counts).unwrap_err().to_string();
            assert!(
                message.contains("at most 10 texts of class 1") && message.contains("found 11"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_sample_has_bits_that_were_counted() {
        // 6 texts of each class, of which the neuron fires for 5 of class 1 and for 1 of class 0.
        let labels: Vec<usize> = (0..12).map(|text| text % 2).collect();
        let counts =
            counted([1, 1, 1], 2, &labels, &|_, _, _, text| text == 0 || (text % 2 == 1 && text < 11));
        // 4 of each class are kept.
        let read = |fires: Fires<'_>| {
            let sample = described([1, 1, 1], &labels[..8], fires, &[("skn.sample", "8 of 12")]);
            FireBits::read(sample, &counts).unwrap().position(0, 0)
        };
        let of = |hits: usize, alarms: usize| {
            read(&move |_, _, _, text| text / 2 < if text % 2 == 1 { hits } else { alarms })
        };
        for (hits, alarms) in [(3, 0), (4, 0), (3, 1), (4, 1)] {
            assert!(of(hits, alarms).is_ok(), "{hits} {alarms}");
        }
        for (hits, alarms, expected) in [
            (2, 0, "expected 3 to 5 texts of class 1, as were counted, found 2"),
            (4, 2, "expected 0 to 1 texts of other classes than 1, as were counted, found 2"),
        ] {
            let message = of(hits, alarms).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
