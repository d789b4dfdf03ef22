use std::time::Instant;

use skn_artifact::{InferencePerformance, InferenceTime};
use skn_data::{Encoded, Metric};
use skn_model::LanguageModel;

use crate::error::{ProbingError, Result};
use crate::evaluate::{Evaluation, evaluate};
use crate::pass::PassOptions;

/// How long inference takes, and what it costs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Speed {
    /// Passes before the clock ran.
    pub warm_up: usize,
    /// Seconds of each timed pass over the texts; tokenising and loading are not in it.
    pub seconds: Vec<f64>,
    /// Rows of all texts, prompt rows counted.
    pub tokens: u64,
    /// Parameters of the backbone, its tied decoder counted once.
    pub parameters: u64,
    /// Multiply-adds of all texts ([`Config::multiply_adds`](skn_model::Config::multiply_adds)).
    pub multiply_adds: u64,
    /// What the model answered.
    pub evaluation: Evaluation,
}

impl Speed {
    /// The median of [`Self::seconds`]; of an even number the mean of the two in the middle.
    pub fn median_seconds(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => 0.0,
            count if count.is_multiple_of(2) => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
            count => sorted[count / 2],
        }
    }

    /// The shortest and the longest pass, in seconds.
    pub fn spread_seconds(&self) -> [f64; 2] {
        let ends = |[low, high]: [f64; 2], &seconds: &f64| [low.min(seconds), high.max(seconds)];
        match self.seconds.first() {
            None => [0.0; 2],
            Some(&first) => self.seconds.iter().fold([first; 2], ends),
        }
    }

    /// Median milliseconds a text.
    pub fn ms_per_text(&self) -> f64 {
        1e3 * self.median_seconds() / self.texts() as f64
    }

    /// Tokens in a median second, prompt rows counted.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.median_seconds().max(f64::MIN_POSITIVE)
    }

    fn texts(&self) -> usize {
        self.evaluation.labels.len()
    }

    /// What `inference_time.json` holds; `threads` and `device` are said of the pass.
    pub fn time(&self, threads: usize, device: impl Into<String>) -> InferenceTime {
        InferenceTime {
            threads,
            device: device.into(),
            warm_up: self.warm_up,
            seconds: self.seconds.clone(),
            median_seconds: self.median_seconds(),
            ms_per_text: self.ms_per_text(),
            tokens_per_second: self.tokens_per_second(),
        }
    }

    /// What `inference_perf.json` holds; `interval` is that of the metric.
    pub fn performance(
        &self,
        task: impl Into<String>,
        metric: Metric,
        interval: [f64; 2],
    ) -> InferencePerformance {
        let evaluation = &self.evaluation;
        InferencePerformance {
            task: task.into(),
            metric: metric.name().to_owned(),
            test_score: metric.compute(&evaluation.predicted, &evaluation.labels, evaluation.classes),
            interval,
            test_loss: evaluation.loss,
            rows: self.texts() as u64,
            parameters: self.parameters,
            multiply_adds: self.multiply_adds,
            confusion: Some(evaluation.confusion()),
        }
    }
}

/// Evaluates `texts` `warm_up` times, then `repeats` times under the clock.
///
/// # Errors
/// If `repeats` is 0, or as [`evaluate`].
pub fn speed(
    model: &LanguageModel,
    texts: &[Encoded],
    verbalizer: &[u32],
    repeats: usize,
    warm_up: usize,
    options: &PassOptions<'_>,
) -> Result<Speed> {
    for _ in 0..warm_up {
        evaluate(model, texts, verbalizer, options)?;
    }
    let mut seconds = Vec::new();
    let mut evaluation = None;
    for _ in 0..repeats {
        let start = Instant::now();
        evaluation = Some(evaluate(model, texts, verbalizer, options)?);
        seconds.push(start.elapsed().as_secs_f64());
    }
    let evaluation =
        evaluation.ok_or_else(|| ProbingError::mismatch("timed passes", "at least 1", repeats))?;
    let rows = |text: &Encoded| text.ids.len() + model.prompt_rows();
    Ok(Speed {
        warm_up,
        seconds,
        tokens: texts.iter().map(|text| rows(text) as u64).sum(),
        parameters: model.config().parameters(),
        multiply_adds: texts.iter().map(|text| model.config().multiply_adds(rows(text))).sum(),
        evaluation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(seconds: &[f64]) -> Speed {
        let evaluation = Evaluation {
            logits: vec![0.0, 1.0, 1.0, 0.0],
            classes: 2,
            predicted: vec![1, 0],
            labels: vec![1, 1],
            loss: 0.5,
        };
        Speed {
            warm_up: 1,
            seconds: seconds.to_vec(),
            tokens: 30,
            parameters: 7,
            multiply_adds: 11,
            evaluation,
        }
    }

    #[test]
    fn median_and_spread_by_hand() {
        assert_eq!(speed(&[3.0, 1.0, 2.0]).median_seconds(), 2.0);
        assert_eq!(speed(&[4.0, 1.0, 2.0, 3.0]).median_seconds(), 2.5);
        assert_eq!(speed(&[3.0, 1.0, 2.0]).spread_seconds(), [1.0, 3.0]);
        assert_eq!(speed(&[2.0]).ms_per_text(), 1000.0);
        assert_eq!(speed(&[2.0]).tokens_per_second(), 15.0);
    }

    #[test]
    fn records_say_what_was_measured() {
        let performance = speed(&[2.0]).performance("sst2", Metric::Accuracy, [0.1, 0.9]);
        assert_eq!((performance.metric.as_str(), performance.test_score), ("accuracy", 0.5));
        assert_eq!((performance.rows, performance.parameters, performance.multiply_adds), (2, 7, 11));
        let time = speed(&[2.0, 4.0]).time(3, "cpu");
        assert_eq!((time.threads, time.median_seconds, time.ms_per_text), (3, 3.0, 1500.0));
    }
}
