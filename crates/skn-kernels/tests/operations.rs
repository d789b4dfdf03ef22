//! Every operation against its composition of candle's operations, and its gradients against finite differences; bits
//! that do not depend on neighbours; masks that do not depend on the batch.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

use std::slice::from_ref;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use proptest::prelude::*;
use skn_kernels::{
    Activation, AttentionForm, Dropout, LayerNorm, Linear, Packing, Precision, RowSelection, SelfAttention,
    attention, composed, dropout, select_rows,
};

const ACTIVATIONS: [Activation; 4] =
    [Activation::Identity, Activation::Gelu, Activation::GeluTanh, Activation::Relu];

/// Numbers from -1 to 1, the same for the same seed.
fn numbers(shape: &[usize], seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(next).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn variables(shapes: &[&[usize]]) -> Vec<Var> {
    let each = shapes.iter().enumerate();
    each.map(|(seed, shape)| Var::from_tensor(&numbers(shape, seed as u32 + 1)).unwrap()).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// A number that depends on every element of `y` in its own way.
fn loss(y: &Tensor) -> Tensor {
    (y * numbers(y.dims(), 99)).unwrap().sum_all().unwrap()
}

fn precise_loss(y: &Tensor) -> f64 {
    values(y).iter().zip(values(&numbers(y.dims(), 99))).map(|(y, w)| f64::from(*y) * f64::from(w)).sum()
}

fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f32, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    for (place, (found, expected)) in values(found).iter().zip(values(expected)).enumerate() {
        let allowed = tolerance * (1.0 + expected.abs());
        assert!(
            (found - expected).abs() <= allowed,
            "{what}, element {place}: {found} instead of {expected}"
        );
    }
}

/// The gradient, or zeros where the graph stopped: candle's own operations do so on empty tensors.
fn gradient(gradients: &GradStore, variable: &Var) -> Tensor {
    gradients.get(variable).cloned().unwrap_or_else(|| variable.zeros_like().unwrap())
}

/// Compares values and all gradients of two versions of an operation of `variables`.
fn check(variables: &[Var], ours: impl Fn() -> Result<Tensor>, theirs: impl Fn() -> Result<Tensor>) {
    let (found, expected) = (ours().unwrap(), theirs().unwrap());
    assert_close(&found, &expected, 2e-5, "values");
    let (found, expected) = (loss(&found).backward().unwrap(), loss(&expected).backward().unwrap());
    for (number, variable) in variables.iter().enumerate() {
        let what = format!("gradient of input {number}");
        assert_close(&gradient(&found, variable), &gradient(&expected, variable), 5e-5, &what);
    }
}

/// Compares each variable's gradient with a central difference along some directions.
fn check_differences(variables: &[Var], operation: impl Fn() -> Result<Tensor>) {
    const STEP: f64 = 1e-2;
    let gradients = loss(&operation().unwrap()).backward().unwrap();
    for (number, variable) in variables.iter().enumerate() {
        let start = variable.as_tensor().copy().unwrap();
        for seed in 0..3 {
            let direction = numbers(variable.dims(), 1000 + seed);
            let at = |step: f64| {
                variable.set(&(&start + (&direction * step).unwrap()).unwrap()).unwrap();
                precise_loss(&operation().unwrap())
            };
            let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            variable.set(&start).unwrap();
            let slope = (gradient(&gradients, variable) * &direction).unwrap().sum_all().unwrap();
            let slope = f64::from(slope.to_scalar::<f32>().unwrap());
            let allowed = 2e-3 * (1.0 + slope.abs());
            assert!((slope - difference).abs() < allowed, "input {number}: {slope} instead of {difference}");
        }
    }
}

fn packing(lengths: &[usize]) -> Packing {
    let mut starts = vec![0];
    for length in lengths {
        starts.push(starts[starts.len() - 1] + length);
    }
    Packing::from_starts(&starts).unwrap()
}

fn keys(numbers: &[u8]) -> Vec<[u8; 32]> {
    numbers.iter().map(|&number| [number; 32]).collect()
}

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
        rows in 1usize..30, inputs in 1usize..50, outputs in 1usize..70, trained in 0usize..8, activation in 0usize..4
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

#[test]
fn wrong_shapes_are_named() {
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    let layer = Linear::new(numbers(&[3, 2], 1), None).unwrap();
    let found = message(layer.forward(&numbers(&[4, 5], 1), Activation::Identity));
    assert!(found.contains("linear: expected [rows, 2], found [4, 5]"), "{found}");
    assert!(Linear::new(numbers(&[3, 2], 1), Some(numbers(&[2], 1))).is_err());
    assert!(Linear::new(numbers(&[3], 1), None).is_err());
    let doubles = numbers(&[4, 2], 1).to_dtype(candle_core::DType::F64).unwrap();
    let found = message(layer.forward(&doubles, Activation::Identity));
    assert!(found.contains("linear: expected f32, found F64"), "{found}");
    assert!(LayerNorm::new(numbers(&[3], 1), numbers(&[2], 1), 1e-5).is_err());
    let norm = LayerNorm::new(numbers(&[3], 1), numbers(&[3], 1), 1e-5).unwrap();
    assert!(norm.forward(&numbers(&[3, 2], 1)).is_err());
    assert!(norm.forward_residual(&numbers(&[3, 3], 1), &numbers(&[2, 3], 1), None).is_err());
    let (packing, x) = (packing(&[2, 1]), numbers(&[3, 6], 1));
    let all = packing.all_rows();
    assert!(attention(&x, &x, &x, &packing, &all, &form(8, 4), None).is_err(), "8 columns of 6");
    assert!(
        attention(&x, &x, &x, &packing, &all, &AttentionForm { heads: 0, ..form(6, 2) }, None).is_err(),
        "no heads"
    );
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let form = AttentionForm { scale, ..form(6, 2) };
        assert!(attention(&x, &x, &x, &packing, &all, &form, None).is_err(), "scale {scale}");
    }
    assert!(
        attention(&x, &x, &x, &packing, &packing.first_rows(1), &form(6, 2), None).is_err(),
        "3 rows for 2 queries"
    );
    let few_keys = Dropout::new(0.5, keys(&[1])).unwrap();
    assert!(
        attention(&x, &x, &x, &packing, &all, &form(6, 2), Some(&few_keys)).is_err(),
        "one key for two sequences"
    );
    assert!(dropout(&x, &all, &few_keys).is_err(), "one key for two sequences");
    assert!(dropout(&x, &packing.first_rows(1), &few_keys).is_err(), "3 rows for 2");
    assert!(select_rows(&numbers(&[2, 6], 1), &all).is_err());
}

