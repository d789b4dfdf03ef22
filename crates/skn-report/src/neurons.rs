//! What the counts of a split say of a neuron that was chosen on another.

use skn_counts::{Performance, Rule, ScoreRule};

/// The level of all intervals.
const LEVEL: f64 = 0.95;

/// A share with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share {
    pub(crate) value: f64,
    pub(crate) interval: [f64; 2],
}

/// How a rule does on a split; nothing where the split has no text of its class, or none of the rest.
pub(crate) fn share(split: &Performance, rule: &Rule, score: ScoreRule) -> Option<Share> {
    let (value, interval) =
        (split.accuracy_of(rule, score).ok()?, split.interval_of(rule, score, LEVEL).ok()?);
    Some(Share { value, interval })
}

/// The value that `share` of the sorted values are at or below (nearest rank).
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_hand() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(
            [0.0, 0.25, 0.5, 0.51, 1.0].map(|share| quantile(&values, share)),
            [1.0, 1.0, 2.0, 3.0, 4.0]
        );
        assert!(quantile(&[], 0.5).is_nan());
    }
}
