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
    let variance = pairs / 12.0 * (n + 1.0 - tied / (n * (n - 1.0)));
    // All scores are the same.
    if variance <= 0.0 {
        return Ok(1.0);
    }
    let z = (above.max(pairs - above) - pairs / 2.0 - 0.5) / variance.sqrt();
    Ok((2.0 * Normal::standard().sf(z)).min(1.0))
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