#[test]
fn layer_norm_is_its_composition() {
    for (rows, width) in [(1, 1), (1, 16), (3, 5), (4, 33), (2, 768)] {
        let variables = variables(&[&[rows, width], &[width], &[width], &[rows, width]]);
        let [x, weight, bias, residual] = &variables[..] else { panic!("four tensors") };
        // A row of width 1 has no variance: without a larger epsilon its gradient is rounding alone.
        let epsilon = if width == 1 { 1.0 } else { 1e-5 };
        let theirs = |x: &Tensor| composed::layer_norm(x, weight, bias, epsilon);
        let trained = LayerNorm::new(weight.as_tensor().clone(), bias.as_tensor().clone(), epsilon).unwrap();
        check(&variables, || trained.forward(x), || theirs(x));
        check(
            &variables,
            || trained.forward_residual(x, residual, None),
            || theirs(&(x.as_tensor() + residual.as_tensor())?),
        );
        let frozen = LayerNorm::new(weight.as_detached_tensor(), bias.as_detached_tensor(), epsilon).unwrap();
        let inputs = [x.clone(), residual.clone()];
        check(&inputs, || frozen.forward(x), || theirs(x));
        check(
            &inputs,
            || frozen.forward_residual(x, residual, None),
            || theirs(&(x.as_tensor() + residual.as_tensor())?),
        );
        let gradients = loss(&frozen.forward(x).unwrap()).backward().unwrap();
        assert!(gradients.get(weight).is_none() && gradients.get(bias).is_none());
    }
}

