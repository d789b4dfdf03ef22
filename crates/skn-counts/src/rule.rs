use skn_stats::{accuracy, distance, wilson};

use crate::error::{CountsError, Result};
use crate::performance::{ByClass, Performance};
use crate::score_rule::ScoreRule;

/// The rule by which one neuron tells labels apart: `activation > average` at a position says label 1, or the class
/// against the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// How far each neuron is from guessing, as fractions of one denominator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Distances {
    /// Twice the distance from 0.5, times `whole`: `[L, F]`.
    pub parts: Vec<u64>,
    /// The denominator.
    pub whole: u64,
    /// Which neurons are dead at every position, `[L, F]`: they have no score, and their part is 0.
    pub dead: Vec<bool>,
}

/// How far each rule of a class is above guessing, as fractions of one denominator.
///
/// By accuracy that is its distance from 0.5 (Wang et al. 2022, section 3). By balanced accuracy it is that of
/// `(true positive / positive + true negative / negative) / 2`: where the rest is most of the texts, by accuracy a neuron that
/// never fires would beat one that fires for the class.
pub(crate) struct Margins<'a> {
    correct: &'a [i64],
    total: i64,
    /// Where it is the area under the ROC curve: twice the pairs in which the text of the class has the larger activation.
    above: Option<&'a [i64]>,
    /// Where it is the balanced accuracy: the texts of the class for which each neuron fires, and all of the class.
    balanced: Option<(&'a [i64], i64)>,
    /// Twice the distance from 0.5 is a part of this.
    pub(crate) whole: u64,
}

impl Margins<'_> {
    /// At a place of `[L, P, F]`; below 0 if the rule is right less often than wrong.
    pub(crate) fn at(&self, place: usize) -> i64 {
        if let Some(above) = self.above {
            // Twice the pairs are below 2^63.
            return above[place] - self.whole as i64;
        }
        let (correct, total) = (self.correct[place], self.total);
        match self.balanced {
            Some((true_positive, positives)) => {
                // hit / positives - alarm / negatives, an alarm being a text of the rest for which the neuron fires.
                // Products are at most a quarter of 2^64, as positives + negatives are below 2^32.
                let (hit, negatives) = (true_positive[place], total - positives);
                let alarm = negatives - (correct - hit);
                hit * negatives - alarm * positives
            }
            None => {
                let sign = if 2 * correct < total { -1 } else { 1 };
                sign * distance(correct, total) as i64
            }
        }
    }
}

impl Performance {
    /// The number of rules there are for each neuron: 1 for two classes, else one for each class.
    pub fn rules(&self) -> usize {
        self.by_class.as_ref().map_or(1, |counted| counted.positives.len())
    }

    /// Whether each class has a rule of its own, so that arrays have the classes before all else.
    pub(crate) fn is_one_vs_rest(&self) -> bool {
        self.rules() > 1
    }

    /// Whether there are texts that a rule can be told by: by balanced accuracy, some of its class and some of the rest. Rules
    /// are numbered by class, and the one of two classes has number 0.
    pub fn tells(&self, rule: usize, score: ScoreRule) -> bool {
        let some = |counted: &ByClass| {
            counted.positives.get(rule).is_some_and(|&count| 0 < count && count < self.total)
        };
        // Where counts by class are wanting, an error says so.
        score == ScoreRule::Accuracy || self.by_class.as_ref().is_none_or(some)
    }

    /// Whether any rule can be told.
    pub fn tells_any(&self, score: ScoreRule) -> bool {
        (0..self.rules()).any(|rule| self.tells(rule, score))
    }

    /// The number of counts that each rule has.
    pub(crate) fn size(&self) -> usize {
        self.layers() * self.positions() * self.neurons()
    }

