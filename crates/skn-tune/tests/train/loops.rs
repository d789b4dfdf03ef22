//! The loop: when it evaluates, what it keeps, when it ends, what it refuses.

use std::path::Path;

use candle_core::{Device, Tensor};
use skn_artifact::{MetricRecord, SkillConfig, hash_file, read_json};
use skn_model::{Gradients, ReadAs, Tuning, Weights};
use skn_tune::{ClipScope, Outcome, Stopped, TrainOptions};

use crate::support::{Case, Golden, Stop, hashes};

fn metrics(run: &Path) -> Vec<MetricRecord> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn train(case: &Case, folder: &Path) -> Outcome {
    case.train(&case.run(folder, false), 2, &Stop::never()).unwrap()
}

/// The last parameters, as they stand in the checkpoint.
fn last(folder: &Path) -> Vec<f32> {
    let file = skn_artifact::TensorFile::read(&folder.join("last/checkpoint.safetensors")).unwrap();
    file.f32("parameter.prompt_embeddings", None).unwrap().1
}

#[test]
fn evaluates_at_every_step_asked_for_and_keeps_the_later_of_equals() {
    let case = Case::prompt();
    let folder = tempfile::tempdir().unwrap();
    let outcome = train(&case, folder.path());
    let lines = metrics(folder.path());
    let at: Vec<(u64, u64)> = lines.iter().map(|line| (line.step, line.epoch)).collect();
    assert_eq!(at, [(3, 0), (5, 1), (6, 1), (9, 1), (10, 2)], "each step once");
    let mut best = f64::NEG_INFINITY;
    for line in &lines {
        assert_eq!(line.best, line.dev_score >= best, "{line:?}");
        best = best.max(line.dev_score);
        assert!(line.train_loss > 0.0 && line.dev_loss > 0.0 && line.gradient_norm > 0.0);
    }
    let last_best = lines.iter().rev().find(|line| line.best).unwrap();
    assert_eq!((outcome.best_step, outcome.best_score), (last_best.step, best));
    assert_eq!((outcome.steps, outcome.stopped, outcome.resumed_from), (10, Stopped::Finished, None));
    assert!(outcome.notes.is_empty());
}

#[test]
fn the_best_folder_is_whole_and_scores_what_it_says() {
    let case = Case::prompt();
    let folder = tempfile::tempdir().unwrap();
    let outcome = train(&case, folder.path());
    let best = folder.path().join("best");
    let config: SkillConfig = read_json(&best.join("skn.json")).unwrap();
    assert_eq!((config.step, config.dev_score), (outcome.best_step, outcome.best_score));
    assert_eq!((config.prompt_size, config.metric.as_str()), (6, "accuracy"));
    assert_eq!(config.files.keys().collect::<Vec<_>>(), ["adapter_config.json", "adapter_model.safetensors"]);
    for (name, sha256) in &config.files {
        assert_eq!(&hash_file(&best.join(name)).unwrap(), sha256);
    }
    let Golden { config, weights, encoder, .. } = &case.golden;
    let read = Tuning::read(&best, config, weights, encoder.mask_id(), ReadAs::default()).unwrap();
    assert!(read.warning.is_none());
    // Evaluated again without training: one step of rate 0.
    let options = TrainOptions { max_steps: Some(1), ..case.options.clone() };
    let again = Case { tuning: read.tuning, options, ..Case::prompt() };
    let other = tempfile::tempdir().unwrap();
    assert_eq!(train(&again, other.path()).best_score, outcome.best_score);
}

#[test]
fn training_learns() {
    let mut case = Case::prompt();
    case.options = TrainOptions { epochs: 12, dropout: Some(0.0), learning_rate: 0.03, ..case.options };
    let folder = tempfile::tempdir().unwrap();
    train(&case, folder.path());
    let lines = metrics(folder.path());
    let (first, last) = (lines[0].train_loss, lines[lines.len() - 1].train_loss);
    assert!(last < 0.9 * first, "from {first} to {last}");
}

#[test]
fn each_method_trains_and_saves() {
    let bias = |_: &Golden| Tuning::new_bias();
    let cases: [(Case, &str); 3] = [
        (Case::prompt(), "adapter_model.safetensors"),
        (Case::new(bias), "bitfit.safetensors"),
        (Case::new(Golden::adapter), "adapter.safetensors"),
    ];
    // One folder for all: what another method has left must not make it unreadable.
    let folder = tempfile::tempdir().unwrap();
    for (case, file) in cases {
        train(&case, folder.path());
        assert!(folder.path().join("best").join(file).is_file(), "{file}");
        let Golden { config, weights, encoder, .. } = &case.golden;
        let best = folder.path().join("best");
        let read = Tuning::read(&best, config, weights, encoder.mask_id(), ReadAs::default()).unwrap();
        assert_eq!(read.tuning.method(), case.tuning.method());
    }
}

#[test]
fn accumulated_batches_are_one_larger_batch() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for (folder, (batch, accumulate)) in folders.iter().zip([(8, 1), (2, 4)]) {
        let mut case = Case::prompt();
        (case.options.batch, case.options.accumulate) = (batch, accumulate);
        train(&case, folder.path());
    }
    assert_eq!(last(folders[0].path()), last(folders[1].path()));
}

