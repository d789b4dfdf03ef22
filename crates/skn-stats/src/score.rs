/// The share of texts for which a rule is right; 0 of none.
pub fn accuracy(correct: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { correct as f64 / total as f64 }
}

/// How well a neuron predicts the label, `max(accuracy, 1 - accuracy)`: a neuron that fires for the other label
/// predicts as well (Wang et al. 2022, section 3).
///
/// ```
/// assert_eq!(skn_stats::predictivity(10, 40), 0.75);
/// ```
pub fn predictivity(correct: u64, total: u64) -> f64 {
    accuracy(correct.max(total.saturating_sub(correct)), total)
}

/// `|2 correct - total|`: the order of `|accuracy - 0.5|` in integers, in which equal distances tie. Counts are
/// those of a file, so below 2^63.
pub fn distance(correct: i64, total: i64) -> u64 {
    (2 * i128::from(correct) - i128::from(total)).unsigned_abs() as u64
}

/// The place of the count with the largest [`distance`], the first of equals; nothing if there are none.
pub fn best(correct: &[u64], total: u64) -> Option<usize> {
    let far = |count: u64| (2 * i128::from(count) - i128::from(total)).unsigned_abs();
    (0..correct.len())
        .reduce(|best, place| if far(correct[place]) > far(correct[best]) { place } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        assert_eq!((accuracy(3, 4), accuracy(0, 0)), (0.75, 0.0));
        assert_eq!(
            (predictivity(1, 4), predictivity(3, 4), predictivity(2, 4), predictivity(0, 0)),
            (0.75, 0.75, 0.5, 0.0)
        );
        assert_eq!((distance(1, 4), distance(3, 4), distance(2, 4), distance(0, 5)), (2, 2, 0, 5));
        assert_eq!(distance(i64::MAX, i64::MAX), i64::MAX as u64);
        assert_eq!((best(&[2, 1, 3], 4), best(&[2, 2], 4), best(&[], 4)), (Some(1), Some(0), None));
    }
}