    /// How far each neuron's rule of this number is above guessing.
    pub(crate) fn margins(&self, rule: usize, score: ScoreRule) -> Result<Margins<'_>> {
        match score {
            ScoreRule::Balanced => self.balanced_margins(rule),
            ScoreRule::Auc => {
                let areas = self.areas()?;
                let above = Some(&areas.twice_above[rule * self.size()..]);
                Ok(Margins { above, ..self.balanced_margins(rule)? })
            }
            ScoreRule::Accuracy if self.is_one_vs_rest() => {
                let what = format!("{}: score of {} classes", self.file.display(), self.classes());
                let why =
                    "balanced (by accuracy a neuron that never fires beats one that fires for its class)";
                Err(CountsError::mismatch(what, why, ScoreRule::Accuracy))
            }
            ScoreRule::Accuracy => {
                let (correct, total) = (&self.correct[..], self.total);
                Ok(Margins { correct, total, balanced: None, above: None, whole: total.unsigned_abs() })
            }
        }
    }

    /// The same by balanced accuracy.
    fn balanced_margins(&self, rule: usize) -> Result<Margins<'_>> {
        let Some(counted) = &self.by_class else {
            let expected = "counts by class (an older version wrote the file: probe again)";
            return Err(CountsError::file(&self.file, "tensor `true_positive`", expected, "nothing"));
        };
        let (positives, negatives) = (counted.positives[rule], self.total - counted.positives[rule]);
        if positives == 0 || negatives == 0 {
            let class = if self.is_one_vs_rest() { rule } else { 1 };
            let place = format!("tensor `positives`, class {class}");
            let expected = "texts of the class and texts of the rest (another class can be told alone)";
            let found = format!("{positives} of {}", self.total);
            return Err(CountsError::file(&self.file, place, expected, found));
        }
        let (start, whole) = (rule * self.size(), (positives * negatives).unsigned_abs());
        let balanced = Some((&counted.true_positive[start..], positives));
        Ok(Margins { correct: &self.correct[start..], total: self.total, balanced, above: None, whole })
    }

    /// How far each neuron's rule of this number is from guessing, at its best position.
    ///
    /// # Errors
    /// If there are no texts of the class or none of the rest, or the counts can't have the score.
    pub fn distances(&self, rule: usize, score: ScoreRule) -> Result<Distances> {
        let (margins, row) = (self.margins(rule, score)?, self.positions() * self.neurons());
        let mut parts = vec![0; self.layers() * self.neurons()];
        let mut dead = vec![true; parts.len()];
        for place in (0..self.size()).filter(|&place| !self.is_dead(place)) {
            let neuron = place / row * self.neurons() + place % self.neurons();
            parts[neuron] = margins.at(place).unsigned_abs().max(parts[neuron]);
            dead[neuron] = false;
        }
        Ok(Distances { parts, whole: margins.whole, dead })
    }

    /// The share of texts for which a rule is right, where it was chosen its predictivity. The balanced one is the mean of the
    /// shares of the class and of the other texts, `(true_positive / positives + true_negative / (total - positives)) / 2`,
    /// where `true_negative` is `correct - true_positive`. By [`ScoreRule::Auc`] it is the area under the ROC curve. Of a rule that is
    /// silent it is 1 less that.
    ///
    /// # Errors
    /// If there is no such neuron, position or class, or the counts can't have the score: no text of the class or none of the
    /// others, accuracy of more than two classes, balanced accuracy without counts [by class](Self::by_class), an area without
    /// [`Areas`](crate::Areas).
    pub fn accuracy_of(&self, rule: &Rule, score: ScoreRule) -> Result<f64> {
        let place = self.place(rule)?;
        let margins = self.margins(rule.class.unwrap_or(0), score)?;
        Ok(share(margins.at(place), margins.whole, rule.silent))
    }

    /// The interval of [`Self::accuracy_of`] at a confidence level, over texts.
    ///
    /// One proportion has Wilson's interval. Balanced accuracy is the mean of two; their intervals are put together as
    /// Newcombe (1998, method 10) does for a difference: distances of the bounds from the estimates add up as squares.
    /// Simulated with 10 to 200 texts of the smaller class and shares of 0.5 to 1, it covers the true value in 93 to 97 % of
    /// samples for a level of 95 %; a percentile bootstrap within classes, in 64 to 96 %. An area under the ROC curve has
    /// Newcombe's interval (2006, method 5; [`skn_stats::area`]).
    ///
    /// # Errors
    /// As [`Self::accuracy_of`]; and if the level is not between 0 and 1.
    pub fn interval_of(&self, rule: &Rule, score: ScoreRule, level: f64) -> Result<[f64; 2]> {
        // Says what is wrong.
        self.margins(rule.class.unwrap_or(0).min(self.rules() - 1), score)?;
        if let (ScoreRule::Auc, Some(counted)) = (score, &self.by_class) {
            let area = self.accuracy_of(rule, score)?;
            let positives = counted.positives[rule.class.unwrap_or(0)];
            let negatives = self.total - positives;
            return Ok(skn_stats::area(area, positives.unsigned_abs(), negatives.unsigned_abs(), level)?);
        }
        let parts = self.right(rule, score)?;
        if let [(right, of)] = parts[..] {
            return Ok(wilson(right, of, level)?);
        }
        let (mut value, mut below, mut above) = (0.0, 0.0, 0.0);
        for &(right, of) in &parts {
            let share = accuracy(right, of);
            let [low, high] = wilson(right, of, level)?;
            value += share / parts.len() as f64;
            below += (share - low).powi(2);
            above += (high - share).powi(2);
        }
        let half = |squares: f64| squares.sqrt() / parts.len() as f64;
        Ok([(value - half(below)).max(0.0), (value + half(above)).min(1.0)])
    }

    /// Right answers and texts: of all texts, or of those of the class and of the others.
    fn right(&self, rule: &Rule, score: ScoreRule) -> Result<Vec<(u64, u64)>> {
        let number = rule.class.unwrap_or(0);
        let place = number * self.size() + self.place(rule)?;
        let said = |right: i64, of: i64| {
            let right = if rule.silent { of - right } else { right };
            // The checks have seen that none is negative.
            (right.unsigned_abs(), of.unsigned_abs())
        };
        let Some(counted) = self.by_class.as_ref().filter(|_| score == ScoreRule::Balanced) else {
            return Ok(vec![said(self.correct[place], self.total)]);
        };
        let (hits, of_class) = (counted.true_positive[place], counted.positives[number]);
        Ok(vec![said(hits, of_class), said(self.correct[place] - hits, self.total - of_class)])
    }

    /// The place of a rule's neuron in `[L, P, F]`.
    fn place(&self, rule: &Rule) -> Result<usize> {
        let Rule { layer, position, index, class, .. } = *rule;
        let there = position < self.positions() && self.widths.get(layer).is_some_and(|&width| index < width);
        if !there || class.is_some() != self.is_one_vs_rest() || class.unwrap_or(0) >= self.rules() {
            let (expected, found) = ("the shape that the rule is of", format!("{rule:?}"));
            return Err(CountsError::file(&self.file, "tensor `correct`", expected, found));
        }
        Ok((layer * self.positions() + position) * self.neurons() + index)
    }
}

