//! Edits and pruning of the golden case's model against what Hugging Face transformers gave in float64.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use skn_artifact::TensorFile;
use skn_model::{
    Config, Gradients, Hook, LanguageModel, LayerCut, ModelFolder, NoHook, Pass, PrunedForm, Scored,
    Sequences, Tuning, Weights, prune,
};
use skn_perturb::{Edit, NoiseTable, Perturbation, mean_over_positions};

/// The id of `<mask>` in the golden tokenizer.
const MASK: u32 = 4;

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name)
}

/// The model, the test rows and what must come of them.
struct Case {
    config: Config,
    weights: Weights,
    expected: TensorFile,
}

impl Case {
    fn load() -> Self {
        let folder = ModelFolder::open(path("model")).unwrap();
        let config = folder.config().unwrap();
        let weights = Weights::read(&folder, &config, &Device::Cpu).unwrap();
        Self { config, weights, expected: TensorFile::read(&path("expected.safetensors")).unwrap() }
    }

    fn model(&self, config: &Config, weights: &Weights) -> LanguageModel {
        let (shape, rows) = self.expected.f32("prompt", None).unwrap();
        let prompt = Tuning::prompt(Tensor::from_vec(rows, shape, &Device::Cpu).unwrap(), true).unwrap();
        LanguageModel::new(config, weights, &prompt, MASK, Gradients::Nothing).unwrap()
    }

    fn whole(&self) -> LanguageModel {
        self.model(&self.config, &self.weights)
    }

    /// Logits of the test rows, cut into batches of so many texts.
    fn logits<H: Hook>(&self, model: &LanguageModel, batch: usize, hook: impl Fn() -> H) -> Vec<f32> {
        let (shape, ids) = self.expected.i64("test_ids", None).unwrap();
        let (_, lengths) = self.expected.i64("test_lens", None).unwrap();
        let (_, verbalizer) = self.expected.i64("verbalizer_ids", None).unwrap();
        let verbalizer: Vec<u32> = verbalizer.iter().map(|&id| id as u32).collect();
        let text =
            |(row, &length): (&[i64], &i64)| row[..length as usize].iter().map(|&id| id as u32).collect();
        let texts: Vec<Vec<u32>> = ids.chunks_exact(shape[1]).zip(&lengths).map(text).collect();
        let samples: Vec<u64> = (0..texts.len() as u64).collect();
        let of_batch = |(texts, samples): (&[Vec<u32>], &[u64])| {
            let mut starts = vec![0];
            texts.iter().for_each(|text| starts.push(starts[starts.len() - 1] + text.len()));
            let ids = texts.concat();
            let batch = Sequences { ids: &ids, starts: &starts, samples, seconds: &[] };
            let answers = model.forward(batch, &Pass::default(), &mut hook()).unwrap();
            let logits = model.logits(&answers, Scored::Tokens(&verbalizer)).unwrap();
            logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        texts.chunks(batch).zip(samples.chunks(batch)).flat_map(of_batch).collect()
    }

    /// The neurons of each layer that a mask names, or those that it does not.
    fn neurons(&self, mask: &str, named: bool) -> Vec<Vec<u32>> {
        let (shape, mask) = self.expected.bool(mask, None).unwrap();
        let of_layer = |layer: &[bool]| {
            let chosen = (0u32..).zip(layer).filter(|(_, marked)| **marked == named);
            chosen.map(|(neuron, _)| neuron).collect()
        };
        mask.chunks_exact(shape[1]).map(of_layer).collect()
    }

    fn means(&self) -> Vec<Vec<f32>> {
        let (shape, averages) = self.expected.f32("train_avg", None).unwrap();
        mean_over_positions(&averages, &shape).unwrap()
    }

    fn edit(&self, edit: Edit, neurons: Vec<Vec<u32>>) -> Perturbation {
        Perturbation::new(edit, neurons, &self.config.intermediate_sizes).unwrap()
    }

    /// Fails unless the edit at the neurons of `mask_0.10` gives the logits of this name, whatever the batches.
    #[track_caller]
    fn check(&self, edit: Edit, name: &str) {
        let perturbation = self.edit(edit, self.neurons("mask_0.10", true));
        let together = self.logits(&self.whole(), 80, || perturbation.hook());
        assert_near(name, &together, &self.f32(name));
        let apart: f32 =
            together.iter().zip(self.f32("test_logits")).fold(0.0, |most, (a, b)| most.max((a - b).abs()));
        assert!(apart > 0.05, "{name}: the edit changes logits by {apart} at most");
        for batch in [1, 7] {
            let found = self.logits(&self.whole(), batch, || perturbation.hook());
            assert!(found == together, "{name}: batches of {batch} give other bits");
        }
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.expected.f32(name, None).unwrap().1
    }

    /// What `logits_pruned_0.20` was made with: `None` for the whole layers.
    fn cuts(&self) -> Vec<Option<LayerCut>> {
        let first = self.expected.i64("prune_first_layer", None).unwrap().1[0] as usize;
        let layers = self.neurons("mask_0.20", true).into_iter().zip(self.means()).enumerate();
        let cut = |(layer, (kept, means)): (usize, (Vec<u32>, Vec<f32>))| {
            (layer >= first).then(|| LayerCut::hold_others(kept, &means).unwrap())
        };
        layers.map(cut).collect()
    }
}

#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        // Written so that NaN fails.
        assert!((found - expected).abs() <= 2e-4, "{what} at {place}: {found}, expected {expected}");
    }
}

#[test]
fn zero() {
    Case::load().check(Edit::Zero, "logits_zero_0.10");
}

#[test]
fn mean() {
    let case = Case::load();
    case.check(Edit::Mean { values: case.means() }, "logits_mean_0.10");
}

#[test]
fn given_noise() {
    let case = Case::load();
    let (shape, noise) = case.expected.f32("noise", None).unwrap();
    let noise = NoiseTable::new(noise, [shape[0], shape[1], shape[2]]).unwrap();
    case.check(Edit::GivenNoise { alpha: 0.5, noise }, "logits_gaussian_0.10_alpha0.5");
}

#[test]
fn pruned() {
    let case = Case::load();
    let cuts = case.cuts();
    assert!(cuts[0].is_none() && cuts[3].as_ref().is_some_and(|cut| cut.kept.len() == 32));
    for form in [PrunedForm::Narrow, PrunedForm::Dense] {
        let (config, weights) = prune(&case.config, &case.weights, &cuts, form).unwrap();
        let found = case.logits(&case.model(&config, &weights), 80, || NoHook);
        assert_near(&format!("{form:?}"), &found, &case.f32("logits_pruned_0.20"));
    }
}

#[test]
fn held_instead_of_pruned() {
    let case = Case::load();
    let first = case.expected.i64("prune_first_layer", None).unwrap().1[0] as usize;
    let removed = case.neurons("mask_0.20", false);
    let held = case.edit(Edit::Mean { values: case.means() }, removed).within(first..case.config.layers());
    let found = case.logits(&case.whole(), 80, || held.hook());
    assert_near("held", &found, &case.f32("logits_pruned_0.20"));
}
