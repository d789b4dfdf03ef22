//! Which parameters get a gradient, that it is the slope of the loss, and that threads don't change its bits.

use std::collections::BTreeMap;

use candle_core::Tensor;
use skn_model::{Gradients, LanguageModel, TrainingDropout, Tuning, shapes};
use skn_tune::{MaskedBatch, PretrainStep, Step, StepGradients, pretrain_step, step_gradients};

use crate::support::{Golden, workers};

type Slope<'a> = dyn Fn(&LanguageModel) -> StepGradients + 'a;

fn names(found: &StepGradients) -> Vec<&str> {
    found.gradients.keys().map(String::as_str).collect()
}

fn norm(tensor: &Tensor) -> f64 {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// Each parameter moved along its gradient changes the loss by what the gradient's length says.
#[track_caller]
fn check_slopes(model: &LanguageModel, slope: &Slope<'_>) {
    let found = slope(model);
    let mut checked = 0;
    for (name, variable) in model.parameters().iter().chain(model.backbone()) {
        let gradient = &found.gradients[name];
        let length = norm(gradient);
        // Key biases have none: softmax does not see them. What is near that is lost in float32's rounding.
        if length < 2e-3 {
            continue;
        }
        let start = variable.as_tensor().copy().unwrap();
        let step = (4e-3 / length).min(0.02);
        let loss = |distance: f64| {
            let moved = (&start + (gradient * (distance / length)).unwrap()).unwrap();
            variable.set(&moved).unwrap();
            slope(model).loss
        };
        let difference = (loss(step) - loss(-step)) / (2.0 * step);
        variable.set(&start).unwrap();
        assert!((difference / length - 1.0).abs() < 0.03, "{name}: slope {difference}, gradient {length}");
        checked += 1;
    }
    assert!(checked > 0);
}

fn classify<'a>(golden: &'a Golden, dropout: Option<TrainingDropout>) -> Box<Slope<'a>> {
    Box::new(move |model| {
        let batches = golden.batches(model, 3..9, 100);
        let step = Step { number: 0, batches: &batches, verbalizer: &golden.verbalizer, dropout };
        step_gradients(model, &step, &workers(2)).unwrap()
    })
}

const DROPOUT: TrainingDropout = TrainingDropout { hidden: 0.1, attention: 0.1, seed: 5, step: 2 };

#[test]
fn slopes_of_a_prompt() {
    let golden = Golden::load();
    let model = golden.model(&golden.prompt(), Gradients::Tuned);
    check_slopes(&model, &classify(&golden, None));
    check_slopes(&model, &classify(&golden, Some(DROPOUT)));
    assert_eq!(names(&classify(&golden, None)(&model)), ["prompt_embeddings"]);
}

#[test]
fn slopes_of_biases() {
    let golden = Golden::load();
    let model = golden.model(&Tuning::new_bias(), Gradients::Tuned);
    check_slopes(&model, &classify(&golden, None));
    let found = classify(&golden, None)(&model);
    let mut expected: Vec<String> = shapes(&golden.config).into_iter().map(|(name, _)| name).collect();
    expected.retain(|name| name.ends_with(".bias"));
    expected.sort();
    assert_eq!(names(&found), expected);
    for (name, gradient) in &found.gradients {
        assert!(norm(gradient) > 0.0 || name.ends_with("key.bias"), "{name}");
    }
}

#[test]
fn slopes_of_adapters() {
    let golden = Golden::load();
    let model = golden.model(&golden.adapter(), Gradients::Tuned);
    check_slopes(&model, &classify(&golden, None));
    let found = classify(&golden, None)(&model);
    assert_eq!(found.gradients.len(), 4 * golden.config.layers());
    assert!(
        found.gradients.iter().all(|(name, gradient)| name.contains(".adapters.") && norm(gradient) > 0.0)
    );
}

#[test]
fn a_prompt_has_the_same_gradient_when_the_backbone_gets_one_too() {
    let golden = Golden::load();
    let frozen = classify(&golden, None)(&golden.model(&golden.prompt(), Gradients::Tuned));
    let all = classify(&golden, None)(&golden.model(&golden.prompt(), Gradients::All));
    assert_eq!(all.gradients.len(), 1 + shapes(&golden.config).len());
    let difference = (&all.gradients["prompt_embeddings"] - &frozen.gradients["prompt_embeddings"]).unwrap();
    assert!(norm(&difference) <= 1e-5 * norm(&frozen.gradients["prompt_embeddings"]));
}

