//! The golden case, and what its tests share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde_json::Value;
use skn_artifact::TensorFile;
use skn_model::{
    Config, Gradients, Hook, LanguageModel, ModelFolder, NoHook, Pass, Scored, Sequences, Tuning, Weights,
};
use tokenizers::Tokenizer;

/// Rows of the prompt, the `<mask>` row counted.
pub(crate) const PROMPT_ROWS: usize = 6;

/// Tokens that texts are cut to, whatever stands before them.
const TEXT: usize = 122;

/// A path within the golden case.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name)
}

/// The model and what it must give.
pub(crate) struct Case {
    pub(crate) config: Config,
    pub(crate) weights: Weights,
    pub(crate) expected: TensorFile,
    pub(crate) verbalizer: Vec<u32>,
    pub(crate) mask: u32,
    tokenizer: Tokenizer,
}

impl Case {
    pub(crate) fn load() -> Self {
        Self::load_on(&Device::Cpu)
    }

    /// The same with the model on another device.
    pub(crate) fn load_on(device: &Device) -> Self {
        crate::prepare();
        let folder = ModelFolder::open(path("model")).unwrap();
        let config = folder.config().unwrap();
        let expected = TensorFile::read(&path("expected.safetensors")).unwrap();
        let tokenizer = Tokenizer::from_file(path("model/tokenizer.json")).unwrap();
        Self {
            weights: Weights::read(&folder, &config, device).unwrap(),
            config,
            verbalizer: expected.i64("verbalizer_ids", None).unwrap().1.iter().map(|&id| id as u32).collect(),
            expected,
            mask: tokenizer.token_to_id("<mask>").unwrap(),
            tokenizer,
        }
    }

    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        self.expected.f32(name, None).unwrap().1
    }

    fn tensor(&self, name: &str) -> Tensor {
        let (shape, values) = self.expected.f32(name, None).unwrap();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    pub(crate) fn prompt(&self) -> Tuning {
        Tuning::prompt(self.tensor("prompt"), true).unwrap()
    }

    pub(crate) fn adapters(&self) -> Tuning {
        let new = Tuning::new_adapter(&self.config, 16, 0).unwrap();
        let given = new.tensors().keys().map(|name| (name.clone(), self.tensor(&golden_adapter(name))));
        new.with_tensors(given.collect())
    }

    /// Each method with values that are not those it begins with.
    pub(crate) fn tunings(&self) -> [(&'static str, Tuning); 3] {
        let moved = |bias: &Tensor| (bias.affine(1.25, 0.01)).unwrap();
        let mut biases = self.weights.to_tensors().unwrap();
        biases.retain(|name, _| name.ends_with(".bias"));
        let biases: BTreeMap<_, _> = biases.into_iter().map(|(name, bias)| (name, moved(&bias))).collect();
        [
            ("prompt", self.prompt()),
            ("bias", Tuning::new_bias().with_tensors(biases)),
            ("adapter", self.adapters()),
        ]
    }

    pub(crate) fn model(&self, tuning: &Tuning, gradients: Gradients) -> LanguageModel {
        LanguageModel::new(&self.config, &self.weights, tuning, self.mask, gradients).unwrap()
    }

    /// The test rows, by their token ids.
    pub(crate) fn test(&self) -> Texts {
        let (shape, ids) = self.expected.i64("test_ids", None).unwrap();
        let (_, lengths) = self.expected.i64("test_lens", None).unwrap();
        let text =
            |(row, &length): (&[i64], &i64)| row[..length as usize].iter().map(|&id| id as u32).collect();
        let texts = ids.chunks_exact(shape[1]).zip(&lengths).map(text).collect();
        Texts { texts, labels: Vec::new() }
    }

    /// The first 16 rows of train.
    pub(crate) fn first16(&self) -> Texts {
        let file = std::fs::read_to_string(path("data/jsonl/train.jsonl")).unwrap();
        let rows = file.lines().take(16).map(|line| serde_json::from_str::<Value>(line).unwrap());
        let text = |row: Value| {
            let ids = self.tokenizer.encode(row["sentence"].as_str().unwrap(), false).unwrap();
            let ids = ids.get_ids().iter().copied().take(TEXT - 2);
            let ids = std::iter::once(0).chain(ids).chain([2]).collect();
            (ids, row["label"].as_u64().unwrap() as u32)
        };
        let (texts, labels) = rows.map(text).unzip();
        Texts { texts, labels }
    }

    /// Logits of a batch, `[texts * classes]`.
    pub(crate) fn logits(&self, model: &LanguageModel, texts: &Texts) -> Vec<f32> {
        self.logits_with(model, texts, &mut NoHook)
    }

    pub(crate) fn logits_with(&self, model: &LanguageModel, texts: &Texts, hook: &mut dyn Hook) -> Vec<f32> {
        self.scores(model, texts, hook).flatten_all().unwrap().to_vec1().unwrap()
    }

    fn scores(&self, model: &LanguageModel, texts: &Texts, hook: &mut dyn Hook) -> Tensor {
        let (ids, starts, samples) = texts.packed();
        let batch = Sequences { ids: &ids, starts: &starts, samples: &samples, seconds: &[] };
        let answers = model.forward(batch, &Pass::default(), hook).unwrap();
        model.logits(&answers, Scored::Tokens(&self.verbalizer)).unwrap()
    }

    /// Mean cross-entropy, differentiable.
    pub(crate) fn loss(&self, model: &LanguageModel, texts: &Texts) -> Tensor {
        let scores = self.scores(model, texts, &mut NoHook);
        let labels = Tensor::new(texts.labels.as_slice(), model.device()).unwrap();
        candle_nn::loss::cross_entropy(&scores, &labels).unwrap()
    }

    /// The same number with what follows the logits in f64.
    pub(crate) fn precise_loss(&self, model: &LanguageModel, texts: &Texts) -> f64 {
        let scores: Vec<f64> = self.logits(model, texts).into_iter().map(f64::from).collect();
        let of_row = |(row, &label): (&[f64], &u32)| {
            row.iter().map(|score| (score - row[label as usize]).exp()).sum::<f64>().ln()
        };
        scores.chunks_exact(2).zip(&texts.labels).map(of_row).sum::<f64>() / texts.labels.len() as f64
    }
}

/// `roberta.encoder.layer.K.output.adapters.skn.X` under its name in the golden case, `adapter.layer.K.X`.
pub(crate) fn golden_adapter(name: &str) -> String {
    name.replace("roberta.encoder.", "adapter.").replace(".output.adapters.skn", "")
}

/// Token ids and, for train, labels.
#[derive(Clone)]
pub(crate) struct Texts {
    pub(crate) texts: Vec<Vec<u32>>,
    pub(crate) labels: Vec<u32>,
}

impl Texts {
    /// One text alone.
    pub(crate) fn one(&self, index: usize) -> Self {
        Self { texts: vec![self.texts[index].clone()], labels: Vec::new() }
    }

    /// Ids, starts and sample numbers of the batch.
    pub(crate) fn packed(&self) -> (Vec<u32>, Vec<usize>, Arc<[u64]>) {
        let mut starts = vec![0];
        for text in &self.texts {
            starts.push(starts[starts.len() - 1] + text.len());
        }
        (self.texts.concat(), starts, (0..self.texts.len() as u64).collect())
    }
}

/// What [`Texts::packed`] gives, as the model takes it.
pub(crate) fn sequences((ids, starts, samples): &(Vec<u32>, Vec<usize>, Arc<[u64]>)) -> Sequences<'_> {
    Sequences { ids, starts, samples, seconds: &[] }
}

/// Fails unless both have as many values, each pair at most `tolerance` apart.
#[track_caller]
pub(crate) fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        // Written so that NaN fails.
        assert!((found - expected).abs() <= tolerance, "{what} at {place}: {found}, expected {expected}");
    }
}

/// Fails unless all bits are the same.
#[track_caller]
pub(crate) fn assert_same_bits(what: &str, found: &[f32], expected: &[f32]) {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert!(bits(found) == bits(expected), "{what}: {found:?}, expected {expected:?}");
}
