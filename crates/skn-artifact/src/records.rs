use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::error::{ArtifactError, Result};
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
    /// The class that it tells from the rest, of more than two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
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
        if path.is_file() { Self::read_file(&path) } else { Ok(Self::default()) }
    }

    /// Reads a record. What it lists as written lies in the run: other programs remove, replace and read these files.
    fn read_file(path: &Path) -> Result<Self> {
        let record: Self = read_json(path)?;
        let inside = |name: &str| {
            let mut parts = Path::new(name).components();
            !name.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        for (stage, entry) in &record.stages {
            if let Some(name) = entry.outputs.keys().find(|name| !inside(name)) {
                return Err(ArtifactError::Format {
                    file: path.into(),
                    place: format!("stage {stage}: outputs"),
                    expected: "names of files in the run".into(),
                    found: name.clone(),
                });
            }
        }
        Ok(record)
    }

    /// Puts a stage's record into `run.json`. An output that this stage has written anew is taken from the records of
    /// earlier stages, and so is what it has `removed`. An earlier record of the same stage stays, as `STAGE, earlier N`,
    /// while files of it are left.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn update(run: &Path, stage: &str, record: StageRecord, removed: &[String]) -> Result<()> {
        let mut all = Self::read(run)?;
        for earlier in all.stages.values_mut() {
            earlier.outputs.retain(|path, _| !record.outputs.contains_key(path) && !removed.contains(path));
        }
        if let Some(earlier) = all.stages.insert(stage.into(), record)
            && !earlier.outputs.is_empty()
        {
            let names = (1..).map(|number| format!("{stage}{EARLIER}{number}"));
            let free = names.into_iter().find(|name| !all.stages.contains_key(name));
            all.stages.extend(free.map(|name| (name, earlier)));
        }
        all.stages.retain(|name, stage| !name.contains(EARLIER) || !stage.outputs.is_empty());
        write_json(&run.join("run.json"), Overwrite::Replace, &all)
    }
}

impl RunRecord {
    /// Removes what stages left that began before `unix_seconds`: their files and their records. Files that no record
    /// lists stay.
    ///
    /// # Errors
    /// If the record can't be read or written, or a file can't be removed.
    pub fn forget_before(run: &Path, unix_seconds: u64) -> Result<Vec<String>> {
        let mut all = Self::read(run)?;
        let (older, kept) = all.stages.into_iter().partition(|(_, stage)| stage.started < unix_seconds);
        all.stages = kept;
        let older: BTreeMap<String, StageRecord> = older;
        if older.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = older.into_values().flat_map(|stage| stage.outputs.into_keys()).collect();
        for name in &names {
            let file = run.join(name);
            match std::fs::remove_file(&file) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ArtifactError::Io { file, operation: "remove", source });
                }
                _ => {}
            }
            // Folders that are empty now go too; the first that is not ends it.
            let folders = file.ancestors().skip(1).take_while(|folder| *folder != run);
            for folder in folders {
                if std::fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
        write_json(&run.join("run.json"), Overwrite::Replace, &all)?;
        Ok(names)
    }
}

/// Between a stage's name and a number, where a record is not its last.
const EARLIER: &str = ", earlier ";

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Files that are as they were written.
    pub intact: Vec<String>,
    /// Files that are gone.
    pub missing: Vec<String>,
    /// Files whose content is not what was written.
    pub changed: Vec<String>,
    /// Files that were made from a file of the run which has been written anew since, and that file.
    pub outdated: Vec<(String, String)>,
}

impl Verification {
    /// Whether every file is as it was written.
    pub fn is_sound(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty()
    }
}

