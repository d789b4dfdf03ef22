//! Linear layers.

use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;
use skn_kernels::{Activation, Backend, Linear, Precision, SelfAttention, composed};

use crate::common::{
    ACTIVATIONS, assert_close, check_differences, form, gradient, loss, numbers, packing, values, variables,
};

/// Which of x, weight and bias are variables, as bits of `trained`.
fn linear_case(rows: usize, inputs: usize, outputs: usize, trained: usize) -> (Vec<Var>, Vec<Tensor>) {
    let all = variables(&[&[rows, inputs], &[outputs, inputs], &[outputs]]);
    let tensors = all.iter().enumerate().map(|(bit, variable)| match trained >> bit & 1 {
        1 => variable.as_tensor().clone(),
        _ => variable.as_detached_tensor(),
    });
    (all.clone(), tensors.collect())
}

fn check_linear(rows: usize, inputs: usize, outputs: usize, trained: usize, activation: Activation) {
    let (variables, tensors) = linear_case(rows, inputs, outputs, trained);
    let [x, weight, bias] = &tensors[..] else { panic!("three tensors") };
    let layer = Linear::new(weight.clone(), Some(bias.clone())).unwrap();
    assert_eq!((layer.in_features(), layer.out_features()), (inputs, outputs));
    let ours = layer.forward(x, activation).unwrap();
    let theirs = composed::linear(x, weight, bias, activation).unwrap();
    assert_close(&ours, &theirs, 2e-5, "values");
    let (found, expected) = (loss(&ours).backward().unwrap(), loss(&theirs).backward().unwrap());
    for (bit, variable) in variables.iter().enumerate() {
        let wanted = trained >> bit & 1 == 1;
        assert_eq!(found.get(variable).is_some(), wanted, "gradient of input {bit} of trained {trained:03b}");
        if wanted {
            assert_close(&gradient(&found, variable), &gradient(&expected, variable), 5e-5, "gradient");
        }
    }
}

