use std::path::{Path, PathBuf};

use skn_artifact::TensorFile;
use skn_stats::distance;

use crate::error::{Result, SelectError};

/// The most texts that a file can tell of: products of two counts are below 2^64 then.
const MAX_TEXTS: i64 = u32::MAX as i64;

/// How often each neuron's rule is right on a split: `dev_perf`, `dev_mean_perf`, `dev_max_perf` or their
/// like of test.
///
/// Of two classes the rule is `activation > average => label 1`. Of more there is one for each class against
/// the rest, and arrays get the classes as their first dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Performance {
    file: PathBuf,
    pooled: bool,
    layers: usize,
    positions: usize,
    neurons: usize,
    correct: Vec<i64>,
    rest: Option<Rest>,
    total: i64,
}

/// What there is besides for classes against the rest.
#[derive(Clone, Debug, PartialEq)]
struct Rest {
    true_positive: Vec<i64>,
    positives: Vec<i64>,
}

/// The rule by which one neuron tells labels apart: `activation > average` at a position says label 1, or the class
/// against the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The neuron's layer, from 0.
    pub layer: usize,
    /// The prompt position, from 0; 0 if activations were pooled.
    pub position: usize,
    /// The neuron's index in its layer, from 0.
    pub index: usize,
    /// The class that is told from the rest; `None` for two classes.
    pub class: Option<usize>,
    /// Whether the neuron is silent where it should fire: then the opposite is said.
    pub silent: bool,
}

/// How far each rule is above guessing, as fractions of one denominator.
struct Margins {
    /// Twice the distance from 0.5, times `whole`, below 0 if it is right less often than wrong: `[L, P, F]`.
    parts: Vec<i64>,
    whole: u64,
}

/// How far each neuron is from guessing, as fractions of one denominator.
pub(crate) struct Distances {
    /// Twice the distance from 0.5, times `whole`: `[L, F]`.
    pub(crate) parts: Vec<u64>,
    pub(crate) whole: u64,
}

impl Performance {
    /// Reads a file of counts.
    ///
    /// `correct` is I64 `[L, P, F]`, or `[L, F]` where a text's activations were pooled; `total` I64 `[1]`.
    /// With `positives` I64 `[C]` in the file, `correct` and `true_positive` have `C` before that.
    ///
    /// # Errors
    /// If the file is of another kind or shape, has no texts or more than 2^32 - 1, or holds counts that
    /// can't be: below 0, above the number of texts, or `true_positive` that does not fit the others.
    pub fn read(file: &TensorFile) -> Result<Self> {
        let path = file.path();
        let pooled = kind(file)?;
        let (_, total) = file.i64("total", Some(&[1]))?;
        let total = total[0];
        if !(1..=MAX_TEXTS).contains(&total) {
            return Err(SelectError::file(path, "tensor `total`", format!("1 to {MAX_TEXTS}"), total));
        }
        let (shape, correct) = file.i64("correct", None)?;
        let rest = match file.contains("positives") {
            true => Some(Rest {
                positives: file.i64("positives", Some(&shape[..shape.len().min(1)]))?.1,
                true_positive: file.i64("true_positive", Some(&shape))?.1,
            }),
            false => None,
        };
        let dims = &shape[usize::from(rest.is_some()).min(shape.len())..];
        let (layers, positions, neurons) = match (pooled, dims) {
            (None | Some(false), &[layers, positions, neurons]) => (layers, positions, neurons),
            (None | Some(true), &[layers, neurons]) => (layers, 1, neurons),
            _ => return Err(wrong_shape(path, pooled, rest.is_some(), &shape)),
        };
        if shape.contains(&0) || i32::try_from(neurons).is_err() {
            return Err(wrong_shape(path, pooled, rest.is_some(), &shape));
        }
        let pooled = dims.len() == 2;
        let read = Self { file: path.into(), pooled, layers, positions, neurons, correct, rest, total };
        read.check()?;
        Ok(read)
    }

    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether a text's activations were pooled to one for each neuron.
    pub fn pooled(&self) -> bool {
        self.pooled
    }

    /// The number of layers, L.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// The number of positions, P; 1 if pooled.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The number of neurons in the widest layer, F.
    pub fn neurons(&self) -> usize {
        self.neurons
    }

    /// The number of classes, C.
    pub fn classes(&self) -> usize {
        self.rest.as_ref().map_or(2, |rest| rest.positives.len())
    }

