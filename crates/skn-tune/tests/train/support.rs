//! The golden case as training needs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{Device, Tensor};
use skn_artifact::{ModelIdentity, TensorFile, VerbalizerRecord, hash_file};
use skn_data::{Batch, Dataset, Encoded, Join, Metric, Task, TextEncoder, pack_in_order};
use skn_model::{Config, Gradients, LanguageModel, ModelFolder, Tuning, Weights};
use skn_probing::{Progress, Workers};
use skn_tune::{Beginning, Outcome, Result, TrainData, TrainOptions, TrainRun, train};

/// The golden model and what it must give.
pub(crate) struct Golden {
    pub(crate) config: Config,
    pub(crate) weights: Weights,
    pub(crate) encoder: TextEncoder,
    pub(crate) verbalizer: Vec<u32>,
    expected: TensorFile,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name)
}

impl Golden {
    pub(crate) fn load() -> Self {
        let folder = ModelFolder::open(path("model").to_str().unwrap()).unwrap();
        let config = folder.config().unwrap();
        let weights = Weights::read(&folder, &config, &Device::Cpu).unwrap();
        let tokenizer = std::fs::read(path("model/tokenizer.json")).unwrap();
        let encoder = TextEncoder::from_json(&tokenizer, "tokenizer.json").unwrap();
        let verbalizer = encoder.verbalizer(&["negative".into(), "positive".into()]).unwrap().ids;
        let expected = TensorFile::read(&path("expected.safetensors")).unwrap();
        Self { config, weights, encoder, verbalizer, expected }
    }

    pub(crate) fn expected(&self, name: &str) -> Vec<f32> {
        self.expected.f32(name, None).unwrap().1
    }

    pub(crate) fn expected_names(&self, prefix: &str) -> Vec<String> {
        self.expected.names().filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
    }

    fn tensor(&self, name: &str) -> Tensor {
        let (shape, values) = self.expected.f32(name, None).unwrap();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    pub(crate) fn prompt(&self) -> Tuning {
        Tuning::prompt(self.tensor("prompt"), true).unwrap()
    }

    /// Adapters with the golden weights.
    pub(crate) fn adapter(&self) -> Tuning {
        let tuning = Tuning::new_adapter(&self.config, 16, 0).unwrap();
        let tensors = tuning.tensors().keys().map(|name| {
            let (layer, part) = adapter_part(name);
            (name.clone(), self.tensor(&format!("adapter.layer.{layer}.{part}")))
        });
        let tensors: BTreeMap<String, Tensor> = tensors.collect();
        tuning.with_tensors(tensors)
    }

    pub(crate) fn model(&self, tuning: &Tuning, gradients: Gradients) -> LanguageModel {
        LanguageModel::new(&self.config, &self.weights, tuning, self.encoder.mask_id(), gradients).unwrap()
    }

    /// The rows of a split as a model takes them.
    pub(crate) fn texts(&self, split: &str, max_text: usize) -> Vec<Encoded> {
        let bytes = std::fs::read(path(&format!("data/jsonl/{split}.jsonl"))).unwrap();
        let data = Dataset::from_jsonl(&[(split, &bytes)], &Task::builtin("sst2").unwrap()).unwrap();
        self.encoder.encode_all(&data.splits[split], max_text, Join::Separated).unwrap()
    }

    /// Rows of train in file order, as micro-batches; cut to 122 tokens for every method, as the golden numbers are.
    pub(crate) fn batches(
        &self,
        model: &LanguageModel,
        rows: impl IntoIterator<Item = u32>,
        budget: usize,
    ) -> Vec<Batch> {
        let texts = self.texts("train", 122);
        let rows: Vec<u32> = rows.into_iter().collect();
        pack_in_order(&texts, &rows, model.prompt_rows(), budget).unwrap()
    }
}

/// Layer and short name of an adapter's tensor.
pub(crate) fn adapter_part(name: &str) -> (&str, &str) {
    let (_, rest) = name.split_once(".layer.").unwrap();
    let (layer, rest) = rest.split_once('.').unwrap();
    let (_, rest) = rest.split_once(".adapters.").unwrap();
    (layer, rest.split_once('.').unwrap().1)
}

/// Gradients may differ by 1e-3 of the largest entry, and 1e-6.
#[track_caller]
pub(crate) fn check_gradient(name: &str, found: &Tensor, expected: &[f32]) {
    let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= 1e-3 * largest + 1e-6, "{name}[{place}]: {found} is not {expected}");
    }
}