#[test]
fn linear_is_its_composition_whatever_is_trained() {
    for trained in 0..8 {
        for activation in ACTIVATIONS {
            check_linear(5, 19, 35, trained, activation);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn linear_is_its_composition_for_all_sizes(
        rows in 1usize..30, inputs in 1usize..50, outputs in 1usize..70, trained in 0usize..8, activation in 0usize..ACTIVATIONS.len()
    ) {
        check_linear(rows, inputs, outputs, trained, ACTIVATIONS[activation]);
    }
}

#[test]
fn linear_gradients_are_slopes() {
    for activation in ACTIVATIONS {
        let variables = variables(&[&[4, 7], &[9, 7], &[9]]);
        let layer =
            Linear::new(variables[1].as_tensor().clone(), Some(variables[2].as_tensor().clone())).unwrap();
        check_differences(&variables, || layer.forward(&variables[0], activation));
        let frozen = Linear::new(variables[1].as_detached_tensor(), None).unwrap();
        check_differences(&variables[..1], || frozen.forward(&variables[0], activation));
    }
}

#[test]
fn empty_sides_of_a_linear_layer() {
    for [rows, inputs, outputs] in [[0, 3, 4], [2, 0, 4], [2, 3, 0], [0, 0, 0]] {
        for trained in 0..8 {
            let (variables, tensors) = linear_case(rows, inputs, outputs, trained);
            let layer = Linear::new(tensors[1].clone(), Some(tensors[2].clone())).unwrap();
            for activation in ACTIVATIONS {
                let y = layer.forward(&tensors[0], activation).unwrap();
                assert_eq!(y.dims(), [rows, outputs]);
                if inputs == 0 && activation == Activation::Identity && rows > 0 {
                    assert_eq!(values(&y.get(0).unwrap()), values(&variables[2]), "the bias alone");
                }
                let gradients = y.sum_all().unwrap().backward().unwrap();
                for (bit, variable) in variables.iter().enumerate() {
                    assert_eq!(gradients.get(variable).is_some(), trained >> bit & 1 == 1);
                }
            }
        }
    }
}

#[test]
fn bf16_is_the_product_of_rounded_numbers() {
    let round = |tensor: &Tensor| tensor.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
    for (rows, inputs, outputs) in [(5, 37, 19), (1, 2, 64), (14, 64, 33)] {
        let x = Var::from_tensor(&numbers(&[rows, inputs], 1)).unwrap();
        let (weight, bias) = (numbers(&[outputs, inputs], 2), numbers(&[outputs], 3));
        let layer = Linear::new(weight.clone(), Some(bias.clone())).unwrap().with_precision(Precision::Bf16);
        let rounded = (round(&x), round(&weight));
        for activation in [Activation::Identity, Activation::Gelu, Activation::Relu] {
            let expected = composed::linear(&rounded.0, &rounded.1, &bias, activation).unwrap();
            let found = layer.forward(&x.detach(), activation).unwrap();
            assert_close(&found, &expected, 1e-4, "bf16 forward");
            let found = layer.forward(&x, activation).unwrap();
            assert_close(&found, &expected, 1e-4, "bf16 forward with a graph");
        }
        let coefficients = numbers(&[rows, outputs], 4);
        let y = layer.forward(&x, Activation::Identity).unwrap();
        let gradients = (&y * &coefficients).unwrap().sum_all().unwrap().backward().unwrap();
        let expected = round(&coefficients).matmul(&rounded.1).unwrap();
        assert_close(&gradient(&gradients, &x), &expected, 1e-4, "bf16 input gradient");
    }
}

/// Elsewhere f32 would pass for it.
#[test]
fn tf32_is_refused_where_no_card_multiplies() {
    let layer = Linear::new(numbers(&[6, 6], 1), None).unwrap().with_precision(Precision::Tf32);
    let x = numbers(&[3, 6], 2);
    let (packed, y) = (layer.pack(), layer.forward(&x, Activation::Gelu));
    let gated = layer.forward_gated(&layer, &x, Activation::Gelu);
    let mut attention = SelfAttention::new(layer.clone(), layer.clone(), layer, form(6, 2)).unwrap();
    attention.set_precision(Precision::Tf32);
    let all = packing(&[3]);
    let whole = attention.forward(&x, &x, &all.all_rows(), None);
    let one_each = attention.pack(true);
    let multiplies = Backend::of(x.device()).multiplies_in(Precision::Tf32);
    for found in [packed, y.map(drop), gated.map(drop), whole.map(drop), one_each] {
        match found {
            Ok(()) => assert!(multiplies, "f32 passes for tf32"),
            Err(error) => assert!(!multiplies && error.to_string().contains("tf32"), "{error}"),
        }
    }
}

#[test]
fn a_trained_weight_is_used_as_it_is_now() {
    let weight = Var::new(&[[1f32, 2.0]], &Device::Cpu).unwrap();
    let layer = Linear::new(weight.as_tensor().clone(), None).unwrap();
    let x = Tensor::new(&[[3f32, 4.0]], &Device::Cpu).unwrap();
    assert_eq!(values(&layer.forward(&x, Activation::Identity).unwrap()), [11.0]);
    weight.set(&Tensor::new(&[[0f32, 1.0]], &Device::Cpu).unwrap()).unwrap();
    assert_eq!(values(&layer.forward(&x, Activation::Identity).unwrap()), [4.0]);
}

#[test]
fn strided_inputs_are_read_in_their_order() {
    let (x, weight) = (numbers(&[6, 4], 1).t().unwrap(), numbers(&[6, 5], 2).t().unwrap());
    let layer = Linear::new(weight.clone(), None).unwrap();
    let expected = x.matmul(&weight.t().unwrap()).unwrap();
    assert_close(&layer.forward(&x, Activation::Identity).unwrap(), &expected, 1e-5, "values");
}

/// A frozen weight is kept only as it was packed: whatever is asked for afterwards must come from there.
#[test]
fn a_packed_weight_is_still_the_weight() {
    let (weight, bias) = (numbers(&[35, 19], 1), numbers(&[35], 2));
    let x = Var::from_tensor(&numbers(&[5, 19], 3)).unwrap();
    let packed = Linear::new(weight.clone(), Some(bias.clone())).unwrap();
    packed.pack().unwrap();
    for precision in [Precision::F32, Precision::Bf16, Precision::F32] {
        // One came through the packed form, the other did not.
        let again = packed.clone().with_precision(Precision::Bf16).with_precision(precision);
        let fresh = Linear::new(weight.clone(), Some(bias.clone())).unwrap().with_precision(precision);
        let results = [&again, &fresh].map(|layer| {
            let y = layer.forward(&x, Activation::Gelu).unwrap();
            (values(&y), values(&gradient(&loss(&y).backward().unwrap(), &x)))
        });
        assert_eq!(results[0], results[1], "{precision:?}");
    }
}

#[test]
fn layers_are_shared_between_threads() {
    let layer = Linear::new(numbers(&[64, 48], 2), Some(numbers(&[64], 3))).unwrap();
    let x = numbers(&[20, 48], 4);
    let expected = values(&Linear::clone(&layer).forward(&x, Activation::Gelu).unwrap());
    let fresh = Linear::new(numbers(&[64, 48], 2), Some(numbers(&[64], 3))).unwrap();
    std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..4).map(|_| scope.spawn(|| values(&fresh.forward(&x, Activation::Gelu).unwrap()))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), expected);
        }
    });
}
