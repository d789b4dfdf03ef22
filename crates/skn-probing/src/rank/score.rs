use skn_counts::ScoreRule;
use skn_stats::{LEAST_VARIANCE, STEPS_PER_UNIT, variance};

use super::ranking::Ranking;
use super::tally::Tally;

/// A neuron's number for a ranking at one place and for one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Score {
    /// Larger is more of it, 0 at least.
    pub(super) score: f64,
    /// What the score is the magnitude of: an accuracy, an area, a difference, a correlation; of [`Ranking::Lape`] the entropy, which
    /// is the largest there is, ln C, where nothing is known of a neuron.
    pub(super) signed: f64,
    /// Of [`Ranking::Auc`]: how far the exact area is at most. Of [`Ranking::MeanDifference`]: Cohen's d.
    pub(super) beside: f64,
}

/// What scores are computed from.
pub(super) struct Scores<'a> {
    pub(super) ranking: Ranking,
    pub(super) tally: &'a Tally,
    /// L P F, or L F.
    pub(super) places: usize,
    /// Texts of each class.
    pub(super) texts: &'a [u64],
    /// The deviation over train at each place, where it is known.
    pub(super) deviation: Option<&'a [f32]>,
    /// Of [`Ranking::Lape`]: which neurons fire for so few texts of every class that they are left out.
    pub(super) left_out: LeftOut,
    /// The score that predictivity is.
    pub(super) rule: ScoreRule,
}

