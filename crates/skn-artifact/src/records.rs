use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::file::{Overwrite, read_json, write_json};
use crate::hash::hash_file;

/// The model that something was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// `owner/name`, or a folder's last component.
    pub id: String,
    /// Hash of its tensors, see [`tensor_hash`](crate::tensor_hash).
    pub sha256: String,
}

/// The words that stand for the classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbalizerRecord {
    /// One word a class, in class order.
    pub words: Vec<String>,
    /// The token of each.
    pub ids: Vec<u32>,
}

/// `RUN/best/skn.json`: what the tuned parameters beside it are.
///
/// ```
/// let text = r#"{
///   "method": "RobertaPrompt", "prompt_size": 16,
///   "verbalizer": {"words": ["negative", "positive"], "ids": [33407, 22173]},
///   "task": "sst2", "model": {"id": "roberta-base", "sha256": "ab12"},
///   "metric": "accuracy", "dev_score": 0.93, "step": 2000,
///   "files": {"adapter_model.safetensors": "cd34"}
/// }"#;
/// let config: skn_artifact::SkillConfig = serde_json::from_str(text)?;
/// assert_eq!(config.prompt_size, 16);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkillConfig {
    /// The tuning method, by the original's name.
    pub method: String,
    /// P: the rows before `<s>`, the `<mask>` row counted.
    pub prompt_size: usize,
    /// The words of the classes.
    pub verbalizer: VerbalizerRecord,
    /// The task's name.
    pub task: String,
    /// The backbone.
    pub model: ModelIdentity,
    /// The metric of `dev_score`.
    pub metric: String,
    /// The metric on dev.
    pub dev_score: f64,
    /// The training step that it was reached at.
    pub step: u64,
    /// The other files of the folder, with their SHA-256. Written last, so that a folder whose files are torn apart
    /// by a crash is told from a whole one.
    pub files: BTreeMap<String, String>,
}

/// Rows of a split of the data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// The split's name in the data set.
    pub source: String,
    /// The rows of it, from 0, in the order they are used.
    pub rows: Vec<u32>,
}

/// `RUN/split.json`: which rows are train, dev and test.
///
/// ```
/// let text = r#"{
///   "task": "sst2", "seed": 0, "data_sha256": "ef56",
///   "train": {"source": "train", "rows": [0, 2, 3]},
///   "dev": {"source": "train", "rows": [1]},
///   "test": {"source": "validation", "rows": [0, 1]}
/// }"#;
/// let split: skn_artifact::SplitRecord = serde_json::from_str(text)?;
/// assert_eq!(split.dev.rows, [1]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// The task's name.
    pub task: String,
    /// The seed that chose the rows.
    pub seed: u64,
    /// Hash of the data set.
    pub data_sha256: String,
    /// Rows to train on.
    pub train: PartRecord,
    /// Rows to choose by.
    pub dev: PartRecord,
    /// Rows to report on.
    pub test: PartRecord,
}

/// A line of `RUN/metrics.jsonl`: an evaluation while training.
///
/// ```
/// let text = r#"{"step":100,"epoch":1,"train_loss":0.41,"metric":"accuracy","dev_score":0.9,"dev_loss":0.3,
///   "learning_rate":0.0008,"gradient_norm":0.7,"best":true}"#;
/// let record: skn_artifact::MetricRecord = serde_json::from_str(text)?;
/// assert!(record.best);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricRecord {
    /// Training steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Mean loss a row since the last line.
    pub train_loss: f64,
    /// The task's metric.
    pub metric: String,
    /// The metric on dev.
    pub dev_score: f64,
    /// Mean cross-entropy on dev.
    pub dev_loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Norm of the last step's gradient before clipping.
    pub gradient_norm: f64,
    /// Whether this is the best so far.
    pub best: bool,
}

