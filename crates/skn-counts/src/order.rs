use std::cmp::Ordering;

use crate::error::{CountsError, Result};
use crate::performance::Performance;
use crate::rule::{Margins, Rule, share};
use crate::score_rule::ScoreRule;

/// A neuron's best rule, with how well it predicts the label where it was counted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Predictor {
    /// The rule that is furthest from guessing.
    pub rule: Rule,
    /// Its share of right answers by the score in force, 0.5 to 1.
    pub predictivity: f64,
}

/// A rule and how far it is from guessing: what rules are ordered by.
#[derive(Clone, Copy)]
struct Candidate {
    rule: Rule,
    margin: i64,
    whole: u64,
}

impl Candidate {
    fn is_further(&self, other: &Self) -> bool {
        self.further(other) == Ordering::Greater
    }

    /// Exact fractions of two denominators. Parts are below 2^63 and wholes below 2^64.
    fn further(&self, other: &Self) -> Ordering {
        let times = |part: i64, whole: u64| u128::from(part.unsigned_abs()) * u128::from(whole);
        times(self.margin, other.whole).cmp(&times(other.margin, self.whole))
    }

    /// The best first; of equals the first in the order of class, layer, position and index.
    fn order(&self, other: &Self) -> Ordering {
        let place = |of: &Self| (of.rule.class, of.rule.layer, of.rule.position, of.rule.index);
        other.further(self).then_with(|| place(self).cmp(&place(other)))
    }

    fn predictor(self) -> Predictor {
        Predictor { rule: self.rule, predictivity: share(self.margin, self.whole, self.rule.silent) }
    }
}

impl Performance {
    /// The rule that by a score is furthest from guessing, of all neurons, positions and classes that [can be told](Self::tells); of
    /// equals the first in the order of class, layer, position and index. Padding of narrower layers is no neuron, and
    /// one that is [dead](Self::dead) has no rule.
    ///
    /// # Errors
    /// If there are no neurons, or no class can be told; if the counts can't have the score: of more than two classes accuracy,
    /// of an older version's file balanced accuracy.
    pub fn best_rule(&self, score: ScoreRule) -> Result<Rule> {
        let mut best: Option<Candidate> = None;
        self.visit(score, |candidate| {
            if best.as_ref().is_none_or(|best| candidate.is_further(best)) {
                best = Some(candidate);
            }
        })?;
        let none = || {
            if self.tells_any(score) {
                CountsError::file(&self.file, "tensor `dead`", "a neuron that is alive", "none")
            } else {
                let expected = "texts of more than one class, which a neuron could tell apart";
                CountsError::file(&self.file, "tensor `positives`", expected, "those of one")
            }
        };
        best.map(|best| best.rule).ok_or_else(none)
    }

    /// Every neuron that is alive somewhere with its best rule, the best neuron first: that of [`Self::best_rule`]. Equals are in the order of their
    /// rules' class, layer, position and index. Empty if no class can be told.
    ///
    /// # Errors
    /// If the counts can't have the score.
    pub fn ranked(&self, score: ScoreRule) -> Result<Vec<Predictor>> {
        self.ranked_by(score, None)
    }

    /// [`Self::ranked`] by the rules of one class of more than two.
    ///
    /// # Errors
    /// If the counts can't have the score.
    pub fn ranked_by(&self, score: ScoreRule, class: Option<usize>) -> Result<Vec<Predictor>> {
        let mut best: Vec<Option<Candidate>> = vec![None; self.layers() * self.neurons()];
        self.visit(score, |candidate| {
            if class.is_some() && candidate.rule.class.is_some() && candidate.rule.class != class {
                return;
            }
            let place = candidate.rule.layer * self.neurons() + candidate.rule.index;
            if best[place].as_ref().is_none_or(|best| candidate.is_further(best)) {
                best[place] = Some(candidate);
            }
        })?;
        let mut ranked: Vec<Candidate> = best.into_iter().flatten().collect();
        ranked.sort_by(Candidate::order);
        Ok(ranked.into_iter().map(Candidate::predictor).collect())
    }

    /// The best predictivity of each layer at each position, `[L][P]`, over all classes that can be told; 0.5 where there
    /// is no neuron.
    ///
    /// # Errors
    /// If the counts can't have the score.
    pub fn best_by_place(&self, score: ScoreRule) -> Result<Vec<Vec<f64>>> {
        let mut best: Vec<Vec<Option<Candidate>>> = vec![vec![None; self.positions()]; self.layers()];
        self.visit(score, |candidate| {
            let best = &mut best[candidate.rule.layer][candidate.rule.position];
            if best.as_ref().is_none_or(|best| candidate.is_further(best)) {
                *best = Some(candidate);
            }
        })?;
        let value = |found: Option<Candidate>| found.map_or(0.5, |found| found.predictor().predictivity);
        Ok(best.into_iter().map(|row| row.into_iter().map(value).collect()).collect())
    }

