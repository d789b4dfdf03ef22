use skn_stats::{FisherTest, benjamini_hochberg, rank_sum_of};

use crate::error::{CountsError, Result};
use crate::performance::Performance;
use crate::score_rule::ScoreRule;

/// How surprising a neuron's counts would be if it had nothing to do with the label.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Significance {
    /// Fisher's exact test of firing and class, two-sided, or of areas the rank-sum test: the least over positions and classes.
    pub p: f64,
    /// The same adjusted for all rules that were tested (Benjamini and Hochberg 1995).
    pub q: f64,
}

/// What was tested, and what it says of each neuron.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tested {
    /// How many rules were tested: those of live neurons, at each position, for each class that can be told.
    pub rules: usize,
    /// For each neuron the least of its rules, `[L, F]`; nothing where it is dead at every position, or padding.
    pub neurons: Vec<Option<Significance>>,
}

impl Performance {
    /// Tests every live rule, or those of one class: whether a neuron fires as often for its class as for the rest. With all
    /// neurons of `q <= Q` chosen, the expected share of pairs of neuron and position (and class) that have nothing to do with
    /// the label is at most Q among those of that q.
    ///
    /// # Errors
    /// If the counts are an older version's, without [by class](Self::by_class), or there is no such class.
    pub fn tested(&self, class: Option<usize>) -> Result<Tested> {
        self.tested_by(class, ScoreRule::Accuracy)
    }

    /// The same by the test that goes with a score: of areas under ROC curves ([`ScoreRule::Auc`]) the rank-sum test with ties, two-sided, by its
    /// normal approximation ([`skn_stats::rank_sum_of`]), of the other scores Fisher's.
    ///
    /// # Errors
    /// As [`Self::tested`]; if areas are wanting.
    pub fn tested_by(&self, class: Option<usize>, score: ScoreRule) -> Result<Tested> {
        let Some(counted) = &self.by_class else {
            let expected = "counts by class (an older version wrote the file: probe again)";
            return Err(CountsError::file(&self.file, "tensor `true_positive`", expected, "nothing"));
        };
        if let Some(class) = class.filter(|&class| class >= self.classes()) {
            let expected = format!("0 to {}", self.classes() - 1);
            return Err(CountsError::file(&self.file, "class", expected, class));
        }
        // The one rule of two classes tells both.
        let asked = |rule: usize| !self.is_one_vs_rest() || class.is_none_or(|class| class == rule);
        let areas = if score == ScoreRule::Auc { Some(self.areas()?) } else { None };
        let (mut places, mut values) = (Vec::new(), Vec::new());
        for (rule, &positives) in counted.positives.iter().enumerate().filter(|(rule, _)| asked(*rule)) {
            if positives == 0 || positives == self.total {
                continue;
            }
            let mut test = FisherTest::new(positives.unsigned_abs(), self.total.unsigned_abs())?;
            let (of_class, of_rest) = (positives as f64, (self.total - positives) as f64);
            for (layer, &width) in self.widths.iter().enumerate() {
                for position in 0..self.positions() {
                    let row = (layer * self.positions() + position) * self.neurons();
                    for index in (0..width).filter(|index| !self.is_dead(row + index)) {
                        let place = rule * self.size() + row + index;
                        places.push(layer * self.neurons() + index);
                        if let Some(areas) = areas {
                            let area = areas.twice_above[place] as f64 / (2.0 * of_class * of_rest);
                            let spread = f64::from(areas.spread[row + index]);
                            values.push(rank_sum_of(area, of_class, of_rest, spread));
                            continue;
                        }
                        let (correct, hits) = (self.correct[place], counted.true_positive[place]);
                        // Right are the hits, and those of the rest for which it is silent.
                        let fires = self.total - positives - correct + 2 * hits;
                        values.push(test.p(fires.unsigned_abs(), hits.unsigned_abs())?);
                    }
                }
            }
        }
        let adjusted = benjamini_hochberg(&values)?;
        let mut neurons: Vec<Option<Significance>> = vec![None; self.layers() * self.neurons()];
        for ((place, &p), &q) in places.into_iter().zip(&values).zip(&adjusted) {
            let least = neurons[place].get_or_insert(Significance { p, q });
            (least.p, least.q) = (least.p.min(p), least.q.min(q));
        }
        Ok(Tested { rules: values.len(), neurons })
    }
}

#[cfg(test)]
mod tests {
    use crate::file::tests::{Tensors, described, read};
    use skn_stats::fisher_exact;

    #[test]
    fn a_neuron_has_the_least_of_its_positions() {
        // 10 texts, 5 of class 1. At the first position the first neuron fires for 4 and 1 of them, the second for 3 and 3; at
        // the second for 5 and 0, and for all.
        let tensors: Tensors<'_> = &[
            ("correct", &[1, 2, 2], &[8, 5, 10, 5]),
            ("true_positive", &[1, 2, 2], &[4, 3, 5, 5]),
            ("positives", &[1], &[5]),
            ("total", &[1], &[10]),
        ];
        let dev = read(None, tensors).unwrap();
        let tested = dev.tested(None).unwrap();
        let [first, second] = [0, 1].map(|index| tested.neurons[index].unwrap());
        assert_eq!(tested.rules, 4);
        assert_eq!((first.p, second.p), (fisher_exact([5, 0, 0, 5]).unwrap(), 1.0));
        assert!((first.q - 4.0 * first.p).abs() < 1e-12 && second.q == 1.0);
        // Where it is dead it is no hypothesis.
        let dead = dev.clone().with_dead(vec![false, true, true, true]).unwrap().tested(None).unwrap();
        assert_eq!((dead.rules, dead.neurons[1]), (1, None));
        assert_eq!(dead.neurons[0].unwrap().q, fisher_exact([4, 1, 1, 4]).unwrap());
        let narrow = [tensors, &[]].concat();
        let narrow = described(&[("skn.widths", "1")], &narrow).unwrap().tested(None).unwrap();
        assert_eq!((narrow.rules, narrow.neurons[1]), (2, None), "padding is no neuron");
    }

    #[test]
    fn classes_are_tested_one_by_one() {
        // Classes of 1, 2 and 1 texts; it fires for the two of class 1 alone.
        let tensors: Tensors<'_> = &[
            ("correct", &[3, 1, 1], &[1, 4, 1]),
            ("true_positive", &[3, 1, 1], &[0, 2, 0]),
            ("positives", &[3], &[1, 2, 1]),
            ("total", &[1], &[4]),
        ];
        let dev = read(None, tensors).unwrap();
        let all = dev.tested(None).unwrap();
        assert_eq!((all.rules, all.neurons[0].unwrap().p), (3, fisher_exact([2, 0, 0, 2]).unwrap()));
        assert_eq!(dev.tested(Some(0)).unwrap().neurons[0].unwrap().p, 1.0);
        assert!(dev.tested(Some(3)).is_err());
        let older = read(None, &[("correct", &[1, 1], &[2]), ("total", &[1], &[4])]).unwrap();
        assert!(older.tested(None).unwrap_err().to_string().contains("probe again"));
    }
}