impl Scores<'_> {
    fn all(&self) -> u64 {
        self.texts.iter().sum()
    }

    /// The score of a place for a class; of [`Ranking::Lape`] that of all classes, if this is the class that it fires most for.
    pub(super) fn of(&self, place: usize, class: usize) -> Score {
        match self.tally {
            Tally::Fired(fired) if self.ranking == Ranking::Lape => self.lape(fired, place, class),
            Tally::Fired(fired) => self.predictivity(fired, place, class),
            Tally::Sums { squares: None, .. } => self.mean_difference(place, class),
            Tally::Sums { .. } => self.correlation(place, class),
            Tally::Moments { sum, product, squares, .. } => {
                let texts = self.all().max(1);
                let spread = variance(sum.sum(place), squares.sum(place), texts);
                // The numbers have mean 0 and variance 1.
                let mean = product.sum(place) as f64 / STEPS_PER_UNIT / texts as f64;
                let known = spread >= LEAST_VARIANCE;
                let r = if known { (mean / spread.sqrt()).clamp(-1.0, 1.0) } else { 0.0 };
                Score { score: r.abs(), signed: r, beside: 0.0 }
            }
            Tally::Histogram(histogram) => {
                let (area, bound) = histogram.area(place, class);
                Score { score: (area - 0.5).abs(), signed: area, beside: bound }
            }
            Tally::Weighted(sums) => {
                let mean = sums.sum(place) as f64 / STEPS_PER_UNIT / self.all().max(1) as f64;
                Score { score: mean, signed: mean, beside: 0.0 }
            }
            Tally::Agreed(agreed) => {
                let of = |side: usize| agreed[(side * self.texts.len() + class) * self.places + place];
                let balanced = self.balanced(class, of(0), of(1));
                Score { score: balanced.max(1.0 - balanced), signed: balanced, beside: 0.0 }
            }
            Tally::Bins { .. } | Tally::Given { .. } | Tally::Nothing => {
                Score { score: 0.0, signed: 0.0, beside: 0.0 }
            }
        }
    }

    /// The mean of the shares of a class's texts and of the others for which something is right.
    fn balanced(&self, class: usize, of_class: u64, of_others: u64) -> f64 {
        let (positives, negatives) = (self.texts[class], self.all() - self.texts[class]);
        (of_class as f64 / positives.max(1) as f64 + of_others as f64 / negatives.max(1) as f64) / 2.0
    }

    fn predictivity(&self, fired: &[u64], place: usize, class: usize) -> Score {
        let hits = fired[class * self.places + place];
        let anywhere: u64 = fired.iter().skip(place).step_by(self.places).sum();
        let silent = self.all() - self.texts[class] - (anywhere - hits);
        let accuracy = match self.rule {
            ScoreRule::Balanced | ScoreRule::Auc => self.balanced(class, hits, silent),
            ScoreRule::Accuracy => (hits + silent) as f64 / self.all().max(1) as f64,
        };
        Score { score: accuracy.max(1.0 - accuracy), signed: accuracy, beside: 0.0 }
    }

    fn lape(&self, fired: &[u64], place: usize, class: usize) -> Score {
        let shares: Vec<f64> = fired
            .iter()
            .skip(place)
            .step_by(self.places)
            .zip(self.texts)
            .map(|(&fired, &texts)| fired as f64 / texts.max(1) as f64)
            .collect();
        let (most, sum) = (shares.iter().copied().fold(0.0, f64::max), shares.iter().sum::<f64>());
        let first = shares.iter().position(|&share| share == most);
        // Who never fires has no shares of a sum.
        if most == 0.0 || first != Some(class) || self.left_out.leaves_out(most) {
            return self.nothing();
        }
        let terms = shares.iter().map(|share| share / sum).filter(|share| *share > 0.0);
        let entropy: f64 = -terms.map(|share| share * share.ln()).sum::<f64>();
        let score = ((shares.len() as f64).ln() - entropy).max(0.0);
        Score { score, signed: entropy, beside: 0.0 }
    }

    /// What is said of a neuron that is dead or left out.
    pub(super) fn nothing(&self) -> Score {
        let signed = if self.ranking == Ranking::Lape { (self.texts.len() as f64).ln() } else { 0.0 };
        Score { score: 0.0, signed, beside: 0.0 }
    }

    /// The sums of a place over the texts of a class and over all, in steps.
    fn sums(&self, place: usize, class: usize) -> [i128; 2] {
        let Tally::Sums { of_class, .. } = self.tally else { return [0; 2] };
        let of = |class: usize| of_class.sum(class * self.places + place);
        [of(class), (0..self.texts.len()).map(of).sum()]
    }

    fn mean_difference(&self, place: usize, class: usize) -> Score {
        let [inside, all] = self.sums(place, class);
        let mean = |sum: i128, texts: u64| sum as f64 / STEPS_PER_UNIT / texts.max(1) as f64;
        let inside_texts = self.texts[class];
        let difference = mean(inside, inside_texts) - mean(all - inside, self.all() - inside_texts);
        let deviation = self.deviation.map_or(0.0, |deviation| f64::from(deviation[place]));
        let d = if deviation * deviation >= LEAST_VARIANCE { difference / deviation } else { 0.0 };
        Score { score: difference.abs(), signed: difference, beside: d }
    }

    fn correlation(&self, place: usize, class: usize) -> Score {
        let Tally::Sums { squares: Some(squares), .. } = self.tally else {
            return Score { score: 0.0, signed: 0.0, beside: 0.0 };
        };
        let ([inside, all], texts) = (self.sums(place, class), self.all());
        let share = self.texts[class] as f64 / texts.max(1) as f64;
        let mean = |sum: i128| sum as f64 / STEPS_PER_UNIT / texts.max(1) as f64;
        let variance = variance(all, squares.sum(place), texts.max(1));
        let spread = variance * share * (1.0 - share);
        let r = if variance >= LEAST_VARIANCE && spread > 0.0 {
            (mean(inside) - mean(all) * share) / spread.sqrt()
        } else {
            0.0
        };
        let r = r.clamp(-1.0, 1.0);
        Score { score: r.abs(), signed: r, beside: 0.0 }
    }

    /// Whom [`Ranking::Lape`] leaves out, of the shares of texts that live neurons fire for, of all classes.
    pub(super) fn left_out(&self, dead: &[bool]) -> LeftOut {
        let Tally::Fired(fired) = self.tally else { return LeftOut::default() };
        let classes = fired.chunks_exact(self.places.max(1)).zip(self.texts);
        let mut shares: Vec<f64> = classes
            .flat_map(|(fired, &texts)| {
                let live = fired.iter().zip(dead).filter(|(_, dead)| !**dead);
                live.map(move |(&fired, _)| fired as f64 / texts.max(1) as f64)
            })
            .collect();
        let largest = shares.iter().copied().fold(0.0, f64::max);
        let k = (shares.len() as f64 * 0.95).round_ties_even() as usize;
        let percentile = match k.checked_sub(1) {
            Some(index) if index < shares.len() => *shares.select_nth_unstable_by(index, f64::total_cmp).1,
            _ => 0.0,
        };
        LeftOut { percentile, largest }
    }
}