    /// Every rule that can be told, in the order of class, layer, position and index. A dead neuron has none.
    fn visit(&self, score: ScoreRule, mut see: impl FnMut(Candidate)) -> Result<()> {
        for number in (0..self.rules()).filter(|&class| self.tells(class, score)) {
            let class = self.is_one_vs_rest().then_some(number);
            let margins: Margins<'_> = self.margins(number, score)?;
            for (layer, &width) in self.widths.iter().enumerate() {
                for position in 0..self.positions() {
                    let row = (layer * self.positions() + position) * self.neurons();
                    for index in (0..width).filter(|index| !self.is_dead(row + index)) {
                        let margin = margins.at(row + index);
                        let rule = Rule { layer, position, index, class, silent: margin < 0 };
                        see(Candidate { rule, margin, whole: margins.whole });
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::{TOTAL, Tensors, described, read};
    use crate::score_rule::ScoreRule::{Accuracy as ACCURACY, Balanced as BALANCED};
    use proptest::prelude::*;

    #[test]
    fn the_best_rule_of_two_classes() {
        let correct = ("correct", &[1, 2, 3][..], &[2, 3, 1, 2, 2, 0][..]);
        let dev = read(Some("perf"), &[TOTAL, correct]).unwrap();
        let rule = dev.best_rule(ACCURACY).unwrap();
        assert_eq!(rule, Rule { layer: 0, position: 1, index: 2, class: None, silent: true });
        assert_eq!(dev.accuracy_of(&rule, ACCURACY).unwrap(), 1.0);
        let narrow = described(&[("skn.widths", "2")], &[TOTAL, correct]).unwrap();
        let found = narrow.best_rule(ACCURACY).unwrap();
        assert_eq!((found.position, found.index, found.silent), (0, 1, false), "padding does not win");
        assert!(narrow.accuracy_of(&rule, ACCURACY).is_err(), "padding is no neuron");
        let test = read(Some("perf"), &[TOTAL, ("correct", &[1, 2, 3], &[0, 0, 0, 0, 0, 3])]).unwrap();
        assert_eq!(
            test.accuracy_of(&rule, ACCURACY).unwrap(),
            0.25,
            "held out, a rule may be worse than guessing"
        );
        assert!(described(&[("skn.widths", "0")], &[TOTAL, correct]).unwrap().best_rule(ACCURACY).is_err());
        assert!(dev.accuracy_of(&Rule { layer: 1, ..rule }, ACCURACY).is_err());
        assert!(dev.accuracy_of(&Rule { class: Some(0), ..rule }, ACCURACY).is_err());
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
        let rule = dev.best_rule(BALANCED).unwrap();
        assert_eq!((rule.class, rule.silent), (Some(1), false));
        assert_eq!(dev.accuracy_of(&rule, BALANCED).unwrap(), 1.0);
        let other = Rule { class: Some(2), silent: true, ..rule };
        assert_eq!(
            dev.accuracy_of(&other, BALANCED).unwrap(),
            0.75,
            "silent at both, and at one of the two others"
        );
    }

    #[test]
    fn ties_go_by_position_before_index() {
        // Counts 5 and 9 of two neurons at the first position, 9 and 5 at the second.
        let dev = read(None, &[("correct", &[1, 2, 2], &[5, 9, 9, 5]), ("total", &[1], &[10])]).unwrap();
        let ranked = dev.ranked(ACCURACY).unwrap();
        let places: Vec<_> = ranked.iter().map(|found| (found.rule.position, found.rule.index)).collect();
        assert_eq!(places, [(0, 1), (1, 0)]);
        assert_eq!(dev.best_rule(ACCURACY).unwrap(), ranked[0].rule);
    }

    #[test]
    fn a_neuron_is_taken_where_it_predicts_best() {
        let correct = ("correct", &[1, 2, 3][..], &[5, 9, 3, 6, 1, 7][..]);
        let dev = read(None, &[correct, ("total", &[1], &[10])]).unwrap();
        let ranked = dev.ranked(ACCURACY).unwrap();
        let found: Vec<_> =
            ranked.iter().map(|found| (found.rule.index, found.rule.position, found.rule.silent)).collect();
        assert_eq!(found, [(1, 0, false), (2, 0, true), (0, 1, false)], "ties go to the first position");
        assert_eq!(dev.best_by_place(ACCURACY).unwrap(), [[0.9, 0.9]]);
        let narrow = described(&[("skn.widths", "1")], &[correct, ("total", &[1], &[10])]).unwrap();
        assert_eq!(
            (narrow.ranked(ACCURACY).unwrap().len(), narrow.best_by_place(ACCURACY).unwrap()),
            (1, vec![vec![0.5, 0.6]])
        );
        // A neuron that never fires is right for eight of ten, and no better than a guess.
        let never: Tensors<'_> = &[
            ("correct", &[3, 1, 1, 1], &[8, 7, 5]),
            ("true_positive", &[3, 1, 1, 1], &[0, 0, 0]),
            ("positives", &[3], &[2, 3, 5]),
            ("total", &[1], &[10]),
        ];
        assert_eq!(read(None, never).unwrap().ranked(BALANCED).unwrap()[0].predictivity, 0.5);
    }

    #[test]
    fn a_dead_neuron_has_no_rule() {
        let tensors: Tensors<'_> = &[
            ("correct", &[1, 2, 2], &[9, 6, 5, 10]),
            ("true_positive", &[1, 2, 2], &[5, 3, 0, 5]),
            ("positives", &[1], &[5]),
            ("total", &[1], &[10]),
        ];
        let dev = read(None, tensors).unwrap();
        let dead = |dead: [bool; 4]| dev.clone().with_dead(dead.to_vec()).unwrap();
        let places = |dev: &Performance| {
            let ranked = dev.ranked(ACCURACY).unwrap().into_iter();
            ranked.map(|found| (found.rule.position, found.rule.index)).collect::<Vec<_>>()
        };
        assert_eq!(places(&dev), [(1, 1), (0, 0)]);
        let once = dead([false, false, false, true]);
        assert_eq!(places(&once), [(0, 0), (0, 1)], "where it is alive it has a score");
        assert_eq!(once.best_rule(ACCURACY).unwrap(), once.ranked(ACCURACY).unwrap()[0].rule);
        assert_eq!(once.best_by_place(ACCURACY).unwrap(), [[0.9, 0.5]]);
        let gone = dead([false, true, false, true]);
        assert_eq!(places(&gone), [(0, 0)]);
        let distances = gone.distances(0, ACCURACY).unwrap();
        assert_eq!((distances.parts, distances.dead), (vec![8, 0], vec![false, true]));
        let message = dead([true; 4]).best_rule(ACCURACY).unwrap_err().to_string();
        assert!(message.contains("tensor `dead`: expected a neuron that is alive, found none"), "{message}");
        assert!(dead([true; 4]).ranked(ACCURACY).unwrap().is_empty());
        let alone: Tensors<'_> = &[
            ("correct", &[1, 1], &[6]),
            ("true_positive", &[1, 1], &[6]),
            ("positives", &[1], &[10]),
            ("total", &[1], &[10]),
        ];
        let alone = read(None, alone).unwrap();
        assert_eq!((alone.tells_any(ACCURACY), alone.tells_any(BALANCED)), (true, false));
        let message = alone.best_rule(BALANCED).unwrap_err().to_string();
        assert!(
            message.contains("tensor `positives`") && message.contains("found those of one"),
            "{message}"
        );
    }

    #[test]
    fn every_mirror_pair_ties() {
        // In f64 `c / t` and `1 - (t - c) / t` differ for 70 of the 437 pairs.
        let total: i64 = 872;
        for count in 0..=total / 2 {
            let counts = [total - count, count, count, total - count];
            let dev = read(None, &[("correct", &[1, 2, 2], &counts), ("total", &[1], &[total])]).unwrap();
            let ranked = dev.ranked(ACCURACY).unwrap();
            assert_eq!(ranked.iter().map(|found| found.rule.index).collect::<Vec<_>>(), [0, 1], "{count}");
            assert_eq!(ranked[0].predictivity, ranked[1].predictivity);
            assert_eq!(ranked[0].rule.position, 0);
        }
    }

    proptest! {
        #[test]
        fn the_first_of_all_is_the_best_rule(
            correct in prop::collection::vec(0i64..=6, 2 * 3 * 4),
            widths in prop::collection::vec(1usize..=4, 2),
        ) {
            let text = format!("{},{}", widths[0], widths[1]);
            let tensors: Tensors<'_> = &[("correct", &[2, 3, 4], &correct), ("total", &[1], &[6])];
            let dev = described(&[("skn.widths", &text)], tensors).unwrap();
            let ranked = dev.ranked(ACCURACY).unwrap();
            prop_assert_eq!(ranked.len(), widths[0] + widths[1]);
            prop_assert_eq!(ranked[0].rule, dev.best_rule(ACCURACY).unwrap());
            let value = |found: &Predictor| dev.accuracy_of(&found.rule, ACCURACY).unwrap();
            prop_assert!(ranked.iter().all(|found| value(found) == found.predictivity));
            prop_assert!(ranked.windows(2).all(|pair| pair[0].predictivity >= pair[1].predictivity));
            let most = dev.best_by_place(ACCURACY).unwrap().into_iter().flatten().fold(0.0, f64::max);
            prop_assert_eq!(most, ranked[0].predictivity);
        }
    }
}