    /// For how many texts each rule is right: `[L, P, F]`, or `[C, L, P, F]` where each class has its own.
    pub fn correct(&self) -> &[i64] {
        &self.correct
    }

    /// The number of texts.
    pub fn total(&self) -> i64 {
        self.total
    }

    /// The number of rules there are for each neuron: 1 for two classes, else one for each class.
    pub(crate) fn rules(&self) -> usize {
        self.rest.as_ref().map_or(1, |rest| rest.positives.len())
    }

    fn check(&self) -> Result<()> {
        self.check_range("correct", &self.correct, self.total)?;
        let Some(rest) = &self.rest else { return Ok(()) };
        self.check_range("positives", &rest.positives, self.total)?;
        let sum: i128 = rest.positives.iter().map(|&count| i128::from(count)).sum();
        if sum != i128::from(self.total) {
            let expected = format!("a sum of {}, the total", self.total);
            return Err(SelectError::file(&self.file, "tensor `positives`", expected, sum));
        }
        self.check_range("true_positive", &rest.true_positive, self.total)?;
        let each = self.correct.len() / rest.positives.len();
        for (place, (&correct, &hit)) in self.correct.iter().zip(&rest.true_positive).enumerate() {
            let positives = rest.positives[place / each];
            // What is right besides is of the rest.
            if hit > positives || !(0..=self.total - positives).contains(&(correct - hit)) {
                let expected = format!("a count that fits {correct} right and {positives} of the class");
                let place = format!("tensor `true_positive`, element {place}");
                return Err(SelectError::file(&self.file, place, expected, hit));
            }
        }
        Ok(())
    }

    fn check_range(&self, tensor: &str, counts: &[i64], most: i64) -> Result<()> {
        match counts.iter().position(|count| !(0..=most).contains(count)) {
            None => Ok(()),
            Some(place) => {
                let expected = format!("0 to {most}, the total");
                let found = counts[place];
                Err(SelectError::file(
                    &self.file,
                    format!("tensor `{tensor}`, element {place}"),
                    expected,
                    found,
                ))
            }
        }
    }

    /// Whether there are texts that a class can be told by: of more than two classes, some of the class and some of the
    /// rest.
    pub fn tells(&self, class: usize) -> bool {
        let counted =
            |rest: &Rest| rest.positives.get(class).is_some_and(|&count| 0 < count && count < self.total);
        self.rest.as_ref().is_none_or(counted)
    }

    /// The rule that is furthest from guessing, of all neurons, positions and classes that [can be told](Self::tells); of
    /// equals the first in the order of class, layer, position and index. `widths` tells how many neurons each layer has where a pruned model's have
    /// fewer than the widest.
    ///
    /// # Errors
    /// If the widths do not fit the file, or no class can be told.
    pub fn best_rule(&self, widths: Option<&[usize]>) -> Result<Rule> {
        let whole = vec![self.neurons; self.layers];
        let widths = widths.unwrap_or(&whole);
        if widths.len() != self.layers || widths.iter().any(|&width| width > self.neurons) {
            let expected = format!("widths of {} layers, none above {}", self.layers, self.neurons);
            return Err(SelectError::file(&self.file, "tensor `correct`", expected, format!("{widths:?}")));
        }
        let mut best: Option<(u64, u64, Rule)> = None;
        for number in (0..self.rules()).filter(|&class| self.tells(class)) {
            let margins = self.margins(number)?;
            for (place, &margin) in margins.parts.iter().enumerate() {
                let (row, index) = (place / self.neurons, place % self.neurons);
                let (layer, position) = (row / self.positions, row % self.positions);
                let part = margin.unsigned_abs();
                let better = best.as_ref().is_none_or(|(most, of, _)| {
                    u128::from(part) * u128::from(*of) > u128::from(*most) * u128::from(margins.whole)
                });
                if better && index < widths[layer] {
                    let class = self.rest.as_ref().map(|_| number);
                    best = Some((
                        part,
                        margins.whole,
                        Rule { layer, position, index, class, silent: margin < 0 },
                    ));
                }
            }
        }
        let none = || {
            SelectError::file(&self.file, "tensor `correct`", "a neuron and a class of some texts", "none")
        };
        best.map(|(_, _, rule)| rule).ok_or_else(none)
    }