/// `RUN/mask_perf.json` and `RUN/cmp_perf.json`: the test set with neurons perturbed.
///
/// ```
/// let text = r#"{
///   "task": "sst2", "metric": "accuracy", "rows": 872, "edit": "gaussian", "alpha": 0.1, "noise": "per-text",
///   "mask": "0.1", "mask_sha256": "ab", "low_layer": 0, "high_layer": 12, "neurons": [307, 307],
///   "unperturbed": 0.92, "draws": [0.71, 0.73], "mean": 0.72, "std": 0.014, "interval": [0.59, 0.85]
/// }"#;
/// let result: skn_artifact::PerturbationResult = serde_json::from_str(text)?;
/// assert_eq!(result.draws.len(), 2);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerturbationResult {
    /// The task's name.
    pub task: String,
    /// The task's metric.
    pub metric: String,
    /// Rows of the test set.
    pub rows: u64,
    /// gaussian, zero or mean.
    pub edit: String,
    /// Standard deviation of the noise, for gaussian.
    pub alpha: Option<f64>,
    /// per-text or per-token, for gaussian.
    pub noise: Option<String>,
    /// The mask file's name without extension.
    pub mask: String,
    /// Its SHA-256.
    pub mask_sha256: String,
    /// First layer that is edited.
    pub low_layer: usize,
    /// One past the last layer that is edited.
    pub high_layer: usize,
    /// Neurons edited in each layer.
    pub neurons: Vec<usize>,
    /// The metric without any edit.
    pub unperturbed: f64,
    /// The metric of each draw: of the noise, or of the random neurons.
    pub draws: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation; 0 for one draw.
    pub std: f64,
    /// 95 % interval of the mean over draws (Student's t); with one draw, the interval over rows (bootstrap).
    pub interval: [f64; 2],
}

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

/// One value for each point of the chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Points<T> {
    /// The model before tuning.
    pub untuned: T,
    /// The tuned model.
    pub tuned: T,
    /// The tuned model with its skill neurons perturbed.
    pub skill_perturbed: T,
    /// The tuned model with as many random neurons perturbed, mean over draws.
    pub random_perturbed: T,
    /// The pruned model.
    pub pruned: T,
    /// The pruned model, tuned further.
    pub pruned_tuned: T,
}

/// The neuron that predicts the label best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestNeuron {
    /// Its layer, from 0.
    pub layer: usize,
    /// Its index, from 0.
    pub index: usize,
    /// The prompt position it is read at, from 0.
    pub position: usize,
    /// Its predictivity on dev, where it was chosen.
    pub dev: f64,
    /// Its predictivity on test.
    pub test: f64,
}

/// How the neurons of a summary were perturbed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerturbationSetting {
    /// gaussian, zero or mean.
    pub edit: String,
    /// Standard deviation of the noise, for gaussian.
    pub alpha: Option<f64>,
    /// Share of each layer's neurons.
    pub share: String,
    /// Draws of random neurons.
    pub draws: usize,
}

/// Something of the full and of the pruned model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FullAndPruned<T> {
    /// The full model's.
    pub full: T,
    /// The pruned model's.
    pub pruned: T,
}

/// `RUN/summary.json`: the final table of `skn-run`. Accuracy is the task's metric on test, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The task's name.
    pub task: String,
    /// The model's id.
    pub model: String,
    /// Rows of the test set.
    pub test_rows: u64,
    /// The metric.
    pub accuracy: Points<f64>,
    /// 95 % intervals of the metric.
    pub interval: Points<[f64; 2]>,
    /// The best neuron.
    pub best_neuron: BestNeuron,
    /// How neurons were perturbed.
    pub perturbation: PerturbationSetting,
    /// Parameters.
    pub parameters: FullAndPruned<u64>,
    /// Median milliseconds a text.
    pub ms_per_text: FullAndPruned<f64>,
}

/// How one stage came about; an entry of `run.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The program's arguments.
    pub arguments: Vec<String>,
    /// The program's version.
    pub version: String,
    /// Unix seconds at the start.
    pub started: u64,
    /// Unix seconds at the end.
    pub finished: u64,
    /// Seconds between.
    pub seconds: f64,
    /// What was decided from arguments and environment.
    pub settings: BTreeMap<String, String>,
    /// What was read, with its hash.
    pub inputs: BTreeMap<String, String>,
    /// What was written, by its path in the run, with its SHA-256.
    pub outputs: BTreeMap<String, String>,
}

/// `RUN/run.json`: how everything in the run came about, by stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The last run of each stage.
    pub stages: BTreeMap<String, StageRecord>,
}

