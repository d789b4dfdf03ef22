//! Logits, losses and gradients against the numbers of the golden case.

use std::collections::BTreeMap;

use candle_core::Tensor;
use skn_model::{Gradients, LanguageModel, Tuning};

use crate::case::{Case, PROMPT_ROWS, Texts, assert_near, golden_adapter};

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

pub(crate) fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// Loss, and the gradients of everything that gets one, by name.
pub(crate) fn gradients(
    case: &Case,
    model: &LanguageModel,
    texts: &Texts,
) -> (f32, BTreeMap<String, Vec<f32>>) {
    let loss = case.loss(model, texts);
    let store = loss.backward().unwrap();
    let all = model.parameters().iter().chain(model.backbone());
    let found = all.filter_map(|(name, var)| Some((name.clone(), values(store.get(var)?))));
    (loss.to_scalar().unwrap(), found.collect())
}

/// The rule of the golden case: 1e-3 of the tensor's largest entry + 1e-6.
#[track_caller]
pub(crate) fn assert_gradient(name: &str, found: &[f32], expected: &[f32]) {
    assert_near(&format!("gradient of {name}"), found, expected, 1e-3 * largest(expected) + 1e-6);
}

#[test]
fn logits_of_the_test_rows() {
    let case = Case::load();
    let model = case.model(&case.prompt(), Gradients::Nothing);
    assert_eq!(model.prompt_rows(), PROMPT_ROWS);
    assert_near("logits", &case.logits(&model, &case.test()), &case.f32("test_logits"), 2e-4);
}

#[test]
fn logits_with_adapters() {
    let case = Case::load();
    let model = case.model(&case.adapters(), Gradients::Nothing);
    let found = case.logits(&model, &case.first16());
    assert_near("logits", &found, &case.f32("adapter_logits_first16"), 2e-4);
}

#[test]
fn prompt() {
    let case = Case::load();
    let model = case.model(&case.prompt(), Gradients::Tuned);
    let (loss, found) = gradients(&case, &model, &case.first16());
    assert_near("loss", &[loss], &case.f32("loss_first16"), 1e-4);
    assert_gradient("the prompt", &found["prompt_embeddings"], &case.f32("grad_prompt_first16"));
}

#[test]
fn bitfit() {
    let case = Case::load();
    let model = case.model(&Tuning::new_bias(), Gradients::Tuned);
    let (loss, found) = gradients(&case, &model, &case.first16());
    assert_near("loss", &[loss], &case.f32("bitfit_loss"), 1e-4);
    let expected: Vec<&str> =
        case.expected.names().filter_map(|name| name.strip_prefix("bitfit_grad.")).collect();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    for name in expected {
        assert_gradient(name, &found[name], &case.f32(&format!("bitfit_grad.{name}")));
    }
    for (token, &value) in found["lm_head.bias"].iter().enumerate() {
        assert_eq!(value != 0.0, case.verbalizer.contains(&(token as u32)), "lm_head.bias of token {token}");
    }
}

#[test]
fn adapters() {
    let case = Case::load();
    let model = case.model(&case.adapters(), Gradients::Tuned);
    let (loss, found) = gradients(&case, &model, &case.first16());
    assert_near("loss", &[loss], &case.f32("adapter_loss"), 1e-4);
    assert_eq!(found.len(), 4 * case.config.layers());
    for (name, found) in &found {
        let golden = golden_adapter(name).replacen("adapter.", "adapter_grad.", 1);
        assert_gradient(name, found, &case.f32(&golden));
    }
}