/// Every third token of some texts hidden.
fn masked(golden: &Golden, budget: usize) -> Vec<MaskedBatch> {
    let model = golden.model(&Tuning::plain_text(), Gradients::Nothing);
    let batches = golden.batches(&model, 0..6, budget);
    let hide = |batch: &skn_data::Batch| {
        let mut masked = MaskedBatch {
            ids: batch.ids.clone(),
            starts: batch.starts.clone(),
            samples: batch.rows.clone(),
            ..MaskedBatch::default()
        };
        for row in (1..batch.ids.len()).step_by(3) {
            masked.targets.push(masked.ids[row]);
            masked.rows.push(row as u32);
            masked.ids[row] = golden.encoder.mask_id().unwrap();
        }
        masked
    };
    batches.iter().map(hide).collect()
}

fn pretrain(golden: &Golden, model: &LanguageModel, budget: usize, threads: usize) -> StepGradients {
    let batches = masked(golden, budget);
    let step = PretrainStep { number: 0, batches: &batches, dropout: Some(DROPOUT) };
    pretrain_step(model, &step, &workers(threads)).unwrap()
}

#[test]
fn slopes_of_a_whole_model() {
    let golden = Golden::load();
    let model = golden.model(&Tuning::plain_text(), Gradients::All);
    assert!(model.parameters().is_empty());
    let mut expected: Vec<String> = shapes(&golden.config).into_iter().map(|(name, _)| name).collect();
    expected.sort();
    assert_eq!(names(&pretrain(&golden, &model, 60, 2)), expected);
    check_slopes(&model, &|model| pretrain(&golden, model, 60, 2));
}

#[test]
fn pre_training_needs_plain_text() {
    let golden = Golden::load();
    let model = golden.model(&golden.prompt(), Gradients::All);
    let batches = masked(&golden, 60);
    let step = PretrainStep { number: 0, batches: &batches, dropout: None };
    let message = pretrain_step(&model, &step, &workers(1)).unwrap_err().to_string();
    assert!(message.contains("plain text"), "{message}");
}

fn bits(found: &StepGradients) -> BTreeMap<String, Vec<u32>> {
    let bits = |gradient: &Tensor| gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bits = |gradient: &Tensor| bits(gradient).into_iter().map(f32::to_bits).collect();
    found.gradients.iter().map(|(name, gradient)| (name.clone(), bits(gradient))).collect()
}

#[test]
fn threads_do_not_change_a_bit() {
    let golden = Golden::load();
    let model = golden.model(&Tuning::new_bias(), Gradients::Tuned);
    let batches = golden.batches(&model, 0..20, 64);
    assert!(batches.len() > 4);
    let step = Step { number: 0, batches: &batches, verbalizer: &golden.verbalizer, dropout: Some(DROPOUT) };
    let one = step_gradients(&model, &step, &workers(1)).unwrap();
    for threads in [2, 3] {
        let several = step_gradients(&model, &step, &workers(threads)).unwrap();
        assert_eq!(several.loss.to_bits(), one.loss.to_bits());
        assert_eq!(bits(&several), bits(&one));
    }
    let whole = golden.model(&Tuning::plain_text(), Gradients::All);
    assert_eq!(bits(&pretrain(&golden, &whole, 40, 1)), bits(&pretrain(&golden, &whole, 40, 2)));
}

#[test]
fn micro_batches_make_the_same_mean() {
    let golden = Golden::load();
    let model = golden.model(&golden.prompt(), Gradients::Tuned);
    let found = |budget| {
        let batches = golden.batches(&model, 0..16, budget);
        let step =
            Step { number: 0, batches: &batches, verbalizer: &golden.verbalizer, dropout: Some(DROPOUT) };
        step_gradients(&model, &step, &workers(2)).unwrap()
    };
    let (whole, cut) = (found(usize::MAX), found(1));
    assert_eq!(whole.rows, cut.rows);
    assert!((whole.loss - cut.loss).abs() < 1e-6);
    let difference = (&whole.gradients["prompt_embeddings"] - &cut.gradients["prompt_embeddings"]).unwrap();
    assert!(norm(&difference) <= 1e-5 * norm(&whole.gradients["prompt_embeddings"]));
}

#[test]
fn an_empty_step_is_refused() {
    let golden = Golden::load();
    let model = golden.model(&golden.prompt(), Gradients::Tuned);
    let step = Step { number: 4, batches: &[], verbalizer: &golden.verbalizer, dropout: None };
    let message = step_gradients(&model, &step, &workers(1)).unwrap_err().to_string();
    assert!(message.contains("rows of step 4"), "{message}");
}
