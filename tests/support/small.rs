//! The golden model and a training of it that takes milliseconds.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use candle_core::Device;
use skn_artifact::{ModelIdentity, VerbalizerRecord};
use skn_data::{Dataset, Encoded, Join, Metric, Task, TextEncoder};
use skn_model::{Config, Gradients, LanguageModel, ModelFolder, Tuning, Weights};
use skn_probing::{Progress, Workers};
use skn_tune::{Beginning, Outcome, TrainData, TrainOptions, TrainRun, TuneError, train};

use crate::support::golden;

/// Steps of the training: two epochs of four, evaluated after 3, 4, 6 and 8.
pub const STEPS: u64 = 8;
/// A prompt, biases, adapters.
pub const METHODS: usize = 3;

/// The golden model and a few rows.
pub struct Small {
    pub config: Config,
    pub weights: Weights,
    pub encoder: TextEncoder,
    verbalizer: Vec<u32>,
    texts: Vec<Encoded>,
}

pub static SMALL: LazyLock<Small> = LazyLock::new(|| {
    let folder = ModelFolder::open(golden().join("model")).unwrap();
    let config = folder.config().unwrap();
    let weights = Weights::read(&folder, &config, &Device::Cpu).unwrap();
    let tokenizer = fs::read(golden().join("model/tokenizer.json")).unwrap();
    let encoder = TextEncoder::from_json(&tokenizer, "tokenizer.json").unwrap();
    let verbalizer = encoder.verbalizer(&["negative".into(), "positive".into()]).unwrap().ids;
    let bytes = fs::read(golden().join("data/jsonl/train.jsonl")).unwrap();
    let data = Dataset::from_jsonl(&[("train", &bytes)], &Task::builtin("sst2").unwrap()).unwrap();
    let texts = encoder.encode_all(&data.splits["train"][..24], 16, Join::Separated).unwrap();
    Small { config, weights, encoder, verbalizer, texts }
});

thread_local! {
    /// One thread for all trainings of a thread, started by the first: it takes address space of its own, in its own time.
    static WORKERS: Workers = Workers::new(1).unwrap();
}

impl Small {
    pub fn texts(&self) -> &[Encoded] {
        &self.texts
    }

    pub fn tuning(&self, method: usize) -> Tuning {
        match method {
            0 => Tuning::new_prompt(&self.config, 4, 0).unwrap(),
            1 => Tuning::new_bias(),
            _ => Tuning::new_adapter(&self.config, 16, 0).unwrap(),
        }
    }

    pub fn model(&self, method: usize, weights: &Weights) -> LanguageModel {
        let mask = self.encoder.mask_id();
        LanguageModel::new(&self.config, weights, &self.tuning(method), mask, Gradients::Tuned).unwrap()
    }

    pub fn options(&self) -> TrainOptions {
        TrainOptions {
            seed: 3,
            epochs: 2,
            batch: 4,
            eval_every: Some(3),
            checkpoint_every: 2,
            ..TrainOptions::default()
        }
    }

    pub fn run(&self, folder: &Path, resume: bool) -> TrainRun {
        TrainRun {
            folder: folder.into(),
            resume,
            method: "RobertaPrompt".into(),
            task: "sst2".into(),
            template_sha256: None,
            texts: Default::default(),
            model: ModelIdentity { id: "model".into(), sha256: self.weights.sha256().into() },
            verbalizer: VerbalizerRecord {
                words: vec!["negative".into(), "positive".into()],
                ids: self.verbalizer.clone(),
            },
            mask_embedding: self.weights.mask_embedding(self.encoder.mask_id()).unwrap(),
            data_sha256: "data".into(),
            tokenizer_sha256: "tokenizer".into(),
            begins: Beginning::New,
            companions: BTreeMap::new(),
            apart: false,
        }
    }

    pub fn train(
        &self,
        model: &LanguageModel,
        options: &TrainOptions,
        run: &TrainRun,
        progress: &dyn Progress,
    ) -> Result<Outcome, TuneError> {
        let (train_texts, dev) = self.texts.split_at(16);
        let data = TrainData { train: train_texts, dev, metric: Metric::Accuracy };
        WORKERS.with(|workers| train(model, &data, options, run, workers, progress))
    }
}
