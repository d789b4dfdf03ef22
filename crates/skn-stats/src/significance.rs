use statrs::distribution::{Binomial, DiscreteCDF};

use crate::error::{Result, StatsError};

/// The chance of `successes` or more in `trials` throws of a coin that falls on success with probability `chance`.
///
/// # Errors
/// If `chance` is no probability, or there are more successes than trials.
pub fn binomial_upper(successes: u64, trials: u64, chance: f64) -> Result<f64> {
    if successes > trials {
        return Err(StatsError::mismatch("successes", format!("at most {trials}"), successes));
    }
    let coin = Binomial::new(chance, trials);
    let coin = coin.map_err(|_| StatsError::mismatch("chance of success", "a probability", chance))?;
    Ok(if successes == 0 { 1.0 } else { coin.sf(successes - 1) })
}

/// McNemar's exact test that two classifiers err equally often on the same texts: `only_first` are right by the first
/// alone, `only_second` by the second alone. Two-sided p (McNemar 1947, in the binomial form).
///
/// ```
/// let p = skn_stats::mcnemar(1, 9)?;
/// assert!((p - 0.021_484_375).abs() < 1e-12);
/// # Ok::<(), skn_stats::StatsError>(())
/// ```
///
/// # Errors
/// If the counts are too large to be added.
pub fn mcnemar(only_first: u64, only_second: u64) -> Result<f64> {
    let trials = only_first.checked_add(only_second).ok_or(StatsError::Overflow { what: "texts" })?;
    Ok((2.0 * binomial_upper(only_first.max(only_second), trials, 0.5)?).min(1.0))
}

/// Benjamini and Hochberg's (1995) adjusted p values: rejecting those at or below q keeps the expected share of false
/// discoveries at or below q.
///
/// ```
/// let adjusted = skn_stats::benjamini_hochberg(&[0.01, 0.04, 0.03, 0.5])?;
/// assert!((adjusted[0] - 0.04).abs() < 1e-12 && (adjusted[2] - 0.053_333).abs() < 1e-6);
/// # Ok::<(), skn_stats::StatsError>(())
/// ```
///
/// # Errors
/// If a value is no probability.
pub fn benjamini_hochberg(p: &[f64]) -> Result<Vec<f64>> {
    if let Some(bad) = p.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(StatsError::mismatch("p value", "0 to 1", bad));
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut least = 1f64;
    for (rank, &place) in order.iter().enumerate().rev() {
        least = least.min(p[place] * p.len() as f64 / (rank + 1) as f64);
        adjusted[place] = least;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binomial_by_hand() {
        assert_eq!(binomial_upper(0, 3, 0.5).unwrap(), 1.0);
        assert!((binomial_upper(3, 3, 0.5).unwrap() - 0.125).abs() < 1e-12);
        assert!((binomial_upper(2, 3, 0.5).unwrap() - 0.5).abs() < 1e-12);
        assert!(binomial_upper(4, 3, 0.5).is_err() && binomial_upper(1, 3, 1.5).is_err());
    }

    #[test]
    fn mcnemar_of_equals_is_one() {
        assert_eq!((mcnemar(0, 0).unwrap(), mcnemar(5, 5).unwrap()), (1.0, 1.0));
        assert_eq!(mcnemar(9, 1).unwrap(), mcnemar(1, 9).unwrap());
        assert!(mcnemar(u64::MAX, 1).is_err());
    }

    #[test]
    fn adjusted_p_values_keep_their_order() {
        let adjusted = benjamini_hochberg(&[0.9, 0.01, 0.02, 0.02]).unwrap();
        assert!((adjusted[1] - 0.026_666).abs() < 1e-5 && (adjusted[2] - 0.026_666).abs() < 1e-5);
        assert_eq!(adjusted[0], 0.9);
        assert!(benjamini_hochberg(&[1.1]).is_err() && benjamini_hochberg(&[f64::NAN]).is_err());
        assert!(benjamini_hochberg(&[]).unwrap().is_empty());
    }
}