    /// The share of texts for which a rule is right, where it was chosen its predictivity: the accuracy of two classes,
    /// of a class against the rest the balanced one.
    ///
    /// # Errors
    /// If the file has no such neuron, position or class, or no text of the class.
    pub fn accuracy_of(&self, rule: &Rule) -> Result<f64> {
        let Rule { layer, position, index, class, silent } = *rule;
        let there = layer < self.layers && position < self.positions && index < self.neurons;
        if !there || class.is_some() != self.rest.is_some() || class.unwrap_or(0) >= self.rules() {
            return Err(SelectError::file(
                &self.file,
                "tensor `correct`",
                "the shape that the rule is of",
                format!("{rule:?}"),
            ));
        }
        let margins = self.margins(class.unwrap_or(0))?;
        let margin = margins.parts[(layer * self.positions + position) * self.neurons + index];
        let margin = if silent { -margin } else { margin };
        Ok(0.5 + margin as f64 / (2.0 * margins.whole as f64))
    }

    /// How far each neuron's rule of this number is from guessing, at its best position.
    pub(crate) fn distances(&self, rule: usize) -> Result<Distances> {
        let margins = self.margins(rule)?;
        let parts = self.best(margins.parts.iter().map(|part| part.unsigned_abs()));
        Ok(Distances { parts, whole: margins.whole })
    }

    /// How far each neuron's rule of this number is above guessing.
    ///
    /// Of two classes that is the distance of the accuracy from 0.5 (Wang et al. 2022, section 3). Of a class
    /// against the rest it is that of the balanced accuracy, `(true positive / positive + true negative /
    /// negative) / 2`: the rest is most of the texts, so that by accuracy a neuron that never fires would
    /// beat one that fires for the class.
    fn margins(&self, rule: usize) -> Result<Margins> {
        let size = self.layers * self.positions * self.neurons;
        let correct = &self.correct[rule * size..][..size];
        let Some(rest) = &self.rest else {
            let margin = |&count: &i64| if 2 * count < self.total { -1 } else { 1 } * distance(count, self.total) as i64;
            return Ok(Margins {
                parts: correct.iter().map(margin).collect(),
                whole: self.total.unsigned_abs(),
            });
        };
        let (positives, negatives) = (rest.positives[rule], self.total - rest.positives[rule]);
        if positives == 0 || negatives == 0 {
            let place = format!("tensor `positives`, class {rule}");
            let expected = "texts of the class and texts of the rest (--class selects for another one alone)";
            let found = format!("{positives} of {}", self.total);
            return Err(SelectError::file(&self.file, place, expected, found));
        }
        let hits = &rest.true_positive[rule * size..][..size];
        // hit / positives - alarm / negatives, an alarm being a text of the rest for which the neuron fires.
        // Products are at most a quarter of 2^64, as positives + negatives are below 2^32.
        let parts = correct.iter().zip(hits).map(|(&correct, &hit)| {
            let alarm = negatives - (correct - hit);
            hit * negatives - alarm * positives
        });
        Ok(Margins { parts: parts.collect(), whole: (positives * negatives).unsigned_abs() })
    }

    /// The largest over positions: `[L, P, F]` to `[L, F]`.
    fn best(&self, parts: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut best = vec![0; self.layers * self.neurons];
        for (place, part) in parts.enumerate() {
            let (layer, neuron) = (place / (self.positions * self.neurons), place % self.neurons);
            let best = &mut best[layer * self.neurons + neuron];
            *best = part.max(*best);
        }
        best
    }
}

/// Whether the file is of pooled activations, if it says so.
fn kind(file: &TensorFile) -> Result<Option<bool>> {
    match file.metadata().get("skn.kind").map(String::as_str) {
        None => Ok(None),
        Some("perf") => Ok(Some(false)),
        Some("mean_perf" | "max_perf") => Ok(Some(true)),
        Some(found) => {
            Err(SelectError::file(file.path(), "metadata skn.kind", "perf, mean_perf or max_perf", found))
        }
    }
}

