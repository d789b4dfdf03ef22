use crate::classification::check_rows;
use crate::error::{Result, StatsError};

/// The least and the largest ln(1 / T) that is looked at, as in scikit-learn.
const RANGE: f64 = 10.0;
/// Halvings of that range: more than f64 tells apart.
const STEPS: usize = 64;

/// Probabilities of classes by their logits divided by a temperature; they add up to 1.
///
/// ```
/// let [sure, unsure] = [1.0, 4.0].map(|temperature| skn_stats::softmax(&[2.0, 0.0], temperature));
/// assert!(sure[0] > unsure[0] && unsure[0] > 0.5);
/// ```
pub fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let term = |&logit: &f32| ((f64::from(logit) - f64::from(highest)) / temperature).exp();
    let terms: Vec<f64> = logits.iter().map(term).collect();
    let sum: f64 = terms.iter().sum();
    terms.into_iter().map(|term| term / sum).collect()
}

/// Mean negative log-likelihood of the labels, in nats, of logits `[rows, classes]` divided by a temperature.
///
/// # Errors
/// If there are no rows, a label is no class, a logit is not finite, or the temperature is not above 0.
pub fn negative_log_likelihood(
    logits: &[f32],
    classes: usize,
    labels: &[usize],
    temperature: f64,
) -> Result<f64> {
    check(logits, classes, labels)?;
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(StatsError::mismatch("temperature", "a finite number above 0", temperature));
    }
    let of_row = |(row, &label): (&[f32], &usize)| {
        let highest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let scaled = |logit: f32| (f64::from(logit) - highest) / temperature;
        row.iter().map(|&logit| scaled(logit).exp()).sum::<f64>().ln() - scaled(row[label])
    };
    let sum: f64 = logits.chunks_exact(classes).zip(labels).map(of_row).sum();
    Ok(sum / labels.len() as f64)
}

/// The temperature T by which logits `[rows, classes]` are divided so that the labels are most likely (temperature scaling, Guo et
/// al. 2017, section 4.2). Classes keep their order, so no answer changes.
///
/// The likelihood is convex in 1 / T, whose derivative is the mean over rows of the expected logit less the label's. Its zero is
/// found between e^-10 and e^10. Where there is none the answer is a small T at which answers are certain, if all labels have the
/// highest logits; or e^10, if logits speak against the labels.
///
/// ```
/// // Logits that are always right three times in four, as sure as 9 to 1.
/// let logits = [2.1972246, 0.0].repeat(4);
/// let temperature = skn_stats::fit_temperature(&logits, 2, &[0, 0, 0, 1])?;
/// assert!((temperature - 2.0).abs() < 1e-6);
/// # Ok::<(), skn_stats::StatsError>(())
/// ```
///
/// # Errors
/// If there are no rows, a label is no class, or a logit is not finite.
pub fn fit_temperature(logits: &[f32], classes: usize, labels: &[usize]) -> Result<f64> {
    check(logits, classes, labels)?;
    let slope = |log_inverse: f64| -> f64 {
        let temperature = (-log_inverse).exp();
        let of_row = |(row, &label): (&[f32], &usize)| {
            let expected: f64 =
                softmax(row, temperature).iter().zip(row).map(|(p, &logit)| p * f64::from(logit)).sum();
            expected - f64::from(row[label])
        };
        logits.chunks_exact(classes).zip(labels).map(of_row).sum()
    };
    let (mut low, mut high) = (-RANGE, RANGE);
    for _ in 0..STEPS {
        let middle = low + (high - low) / 2.0;
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    Ok((-(low + (high - low) / 2.0)).exp())
}

fn check(logits: &[f32], classes: usize, labels: &[usize]) -> Result<()> {
    check_rows(logits.len(), classes, labels)?;
    match logits.iter().enumerate().find(|(_, logit)| !logit.is_finite()) {
        Some((place, &found)) => Err(StatsError::Value { place, found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_its_ends_the_temperature_stays_finite() {
        let always_right = fit_temperature(&[1.0, 0.0, 0.0, 1.0], 2, &[0, 1]).unwrap();
        assert!((1e-5..0.1).contains(&always_right), "{always_right}");
        let always_wrong = fit_temperature(&[1.0, 0.0, 0.0, 1.0], 2, &[1, 0]).unwrap();
        assert!((always_wrong.ln() - 10.0).abs() < 1e-9, "{always_wrong}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(fit_temperature(&[f32::NAN, 0.0], 2, &[0]).is_err());
        assert!(fit_temperature(&[1.0, 0.0], 2, &[2]).is_err() && fit_temperature(&[], 2, &[]).is_err());
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(negative_log_likelihood(&[1.0, 0.0], 2, &[0], temperature).is_err(), "{temperature}");
        }
    }
}
