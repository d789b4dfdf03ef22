//! The neurons of gated FFNs, of two results and of two layers.

use std::slice::from_ref;

use candle_core::{Result, Tensor, Var};
use proptest::prelude::*;
use skn_kernels::{Activation, Linear, Precision, composed, gated};

use crate::common::{
    ACTIVATIONS, assert_close, check, check_differences, gradient, gradient_of, loss, numbers, values,
    variables,
};

#[test]
fn gated_is_its_composition() {
    for shape in [[1, 1], [3, 21], [7, 16], [5, 700]] {
        let variables = variables(&[&shape, &shape]);
        let [gate, up] = &variables[..] else { panic!("two tensors") };
        for activation in ACTIVATIONS {
            check(&variables, || gated(gate, up, activation), || composed::gated(gate, up, activation));
            // Only one of the two may want a gradient.
            check(
                from_ref(gate),
                || gated(gate, &up.detach(), activation),
                || composed::gated(gate, &up.detach(), activation),
            );
            let gradients = loss(&gated(&gate.detach(), up, activation).unwrap()).backward().unwrap();
            assert!(gradients.get(up).is_some() && gradients.get(gate).is_none());
        }
    }
}

#[test]
fn gated_gradients_are_slopes() {
    let variables = variables(&[&[3, 21], &[3, 21]]);
    for activation in ACTIVATIONS {
        check_differences(&variables, || gated(&variables[0], &variables[1], activation));
    }
}

/// Gate and up `[outputs, inputs]`, with biases.
fn layers(outputs: usize, inputs: usize) -> [Linear; 2] {
    [10, 20].map(|seed| {
        Linear::new(numbers(&[outputs, inputs], seed), Some(numbers(&[outputs], seed + 1))).unwrap()
    })
}

/// What two layers give after one another.
fn apart([gate, up]: &[Linear; 2], x: &Tensor, activation: Activation) -> Result<Tensor> {
    gated(&gate.forward(x, Activation::Identity)?, &up.forward(x, Activation::Identity)?, activation)
}

/// Values and gradient of two layers at once and after one another, which are the same in every bit.
fn check_layers(rows: usize, inputs: usize, outputs: usize, activation: Activation, precision: Precision) {
    let x = Var::from_tensor(&numbers(&[rows, inputs], 1)).unwrap();
    let layers = layers(outputs, inputs).map(|layer| layer.with_precision(precision));
    let [gate, up] = &layers;
    let (ours, theirs) = (gate.forward_gated(up, &x, activation), apart(&layers, &x, activation));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(ours.dims(), [rows, outputs]);
    assert_eq!(values(&ours), values(&theirs), "values");
    let without_graph = gate.forward_gated(up, &x.detach(), activation).unwrap();
    assert_eq!(values(&without_graph), values(&ours), "values without a graph");
    let [found, expected] = [ours, theirs].map(|y| gradient(&loss(&y).backward().unwrap(), &x));
    assert_eq!(values(&found), values(&expected), "gradient");
}