/// Stops a training, or kills it, when it has asked so many times whether to go on: before each step, and once an
/// evaluation.
pub(crate) struct Stop {
    left: AtomicU64,
    kill: bool,
}

impl Stop {
    pub(crate) fn never() -> Self {
        Self { left: AtomicU64::new(u64::MAX), kill: false }
    }

    pub(crate) fn after(questions: u64) -> Self {
        Self { left: AtomicU64::new(questions), kill: false }
    }

    /// Ends in a panic, so that what is on disk is what a kill at that moment leaves.
    pub(crate) fn kill_after(questions: u64) -> Self {
        Self { left: AtomicU64::new(questions), kill: true }
    }
}

/// A small training on the golden model: 5 steps an epoch, 2 epochs, evaluated after 3, 5, 6, 9 and 10 steps; so it
/// asks 15 times whether to go on.
pub(crate) struct Case {
    pub(crate) golden: Golden,
    pub(crate) tuning: Tuning,
    pub(crate) gradients: Gradients,
    pub(crate) options: TrainOptions,
    pub(crate) train: Vec<Encoded>,
    pub(crate) dev: Vec<Encoded>,
}

impl Case {
    pub(crate) fn new(tuning: impl Fn(&Golden) -> Tuning) -> Self {
        let golden = Golden::load();
        let tuning = tuning(&golden);
        let max_text = golden.model(&tuning, Gradients::Nothing).max_text();
        let mut train = golden.texts("train", max_text);
        train.truncate(37);
        let mut dev = golden.texts("validation", max_text);
        dev.truncate(24);
        let options = TrainOptions {
            seed: 3,
            epochs: 2,
            batch: 8,
            eval_every: Some(3),
            checkpoint_every: 2,
            learning_rate: 0.01,
            ..TrainOptions::default()
        };
        Self { golden, tuning, gradients: Gradients::Tuned, options, train, dev }
    }

    pub(crate) fn prompt() -> Self {
        Self::new(Golden::prompt)
    }

    pub(crate) fn run(&self, folder: &Path, resume: bool) -> TrainRun {
        TrainRun {
            folder: folder.into(),
            resume,
            method: "RobertaPrompt".into(),
            task: "golden".into(),
            template_sha256: None,
            texts: Default::default(),
            model: ModelIdentity { id: "model".into(), sha256: self.golden.weights.sha256().into() },
            verbalizer: VerbalizerRecord {
                words: vec!["negative".into(), "positive".into()],
                ids: self.golden.verbalizer.clone(),
            },
            mask_embedding: self.golden.weights.mask_embedding(self.golden.encoder.mask_id()).unwrap(),
            data_sha256: "data".into(),
            tokenizer_sha256: self.golden.encoder.sha256().into(),
            begins: Beginning::New,
            companions: BTreeMap::new(),
            apart: false,
        }
    }

    pub(crate) fn data(&self) -> TrainData<'_> {
        TrainData { train: &self.train, dev: &self.dev, metric: Metric::Accuracy }
    }

    pub(crate) fn model(&self) -> LanguageModel {
        self.golden.model(&self.tuning, self.gradients)
    }

    /// Trains with `threads` threads in a model made anew.
    pub(crate) fn train(&self, run: &TrainRun, threads: usize, progress: &dyn Progress) -> Result<Outcome> {
        train(&self.model(), &self.data(), &self.options, run, &workers(threads), progress)
    }
}

/// SHA-256 of every file below a folder that two equal trainings leave alike, by name.
pub(crate) fn hashes(run: &Path) -> BTreeMap<String, String> {
    let mut files = vec![run.join("metrics.jsonl"), run.join("last/checkpoint.safetensors")];
    files.extend(std::fs::read_dir(run.join("best")).unwrap().map(|entry| entry.unwrap().path()));
    let name = |file: &Path| file.strip_prefix(run).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|file| (name(file), hash_file(file).unwrap())).collect()
}

impl Progress for Stop {
    fn cancelled(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        assert!(left > 0 || !self.kill, "killed, as the test wants");
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 0
    }
}

pub(crate) fn workers(threads: usize) -> Workers {
    Workers::new(threads).unwrap()
}
