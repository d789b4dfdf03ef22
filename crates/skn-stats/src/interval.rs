use skn_random::{Key, Purpose};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::error::{Result, StatsError};

/// Wilson's score interval of a proportion: for `level` 0.95 it covers the true one in about 95 % of samples, small
/// ones too (Wilson 1927).
///
/// ```
/// let [low, high] = skn_stats::wilson(90, 100, 0.95)?;
/// assert!((low - 0.8256).abs() < 1e-4 && (high - 0.9448).abs() < 1e-4);
/// # Ok::<(), skn_stats::StatsError>(())
/// ```
///
/// # Errors
/// If there are no trials, more successes than trials, or `level` is not between 0 and 1.
pub fn wilson(successes: u64, trials: u64, level: f64) -> Result<[f64; 2]> {
    check_level(level)?;
    if trials == 0 || successes > trials {
        let expected = "at least 1 trial, and at most as many successes";
        return Err(StatsError::mismatch("proportion", expected, format!("{successes} of {trials}")));
    }
    let z = Normal::standard().inverse_cdf(0.5 + level / 2.0);
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let centre = p + z * z / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    // At the ends one bound is exactly the proportion; rounding must not put it beyond.
    let low = if successes == 0 { 0.0 } else { (centre - half) / scale };
    let high = if successes == trials { 1.0 } else { (centre + half) / scale };
    Ok([low, high])
}

/// The interval of an area under the ROC curve, of so many texts of two groups (Newcombe 2006, method 5): all true areas from which the
/// one found is not further than Hanley and McNeil's (1982) deviation allows, which is taken at the true area, with
/// `(positives + negatives) / 2 - 1` in place of the two numbers of other texts. It is within 0 and 1, and has a width at both ends too.
///
/// ```
/// let [low, high] = skn_stats::area(0.9, 30, 30, 0.95)?;
/// assert!(0.75 < low && low < 0.82 && 0.95 < high && high < 0.97, "{low} {high}");
/// # Ok::<(), skn_stats::StatsError>(())
/// ```
///
/// # Errors
/// If a group has no text, the area is not from 0 to 1, or `level` is not between 0 and 1.
pub fn area(area: f64, positives: u64, negatives: u64, level: f64) -> Result<[f64; 2]> {
    check_level(level)?;
    if positives == 0 || negatives == 0 || !(0.0..=1.0).contains(&area) {
        let expected = "an area from 0 to 1, of at least 1 text of each group";
        return Err(StatsError::mismatch("area", expected, format!("{area} of {positives} and {negatives}")));
    }
    let z = Normal::standard().inverse_cdf(0.5 + level / 2.0);
    let (m, n) = (positives as f64, negatives as f64);
    let others = (m + n) / 2.0 - 1.0;
    let is_near = |truth: f64| {
        let spread = 1.0 + others * ((1.0 - truth) / (2.0 - truth) + truth / (1.0 + truth));
        (truth - area).powi(2) <= z * z * truth * (1.0 - truth) * spread / (m * n)
    };
    // From the area, which is near itself, to an end, which is not unless the area lies there.
    let bound = |end: f64| {
        let (mut near, mut far) = (area, end);
        for _ in 0..100 {
            let middle = (near + far) / 2.0;
            if is_near(middle) { near = middle } else { far = middle }
        }
        near
    };
    // At an end there is no deviation: what is just beside it is near.
    Ok([if area == 0.0 { 0.0 } else { bound(0.0) }, if area == 1.0 { 1.0 } else { bound(1.0) }])
}

/// The mean of repeated measurements and its interval by Student's t. Of one measurement the interval is not known:
/// it is `[-inf, inf]`.
///
/// # Errors
/// If there are no values, or `level` is not between 0 and 1.
pub fn student(values: &[f64], level: f64) -> Result<(f64, [f64; 2])> {
    check_level(level)?;
    if values.is_empty() {
        return Err(StatsError::mismatch("measurements", "at least 1", 0));
    }
    let n = values.len() as f64;
    // Equals have themselves as their mean, whatever rounding makes of their sum.
    let mean = values[0] + values.iter().map(|value| value - values[0]).sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = match StudentsT::new(0.0, 1.0, n - 1.0) {
        Ok(distribution) => distribution.inverse_cdf(0.5 + level / 2.0) * (variance / n).sqrt(),
        Err(_) => f64::INFINITY,
    };
    Ok((mean, [mean - half, mean + half]))
}