fn wrong_shape(file: &Path, pooled: Option<bool>, classes: bool, found: &[usize]) -> SelectError {
    let classes = if classes { "classes, " } else { "" };
    let expected = match pooled {
        Some(false) => format!("shape [{classes}layers, positions, neurons]"),
        Some(true) => format!("shape [{classes}layers, neurons]"),
        None => format!("shape [{classes}layers, positions, neurons] or [{classes}layers, neurons]"),
    };
    SelectError::file(file, "tensor `correct`", expected + ", none 0", format!("{found:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skn_artifact::{Array, TensorBundle};

    type Tensors<'a> = &'a [(&'a str, &'a [usize], &'a [i64])];

    fn read(kind: Option<&str>, tensors: Tensors<'_>) -> Result<Performance> {
        let mut bundle = TensorBundle::new();
        for (name, shape, values) in tensors {
            bundle.insert(*name, Array::i64(shape.to_vec(), values.to_vec()).unwrap());
        }
        if let Some(kind) = kind {
            bundle.describe("skn.kind", kind);
        }
        Performance::read(&TensorFile::from_bytes("a/dev_perf".as_ref(), bundle.to_bytes().unwrap()).unwrap())
    }

    const TOTAL: (&str, &[usize], &[i64]) = ("total", &[1], &[4]);

    #[test]
    fn the_best_rule_of_two_classes() {
        let correct = ("correct", &[1, 2, 3][..], &[2, 3, 1, 2, 2, 0][..]);
        let dev = read(Some("perf"), &[TOTAL, correct]).unwrap();
        let rule = dev.best_rule(None).unwrap();
        assert_eq!(rule, Rule { layer: 0, position: 1, index: 2, class: None, silent: true });
        assert_eq!(dev.accuracy_of(&rule).unwrap(), 1.0);
        let narrow = dev.best_rule(Some(&[2])).unwrap();
        assert_eq!((narrow.position, narrow.index, narrow.silent), (0, 1, false));
        let test = read(Some("perf"), &[TOTAL, ("correct", &[1, 2, 3], &[0, 0, 0, 0, 0, 3])]).unwrap();
        assert_eq!(test.accuracy_of(&rule).unwrap(), 0.25, "held out, a rule may be worse than guessing");
        assert!(dev.best_rule(Some(&[4])).is_err() && dev.best_rule(Some(&[0])).is_err());
        assert!(dev.accuracy_of(&Rule { layer: 1, ..rule }).is_err());
        assert!(dev.accuracy_of(&Rule { class: Some(0), ..rule }).is_err());
    }

    #[test]
    fn the_best_rule_of_a_class_against_the_rest() {
        // One layer, position and neuron; 1, 1 and 2 texts of three classes. It fires for one text of class 1 only.
        let tensors: Tensors<'_> = &[
            TOTAL,
            ("correct", &[3, 1, 1, 1], &[2, 4, 1]),
            ("true_positive", &[3, 1, 1, 1], &[0, 1, 0]),
            ("positives", &[3], &[1, 1, 2]),
        ];
        let dev = read(Some("perf"), tensors).unwrap();
        let rule = dev.best_rule(None).unwrap();
        assert_eq!((rule.class, rule.silent), (Some(1), false));
        assert_eq!(dev.accuracy_of(&rule).unwrap(), 1.0);
        let other = Rule { class: Some(2), silent: true, ..rule };
        assert_eq!(dev.accuracy_of(&other).unwrap(), 0.75, "silent at both, and at one of the two others");
    }

    #[test]
    fn the_best_position_counts() {
        let correct: (&str, &[usize], &[i64]) = ("correct", &[2, 2, 2], &[1, 2, 2, 4, 3, 2, 2, 2]);
        for kind in [None, Some("perf")] {
            let performance = read(kind, &[correct, TOTAL]).unwrap();
            assert_eq!((performance.layers(), performance.positions(), performance.neurons()), (2, 2, 2));
            assert_eq!((performance.classes(), performance.rules(), performance.total()), (2, 1, 4));
            assert!(!performance.pooled());
            let distances = performance.distances(0).unwrap();
            assert_eq!((distances.parts, distances.whole), (vec![2, 4, 2, 0], 4));
        }
        let pooled = read(Some("max_perf"), &[("correct", &[1, 2], &[1, 2]), TOTAL]).unwrap();
        assert_eq!((pooled.layers(), pooled.positions(), pooled.neurons()), (1, 1, 2));
        assert!(pooled.pooled());
    }

    #[test]
    fn a_class_against_the_rest_is_balanced() {
        // Classes of 1, 2 and 1 texts. The first neuron fires for the text of class 0 alone, the second
        // never.
        let performance = read(
            Some("mean_perf"),
            &[
                ("correct", &[3, 1, 2], &[4, 3, 1, 2, 2, 3]),
                ("true_positive", &[3, 1, 2], &[1, 0, 0, 0, 0, 0]),
                ("positives", &[3], &[1, 2, 1]),
                TOTAL,
            ],
        )
        .unwrap();
        assert_eq!((performance.classes(), performance.rules()), (3, 3));
        let parts =
            |rule| (performance.distances(rule).unwrap().parts, performance.distances(rule).unwrap().whole);
        assert_eq!(parts(0), (vec![3, 0], 3));
        // hit 0 of 2, alarm 1 of 2; hit 0 of 1, alarm 1 of 3.
        assert_eq!(parts(1), (vec![2, 0], 4));
        assert_eq!(parts(2), (vec![1, 0], 3));
    }

    #[test]
    fn files_that_can_not_be_are_refused() {
        let three = |correct: &'static [i64], hit: &'static [i64], positives: &'static [i64]| {
            read(
                None,
                &[
                    ("correct", &[3, 1, 1], correct),
                    ("true_positive", &[3, 1, 1], hit),
                    ("positives", &[3], positives),
                    TOTAL,
                ],
            )
        };
        assert!(three(&[3, 2, 3], &[0, 0, 0], &[1, 2, 1]).is_ok());
        let cases = [
            (three(&[3, 2, 3], &[0, 0, 0], &[1, 2, 2]), "sum of 4"),
            (three(&[3, 2, 3], &[0, 0, 0], &[-1, 4, 1]), "0 to 4"),
            (three(&[3, 2, 3], &[2, 0, 0], &[1, 2, 1]), "element 0"),
            (three(&[3, 3, 3], &[0, 0, 0], &[1, 2, 1]), "element 1"),
            (three(&[3, 0, 3], &[0, 1, 0], &[1, 2, 1]), "element 1"),
            (read(None, &[("correct", &[1, 1], &[5]), TOTAL]), "0 to 4"),
            (read(None, &[("correct", &[1, 1], &[-1]), TOTAL]), "found -1"),
            (read(None, &[("correct", &[1, 1], &[0]), ("total", &[1], &[0])]), "`total`"),
            (read(None, &[("correct", &[1, 1], &[0]), ("total", &[1], &[1 << 40])]), "`total`"),
            (read(None, &[("correct", &[1, 1], &[0])]), "`total`"),
            (
                read(None, &[("correct", &[1], &[0]), TOTAL]),
                "[layers, positions, neurons] or [layers, neurons]",
            ),
            (read(None, &[("correct", &[0, 1], &[]), TOTAL]), "[0, 1]"),
            (read(Some("perf"), &[("correct", &[1, 1], &[0]), TOTAL]), "shape [layers, positions, neurons]"),
            (read(Some("mean_perf"), &[("correct", &[1, 1, 1], &[0]), TOTAL]), "shape [layers, neurons]"),
            (read(Some("mask"), &[("correct", &[1, 1], &[0]), TOTAL]), "found mask"),
            (read(None, &[("correct", &[], &[0]), ("positives", &[], &[0]), TOTAL]), "true_positive"),
        ];
        for (result, part) in cases {
            let error = result.unwrap_err();
            let message = error.to_string();
            assert!(message.contains("a/dev_perf") && message.contains(part), "{message} has no {part}");
            assert_eq!(error.exit_code(), 3);
        }
    }

    #[test]
    fn a_class_without_texts_can_not_be_told() {
        let performance = read(
            None,
            &[
                ("correct", &[3, 1, 1], &[2, 2, 4]),
                ("true_positive", &[3, 1, 1], &[0, 0, 0]),
                ("positives", &[3], &[2, 2, 0]),
                TOTAL,
            ],
        )
        .unwrap();
        assert!(performance.distances(1).is_ok());
        let message = performance.distances(2).err().unwrap().to_string();
        assert!(message.contains("class 2") && message.contains("found 0 of 4"), "{message}");
    }

    #[test]
    fn the_largest_counts_do_not_overflow() {
        let half = MAX_TEXTS / 2;
        let performance = read(
            None,
            &[
                ("correct", &[2, 1, 1], &[MAX_TEXTS, 0]),
                ("true_positive", &[2, 1, 1], &[half, 0]),
                ("positives", &[2], &[half, MAX_TEXTS - half]),
                ("total", &[1], &[MAX_TEXTS]),
            ],
        )
        .unwrap();
        for rule in 0..2 {
            let distances = performance.distances(rule).unwrap();
            assert_eq!(distances.parts, [distances.whole]);
        }
    }
}
