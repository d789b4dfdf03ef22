use skn_data::Metric;
use skn_probing::Evaluation;

use crate::error::Result;

/// Confidence of every interval.
pub(crate) const LEVEL: f64 = 0.95;

/// Resamples of a bootstrap interval.
const RESAMPLES: usize = 1000;

/// A metric of answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score {
    /// The metric.
    pub(crate) value: f64,
    /// Its 95 % interval over rows.
    pub(crate) interval: [f64; 2],
}

impl Score {
    /// The metric of an evaluation, with Wilson's interval for accuracy, else a bootstrap over rows.
    ///
    /// # Errors
    /// If there are no rows.
    pub(crate) fn of(metric: Metric, evaluation: &Evaluation, seed: u64) -> Result<Self> {
        let Evaluation { predicted, labels, classes, .. } = evaluation;
        let value = metric.compute(predicted, labels, *classes);
        let interval = if metric == Metric::Accuracy {
            let right = predicted.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
            skn_stats::wilson(right as u64, labels.len() as u64, LEVEL)?
        } else {
            let resampled = |rows: &[usize]| {
                let take = |of: &[usize]| rows.iter().map(|&row| of[row]).collect::<Vec<_>>();
                metric.compute(&take(predicted), &take(labels), *classes)
            };
            skn_stats::bootstrap(labels.len(), RESAMPLES, LEVEL, seed, resampled)?
        };
        Ok(Self { value, interval })
    }
}
