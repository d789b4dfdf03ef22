//! What the counts of a probe say of each neuron.

use std::path::Path;

use skn_artifact::{ArtifactError, TensorFile};
use skn_stats::{accuracy, wilson};

use crate::error::Result;

/// The level of all intervals.
const LEVEL: f64 = 0.95;

/// A file of counts: `dev_perf`, `test_perf`, or those of a text's mean or maximum.
///
/// Of two classes a neuron has one rule, "it fires, so the label is 1", and its score is the share of texts for which
/// the rule is right. Of more classes it has one rule for each, "it fires, so it is this class", and the score is the
/// balanced accuracy: among many classes a neuron that never fires is right for most texts.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    /// `[L, P, F]`; P is 1 where a text's mean or maximum was taken.
    shape: [usize; 3],
    /// `[L, P, F]`, or `[C, L, P, F]`.
    correct: Vec<i64>,
    total: i64,
    rest: Option<OneVsRest>,
}

#[derive(Clone, Debug)]
struct OneVsRest {
    /// `[C, L, P, F]`.
    true_positive: Vec<i64>,
    /// `[C]`.
    positives: Vec<i64>,
}

/// A share with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share {
    pub(crate) value: f64,
    pub(crate) interval: [f64; 2],
}

/// A neuron at the position (and for the class) that it predicts the label best at, on dev.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neuron {
    pub(crate) layer: usize,
    pub(crate) index: usize,
    pub(crate) position: usize,
    /// The class that its rule tells from the rest, where there are more than two.
    pub(crate) class: Option<usize>,
    /// Whether it predicts by staying silent: the rule is right for less than half, so the other way round it is for
    /// more.
    pub(crate) reversed: bool,
    /// Predictivity on dev.
    pub(crate) dev: f64,
    /// Place in the file's counts.
    place: usize,
}

impl Counts {
    /// Reads a file of counts, of positions (`[L, P, F]`) or of a whole text (`[L, F]`).
    ///
    /// # Errors
    /// If a tensor is missing or of another shape, there are no texts or no neurons, or a count is not one.
    pub(crate) fn read(path: &Path, whole_text: bool) -> Result<Self> {
        let file = TensorFile::read(path)?;
        let (full, correct) = file.i64("correct", None)?;
        let (_, total) = file.i64("total", Some(&[1]))?;
        let rest = if file.contains("positives") {
            let (_, true_positive) = file.i64("true_positive", Some(&full))?;
            let (_, positives) = file.i64("positives", Some(&full[..full.len().min(1)]))?;
            Some(OneVsRest { true_positive, positives })
        } else {
            None
        };
        let inner = &full[usize::from(rest.is_some()).min(full.len())..];
        let shape = match *inner {
            [layers, width] if whole_text => [layers, 1, width],
            [layers, positions, width] if !whole_text => [layers, positions, width],
            _ => {
                let expected = if whole_text { "[.., L, F]" } else { "[.., L, P, F]" };
                return Err(wrong(path, "correct", expected, format!("shape {full:?}")));
            }
        };
        let counts = Self { shape, correct, total: total[0], rest };
        counts.check(path)?;
        Ok(counts)
    }

    fn check(&self, path: &Path) -> Result<()> {
        if self.total < 1 {
            return Err(wrong(path, "total", "at least 1 text", self.total.to_string()));
        }
        if self.correct.is_empty() {
            return Err(wrong(path, "correct", "at least 1 neuron", format!("shape {:?}", self.shape)));
        }
        let of_rest = self.rest.as_ref();
        let lists = [
            ("correct", Some(&self.correct)),
            ("positives", of_rest.map(|rest| &rest.positives)),
            ("true_positive", of_rest.map(|rest| &rest.true_positive)),
        ];
        for (tensor, counts) in lists.iter().filter_map(|(tensor, counts)| Some((*tensor, (*counts)?))) {
            if let Some(count) = counts.iter().find(|&&count| !(0..=self.total).contains(&count)) {
                let expected = format!("counts of 0 to the total, {}", self.total);
                return Err(wrong(path, tensor, &expected, count.to_string()));
            }
        }
        let size: usize = self.shape.iter().product();
        let Some(rest) = of_rest else { return Ok(()) };
        for (place, (&correct, &hits)) in self.correct.iter().zip(&rest.true_positive).enumerate() {
            let of_class = rest.positives[place / size];
            if hits > of_class || !(0..=self.total - of_class).contains(&(correct - hits)) {
                let expected =
                    format!("at most the {of_class} texts of the class, and of `correct`, {correct}");
                return Err(wrong(path, "true_positive", &expected, hits.to_string()));
            }
        }
        Ok(())
    }

