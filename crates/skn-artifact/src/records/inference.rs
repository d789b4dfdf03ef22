use serde::{Deserialize, Serialize};

/// `RUN/<task>/inference_perf.json`: the test set as the model answers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferencePerformance {
    /// The task's name.
    pub task: String,
    /// The task's metric.
    pub metric: String,
    /// The metric on test.
    pub test_score: f64,
    /// Its 95 % interval over rows: Wilson's for accuracy, else a bootstrap's.
    pub interval: [f64; 2],
    /// Mean cross-entropy on test.
    pub test_loss: f64,
    /// Rows of the test set.
    pub rows: u64,
    /// Parameters of the model, its tied decoder counted once.
    pub parameters: u64,
    /// Multiply-adds of all rows.
    pub multiply_adds: u64,
    /// Rows by true class and answer, `[classes][classes]`; absent in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<u64>>>,
}

/// `RUN/<task>/inference_time.json`: how long that took. It differs from run to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferenceTime {
    /// Threads.
    pub threads: usize,
    /// The device.
    pub device: String,
    /// Passes before the clock ran.
    pub warm_up: usize,
    /// Seconds of each pass over the test set, tokenising and loading not counted.
    pub seconds: Vec<f64>,
    /// Their median.
    pub median_seconds: f64,
    /// Median milliseconds a text.
    pub ms_per_text: f64,
    /// Tokens a second, prompt rows counted.
    pub tokens_per_second: f64,
}
