use std::fmt;

use serde::{Deserialize, Serialize};

/// How predictions are scored. All values are those of scikit-learn 1.x.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Share of right predictions.
    #[default]
    Accuracy,
    /// Mean over the classes that occur of the share of their rows that is found (recall).
    BalancedAccuracy,
    /// Matthews' correlation coefficient; more than two classes: Gorodkin's R_K (2004). 0 where it is undefined.
    Mcc,
    /// F1 of class 1; more than two classes: the unweighted mean of the F1 of the classes that occur or are
    /// predicted. 0 where it is undefined.
    F1,
    /// Mean of accuracy and F1, as GLUE scores QQP and MRPC.
    AccuracyF1,
}

impl Metric {
    /// The name in task files and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::BalancedAccuracy => "balanced_accuracy",
            Self::Mcc => "mcc",
            Self::F1 => "f1",
            Self::AccuracyF1 => "accuracy_f1",
        }
    }

    /// The score of `predicted` against `actual`, both class numbers below `classes`, row by row.
    ///
    /// NaN where there is nothing to score: no rows, different numbers of rows, or a class that does not exist.
    ///
    /// ```
    /// use skn_data::Metric;
    ///
    /// assert_eq!(Metric::Accuracy.compute(&[0, 1, 1, 1], &[0, 0, 1, 1], 2), 0.75);
    /// ```
    pub fn compute(self, predicted: &[usize], actual: &[usize], classes: usize) -> f64 {
        let Some(tally) = Tally::of(predicted, actual, classes) else { return f64::NAN };
        match self {
            Self::Accuracy => tally.accuracy(),
            Self::BalancedAccuracy => tally.balanced_accuracy(),
            Self::Mcc => tally.mcc(),
            Self::F1 => tally.f1(),
            Self::AccuracyF1 => (tally.accuracy() + tally.f1()) / 2.0,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counts of one class.
#[derive(Clone, Copy, Default)]
struct ClassCounts {
    actual: u64,
    predicted: u64,
    right: u64,
}

/// The margins and the diagonal of a confusion matrix: all that the metrics need.
struct Tally {
    rows: f64,
    classes: Vec<ClassCounts>,
}

impl Tally {
    fn of(predicted: &[usize], actual: &[usize], classes: usize) -> Option<Self> {
        let largest = *predicted.iter().chain(actual).max()?;
        if predicted.len() != actual.len() || largest >= classes {
            return None;
        }
        let mut counts = vec![ClassCounts::default(); (largest + 1).max(classes.min(2))];
        for (&predicted, &actual) in predicted.iter().zip(actual) {
            counts[predicted].predicted += 1;
            counts[actual].actual += 1;
            counts[actual].right += u64::from(predicted == actual);
        }
        // More classes than rows are told from two only by their number, which `f1` asks for.
        if classes > 2 && counts.len() < 3 {
            counts.resize(3, ClassCounts::default());
        }
        Some(Self { rows: actual.len() as f64, classes: counts })
    }

    fn right(&self) -> f64 {
        self.classes.iter().map(|class| class.right).sum::<u64>() as f64
    }

    fn accuracy(&self) -> f64 {
        self.right() / self.rows
    }

    fn balanced_accuracy(&self) -> f64 {
        mean(
            self.classes
                .iter()
                .filter(|class| class.actual > 0)
                .map(|class| class.right as f64 / class.actual as f64),
        )
    }

    /// R_K = (c s - sum_k p_k t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)), Gorodkin 2004.
    fn mcc(&self) -> f64 {
        let sum = |product: fn(&ClassCounts) -> f64| self.classes.iter().map(product).sum::<f64>();
        let both = sum(|class| class.predicted as f64 * class.actual as f64);
        let predicted = sum(|class| (class.predicted as f64).powi(2));
        let actual = sum(|class| (class.actual as f64).powi(2));
        let square = self.rows * self.rows;
        let denominator = ((square - predicted) * (square - actual)).sqrt();
        if denominator == 0.0 { 0.0 } else { (self.right() * self.rows - both) / denominator }
    }

    fn f1(&self) -> f64 {
        if self.classes.len() <= 2 {
            return self.classes.get(1).map_or(0.0, class_f1);
        }
        mean(self.classes.iter().filter(|class| class.actual + class.predicted > 0).map(class_f1))
    }
}

/// 2 TP / (rows of the class + rows predicted as it).
fn class_f1(class: &ClassCounts) -> f64 {
    let rows = class.actual + class.predicted;
    if rows == 0 { 0.0 } else { 2.0 * class.right as f64 / rows as f64 }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(metric: Metric, predicted: &[usize], actual: &[usize], classes: usize, expected: f64) {
        let found = metric.compute(predicted, actual, classes);
        assert!((found - expected).abs() < 1e-12, "{metric}: {found} is not {expected}");
    }

    // Confusion matrix [[2, 1], [1, 4]] (actual by predicted).
    const ACTUAL: [usize; 8] = [0, 0, 0, 1, 1, 1, 1, 1];
    const PREDICTED: [usize; 8] = [0, 0, 1, 0, 1, 1, 1, 1];

    #[test]
    fn two_classes_by_hand() {
        check(Metric::Accuracy, &PREDICTED, &ACTUAL, 2, 6.0 / 8.0);
        check(Metric::BalancedAccuracy, &PREDICTED, &ACTUAL, 2, (2.0 / 3.0 + 4.0 / 5.0) / 2.0);
        // (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)) = (8 - 1) / sqrt(5 * 5 * 3 * 3)
        check(Metric::Mcc, &PREDICTED, &ACTUAL, 2, 7.0 / 15.0);
        // precision 4/5, recall 4/5
        check(Metric::F1, &PREDICTED, &ACTUAL, 2, 0.8);
        check(Metric::AccuracyF1, &PREDICTED, &ACTUAL, 2, (0.75 + 0.8) / 2.0);
    }

    #[test]
    fn three_classes_by_hand() {
        let actual = [0, 0, 1, 1, 2, 2];
        let predicted = [0, 1, 1, 1, 2, 0];
        check(Metric::Accuracy, &predicted, &actual, 3, 4.0 / 6.0);
        check(Metric::BalancedAccuracy, &predicted, &actual, 3, (0.5 + 1.0 + 0.5) / 3.0);
        // c = 4, s = 6, p = (2, 3, 1), t = (2, 2, 2): (24 - 12) / sqrt((36 - 14) (36 - 12))
        check(Metric::Mcc, &predicted, &actual, 3, 12.0 / 528f64.sqrt());
        // 2*1/4, 2*2/5, 2*1/3
        check(Metric::F1, &predicted, &actual, 3, (0.5 + 0.8 + 2.0 / 3.0) / 3.0);
    }

    #[test]
    fn undefined_scores_are_zero() {
        check(Metric::Mcc, &[1, 1, 1], &[0, 1, 1], 2, 0.0);
        check(Metric::F1, &[0, 0], &[0, 0], 2, 0.0);
        // A class that is only predicted has no recall, and is left out.
        check(Metric::BalancedAccuracy, &[0, 1], &[0, 0], 2, 0.5);
        // Three classes of which one occurs: its F1, not that of class 1.
        check(Metric::F1, &[0, 0], &[0, 0], 3, 1.0);
    }

    #[test]
    fn nothing_to_score_is_nan() {
        assert!(Metric::Accuracy.compute(&[], &[], 2).is_nan());
        assert!(Metric::Accuracy.compute(&[0], &[0, 1], 2).is_nan());
        assert!(Metric::Accuracy.compute(&[2], &[0], 2).is_nan());
    }

    #[test]
    fn names_are_those_of_task_files() {
        use Metric::*;
        for metric in [Accuracy, BalancedAccuracy, Mcc, F1, AccuracyF1] {
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(json, format!("{:?}", metric.name()));
        }
    }
}