/// The 95th percentile of the shares of texts that neurons fire for (the published one: the k-th smallest, k = 95 % of their number,
/// rounded), and the largest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeftOut {
    percentile: f64,
    largest: f64,
}

impl LeftOut {
    /// Whether a neuron with this largest share is left out. Where many fire for all texts the percentile is the largest share, and
    /// nobody would be above it: then those that reach it stay.
    fn leaves_out(self, most: f64) -> bool {
        if self.percentile < self.largest { most <= self.percentile } else { most < self.percentile }
    }
}

#[cfg(test)]
mod tests {
    use skn_stats::{MeanAccumulator, SquareAccumulator};

    use super::*;

    #[test]
    fn who_is_left_out() {
        let above = LeftOut { percentile: 0.5, largest: 0.75 };
        assert_eq!([0.25, 0.5, 0.75].map(|most| above.leaves_out(most)), [true, true, false]);
        let at_most = LeftOut { percentile: 1.0, largest: 1.0 };
        assert_eq!([0.75, 1.0].map(|most| at_most.leaves_out(most)), [true, false]);
    }

    #[test]
    fn who_never_fires_has_the_entropy_of_all_classes_alike() {
        let tally = Tally::Fired(vec![0; 3 * 2]);
        let texts = [4, 3, 2];
        let mut scores = Scores {
            ranking: Ranking::Lape,
            tally: &tally,
            places: 2,
            texts: &texts,
            deviation: None,
            left_out: LeftOut::default(),
            rule: ScoreRule::of_classes(&texts),
        };
        scores.left_out = scores.left_out(&[false; 2]);
        for (place, class) in [(0, 0), (1, 0), (0, 2)] {
            let expected = Score { score: 0.0, signed: 3f64.ln(), beside: 0.0 };
            assert_eq!(scores.of(place, class), expected, "{place} {class}");
        }
    }

    /// Activations that follow the class exactly, but by so little that their squares are rounded away.
    #[test]
    fn what_hardly_varies_has_no_correlation() {
        let labels = [0, 1, 0, 1];
        for (by, expected) in [(1e-3f32, 1.0), (7e-7, 0.0)] {
            let values = labels.map(|label| if label == 1 { by } else { -by });
            let (mut of_class, mut squares) = (MeanAccumulator::new(2), SquareAccumulator::new(1));
            let (mut sum, mut product) = (MeanAccumulator::new(1), MeanAccumulator::new(1));
            for (&value, label) in values.iter().zip(labels) {
                of_class.add_row_at(label, &[value]).unwrap();
                squares.add_row_at(0, &[value]).unwrap();
                sum.add_row_at(0, &[value]).unwrap();
                product.add_row_at(0, &[value * if label == 1 { 1.0 } else { -1.0 }]).unwrap();
            }
            let sums = Tally::Sums { of_class: of_class.clone(), squares: Some(squares.clone()) };
            let moments = Tally::Moments { sum, product, squares, numbers: Vec::new() };
            let differences = Tally::Sums { of_class, squares: None };
            let texts = [2, 2];
            let of = |ranking, tally| {
                let scores = Scores {
                    ranking,
                    tally,
                    places: 1,
                    texts: &texts,
                    deviation: Some(&[by]),
                    left_out: LeftOut::default(),
                    rule: ScoreRule::of_classes(&texts),
                };
                scores.of(0, 1)
            };
            for tally in [&sums, &moments] {
                let found = of(Ranking::Correlation, tally).score;
                assert!((found - expected).abs() < 1e-4, "{by}: {found}");
            }
            let found = of(Ranking::MeanDifference, &differences).beside;
            assert!((found - 2.0 * expected).abs() < 1e-3, "{by}: d {found}");
        }
    }
}