    /// `[L, P, F]`.
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The number of classes.
    pub(crate) fn classes(&self) -> usize {
        self.rest.as_ref().map_or(2, |rest| rest.positives.len())
    }

    /// The number of texts.
    pub(crate) fn total(&self) -> u64 {
        self.total.unsigned_abs()
    }

    /// Whether another file counts the same neurons.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        self.shape == other.shape && self.correct.len() == other.correct.len()
    }

    /// How well the rule at a place does: the share of texts it is right for, or the balanced accuracy.
    fn score(&self, place: usize) -> f64 {
        let parts = self.parts(place);
        parts.iter().map(|&(right, of)| accuracy(right, of)).sum::<f64>() / parts.len() as f64
    }

    /// Right answers and texts: of all texts, or of those of the class and of the others.
    fn parts(&self, place: usize) -> Vec<(u64, u64)> {
        // `check` has seen that none is negative, and none more than there are texts.
        let Some(rest) = &self.rest else {
            return vec![(self.correct[place].unsigned_abs(), self.total())];
        };
        let class = place / self.shape.iter().product::<usize>();
        let (hits, of_class) = (rest.true_positive[place], rest.positives[class]);
        let rejected = self.correct[place] - hits;
        vec![
            (hits.unsigned_abs(), of_class.unsigned_abs()),
            (rejected.unsigned_abs(), (self.total - of_class).unsigned_abs()),
        ]
    }

    /// Predictivity with its interval, in the direction that was chosen on another split.
    ///
    /// One proportion has Wilson's interval. Balanced accuracy is the mean of two; their intervals are put together as
    /// Newcombe (1998, method 10) does for a difference: distances of the bounds from the estimates add up as squares.
    pub(crate) fn predictivity(&self, neuron: &Neuron) -> Share {
        let parts = self.parts(neuron.place);
        let (mut value, mut below, mut above) = (0.0, 0.0, 0.0);
        for &(right, of) in &parts {
            let right = if neuron.reversed { of - right } else { right };
            let share = accuracy(right, of);
            // Of no texts nothing is known.
            let [low, high] = wilson(right, of, LEVEL).unwrap_or([0.0, 1.0]);
            value += share / parts.len() as f64;
            below += (share - low).powi(2);
            above += (high - share).powi(2);
        }
        let half = |squares: f64| squares.sqrt() / parts.len() as f64;
        Share { value, interval: [(value - half(below)).max(0.0), (value + half(above)).min(1.0)] }
    }

    /// Every neuron at its best, in the order of layers and indices; ties go to the first class and position. Neurons
    /// for which `absent(layer, index)` holds are left out.
    pub(crate) fn neurons(&self, absent: impl Fn(usize, usize) -> bool) -> Vec<Neuron> {
        let [layers, positions, width] = self.shape;
        let size = layers * positions * width;
        let mut neurons = Vec::with_capacity(layers * width);
        for (layer, index) in (0..layers).flat_map(|layer| (0..width).map(move |index| (layer, index))) {
            if absent(layer, index) {
                continue;
            }
            let mut best: Option<Neuron> = None;
            for class in 0..self.correct.len() / size {
                for position in 0..positions {
                    let place = class * size + (layer * positions + position) * width + index;
                    let score = self.score(place);
                    let dev = score.max(1.0 - score);
                    if best.is_none_or(|best| dev > best.dev) {
                        let class = self.rest.is_some().then_some(class);
                        best =
                            Some(Neuron { layer, index, position, class, reversed: score < 0.5, dev, place });
                    }
                }
            }
            neurons.extend(best);
        }
        neurons
    }

    /// The best predictivity of each layer at each position, `[L][P]`, over all classes.
    pub(crate) fn best_by_place(&self, absent: impl Fn(usize, usize) -> bool) -> Vec<Vec<f64>> {
        let [layers, positions, width] = self.shape;
        let size = layers * positions * width;
        let best = |layer: usize, position: usize| {
            let rows = (0..self.correct.len() / size)
                .map(|class| class * size + (layer * positions + position) * width);
            let present = |index: &usize| !absent(layer, *index);
            let scores = rows.flat_map(|row| (0..width).filter(present).map(move |index| row + index));
            scores.map(|place| self.score(place)).map(|score| score.max(1.0 - score)).fold(0.5, f64::max)
        };
        (0..layers).map(|layer| (0..positions).map(|position| best(layer, position)).collect()).collect()
    }
}

