//! Losses and gradients: against golden numbers, finite differences, and who gets any.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use skn_model::{Gradients, LanguageModel, Weights};
use skn_random::{Key, Purpose};

use crate::case::{Case, Texts, assert_same_bits};
use crate::numbers::{assert_gradient, gradients, largest};

#[test]
fn exactly_the_methods_own_parameters_get_a_gradient() {
    let case = Case::load();
    for (method, tuning) in case.tunings() {
        let model = case.model(&tuning, Gradients::Tuned);
        let texts = case.first16();
        let store = case.loss(&model, &texts).backward().unwrap();
        // Tensors that are the model's own, so that one in the graph is found.
        let tensors = case.weights.to_tensors().unwrap();
        let weights = Weights::from_tensors(&case.config, tensors.clone()).unwrap();
        let shared =
            LanguageModel::new(&case.config, &weights, &tuning, case.mask, Gradients::Tuned).unwrap();
        let of_shared = case.loss(&shared, &texts).backward().unwrap();
        for (name, tensor) in &tensors {
            assert!(of_shared.get(tensor).is_none(), "{method}: frozen {name} has a gradient");
        }
        assert_eq!(of_shared.get_ids().count(), store.get_ids().count(), "{method}");
        assert!(model.backbone().is_empty(), "{method}");
        let (_, found) = gradients(&case, &model, &texts);
        assert!(found.keys().eq(tuning.tensors().keys()), "{method}: {:?}", found.keys());
        assert!(found.keys().eq(model.parameters().keys()), "{method}");
        for (name, gradient) in &found {
            let largest = largest(gradient);
            // Softmax does not see what is added to all scores of a query.
            if name.ends_with("self.key.bias") {
                assert!(largest < 1e-6, "{method}: {name} {largest}");
            } else {
                assert!(largest > 1e-6, "{method}: {name} {largest}");
            }
        }
        let frozen = case.model(&tuning, Gradients::Nothing);
        assert!(frozen.parameters().is_empty() && frozen.backbone().is_empty());
        assert!(!case.loss(&frozen, &texts).track_op(), "{method}: nothing is recorded without gradients");
    }
}

#[test]
fn with_all_gradients_the_backbone_gets_them_too() {
    let case = Case::load();
    for (method, tuning) in case.tunings() {
        let model = case.model(&tuning, Gradients::All);
        let texts = case.first16();
        let (_, found) = gradients(&case, &model, &texts);
        for name in case.weights.names() {
            let gradient = found.get(name).unwrap_or_else(|| panic!("{method}: {name} has no gradient"));
            // The keys' bias falls out of the softmax: its gradient is 0 but for rounding, and in the last layer exactly.
            if name.ends_with("self.key.bias") {
                assert!(largest(gradient) < 1e-6, "{method}: {name} {}", largest(gradient));
            } else {
                assert!(gradient.iter().any(|&value| value != 0.0), "{method}: {name}");
            }
            assert_eq!(model.backbone().contains_key(name), !tuning.trains(name), "{method}: {name}");
        }
        let (_, tuned) = gradients(&case, &case.model(&tuning, Gradients::Tuned), &texts);
        for (name, gradient) in tuned {
            // What else is differentiated decides the order of additions, so not the bits.
            assert_gradient(&format!("{method}: {name}"), &found[&name], &gradient);
        }
    }
}

/// A direction in the space of all parameters, of length 1.
fn direction(parameters: &BTreeMap<String, Var>, seed: u64) -> BTreeMap<String, Vec<f32>> {
    let mut rng = Key::new(seed, Purpose::WeightInit).rng();
    let mut draw = |var: &Var| (0..var.elem_count()).map(|_| rng.normal() as f32).collect::<Vec<_>>();
    let mut direction: BTreeMap<_, _> =
        parameters.iter().map(|(name, var)| (name.clone(), draw(var))).collect();
    let length = direction.values().flatten().map(|value| value * value).sum::<f32>().sqrt();
    direction.values_mut().flatten().for_each(|value| *value /= length);
    direction
}

/// The loss with every parameter moved by `step` times the direction.
fn moved(
    case: &Case,
    model: &LanguageModel,
    texts: &Texts,
    direction: &BTreeMap<String, Vec<f32>>,
    step: f32,
) -> f64 {
    let before: BTreeMap<_, _> =
        model.parameters().iter().map(|(name, var)| (name, var.as_tensor().copy().unwrap())).collect();
    for (name, var) in model.parameters() {
        let change = Tensor::from_slice(&direction[name], var.shape(), var.device()).unwrap();
        var.set(&(&before[name] + (change * f64::from(step)).unwrap()).unwrap()).unwrap();
    }
    let loss = case.precise_loss(model, texts);
    model.parameters().iter().for_each(|(name, var)| var.set(&before[name]).unwrap());
    loss
}

#[test]
fn gradients_are_slopes() {
    let case = Case::load();
    for (method, tuning) in case.tunings() {
        let model = case.model(&tuning, Gradients::Tuned);
        let texts = case.first16();
        let (_, gradient) = gradients(&case, &model, &texts);
        for seed in 0..4 {
            let direction = direction(model.parameters(), seed);
            let products = gradient.iter().flat_map(|(name, values)| values.iter().zip(&direction[name]));
            let expected: f64 = products.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            // Five points: what is left is of the order of the step's fourth power.
            let step = STEP;
            let at = |steps: f32| moved(&case, &model, &texts, &direction, steps * step);
            let slope = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * f64::from(step));
            assert!(
                (slope - expected).abs() < 0.01 * expected.abs() + 2e-5,
                "{method} {seed}: slope {slope}, gradient {expected}"
            );
        }
    }
}

/// Of a parameter vector of any length.
const STEP: f32 = 0.05;

#[test]
fn what_is_set_is_what_runs_and_what_is_saved() {
    let case = Case::load();
    let texts = case.test();
    for (method, tuning) in case.tunings() {
        let model = case.model(&tuning, Gradients::Tuned);
        let before = case.logits(&model, &texts);
        for var in model.parameters().values() {
            var.set(&var.affine(0.9, 0.02).unwrap()).unwrap();
        }
        let after = case.logits(&model, &texts);
        assert_ne!(after, before, "{method}");
        let saved = case.model(&model.tuning().unwrap(), Gradients::Nothing);
        assert_same_bits(method, &case.logits(&saved, &texts), &after);
    }
}