/// Hashes every file that `run.json` lists, and looks whether each was made from what the run has now. Needs no model
/// and no data.
///
/// # Errors
/// If there is no `run.json`, or a file can't be read.
pub fn verify(run: &Path) -> Result<Verification> {
    let record = RunRecord::read_file(&run.join("run.json"))?;
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
    let now: BTreeMap<&String, &String> = record.stages.values().flat_map(|stage| &stage.outputs).collect();
    for stage in record.stages.values() {
        let older = stage.inputs.iter().find(|(name, hash)| {
            // A stage that goes on from what it writes has read what it replaced.
            !stage.outputs.contains_key(*name) && now.get(name).is_some_and(|now| now != hash)
        });
        let Some((input, _)) = older else { continue };
        found.outdated.extend(stage.outputs.keys().map(|output| (output.clone(), input.clone())));
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
        RunRecord::update(folder.path(), "probe", record, &[]).unwrap();
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
            RunRecord::update(folder.path(), stage, StageRecord { outputs, ..Default::default() }, &[])
                .unwrap();
        }
        assert_eq!(verify(folder.path()).unwrap().intact, ["x"]);
    }

    #[test]
    fn a_second_call_of_a_stage_leaves_the_first_ones_files_listed() {
        let folder = tempfile::tempdir().unwrap();
        for (names, content) in [(["a", "b"], "1"), (["b", "c"], "2"), (["a", "c"], "3")] {
            let mut record = StageRecord::default();
            for name in names {
                write_file(&folder.path().join(name), Overwrite::Replace, content.as_bytes()).unwrap();
                record.outputs.insert(name.into(), sha256_hex(content.as_bytes()));
            }
            RunRecord::update(folder.path(), "probe acc", record, &[]).unwrap();
        }
        let stages: Vec<String> = RunRecord::read(folder.path()).unwrap().stages.into_keys().collect();
        assert_eq!(stages, ["probe acc", "probe acc, earlier 2"], "of the first call nothing is left");
        let mut found = verify(folder.path()).unwrap();
        found.intact.sort();
        std::fs::remove_file(folder.path().join("b")).unwrap();
        RunRecord::update(folder.path(), "mask", StageRecord::default(), &["b".into()]).unwrap();
        assert_eq!(verify(folder.path()).unwrap().missing, [""; 0], "it was removed on purpose");
        assert_eq!((found.intact, found.missing.len()), (vec!["a".into(), "b".into(), "c".into()], 0));
    }

    #[test]
    fn what_older_stages_left_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        for (stage, started, file) in [("a", 5, "old/x"), ("b", 7, "info/old/y"), ("c", 9, "info/new/z")] {
            write_file(&run.join(file), Overwrite::Refuse, stage.as_bytes()).unwrap();
            let outputs = BTreeMap::from([(file.to_string(), sha256_hex(stage.as_bytes()))]);
            RunRecord::update(run, stage, StageRecord { started, outputs, ..Default::default() }, &[])
                .unwrap();
        }
        write_file(&run.join("old/notes.txt"), Overwrite::Refuse, b"mine").unwrap();
        assert_eq!(RunRecord::forget_before(run, 9).unwrap(), ["old/x", "info/old/y"]);
        assert!(!run.join("old/x").exists() && run.join("old/notes.txt").exists());
        assert!(!run.join("info/old").exists() && run.join("info/new/z").exists());
        assert_eq!(verify(run).unwrap().intact, ["info/new/z"]);
    }

    #[test]
    fn a_record_reaches_no_file_outside_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let (run, victim) = (folder.path().join("run"), folder.path().join("victim"));
        std::fs::create_dir(&run).unwrap();
        std::fs::write(&victim, "mine").unwrap();
        for name in
            ["../victim".to_string(), victim.display().to_string(), "a/../../victim".into(), String::new()]
        {
            let record = serde_json::json!({"stages": {"probe": {
                "arguments": [], "version": "1", "started": 0, "finished": 0, "seconds": 0.0,
                "settings": {}, "inputs": {}, "outputs": {name.clone(): "00"},
            }}});
            std::fs::write(run.join("run.json"), record.to_string()).unwrap();
            for error in [
                RunRecord::forget_before(&run, 9).map(drop).unwrap_err(),
                verify(&run).map(drop).unwrap_err(),
            ] {
                assert!(error.to_string().contains("names of files in the run"), "{name}: {error}");
            }
        }
        assert!(victim.exists());
    }

    #[test]
    fn what_was_made_from_an_older_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |stage: &str, inputs: &[(&str, &str)], output: (&str, &str)| {
            let hashes = |files: &[(&str, &str)]| {
                files.iter().map(|(name, text)| (name.to_string(), sha256_hex(text.as_bytes()))).collect()
            };
            write_file(&folder.path().join(output.0), Overwrite::Replace, output.1.as_bytes()).unwrap();
            let record =
                StageRecord { inputs: hashes(inputs), outputs: hashes(&[output]), ..Default::default() };
            RunRecord::update(folder.path(), stage, record, &[]).unwrap();
        };
        write("train", &[], ("best", "1"));
        write("probe", &[("best", "1")], ("perf", "x"));
        assert_eq!(verify(folder.path()).unwrap().outdated, []);
        write("train", &[("best", "1")], ("best", "2"));
        let found = verify(folder.path()).unwrap();
        assert!(found.is_sound());
        assert_eq!(found.outdated, [("perf".to_string(), "best".to_string())]);
        write("probe", &[("best", "2")], ("perf", "y"));
        assert_eq!(verify(folder.path()).unwrap().outdated, []);
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
