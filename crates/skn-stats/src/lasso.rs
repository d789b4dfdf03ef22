use crate::error::{Result, StatsError, same};

/// Weights and intercept of a logistic regression.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    /// A weight for each column.
    pub weights: Vec<f64>,
    /// What is added.
    pub intercept: f64,
}

/// A matrix `[rows, columns]`, row-major, and whether each row is of the class.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// `rows * columns` numbers.
    pub x: &'a [f32],
    /// The columns of a row.
    pub columns: usize,
    /// The class of each row.
    pub positive: &'a [bool],
}

/// Steps are at most so many.
const MOST_STEPS: usize = 2000;

/// No weight changes by more than this in the last step.
const TOLERANCE: f64 = 1e-7;

impl Logistic {
    /// Weights of 0, with the intercept that fits best then: the logarithm of the odds.
    ///
    /// # Errors
    /// If the rows are not as many as the labels, or of one class.
    pub fn nothing(of: Labelled<'_>) -> Result<Self> {
        same("values of the rows", of.positive.len() * of.columns, of.x.len())?;
        let positives = of.positive.iter().filter(|&&positive| positive).count();
        let negatives = of.positive.len() - positives;
        if positives == 0 || negatives == 0 {
            let found = format!("{positives} and {negatives}");
            return Err(StatsError::mismatch("texts of each of the two classes", "at least 1", found));
        }
        Ok(Self { weights: vec![0.0; of.columns], intercept: (positives as f64 / negatives as f64).ln() })
    }

    /// The smallest strength at which all weights are 0: the largest slope of the mean loss to a weight.
    pub fn least_strength_of_nothing(&self, of: Labelled<'_>) -> f64 {
        let (slopes, _) = slopes(of, &self.scores(of));
        slopes.iter().fold(0.0, |largest, slope| largest.max(slope.abs()))
    }

