use std::collections::BTreeSet;

use crate::error::{Result, StatsError, same};

/// The ranks of values, from 1, equal values sharing the mean of their ranks.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut done = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let shared = done as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|&place| ranks[place] = shared);
        done += tied.len();
    }
    ranks
}

/// Spearman's rank correlation; NaN if one side is constant.
///
/// # Errors
/// If the sides are of different lengths, or there are fewer than two values.
pub fn spearman(a: &[f64], b: &[f64]) -> Result<f64> {
    same("values to correlate", a.len(), b.len())?;
    if a.len() < 2 {
        return Err(StatsError::mismatch("values to correlate", "at least 2", a.len()));
    }
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    Ok(product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt())
}

/// The area under the ROC curve: the chance that a positive's score is above a negative's, ties counted half
/// (Mann and Whitney 1947).
///
/// # Errors
/// If there are not as many labels as scores, or one class has none.
pub fn auc(scores: &[f64], positive: &[bool]) -> Result<f64> {
    same("labels", scores.len(), positive.len())?;
    let positives = positive.iter().filter(|&&positive| positive).count();
    let negatives = positive.len() - positives;
    if positives == 0 || negatives == 0 {
        let found = format!("{positives} and {negatives}");
        return Err(StatsError::mismatch("texts of each of the two classes", "at least 1", found));
    }
    let of_positives = ranks(scores)
        .iter()
        .zip(positive)
        .filter(|(_, positive)| **positive)
        .map(|(rank, _)| rank)
        .sum::<f64>();
    let least = positives as f64 * (positives as f64 + 1.0) / 2.0;
    Ok((of_positives - least) / (positives as f64 * negatives as f64))
}

/// Shared members / members of either set; 1 of two empty sets (Jaccard 1901).
pub fn jaccard<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> f64 {
    let shared = a.intersection(b).count();
    let either = a.len() + b.len() - shared;
    if either == 0 { 1.0 } else { shared as f64 / either as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_ties() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert!(ranks(&[]).is_empty());
    }

    #[test]
    fn spearman_by_hand() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 100.0, 1000.0]).unwrap(), 1.0);
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]).unwrap(), -1.0);
        // scipy.stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7])
        assert!(
            (spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[5.0, 6.0, 7.0, 8.0, 7.0]).unwrap() - 0.820_782_7).abs()
                < 1e-6
        );
        assert!(spearman(&[1.0, 1.0], &[1.0, 2.0]).unwrap().is_nan());
        assert!(spearman(&[1.0], &[1.0]).is_err() && spearman(&[1.0, 2.0], &[1.0]).is_err());
    }

    #[test]
    fn auc_by_hand() {
        assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]).unwrap(), 0.75);
        assert_eq!(auc(&[1.0, 1.0], &[false, true]).unwrap(), 0.5);
        assert!(auc(&[1.0, 2.0], &[true, true]).is_err());
    }

    #[test]
    fn jaccard_by_hand() {
        let set = |members: &[u8]| members.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(jaccard(&set(&[1, 2, 3]), &set(&[2, 3, 4])), 0.5);
        assert_eq!((jaccard(&set(&[]), &set(&[])), jaccard(&set(&[1]), &set(&[]))), (1.0, 0.0));
    }
}