impl RunRecord {
    /// The record of a run; empty if it has none yet.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join("run.json");
        if path.is_file() { read_json(&path) } else { Ok(Self::default()) }
    }

    /// Puts a stage's record into `run.json`. An output that this stage has written anew is taken from the records of
    /// earlier stages.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn update(run: &Path, stage: &str, record: StageRecord) -> Result<()> {
        let mut all = Self::read(run)?;
        for earlier in all.stages.values_mut() {
            earlier.outputs.retain(|path, _| !record.outputs.contains_key(path));
        }
        all.stages.insert(stage.into(), record);
        write_json(&run.join("run.json"), Overwrite::Replace, &all)
    }
}

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Files that are as they were written.
    pub intact: Vec<String>,
    /// Files that are gone.
    pub missing: Vec<String>,
    /// Files whose content is not what was written.
    pub changed: Vec<String>,
}

impl Verification {
    /// Whether every file is as it was written.
    pub fn is_sound(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty()
    }
}

/// Hashes every file that `run.json` lists. Needs no model and no data.
///
/// # Errors
/// If there is no `run.json`, or a file can't be read.
pub fn verify(run: &Path) -> Result<Verification> {
    let record: RunRecord = read_json(&run.join("run.json"))?;
    let mut found = Verification::default();
    for (name, expected) in record.stages.values().flat_map(|stage| &stage.outputs) {
        let path = run.join(name);
        let list = if !path.is_file() {
            &mut found.missing
        } else if &hash_file(&path)? == expected {
            &mut found.intact
        } else {
            &mut found.changed
        };
        list.push(name.clone());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sha256_hex, write_file};

    #[test]
    fn a_changed_and_a_missing_file_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = StageRecord::default();
        for name in ["a", "b", "c"] {
            write_file(&folder.path().join(name), Overwrite::Refuse, name.as_bytes()).unwrap();
            record.outputs.insert(name.into(), sha256_hex(name.as_bytes()));
        }
        RunRecord::update(folder.path(), "probe", record).unwrap();
        assert!(verify(folder.path()).unwrap().is_sound());
        write_file(&folder.path().join("b"), Overwrite::Replace, b"B").unwrap();
        std::fs::remove_file(folder.path().join("c")).unwrap();
        let found = verify(folder.path()).unwrap();
        assert_eq!(
            (found.intact, found.changed, found.missing),
            (vec!["a".into()], vec!["b".into()], vec!["c".into()])
        );
    }

    #[test]
    fn a_stage_that_writes_a_file_anew_owns_it() {
        let folder = tempfile::tempdir().unwrap();
        for (stage, content) in [("train", "1"), ("retrain", "2")] {
            write_file(&folder.path().join("x"), Overwrite::Replace, content.as_bytes()).unwrap();
            let outputs = BTreeMap::from([("x".to_string(), sha256_hex(content.as_bytes()))]);
            RunRecord::update(folder.path(), stage, StageRecord { outputs, ..Default::default() }).unwrap();
        }
        assert_eq!(verify(folder.path()).unwrap().intact, ["x"]);
    }

    #[test]
    fn the_summary_has_the_documented_form() {
        let text = r#"{"task":"sst2","model":"demo","test_rows":400,
            "accuracy":{"untuned":0.5,"tuned":0.9,"skill_perturbed":0.6,"random_perturbed":0.88,"pruned":0.8,"pruned_tuned":0.89},
            "interval":{"untuned":[0.4,0.6],"tuned":[0.8,1.0],"skill_perturbed":[0.5,0.7],"random_perturbed":[0.8,0.9],
                        "pruned":[0.7,0.9],"pruned_tuned":[0.8,0.9]},
            "best_neuron":{"layer":2,"index":5,"position":0,"dev":0.9,"test":0.88},
            "perturbation":{"edit":"gaussian","alpha":0.1,"share":"0.1","draws":10},
            "parameters":{"full":100,"pruned":60},"ms_per_text":{"full":1.0,"pruned":0.6}}"#;
        let summary: Summary = serde_json::from_str(text).unwrap();
        let again: serde_json::Value = serde_json::to_value(&summary).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
}