#[test]
fn two_layers_at_once_are_two_layers() {
    for activation in ACTIVATIONS {
        for (rows, inputs, outputs) in
            [(5, 19, 35), (150, 33, 70), (1, 1, 1), (0, 3, 4), (2, 0, 4), (2, 3, 0)]
        {
            check_layers(rows, inputs, outputs, activation, Precision::F32);
        }
        check_layers(14, 33, 40, activation, Precision::Bf16);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn two_layers_at_once_are_two_layers_for_all_sizes(
        rows in 0usize..30, inputs in 0usize..50, outputs in 0usize..70, activation in 0usize..ACTIVATIONS.len()
    ) {
        check_layers(rows, inputs, outputs, ACTIVATIONS[activation], Precision::F32);
    }
}

#[test]
fn two_layers_have_slopes_and_are_their_composition() {
    let x = Var::from_tensor(&numbers(&[4, 7], 1)).unwrap();
    let layers = layers(9, 7);
    for activation in ACTIVATIONS {
        check_differences(from_ref(&x), || layers[0].forward_gated(&layers[1], &x, activation));
        let part = |seed| {
            let (weight, bias) = (numbers(&[9, 7], seed), numbers(&[9], seed + 1));
            composed::linear(&x, &weight, &bias, Activation::Identity).unwrap()
        };
        let expected = composed::gated(&part(10), &part(20), activation).unwrap();
        let found = layers[0].forward_gated(&layers[1], &x, activation).unwrap();
        assert_close(&found, &expected, 2e-5, "values");
    }
}

/// A weight or a bias of one of the two may train; every one that does gets its gradient.
#[test]
fn what_trains_in_either_layer_gets_its_gradient() {
    let all = variables(&[&[4, 7], &[9, 7], &[9], &[9, 7], &[9]]);
    for trained in 0..32usize {
        let tensors: Vec<Tensor> = all
            .iter()
            .enumerate()
            .map(|(bit, variable)| match trained >> bit & 1 {
                1 => variable.as_tensor().clone(),
                _ => variable.as_detached_tensor(),
            })
            .collect();
        let [x, gate, of_gate, up, of_up] = &tensors[..] else { panic!("five tensors") };
        let layers = [(gate, of_gate), (up, of_up)]
            .map(|(weight, bias)| Linear::new(weight.clone(), Some(bias.clone())).unwrap());
        let ours = layers[0].forward_gated(&layers[1], x, Activation::Silu).unwrap();
        let part = |weight, bias| composed::linear(x, weight, bias, Activation::Identity).unwrap();
        let theirs = composed::gated(&part(gate, of_gate), &part(up, of_up), Activation::Silu).unwrap();
        assert_close(&ours, &theirs, 2e-5, "values");
        let (found, expected) = (loss(&ours).backward().unwrap(), loss(&theirs).backward().unwrap());
        for (bit, variable) in all.iter().enumerate() {
            let wanted = trained >> bit & 1 == 1;
            assert_eq!(found.get(variable).is_some(), wanted, "input {bit} of trained {trained:05b}");
            assert_close(&gradient(&found, variable), &gradient(&expected, variable), 5e-5, "gradient");
        }
    }
}

#[test]
fn a_row_alone_has_the_bits_it_has_beside_others() {
    let x = Var::from_tensor(&numbers(&[145, 30], 1)).unwrap();
    let layers = layers(70, 30);
    let run = |x: &Var| {
        let y = layers[0].forward_gated(&layers[1], x, Activation::Silu).unwrap();
        let gradient = gradient_of(x)(&y);
        (y, gradient)
    };
    let (all, all_gradients) = run(&x);
    for row in [0, 11, 12, 131, 132, 144] {
        let (alone, gradient) = run(&Var::from_tensor(&x.narrow(0, row, 1).unwrap()).unwrap());
        assert_eq!(values(&all.get(row).unwrap()), values(&alone), "row {row}");
        assert_eq!(values(&all_gradients.get(row).unwrap()), values(&gradient), "gradient of row {row}");
    }
}

#[test]
fn wrong_shapes_are_named() {
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    let found = message(gated(&numbers(&[2, 3], 1), &numbers(&[3, 2], 1), Activation::Silu));
    assert!(found.contains("gated: expected gate and up of one shape, found [2, 3] and [3, 2]"), "{found}");
    let doubles = numbers(&[2, 3], 1).to_dtype(candle_core::DType::F64).unwrap();
    assert!(message(gated(&doubles, &doubles, Activation::Silu)).contains("expected f32, found F64"));
    let [gate, up] = [layers(4, 3), layers(5, 3)].map(|[first, _]| first);
    let found = message(gate.forward_gated(&up, &numbers(&[2, 3], 1), Activation::Silu));
    assert!(found.contains("one shape, found [4, 3] and [5, 3]"), "{found}");
    let found = message(gate.forward_gated(&gate, &numbers(&[2, 4], 1), Activation::Silu));
    assert!(found.contains("linear: expected [rows, 3], found [2, 4]"), "{found}");
}
