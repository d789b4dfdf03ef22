//! The numbers of the golden case: computed in float64 with transformers, independently of this project.

use skn_model::{Gradients, NoHook, Pass, Scored, Sequences, Tuning};
use skn_tune::{
    Adam, AdamSettings, Schedule, Step, StepGradients, clip_factor, gradient_norm, step_gradients,
};

use crate::support::{Golden, adapter_part, check_gradient, workers};

fn first16(golden: &Golden, tuning: &Tuning) -> StepGradients {
    let model = golden.model(tuning, Gradients::Tuned);
    let batches = golden.batches(&model, 0..16, 128);
    let step = Step { number: 0, batches: &batches, verbalizer: &golden.verbalizer, dropout: None };
    step_gradients(&model, &step, &workers(2)).unwrap()
}

#[track_caller]
fn check_loss(found: f64, expected: f32) {
    assert!((found - f64::from(expected)).abs() <= 1e-4, "loss {found} is not {expected}");
}

#[test]
fn prompt_loss_and_gradient() {
    let golden = Golden::load();
    let found = first16(&golden, &golden.prompt());
    check_loss(found.loss, golden.expected("loss_first16")[0]);
    check_gradient("prompt", &found.gradients["prompt_embeddings"], &golden.expected("grad_prompt_first16"));
}

#[test]
fn bias_loss_and_every_gradient() {
    let golden = Golden::load();
    let found = first16(&golden, &Tuning::new_bias());
    check_loss(found.loss, golden.expected("bitfit_loss")[0]);
    let expected = golden.expected_names("bitfit_grad.");
    assert_eq!(found.gradients.len(), expected.len());
    for name in expected {
        let parameter = name.strip_prefix("bitfit_grad.").unwrap();
        check_gradient(parameter, &found.gradients[parameter], &golden.expected(&name));
    }
}

#[test]
fn adapter_loss_and_every_gradient() {
    let golden = Golden::load();
    let found = first16(&golden, &golden.adapter());
    check_loss(found.loss, golden.expected("adapter_loss")[0]);
    assert_eq!(found.gradients.len(), golden.expected_names("adapter_grad.").len());
    for (name, gradient) in &found.gradients {
        let (layer, part) = adapter_part(name);
        check_gradient(name, gradient, &golden.expected(&format!("adapter_grad.layer.{layer}.{part}")));
    }
}

#[test]
fn adapter_logits() {
    let golden = Golden::load();
    let model = golden.model(&golden.adapter(), Gradients::Nothing);
    let batch = &golden.batches(&model, 0..16, usize::MAX)[0];
    let texts =
        Sequences { ids: &batch.ids, starts: &batch.starts, samples: &batch.rows, seconds: &batch.seconds };
    let answers = model.forward(texts, &Pass::default(), &mut NoHook).unwrap();
    let logits = model.logits(&answers, Scored::Tokens(&golden.verbalizer)).unwrap();
    let found: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
    for (found, expected) in found.iter().zip(golden.expected("adapter_logits_first16")) {
        assert!((found - expected).abs() <= 2e-4, "{found} is not {expected}");
    }
}

#[test]
fn twenty_four_steps() {
    let golden = Golden::load();
    let model = golden.model(&golden.prompt(), Gradients::Tuned);
    let schedule = Schedule::new(24, 0.006).unwrap();
    let mut adam = Adam::new(AdamSettings::default());
    for (number, expected) in golden.expected("train_losses").into_iter().enumerate() {
        let rows = (0..16).map(|row| (number as u32 * 16 + row) % 192);
        let batches = golden.batches(&model, rows, 200);
        let number = number as u64;
        let step = Step { number, batches: &batches, verbalizer: &golden.verbalizer, dropout: None };
        let found = step_gradients(&model, &step, &workers(2)).unwrap();
        check_loss(found.loss, expected);
        let scale = clip_factor(gradient_norm(number, &found.gradients).unwrap(), 1.0);
        adam.update(model.parameters(), &found.gradients, scale, 1e-3 * schedule.factor(number)).unwrap();
    }
    let prompt: Vec<f32> = model.parameters()["prompt_embeddings"].flatten_all().unwrap().to_vec1().unwrap();
    for (found, expected) in prompt.iter().zip(golden.expected("prompt_after")) {
        assert!((found - expected).abs() <= 5e-4, "{found} is not {expected}");
    }
}