#[test]
fn early_stop_waits_for_six_evaluations() {
    let mut case = Case::prompt();
    // What is right in train is wrong in dev, so that learning makes dev worse.
    case.dev.iter_mut().for_each(|text| text.label = 1 - text.label);
    case.options = TrainOptions {
        epochs: 40,
        eval_every: Some(1),
        early_stop: true,
        dropout: Some(0.0),
        learning_rate: 0.05,
        ..case.options
    };
    let folder = tempfile::tempdir().unwrap();
    let outcome = train(&case, folder.path());
    assert_eq!(outcome.stopped, Stopped::EarlyStop);
    assert_eq!(outcome.steps, outcome.best_step + 6);
    let resumed = case.train(&case.run(folder.path(), true), 1, &Stop::never()).unwrap();
    assert_eq!(
        (resumed.stopped, resumed.steps),
        (Stopped::EarlyStop, outcome.steps),
        "nothing is left to do"
    );
}

#[test]
fn clipping_by_the_backbone_needs_its_gradients_and_makes_steps_smaller() {
    let mut case = Case::prompt();
    case.options.clip = ClipScope::Backbone;
    let folder = tempfile::tempdir().unwrap();
    let error = case.train(&case.run(folder.path(), false), 1, &Stop::never()).unwrap_err();
    assert!(error.to_string().contains("backbone"), "{error}");
    case.gradients = Gradients::All;
    train(&case, folder.path());
    let paper = metrics(folder.path());
    case.options.clip = ClipScope::Tuned;
    train(&case, folder.path());
    let ours = metrics(folder.path());
    assert!(paper[0].gradient_norm > 2.0 * ours[0].gradient_norm, "the norm counts the backbone");
}

#[test]
fn numbers_that_are_none_end_the_training_unsaved() {
    let folder = tempfile::tempdir().unwrap();
    // Biases of queries and keys whose product float32 can't hold.
    let mut case = Case::new(|_| Tuning::new_bias());
    case.options = TrainOptions { warmup: 0.0, learning_rate: 1e30, ..case.options };
    let error = case.train(&case.run(folder.path(), false), 2, &Stop::never()).unwrap_err().to_string();
    assert!(error.contains("step 1: ") && error.contains("expected finite numbers"), "{error}");
    assert!(!folder.path().join("best").exists() && !folder.path().join("last").exists(), "nothing is saved");

    case.options.eval_every = Some(1);
    let error = case.train(&case.run(folder.path(), false), 2, &Stop::never()).unwrap_err().to_string();
    assert!(error.contains("step 1: logits of dev row "), "{error}");
    assert!(!folder.path().join("best").exists() && !folder.path().join("last").exists(), "nothing is saved");

    let hidden = case.golden.config.hidden_size;
    let mut values = vec![0.01f32; 5 * hidden];
    values[7] = f32::NAN;
    let rows = Tensor::from_vec(values, (5, hidden), &Device::Cpu).unwrap();
    let case = Case::new(|_| Tuning::prompt(rows.clone(), true).unwrap());
    let error = case.train(&case.run(folder.path(), false), 2, &Stop::never()).unwrap_err().to_string();
    assert!(error.contains("step 0: logits") && error.contains("NaN"), "{error}");
    assert!(!folder.path().join("best").exists() && !folder.path().join("last").exists(), "nothing is saved");
}

/// A gradient that f32 holds, and whose square it does not: without the check the parameter would stay where it is for ever.
#[test]
fn a_second_moment_that_is_infinite_ends_the_training_unsaved() {
    let mut case = Case::prompt();
    let mut tensors = case.golden.weights.to_tensors().unwrap();
    let name = "lm_head.layer_norm.weight";
    tensors.insert(name.into(), (&tensors[name] * 1e25).unwrap());
    case.golden.weights = Weights::from_tensors(&case.golden.config, tensors).unwrap();
    case.options.max_norm = 1e300;
    let folder = tempfile::tempdir().unwrap();
    let error = case.train(&case.run(folder.path(), false), 1, &Stop::never()).unwrap_err().to_string();
    assert!(error.contains("step 0: second moment of `prompt_embeddings`"), "{error}");
    assert!(!folder.path().join("best").exists() && !folder.path().join("last").exists(), "nothing is saved");
}

#[test]
fn a_model_that_trains_nothing_is_refused() {
    let mut case = Case::prompt();
    case.gradients = Gradients::Nothing;
    let folder = tempfile::tempdir().unwrap();
    let error = case.train(&case.run(folder.path(), false), 1, &Stop::never()).unwrap_err();
    assert!(error.to_string().contains("nothing that trains"), "{error}");
}

#[test]
fn a_new_training_forgets_the_old_one() {
    let case = Case::prompt();
    let (fresh, used) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(&case, fresh.path());
    let other = Case { options: TrainOptions { seed: 9, ..case.options.clone() }, ..Case::prompt() };
    train(&other, used.path());
    assert_ne!(hashes(fresh.path()), hashes(used.path()), "the seed matters");
    train(&case, used.path());
    assert_eq!(hashes(fresh.path()), hashes(used.path()));
}