    /// Weights and intercept that make the mean cross-entropy + `strength` times the sum of the weights' magnitudes least, from these on:
    /// L1-regularised logistic regression (Tibshirani 1996), by proximal gradients with momentum that is dropped where it leads uphill (Beck and
    /// Teboulle 2009; O'Donoghue and Candes 2015). The intercept costs nothing.
    pub fn fit(&self, of: Labelled<'_>, strength: f64) -> Self {
        let mut at = self.clone();
        let mut scores = at.scores(of);
        let (mut before, mut scores_before) = (at.clone(), scores.clone());
        let (mut momentum, mut steepness) = (1.0f64, 0.25);
        for _ in 0..MOST_STEPS {
            let next_momentum = (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0;
            let beyond = (momentum - 1.0) / next_momentum;
            let from = at.beyond(&before, beyond);
            let scores_from: Vec<f64> =
                scores.iter().zip(&scores_before).map(|(now, then)| now + beyond * (now - then)).collect();
            let (slopes, slope) = slopes(of, &scores_from);
            let loss_from = loss(of, &scores_from);
            let (next, next_scores) = loop {
                let next = from.step(&slopes, slope, steepness, strength);
                let next_scores = next.scores(of);
                if loss(of, &next_scores) <= from.bound(&next, loss_from, &slopes, slope, steepness) {
                    break (next, next_scores);
                }
                steepness *= 2.0;
            };
            let uphill = next.is_uphill(&at, &from);
            let change = next.change(&at);
            (before, scores_before) = (at, scores);
            (at, scores) = (next, next_scores);
            momentum = if uphill { 1.0 } else { next_momentum };
            if change <= TOLERANCE {
                break;
            }
        }
        at
    }

    /// How far this is from what [`Self::fit`] seeks, as a part of the strength: where it is found, the slope of the mean loss to a weight is
    /// the strength against the weight's sign, at most the strength where the weight is 0, and 0 to the intercept. The largest
    /// distance from that.
    pub fn gap(&self, of: Labelled<'_>, strength: f64) -> f64 {
        let (slopes, slope) = slopes(of, &self.scores(of));
        let off = self.weights.iter().zip(slopes).map(|(&weight, slope)| match weight == 0.0 {
            true => slope.abs() - strength,
            false => (slope + weight.signum() * strength).abs(),
        });
        off.fold(slope.abs(), f64::max) / strength
    }

    /// A number for each row, above 0 where the class is the likelier.
    pub fn scores(&self, of: Labelled<'_>) -> Vec<f64> {
        let used: Vec<(usize, f64)> =
            self.weights.iter().copied().enumerate().filter(|(_, weight)| *weight != 0.0).collect();
        let score =
            |row: &[f32]| used.iter().map(|&(column, weight)| weight * f64::from(row[column])).sum::<f64>();
        of.x.chunks_exact(of.columns.max(1)).map(|row| self.intercept + score(row)).collect()
    }

    fn beyond(&self, before: &Self, by: f64) -> Self {
        let on = |(now, then): (&f64, &f64)| now + by * (now - then);
        let weights = self.weights.iter().zip(&before.weights).map(on).collect();
        Self { weights, intercept: on((&self.intercept, &before.intercept)) }
    }

    fn step(&self, slopes: &[f64], slope: f64, steepness: f64, strength: f64) -> Self {
        let shrunk = |(weight, slope): (&f64, &f64)| {
            let moved = weight - slope / steepness;
            moved.signum() * (moved.abs() - strength / steepness).max(0.0)
        };
        let weights = self.weights.iter().zip(slopes).map(shrunk).collect();
        Self { weights, intercept: self.intercept - slope / steepness }
    }

    /// What the loss is at most if it is no steeper than assumed.
    fn bound(&self, next: &Self, loss: f64, slopes: &[f64], slope: f64, steepness: f64) -> f64 {
        let of =
            |(from, to, slope): (f64, f64, f64)| slope * (to - from) + steepness / 2.0 * (to - from).powi(2);
        let weights = self.weights.iter().zip(&next.weights).zip(slopes);
        let sum: f64 = weights.map(|((&from, &to), &slope)| of((from, to, slope))).sum();
        // Rounding must not make it look steeper.
        loss + sum + of((self.intercept, next.intercept, slope)) + 1e-12 * loss.abs().max(1e-3)
    }

    /// Whether the last step goes against the momentum that led to `from`.
    fn is_uphill(&self, at: &Self, from: &Self) -> bool {
        let weights = self.weights.iter().zip(&at.weights).zip(&from.weights);
        let product: f64 = weights.map(|((next, at), from)| (from - next) * (next - at)).sum();
        product + (from.intercept - self.intercept) * (self.intercept - at.intercept) > 0.0
    }

    fn change(&self, at: &Self) -> f64 {
        let weights = self.weights.iter().zip(&at.weights).map(|(next, at)| (next - at).abs());
        weights.fold((self.intercept - at.intercept).abs(), f64::max)
    }
}

/// The mean cross-entropy of scores.
fn loss(of: Labelled<'_>, scores: &[f64]) -> f64 {
    let term = |(score, positive): (&f64, &bool)| {
        let right = if *positive { *score } else { -score };
        (-right.abs()).exp().ln_1p() + (-right).max(0.0)
    };
    scores.iter().zip(of.positive).map(term).sum::<f64>() / of.positive.len().max(1) as f64
}

/// The slopes of the mean cross-entropy to each weight and to the intercept.
fn slopes(of: Labelled<'_>, scores: &[f64]) -> (Vec<f64>, f64) {
    let rows = of.positive.len().max(1) as f64;
    let (mut slopes, mut slope) = (vec![0.0; of.columns], 0.0);
    for ((row, score), positive) in of.x.chunks_exact(of.columns.max(1)).zip(scores).zip(of.positive) {
        let residual = (1.0 / (1.0 + (-score).exp()) - f64::from(u8::from(*positive))) / rows;
        slope += residual;
        slopes.iter_mut().zip(row).for_each(|(slope, &value)| *slope += residual * f64::from(value));
    }
    (slopes, slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten rows of three columns: the first tells the class, the second does a little, the third not.
    const X: [f32; 30] = [
        1.5, 0.25, -1.0, 0.75, -0.5, 1.0, 2.0, 1.0, 0.5, -0.25, 0.5, -0.5, 1.0, -1.0, 0.0, -1.0, 0.75, 1.0,
        -2.0, -0.25, -1.0, -0.5, -1.0, 0.5, 0.25, -0.75, -0.5, -1.5, 0.5, 0.0,
    ];
    const POSITIVE: [bool; 10] = [true, true, true, true, true, false, false, false, false, false];

    fn of() -> Labelled<'static> {
        Labelled { x: &X, columns: 3, positive: &POSITIVE }
    }

    /// At the least, slopes balance the strength: equal to it where a weight is not 0, below it elsewhere, 0 for the intercept.
    fn check(found: &Logistic, strength: f64) {
        let (slopes, slope) = slopes(of(), &found.scores(of()));
        assert!(slope.abs() < 1e-6, "{slope}");
        for (weight, slope) in found.weights.iter().zip(slopes) {
            if *weight == 0.0 {
                assert!(slope.abs() <= strength + 1e-6, "{slope} beyond {strength}");
            } else {
                assert!((slope + weight.signum() * strength).abs() < 1e-6, "{weight}: {slope}");
            }
        }
    }

    #[test]
    fn the_least_is_found_at_every_strength() {
        let nothing = Logistic::nothing(of()).unwrap();
        let most = nothing.least_strength_of_nothing(of());
        assert!(nothing.fit(of(), most * 1.001).weights.iter().all(|&weight| weight == 0.0));
        let (mut fit, mut used) = (nothing, Vec::new());
        for halvings in 1..8 {
            let strength = most * 0.5f64.powi(halvings);
            fit = fit.fit(of(), strength);
            check(&fit, strength);
            let gaps = [fit.gap(of(), strength), fit.gap(of(), strength * 1.5)];
            assert!(gaps[0] < 1e-4 && gaps[1] > 0.3, "{gaps:?}");
            used.push(fit.weights.iter().filter(|&&weight| weight != 0.0).count());
        }
        // By FISTA in numpy the third comes in at most / 2^11.
        assert_eq!(used, [1, 1, 2, 2, 2, 2, 2], "columns come in as the strength falls");
    }

    /// `sklearn.linear_model.LogisticRegression(l1_ratio=1, C=1 / (10 * 0.05), solver="saga", max_iter=1000000, tol=1e-12)` (1.9.1).
    #[test]
    fn weights_are_those_of_scikit_learn() {
        let found = Logistic::nothing(of()).unwrap().fit(of(), 0.05);
        for (found, expected) in found.weights.iter().zip([2.024_276_9, 0.436_524_82, 0.0]) {
            assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
        assert!((found.intercept - 0.038_433_77).abs() < 1e-5, "{}", found.intercept);
    }

    #[test]
    fn one_class_or_another_number_of_rows_is_refused() {
        assert!(Logistic::nothing(Labelled { positive: &[true; 10], ..of() }).is_err());
        assert!(Logistic::nothing(Labelled { columns: 4, ..of() }).is_err());
    }
}
