use statrs::distribution::{ContinuousCDF, Normal};

use crate::agreement::ranks;
use crate::error::{Result, StatsError, same};

/// The rank-sum test that scores of two groups are of one distribution, two-sided, by the normal approximation with ties and a
/// correction for continuity (Mann and Whitney 1947; Lehmann 1975, for ties). It is the test of [`auc`](crate::auc) against 1/2.
///
/// ```
/// let scores = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let p = skn_stats::rank_sum(&scores, &[false, false, false, true, true, true])?;
/// assert!((p - 0.080_856).abs() < 1e-6);
/// # Ok::<(), skn_stats::StatsError>(())
/// ```
///
/// # Errors
/// If there are not as many labels as scores, or one group has none.
pub fn rank_sum(scores: &[f64], positive: &[bool]) -> Result<f64> {
    same("labels", scores.len(), positive.len())?;
    let positives = positive.iter().filter(|&&positive| positive).count() as f64;
    let n = scores.len() as f64;
    let pairs = positives * (n - positives);
    if pairs == 0.0 {
        let found = format!("{positives} and {}", n - positives);
        return Err(StatsError::mismatch("texts of each of the two groups", "at least 1", found));
    }
    let mut sorted = ranks(scores);
    let sum: f64 = sorted.iter().zip(positive).filter(|(_, positive)| **positive).map(|(rank, _)| rank).sum();
    let above = sum - positives * (positives + 1.0) / 2.0;
    sorted.sort_by(f64::total_cmp);
    let tied: f64 = sorted.chunk_by(|a, b| a == b).map(|tied| tied.len() as f64).map(|t| t.powi(3) - t).sum();
    Ok(rank_sum_of(above / pairs, positives, n - positives, 1.0 - tied / (n.powi(3) - n)))
}

/// The p of [`rank_sum`] where the [area](crate::auc) is known, with the texts of both groups. `spread` is what ties leave of the
/// variance, `1 - sum of (t^3 - t) / (n^3 - n)` over groups of t equal scores among n: 1 without ties, 0 where all are equal.
///
/// ```
/// // The same scores as above: all nine pairs are in order.
/// let p = skn_stats::rank_sum_of(1.0, 3.0, 3.0, 1.0);
/// assert!((p - 0.080_856).abs() < 1e-6);
/// ```
pub fn rank_sum_of(area: f64, positives: f64, negatives: f64, spread: f64) -> f64 {
    let pairs = positives * negatives;
    let variance = pairs / 12.0 * (positives + negatives + 1.0) * spread;
    // All scores are the same.
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (pairs * (area - 0.5).abs() - 0.5) / variance.sqrt();
    (2.0 * Normal::standard().sf(z)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_that_are_all_the_same_tell_nothing() {
        assert_eq!(rank_sum(&[2.0; 4], &[true, false, true, false]).unwrap(), 1.0);
        assert!(rank_sum(&[1.0], &[true]).is_err() && rank_sum(&[1.0, 2.0], &[true]).is_err());
    }
}
