use crate::error::{Result, StatsError, same};

/// How well one class is found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClassScores {
    /// Share of the rows answered with the class that are of it; 0 where none is answered with it.
    pub precision: f64,
    /// Share of the rows of the class that are answered with it; 0 where none is of it.
    pub recall: f64,
    /// Harmonic mean of both; 0 where both are.
    pub f1: f64,
    /// Rows of the class.
    pub support: u64,
}

/// Precision, recall and F1 of each class, of a confusion matrix `[true class][answer]`: those of scikit-learn's
/// `precision_recall_fscore_support` with `zero_division=0`.
///
/// ```
/// // Three rows of class 0, of which one is answered with class 1; five of class 1, one with class 0.
/// let scores = skn_stats::class_scores(&[vec![2, 1], vec![1, 4]])?;
/// assert_eq!((scores[1].precision, scores[1].recall, scores[1].support), (0.8, 0.8, 5));
/// # Ok::<(), skn_stats::StatsError>(())
/// ```
///
/// # Errors
/// If the matrix is not square.
pub fn class_scores(confusion: &[Vec<u64>]) -> Result<Vec<ClassScores>> {
    confusion.iter().try_for_each(|row| same("columns of a confusion matrix", confusion.len(), row.len()))?;
    let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
    let scores = |(class, row): (usize, &Vec<u64>)| {
        let (right, support) = (row[class], row.iter().sum());
        let answered: u64 = confusion.iter().map(|row| row[class]).sum();
        ClassScores {
            precision: share(right, answered),
            recall: share(right, support),
            f1: share(2 * right, answered + support),
            support,
        }
    };
    Ok(confusion.iter().enumerate().map(scores).collect())
}

/// Expected calibration error: over bins of equal width of the confidence, the mean of |accuracy - mean confidence|, weighted by
/// the bins' rows (Naeini et al. 2015; Guo et al. 2017, equation 3). `confidences` are the probabilities of the answers, from 0
/// to 1. A bin holds what is above its lower edge up to its upper edge; the first one 0 too.
///
/// ```
/// // Two answers of confidence 0.9 of which one is right, and two of 0.6 that are right.
/// let error = skn_stats::calibration_error(&[0.9, 0.9, 0.6, 0.6], &[true, false, true, true], 5)?;
/// assert!((error - 0.4).abs() < 1e-12);
/// # Ok::<(), skn_stats::StatsError>(())
/// ```
///
/// # Errors
/// If there are no rows or bins, not as many confidences as answers, or a confidence is not between 0 and 1.
pub fn calibration_error(confidences: &[f64], right: &[bool], bins: usize) -> Result<f64> {
    same("answers beside confidences", confidences.len(), right.len())?;
    if confidences.is_empty() || bins == 0 {
        let found = format!("{} and {bins}", confidences.len());
        return Err(StatsError::mismatch("rows and bins", "at least 1 of each", found));
    }
    let mut sums = vec![(0.0, 0u64); bins];
    for (&confidence, &right) in confidences.iter().zip(right) {
        if !(0.0..=1.0).contains(&confidence) {
            return Err(StatsError::mismatch("confidence", "a number between 0 and 1", confidence));
        }
        let bin = (1..bins).take_while(|edge| *edge as f64 / (bins as f64) < confidence).count();
        sums[bin].0 += confidence;
        sums[bin].1 += u64::from(right);
    }
    // |right - sum of confidences| is the bin's rows times |accuracy - mean confidence|.
    let gap: f64 = sums.iter().map(|(confidence, right)| (*right as f64 - confidence).abs()).sum();
    Ok(gap / confidences.len() as f64)
}

/// Brier's score of probabilities `[rows, classes]`: the mean over rows of the sum over classes of (p - y)^2, from 0 to 2 (Brier
/// 1950). It is twice what scikit-learn says of two classes by default.
///
/// # Errors
/// If there are no rows, or a label is no class.
pub fn brier(probabilities: &[f64], classes: usize, labels: &[usize]) -> Result<f64> {
    check_rows(probabilities.len(), classes, labels)?;
    let of_row = |(row, &label): (&[f64], &usize)| -> f64 {
        let expected = |class| if class == label { 1.0 } else { 0.0 };
        row.iter().enumerate().map(|(class, p)| (p - expected(class)).powi(2)).sum()
    };
    let sum: f64 = probabilities.chunks_exact(classes).zip(labels).map(of_row).sum();
    Ok(sum / labels.len() as f64)
}

pub(crate) fn check_rows(values: usize, classes: usize, labels: &[usize]) -> Result<()> {
    if classes == 0 || labels.is_empty() {
        let found = format!("{} and {classes}", labels.len());
        return Err(StatsError::mismatch("rows and classes", "at least 1 of each", found));
    }
    same("values of rows and classes", labels.len() * classes, values)?;
    match labels.iter().find(|label| **label >= classes) {
        Some(label) => Err(StatsError::mismatch("label", format!("one below {classes}"), label)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(class_scores(&[vec![1, 2], vec![3]]).is_err());
        assert!(calibration_error(&[], &[], 15).is_err() && calibration_error(&[0.5], &[true], 0).is_err());
        assert!(calibration_error(&[f64::NAN], &[true], 15).is_err());
        assert!(calibration_error(&[1.5], &[true], 15).is_err());
        assert!(brier(&[0.5, 0.5], 2, &[2]).is_err() && brier(&[0.5], 2, &[0]).is_err());
        assert!(brier(&[], 2, &[]).is_err());
    }

    #[test]
    fn an_edge_belongs_to_the_bin_below_it() {
        // 0.5 and 0.4 are in the lower of two bins: |1 - 0.9| / 2.
        let error = calibration_error(&[0.5, 0.4], &[true, false], 2).unwrap();
        assert!((error - 0.05).abs() < 1e-12, "{error}");
        assert_eq!(calibration_error(&[0.0, 1.0], &[false, true], 15).unwrap(), 0.0);
    }
}