/// A share of right answers, from a part that it is above one half.
pub(crate) fn share(margin: i64, whole: u64, silent: bool) -> f64 {
    let margin = if silent { -margin } else { margin };
    0.5 + margin as f64 / (2.0 * whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::{TOTAL, Tensors, read};
    use crate::performance::MAX_TEXTS;
    use crate::score_rule::ScoreRule::{Accuracy as ACCURACY, Balanced as BALANCED};

    #[test]
    fn the_best_position_counts() {
        let correct: (&str, &[usize], &[i64]) = ("correct", &[2, 2, 2], &[1, 2, 2, 4, 3, 2, 2, 2]);
        let distances = read(None, &[correct, TOTAL]).unwrap().distances(0, ACCURACY).unwrap();
        assert_eq!((distances.parts, distances.whole), (vec![2, 4, 2, 0], 4));
    }

    #[test]
    fn a_class_against_the_rest_is_balanced() {
        // Classes of 1, 2 and 1 texts. The first neuron fires for the text of class 0 alone, the second
        // never.
        let tensors: Tensors<'_> = &[
            ("correct", &[3, 1, 2], &[4, 3, 1, 2, 2, 3]),
            ("true_positive", &[3, 1, 2], &[1, 0, 0, 0, 0, 0]),
            ("positives", &[3], &[1, 2, 1]),
            TOTAL,
        ];
        let performance = read(Some("mean_perf"), tensors).unwrap();
        assert_eq!((performance.classes(), performance.rules()), (3, 3));
        let parts = |rule| {
            let Distances { parts, whole, .. } = performance.distances(rule, BALANCED).unwrap();
            (parts, whole)
        };
        assert_eq!(parts(0), (vec![3, 0], 3));
        // hit 0 of 2, alarm 1 of 2; hit 0 of 1, alarm 1 of 3.
        assert_eq!(parts(1), (vec![2, 0], 4));
        assert_eq!(parts(2), (vec![1, 0], 3));
    }

    #[test]
    fn the_balanced_accuracy_of_two_classes() {
        // 8 texts, 6 of class 1. The first neuron fires for 3 of these and for none of the others, the second for all 8, the
        // third for the 2 others alone.
        let tensors: Tensors<'_> = &[
            ("correct", &[1, 1, 3], &[5, 6, 0]),
            ("true_positive", &[1, 1, 3], &[3, 6, 0]),
            ("positives", &[1], &[6]),
            ("total", &[1], &[8]),
        ];
        let counts = read(Some("perf"), tensors).unwrap();
        let rule = |index, silent| Rule { layer: 0, position: 0, index, class: None, silent };
        let found = |rule| {
            (counts.accuracy_of(&rule, ACCURACY).unwrap(), counts.accuracy_of(&rule, BALANCED).unwrap())
        };
        assert_eq!(found(rule(0, false)), (0.625, 0.75), "(3/6 + 2/2) / 2");
        assert_eq!(found(rule(0, true)), (0.375, 0.25));
        assert_eq!(found(rule(1, false)), (0.75, 0.5), "the larger class's share is a guess");
        assert_eq!(found(rule(2, true)), (1.0, 1.0));
        // Neurons are still ordered by accuracy.
        assert_eq!(counts.distances(0, ACCURACY).unwrap().parts, [2, 4, 8]);
        assert_eq!(counts.interval_of(&rule(0, false), ACCURACY, 0.95).unwrap(), wilson(5, 8, 0.95).unwrap());
        assert!(counts.accuracy_of(&rule(3, false), BALANCED).is_err());
    }

    #[test]
    fn without_counts_by_class_nothing_is_balanced() {
        let rule = Rule { layer: 0, position: 0, index: 0, class: None, silent: false };
        let correct: (&str, &[usize], &[i64]) = ("correct", &[1, 1, 1], &[3]);
        let older = read(Some("perf"), &[correct, TOTAL]).unwrap();
        assert_eq!(older.accuracy_of(&rule, ACCURACY).unwrap(), 0.75);
        let message = older.accuracy_of(&rule, BALANCED).unwrap_err().to_string();
        assert!(message.contains("`true_positive`") && message.contains("probe again"), "{message}");
        let one_class: Tensors<'_> =
            &[correct, ("true_positive", &[1, 1, 1], &[0]), ("positives", &[1], &[0]), TOTAL];
        let message = read(None, one_class).unwrap().accuracy_of(&rule, BALANCED).unwrap_err().to_string();
        assert!(message.contains("`positives`, class 1") && message.contains("found 0 of 4"), "{message}");
    }

    #[test]
    fn the_interval_of_a_share_is_in_the_rule_s_direction() {
        let correct: (&str, &[usize], &[i64]) = ("correct", &[1, 1, 2], &[2, 7]);
        let test = read(None, &[correct, ("total", &[1], &[10])]).unwrap();
        let rule = Rule { layer: 0, position: 0, index: 0, class: None, silent: true };
        assert_eq!(test.interval_of(&rule, ACCURACY, 0.95).unwrap(), wilson(8, 10, 0.95).unwrap());
        let rule = Rule { silent: false, ..rule };
        assert_eq!(test.interval_of(&rule, ACCURACY, 0.95).unwrap(), wilson(2, 10, 0.95).unwrap());
        assert!(test.interval_of(&rule, ACCURACY, 2.0).is_err());
    }

    #[test]
    fn the_interval_of_balanced_accuracy_is_newcombe_s() {
        // Three classes of 2, 3 and 5 texts; one neuron, which fires for all of class 0 and for one of the others.
        let tensors: Tensors<'_> = &[
            ("correct", &[3, 1, 1, 1], &[9, 6, 2]),
            ("true_positive", &[3, 1, 1, 1], &[2, 1, 0]),
            ("positives", &[3], &[2, 3, 5]),
            ("total", &[1], &[10]),
        ];
        let counts = read(Some("perf"), tensors).unwrap();
        let rule = Rule { layer: 0, position: 0, index: 0, class: Some(0), silent: false };
        assert_eq!(counts.accuracy_of(&rule, BALANCED).unwrap(), (1.0 + 7.0 / 8.0) / 2.0);
        let found = counts.interval_of(&rule, BALANCED, 0.95).unwrap();
        let ([low, _], [low_rest, high_rest]) = (wilson(2, 2, 0.95).unwrap(), wilson(7, 8, 0.95).unwrap());
        let below = ((1.0 - low).powi(2) + (0.875 - low_rest).powi(2)).sqrt() / 2.0;
        assert!((found[0] - (0.9375 - below)).abs() < 1e-12);
        assert!((found[1] - (0.9375 + (high_rest - 0.875) / 2.0)).abs() < 1e-12);
    }

    #[test]
    fn a_class_without_texts_can_not_be_told() {
        let tensors: Tensors<'_> = &[
            ("correct", &[3, 1, 1], &[2, 2, 4]),
            ("true_positive", &[3, 1, 1], &[0, 0, 0]),
            ("positives", &[3], &[2, 2, 0]),
            TOTAL,
        ];
        let performance = read(None, tensors).unwrap();
        assert!(performance.distances(1, BALANCED).is_ok());
        let message = performance.distances(2, BALANCED).err().unwrap().to_string();
        assert!(message.contains("class 2") && message.contains("found 0 of 4"), "{message}");
    }

    #[test]
    fn the_largest_counts_do_not_overflow() {
        let half = MAX_TEXTS / 2;
        let performance = read(
            None,
            &[
                ("correct", &[3, 1, 1], &[MAX_TEXTS, 0, MAX_TEXTS - half]),
                ("true_positive", &[3, 1, 1], &[half, 0, 0]),
                ("positives", &[3], &[half, MAX_TEXTS - half, 0]),
                ("total", &[1], &[MAX_TEXTS]),
            ],
        )
        .unwrap();
        for rule in 0..2 {
            let distances = performance.distances(rule, BALANCED).unwrap();
            assert_eq!(distances.parts, [distances.whole]);
        }
    }
}