#[test]
fn dropout_before_the_sum_is_dropout_and_the_sum() {
    let rows = packing(&[3, 4]).select(&[0, 2, 5]).unwrap();
    let mask = Dropout::new(0.4, keys(&[7, 8])).unwrap();
    let variables = variables(&[&[3, 37], &[37], &[37], &[3, 37]]);
    let [x, weight, bias, residual] = &variables[..] else { panic!("four tensors") };
    let trained = LayerNorm::new(weight.as_tensor().clone(), bias.as_tensor().clone(), 1e-5).unwrap();
    let frozen = LayerNorm::new(weight.as_detached_tensor(), bias.as_detached_tensor(), 1e-5).unwrap();
    let theirs =
        |norm: &LayerNorm| norm.forward_residual(&composed::dropout(x, &rows, &mask)?, residual, None);
    let ours = |norm: &LayerNorm| norm.forward_residual(x, residual, Some((&rows, &mask)));
    check(&variables, || ours(&trained), || theirs(&trained));
    let inputs = [x.clone(), residual.clone()];
    check(&inputs, || ours(&frozen), || theirs(&frozen));
    check_differences(&inputs, || ours(&frozen));
    // Only one of the two may want a gradient.
    let alone = frozen.forward_residual(x, &residual.as_detached_tensor(), Some((&rows, &mask))).unwrap();
    assert!(loss(&alone).backward().unwrap().get(x).is_some());
    let few = Dropout::new(0.4, keys(&[7])).unwrap();
    assert!(frozen.forward_residual(x, residual, Some((&rows, &few))).is_err(), "one key for two sequences");
    let others = packing(&[2]).all_rows();
    assert!(frozen.forward_residual(x, residual, Some((&others, &mask))).is_err(), "2 rows for 3");
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
fn layer_norm_gradients_are_slopes() {
    let variables = variables(&[&[3, 21], &[21], &[21], &[3, 21]]);
    let [x, weight, bias, residual] = &variables[..] else { panic!("four tensors") };
    let norm = LayerNorm::new(weight.as_tensor().clone(), bias.as_tensor().clone(), 1e-5).unwrap();
    check_differences(&variables, || norm.forward_residual(x, residual, None));
    let frozen = LayerNorm::new(weight.as_detached_tensor(), bias.as_detached_tensor(), 1e-5).unwrap();
    check_differences(&[x.clone(), residual.clone()], || frozen.forward_residual(x, residual, None));
    check_differences(from_ref(x), || frozen.forward(x));
}

#[test]
fn only_the_trained_half_of_a_layer_norm_gets_a_gradient() {
    let variables = variables(&[&[2, 6], &[6], &[6]]);
    let [x, weight, bias] = &variables[..] else { panic!("three tensors") };
    let norm = LayerNorm::new(weight.as_detached_tensor(), bias.as_tensor().clone(), 1e-5).unwrap();
    let gradients = loss(&norm.forward(&x.as_detached_tensor()).unwrap()).backward().unwrap();
    assert!(gradients.get(weight).is_none() && gradients.get(x).is_none() && gradients.get(bias).is_some());
}

/// An encoder's form.
fn form(hidden: usize, heads: usize) -> AttentionForm {
    AttentionForm::encoder(hidden, heads).unwrap()
}

fn check_attention(
    packing: &Packing,
    queries: &RowSelection,
    heads: usize,
    width: usize,
    mask: Option<&Dropout>,
) {
    let hidden = heads * width;
    let all = [packing.rows(), hidden];
    let variables = variables(&[&[queries.len(), hidden], &all, &all]);
    let [q, k, v] = &variables[..] else { panic!("three tensors") };
    let form = form(hidden, heads);
    check(
        &variables,
        || attention(q, k, v, packing, queries, &form, mask),
        || composed::attention(q, k, v, packing, queries, &form, mask),
    );
}

#[test]
fn attention_is_its_composition() {
    let packing = packing(&[5, 0, 1, 33, 17]);
    let mask = Dropout::new(0.3, keys(&[1, 2, 3, 4, 5])).unwrap();
    let some = packing.select(&[1, 4, 6, 30, 38, 39, 55]).unwrap();
    for queries in [packing.all_rows(), packing.first_rows(1), some] {
        for (heads, width) in [(1, 1), (2, 8), (3, 21), (2, 64)] {
            check_attention(&packing, &queries, heads, width, None);
            check_attention(&packing, &queries, heads, width, Some(&mask));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn attention_is_its_composition_for_all_lengths(
        lengths in prop::collection::vec(0usize..20, 1..5), first in 1usize..20, heads in 1usize..4, width in 1usize..20
    ) {
        prop_assume!(lengths.iter().sum::<usize>() > 0);
        let packing = packing(&lengths);
        let mask = Dropout::new(0.2, keys(&[9, 8, 7, 6, 5])).unwrap();
        check_attention(&packing, &packing.first_rows(first), heads, width, Some(&mask));
    }
}

#[test]
fn attention_gradients_are_slopes() {
    let packing = packing(&[4, 7]);
    let queries = packing.select(&[0, 2, 5, 6, 10]).unwrap();
    let mask = Dropout::new(0.25, keys(&[1, 2])).unwrap();
    let variables = variables(&[&[5, 12], &[11, 12], &[11, 12]]);
    let [q, k, v] = &variables[..] else { panic!("three tensors") };
    for mask in [None, Some(&mask)] {
        check_differences(&variables, || attention(q, k, v, &packing, &queries, &form(12, 3), mask));
    }
}

/// Query, key and value layers with weights and biases that are not small.
fn projections(hidden: usize, precision: Precision) -> [Linear; 3] {
    [10, 20, 30].map(|seed| {
        let weight = (numbers(&[hidden, hidden], seed) * (3.0 / hidden as f64).sqrt()).unwrap();
        let layer = Linear::new(weight, Some(numbers(&[hidden], seed + 1))).unwrap();
        layer.with_precision(precision)
    })
}

/// What self-attention is: three layers and attention between their results.
fn composed_self_attention(
    layers: &[Linear; 3],
    x: &Tensor,
    asking: &Tensor,
    queries: &RowSelection,
    heads: usize,
    mask: Option<&Dropout>,
) -> Result<Tensor> {
    let [q, k, v] = layers;
    let q = q.forward(asking, Activation::Identity)?;
    let (k, v) = (k.forward(x, Activation::Identity)?, v.forward(x, Activation::Identity)?);
    composed::attention(&q, &k, &v, queries.packing(), queries, &form(x.dim(1)?, heads), mask)
}

#[test]
fn self_attention_is_its_composition() {
    let mask = Dropout::new(0.3, keys(&[1, 2, 3, 4, 5])).unwrap();
    for lengths in [&[5, 0, 1, 33, 17][..], &[0], &[1], &[140]] {
        let packing = packing(lengths);
        for queries in [packing.first_rows(1), packing.first_rows(2), packing.all_rows()] {
            for (heads, width) in [(1, 1), (2, 8), (3, 21), (2, 64)] {
                let hidden = heads * width;
                let layers = projections(hidden, Precision::F32);
                let [q, k, v] = layers.clone();
                let ours = SelfAttention::new(q, k, v, form(hidden, heads)).unwrap();
                // One leaf for the batch and another for the rows that ask, so that each gradient is seen alone.
                let variables = variables(&[&[packing.rows(), hidden], &[queries.len(), hidden]]);
                let [x, asking] = &variables[..] else { panic!("two tensors") };
                for mask in [None, Some(&mask)] {
                    if packing.rows() == 0 {
                        assert_eq!(ours.forward(x, asking, &queries, mask).unwrap().dims(), [0, hidden]);
                        continue;
                    }
                    check(
                        &variables,
                        || ours.forward(x, asking, &queries, mask),
                        || composed_self_attention(&layers, x, asking, &queries, heads, mask),
                    );
                }
            }
        }
    }
}

#[test]
fn self_attention_of_one_row_each_has_slopes_and_bits_of_its_own() {
    let together = packing(&[4, 7]);
    let [q, k, v] = projections(12, Precision::F32);
    let ours = SelfAttention::new(q, k, v, form(12, 3)).unwrap();
    let variables = variables(&[&[11, 12], &[2, 12]]);
    let [x, asking] = &variables[..] else { panic!("two tensors") };
    let answers = together.first_rows(1);
    check_differences(&variables, || ours.forward(x, asking, &answers, None));
    let both = ours.forward(x, asking, &answers, None).unwrap();
    let (own_x, own_asking) = (x.narrow(0, 4, 7).unwrap(), asking.narrow(0, 1, 1).unwrap());
    let alone = ours.forward(&own_x, &own_asking, &packing(&[7]).first_rows(1), None).unwrap();
    assert_eq!(values(&both.narrow(0, 1, 1).unwrap()), values(&alone));
}

#[test]
fn self_attention_in_bf16_is_near() {
    let packing = packing(&[20, 3]);
    let layers = projections(64, Precision::F32);
    let [q, k, v] = layers.clone();
    let mut ours = SelfAttention::new(q, k, v, form(64, 4)).unwrap();
    ours.set_precision(Precision::Bf16);
    let (x, asking) = (numbers(&[23, 64], 1), numbers(&[2, 64], 2));
    let answers = packing.first_rows(1);
    let found = ours.forward(&x, &asking, &answers, None).unwrap();
    let expected = composed_self_attention(&layers, &x, &asking, &answers, 4, None).unwrap();
    assert_close(&found, &expected, 0.02, "values");
    assert_ne!(values(&found), values(&expected), "numbers are rounded");
}

#[test]
fn layers_that_train_get_their_gradients_through_one_row_each() {
    let packing = packing(&[3, 5]);
    let answers = packing.first_rows(1);
    let shapes: Vec<&[usize]> = [&[8, 8][..], &[8]].into_iter().cycle().take(6).collect();
    let (tracked, x) = (variables(&shapes), numbers(&[8, 8], 7));
    let asking = x.narrow(0, 0, 2).unwrap();
    let layers = || -> [Linear; 3] {
        let layer = |n: usize| {
            let [weight, bias] = [0, 1].map(|part| tracked[2 * n + part].as_tensor().clone());
            Linear::new(weight, Some(bias)).unwrap()
        };
        [0, 1, 2].map(layer)
    };
    let ours = || {
        let [q, k, v] = layers();
        SelfAttention::new(q, k, v, form(8, 2))?.forward(&x, &asking, &answers, None)
    };
    check(&tracked, ours, || composed_self_attention(&layers(), &x, &asking, &answers, 2, None));
    let gradients = loss(&ours().unwrap()).backward().unwrap();
    assert!(
        tracked.iter().all(|variable| gradients.get(variable).is_some()),
        "the keys' bias has one too: 0"
    );
}

#[test]
fn self_attention_of_wrong_shapes_is_refused() {
    let [q, k, v] = projections(8, Precision::F32);
    let error = |heads| AttentionForm::encoder(8, heads).unwrap_err().to_string();
    assert!(error(3).contains("divides 8, found 3") && error(0).contains("found 0"));
    let narrow = Linear::new(numbers(&[4, 8], 1), None).unwrap();
    let error = SelfAttention::new(q.clone(), narrow, v.clone(), form(8, 2)).unwrap_err().to_string();
    assert!(error.contains("key weight [8, 8], found [4, 8]"), "{error}");
    let ours = SelfAttention::new(q, k, v, form(8, 2)).unwrap();
    let answers = packing(&[3]).first_rows(1);
    let error = ours.forward(&numbers(&[4, 8], 1), &numbers(&[1, 8], 2), &answers, None).unwrap_err();
    assert!(error.to_string().contains("expected [3, 8]"), "{error}");
}

#[test]
fn attention_of_equal_keys_is_the_mean() {
    let packing = packing(&[3]);
    let (q, k) = (numbers(&[3, 4], 1), Tensor::zeros((3, 4), candle_core::DType::F32, &Device::Cpu).unwrap());
    let v = Tensor::new(&[[3f32, 0.0, 1.0, 6.0], [0.0, 0.0, 2.0, 3.0], [0.0, 9.0, 3.0, 0.0]], &Device::Cpu)
        .unwrap();
    let found = attention(&q, &k, &v, &packing, &packing.all_rows(), &form(4, 2), None).unwrap();
    let expected = Tensor::new(&[[1f32, 3.0, 2.0, 3.0]; 3], &Device::Cpu).unwrap();
    assert_close(&found, &expected, 1e-6, "values");
}

#[test]
fn nothing_at_all_is_fine() {
    let packing = packing(&[0, 3]);
    let none = packing.first_rows(0);
    let x = Var::from_tensor(&numbers(&[3, 8], 1)).unwrap();
    let empty = select_rows(&x, &none).unwrap();
    assert_eq!(empty.dims(), [0, 8]);
    let mixed = attention(&empty, &x, &x, &packing, &none, &form(8, 2), None).unwrap();
    assert_eq!(mixed.dims(), [0, 8]);
    let norm = LayerNorm::new(numbers(&[8], 1), numbers(&[8], 2), 1e-5).unwrap();
    let mask = Dropout::new(0.5, keys(&[1, 2])).unwrap();
    let y = dropout(&norm.forward_residual(&mixed, &empty, None).unwrap(), &none, &mask).unwrap();
    assert_eq!(y.dims(), [0, 8]);
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert!(values(&gradient(&gradients, &x)).iter().all(|&value| value == 0.0));
}

#[test]
fn dropout_keeps_what_it_should_and_passes_gradients() {
    let packing = packing(&[7, 3]);
    let rows = packing.select(&[0, 3, 8]).unwrap();
    let mask = Dropout::new(0.4, keys(&[3, 4])).unwrap();
    let x = Var::from_tensor(&numbers(&[3, 50], 1)).unwrap();
    check(from_ref(&x), || dropout(&x, &rows, &mask), || composed::dropout(&x, &rows, &mask));
    check_differences(from_ref(&x), || dropout(&x, &rows, &mask));
    let never = Dropout::new(0.0, keys(&[3, 4])).unwrap();
    assert_eq!(values(&dropout(&x, &rows, &never).unwrap()), values(&x));
}

#[test]
fn dropout_keeps_the_asked_share() {
    let packing = packing(&[200, 200]);
    let mask = Dropout::new(0.1, keys(&[1, 2])).unwrap();
    let ones = Tensor::ones((400, 500), candle_core::DType::F32, &Device::Cpu).unwrap();
    let kept = values(&dropout(&ones, &packing.all_rows(), &mask).unwrap());
    let count = kept.iter().filter(|&&value| value != 0.0).count() as f64;
    // 200,000 draws: the standard deviation is 134.
    assert!((count - 180_000.0).abs() < 700.0, "{count}");
    assert!(kept.iter().all(|&value| value == 0.0 || (value - 1.0 / 0.9).abs() < 1e-6));
}

#[test]
fn a_mask_depends_neither_on_the_batch_nor_on_the_rows_computed() {
    let (together, alone) = (packing(&[4, 9, 2]), packing(&[9]));
    let (mask, own) = (Dropout::new(0.5, keys(&[1, 2, 3])).unwrap(), Dropout::new(0.5, keys(&[2])).unwrap());
    let ones = |rows| Tensor::ones((rows, 33), candle_core::DType::F32, &Device::Cpu).unwrap();
    let in_batch = dropout(&ones(15), &together.all_rows(), &mask).unwrap().narrow(0, 4, 9).unwrap();
    let by_itself = dropout(&ones(9), &alone.all_rows(), &own).unwrap();
    assert_eq!(values(&in_batch), values(&by_itself));
    let selected = dropout(&ones(2), &together.select(&[5, 10]).unwrap(), &mask).unwrap();
    assert_eq!(values(&selected.get(0).unwrap()), values(&by_itself.get(1).unwrap()));
    assert_eq!(values(&selected.get(1).unwrap()), values(&by_itself.get(6).unwrap()));
}

#[test]
fn a_row_alone_has_the_bits_it_has_in_a_batch() {
    let x = Var::from_tensor(&numbers(&[145, 100], 1)).unwrap();
    let layer = Linear::new(numbers(&[70, 100], 2), Some(numbers(&[70], 3))).unwrap();
    let norm = LayerNorm::new(numbers(&[100], 4), numbers(&[100], 5), 1e-5).unwrap();
    let run = |x: &Tensor| -> Vec<Tensor> {
        let gelu = layer.forward(x, Activation::Gelu).unwrap();
        let relu = layer.forward(x, Activation::Relu).unwrap();
        vec![gelu, relu, norm.forward(x).unwrap(), norm.forward_residual(x, x, None).unwrap()]
    };
    let (all, all_gradients) = (run(&x), run(&x).iter().map(gradient_of(&x)).collect::<Vec<_>>());
    for row in [0, 11, 12, 131, 132, 144] {
        let alone = Var::from_tensor(&x.narrow(0, row, 1).unwrap()).unwrap();
        for (all, one) in all.iter().zip(run(&alone)) {
            assert_eq!(values(&all.get(row).unwrap()), values(&one), "row {row}");
        }
        let alone_gradients = run(&alone);
        for (all, one) in all_gradients.iter().zip(alone_gradients.iter().map(gradient_of(&alone))) {
            assert_eq!(values(&all.get(row).unwrap()), values(&one), "gradient of row {row}");
        }
        // Without a gradient the activation is part of the product: the same bits.
        for (all, one) in all.iter().zip(run(&alone.as_detached_tensor())) {
            assert_eq!(values(&all.get(row).unwrap()), values(&one), "row {row} without a graph");
        }
    }
}

fn gradient_of(x: &Var) -> impl Fn(&Tensor) -> Tensor + '_ {
    |y| gradient(&y.sum_all().unwrap().backward().unwrap(), x)
}

#[test]
fn a_sequence_alone_has_the_bits_it_has_in_a_batch() {
    let together = packing(&[3, 37, 14]);
    let alone = packing(&[37]);
    let mask = Dropout::new(0.1, keys(&[1, 2, 3])).unwrap();
    let own = Dropout::new(0.1, keys(&[2])).unwrap();
    let all: Vec<Var> = variables(&[&[54, 32], &[54, 32], &[54, 32]]);
    let part: Vec<Var> =
        all.iter().map(|x| Var::from_tensor(&x.narrow(0, 3, 37).unwrap()).unwrap()).collect();
    let in_batch =
        attention(&all[0], &all[1], &all[2], &together, &together.all_rows(), &form(32, 4), Some(&mask))
            .unwrap();
    let by_itself =
        attention(&part[0], &part[1], &part[2], &alone, &alone.all_rows(), &form(32, 4), Some(&own)).unwrap();
    assert_eq!(values(&in_batch.narrow(0, 3, 37).unwrap()), values(&by_itself));
    let (in_batch_gradients, own_gradients) =
        (in_batch.sum_all().unwrap().backward().unwrap(), by_itself.sum_all().unwrap().backward().unwrap());
    for (all, part) in all.iter().zip(&part) {
        let of_batch = gradient(&in_batch_gradients, all).narrow(0, 3, 37).unwrap();
        assert_eq!(values(&of_batch), values(&gradient(&own_gradients, part)));
    }
    // Neither does a query's result depend on which others are asked.
    let asked = together.select(&[4, 20, 39]).unwrap();
    let q = select_rows(&all[0], &asked).unwrap();
    let some = attention(&q, &all[1], &all[2], &together, &asked, &form(32, 4), Some(&mask)).unwrap();
    assert_eq!(values(&some), values(&select_rows(&in_batch, &asked).unwrap()));
}

#[test]
fn selected_rows_pass_their_gradients_back() {
    let packing = packing(&[2, 3]);
    let x = Var::from_tensor(&numbers(&[5, 4], 1)).unwrap();
    let rows = packing.select(&[1, 2]).unwrap();
    let selected = select_rows(&x, &rows).unwrap();
    assert_eq!(values(&selected), values(&x.narrow(0, 1, 2).unwrap()));
    check_differences(from_ref(&x), || select_rows(&x, &rows));
    let all = packing.all_rows();
    check_differences(from_ref(&x), || select_rows(&x, &all));
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