/// The neurons by falling predictivity on dev; equals keep their order.
pub(crate) fn ranked(neurons: &[Neuron]) -> Vec<Neuron> {
    let mut ranked = neurons.to_vec();
    ranked.sort_by(|a, b| b.dev.total_cmp(&a.dev));
    ranked
}

/// The value that `share` of the sorted values are at or below (nearest rank).
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

fn wrong(path: &Path, tensor: &str, expected: &str, found: String) -> crate::ReportError {
    ArtifactError::Tensor { file: path.into(), tensor: tensor.into(), expected: expected.into(), found }
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_classes() -> Counts {
        // One layer, two positions, three neurons, ten texts.
        Counts { shape: [1, 2, 3], correct: vec![5, 9, 3, 6, 1, 7], total: 10, rest: None }
    }

    #[test]
    fn a_neuron_is_taken_where_it_predicts_best() {
        let neurons = two_classes().neurons(|_, _| false);
        let found: Vec<_> = neurons.iter().map(|n| (n.index, n.position, n.reversed, n.dev)).collect();
        assert_eq!(
            found,
            [(0, 1, false, 0.6), (1, 0, false, 0.9), (2, 0, true, 0.7)],
            "ties go to the first position"
        );
        assert_eq!(ranked(&neurons).iter().map(|n| n.index).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(two_classes().best_by_place(|_, _| false), [[0.9, 0.9]]);
        assert_eq!(two_classes().best_by_place(|_, index| index == 1), [[0.7, 0.7]]);
        assert_eq!(two_classes().neurons(|_, index| index == 1).len(), 2);
    }

    #[test]
    fn the_direction_is_the_one_of_dev() {
        let mut test = two_classes();
        let neurons = test.neurons(|_, _| false);
        test.correct = vec![5, 4, 8, 6, 1, 7];
        let [_, second, third] = neurons[..] else { panic!("three neurons") };
        assert_eq!(test.predictivity(&second).value, 0.4, "below chance, not turned round again");
        let share = test.predictivity(&third);
        assert!((share.value - 0.2).abs() < 1e-12);
        let expected = wilson(2, 10, 0.95).unwrap();
        assert!(
            (share.interval[0] - expected[0]).abs() < 1e-12
                && (share.interval[1] - expected[1]).abs() < 1e-12
        );
    }

    #[test]
    fn of_more_classes_the_score_is_balanced() {
        // Three classes of 2, 3 and 5 texts; one neuron, which fires for all of class 0 and for one of the others.
        let rest = OneVsRest { true_positive: vec![2, 1, 0], positives: vec![2, 3, 5] };
        let counts = Counts { shape: [1, 1, 1], correct: vec![9, 6, 2], total: 10, rest: Some(rest) };
        let [neuron] = counts.neurons(|_, _| false)[..] else { panic!("one neuron") };
        assert_eq!((neuron.class, neuron.reversed, neuron.dev), (Some(0), false, (1.0 + 7.0 / 8.0) / 2.0));
        let share = counts.predictivity(&neuron);
        let ([low, _], [low_rest, high_rest]) = (wilson(2, 2, 0.95).unwrap(), wilson(7, 8, 0.95).unwrap());
        let below = ((1.0 - low).powi(2) + (0.875 - low_rest).powi(2)).sqrt() / 2.0;
        assert!((share.interval[0] - (0.9375 - below)).abs() < 1e-12);
        assert!((share.interval[1] - (0.9375 + (high_rest - 0.875) / 2.0)).abs() < 1e-12);
        // A neuron that never fires is right for eight of ten, and no better than a guess.
        let never = OneVsRest { true_positive: vec![0; 3], positives: vec![2, 3, 5] };
        let counts = Counts { shape: [1, 1, 1], correct: vec![8, 7, 5], total: 10, rest: Some(never) };
        assert_eq!(counts.neurons(|_, _| false)[0].dev, 0.5);
    }

    #[test]
    fn quantiles_by_hand() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(
            [0.0, 0.25, 0.5, 0.51, 1.0].map(|share| quantile(&values, share)),
            [1.0, 1.0, 2.0, 3.0, 4.0]
        );
        assert!(quantile(&[], 0.5).is_nan());
    }
}