/// The percentile interval of a statistic under resampling of `items` with replacement (Efron 1979). `statistic` is
/// given the places drawn; draws are keyed by `seed`.
///
/// # Errors
/// If there are no items or draws, or `level` is not between 0 and 1.
pub fn bootstrap(
    items: usize,
    draws: usize,
    level: f64,
    seed: u64,
    statistic: impl Fn(&[usize]) -> f64,
) -> Result<[f64; 2]> {
    check_level(level)?;
    if items == 0 || draws == 0 {
        return Err(StatsError::mismatch(
            "items and draws",
            "at least 1 of each",
            format!("{items} and {draws}"),
        ));
    }
    let mut values: Vec<f64> = (0..draws)
        .map(|draw| {
            let mut rng = Key::new(seed, Purpose::Bootstrap).step(draw as u64).rng();
            let places: Vec<usize> = (0..items).map(|_| rng.below(items)).collect();
            statistic(&places)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((draws - 1) as f64 * share).round() as usize];
    Ok([at(0.5 - level / 2.0), at(0.5 + level / 2.0)])
}

fn check_level(level: f64) -> Result<()> {
    if level > 0.0 && level < 1.0 {
        return Ok(());
    }
    Err(StatsError::mismatch("level of an interval", "between 0 and 1", level))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: [f64; 2], expected: [f64; 2]) {
        assert!((found[0] - expected[0]).abs() < 1e-4 && (found[1] - expected[1]).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn wilson_by_hand() {
        // statsmodels.stats.proportion.proportion_confint(.., method="wilson")
        near(wilson(5, 10, 0.95).unwrap(), [0.236_593, 0.763_407]);
        near(wilson(0, 20, 0.95).unwrap(), [0.0, 0.161_125]);
        near(wilson(20, 20, 0.95).unwrap(), [0.838_875, 1.0]);
        assert!(wilson(0, 0, 0.95).is_err() && wilson(3, 2, 0.95).is_err() && wilson(1, 2, 1.0).is_err());
    }

    #[test]
    fn areas_solve_their_equation() {
        for (value, positives, negatives) in
            [(0.8, 20u64, 30u64), (0.5, 4, 90), (1.0, 12, 12), (0.97, 300, 50)]
        {
            let [low, high] = area(value, positives, negatives, 0.95).unwrap();
            assert!(low < value && value <= high && high <= 1.0, "{low} {value} {high}");
            for bound in [low, high].into_iter().filter(|&bound| bound < 1.0) {
                let others = (positives + negatives) as f64 / 2.0 - 1.0;
                let (one, two) = (bound / (2.0 - bound), 2.0 * bound * bound / (1.0 + bound));
                let squares = bound * (1.0 - bound) + others * (one + two - 2.0 * bound * bound);
                let deviation = (squares / (positives * negatives) as f64).sqrt();
                assert!(((value - bound).abs() - 1.959_964 * deviation).abs() < 1e-5, "{bound}");
            }
            let mirrored = area(1.0 - value, negatives, positives, 0.95).unwrap();
            assert!((mirrored[0] - (1.0 - high)).abs() + (mirrored[1] - (1.0 - low)).abs() < 1e-9);
        }
        assert!(area(0.5, 0, 3, 0.95).is_err() && area(1.5, 3, 3, 0.95).is_err());
    }

    #[test]
    fn areas_are_covered() {
        // Two groups of normal numbers, one shifted so that the true area is 0.76, 0.92 or 0.98.
        for (shift, truth) in [(1.0, 0.760_25), (2.0, 0.921_35), (3.0, 0.983_05)] {
            let mut covered = 0;
            for draw in 0..400 {
                let mut rng = Key::new(draw, Purpose::Bootstrap).rng();
                let mut normal = |by: f64| rng.normal() + by;
                let (first, second): (Vec<f64>, Vec<f64>) =
                    ((0..25).map(|_| normal(shift)).collect(), (0..40).map(|_| normal(0.0)).collect());
                let above =
                    first.iter().flat_map(|a| second.iter().map(move |b| a > b)).filter(|above| *above);
                let found = above.count() as f64 / 1000.0;
                let [low, high] = area(found, 25, 40, 0.95).unwrap();
                covered += u32::from(low <= truth && truth <= high);
            }
            assert!((364..=396).contains(&covered), "{covered} of 400 at {truth}");
        }
    }

    #[test]
    fn student_by_hand() {
        // Mean 2, s = 1, t(0.975; 2) = 4.302653.
        let (mean, interval) = student(&[1.0, 2.0, 3.0], 0.95).unwrap();
        assert_eq!(mean, 2.0);
        near(interval, [2.0 - 4.302_653 / 3f64.sqrt(), 2.0 + 4.302_653 / 3f64.sqrt()]);
        assert_eq!(student(&[477.0 / 480.0; 21], 0.95).unwrap().0, 477.0 / 480.0);
        assert_eq!(student(&[1.0], 0.95).unwrap(), (1.0, [f64::NEG_INFINITY, f64::INFINITY]));
        assert!(student(&[], 0.95).is_err() && student(&[1.0], f64::NAN).is_err());
    }

    #[test]
    fn bootstrap_of_a_mean_is_near_the_normal_interval() {
        let values: Vec<f64> = (0..200).map(|place| f64::from(place % 2)).collect();
        let mean =
            |places: &[usize]| places.iter().map(|&place| values[place]).sum::<f64>() / places.len() as f64;
        let [low, high] = bootstrap(values.len(), 2000, 0.95, 1, mean).unwrap();
        let half = 1.96 * 0.5 / 200f64.sqrt();
        assert!((low - (0.5 - half)).abs() < 0.015 && (high - (0.5 + half)).abs() < 0.015, "{low} {high}");
        assert_eq!([low, high], bootstrap(values.len(), 2000, 0.95, 1, mean).unwrap());
        assert!(bootstrap(0, 10, 0.95, 1, mean).is_err() && bootstrap(10, 0, 0.95, 1, mean).is_err());
    }
}
