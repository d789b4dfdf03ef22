//! Root mean square normalisation, of rows and of heads.

use std::slice::from_ref;

use candle_core::{Tensor, Var};
use proptest::prelude::*;
use skn_kernels::{LayerNorm, RmsNorm, composed};

use crate::common::{check, check_differences, gradient_of, loss, numbers, values, variables};

fn check_rms_norm(rows: usize, heads: usize, width: usize) {
    let variables = variables(&[&[rows, heads * width], &[width]]);
    let [x, weight] = &variables[..] else { panic!("two tensors") };
    // A number alone is its sign: without a larger epsilon its gradient is rounding alone.
    let epsilon = if width == 1 { 1.0 } else { 1e-5 };
    let theirs = || composed::rms_norm(x, weight, epsilon);
    let trained = RmsNorm::new(weight.as_tensor().clone(), epsilon).unwrap();
    assert_eq!(trained.width(), width);
    check(&variables, || trained.forward_heads(x, heads), theirs);
    let frozen = RmsNorm::new(weight.as_detached_tensor(), epsilon).unwrap();
    check(from_ref(x), || frozen.forward_heads(x, heads), theirs);
    let y = frozen.forward_heads(x, heads).unwrap();
    assert_eq!(values(&y), values(&trained.forward_heads(x, heads).unwrap()), "trained or frozen");
    assert!(loss(&y).backward().unwrap().get(weight).is_none());
    let alone = trained.forward_heads(&x.as_detached_tensor(), heads).unwrap();
    let gradients = loss(&alone).backward().unwrap();
    assert!(gradients.get(weight).is_some() && gradients.get(x).is_none());
}

#[test]
fn rms_norm_is_its_composition() {
    for (rows, heads, width) in [(1, 1, 1), (1, 1, 16), (3, 1, 5), (4, 3, 33), (2, 1, 576), (5, 9, 64)] {
        check_rms_norm(rows, heads, width);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn rms_norm_is_its_composition_for_all_sizes(rows in 1usize..10, heads in 1usize..5, width in 1usize..70) {
        check_rms_norm(rows, heads, width);
    }
}

#[test]
fn rms_norm_gradients_are_slopes() {
    let variables = variables(&[&[3, 42], &[21]]);
    let [x, weight] = &variables[..] else { panic!("two tensors") };
    let trained = RmsNorm::new(weight.as_tensor().clone(), 1e-5).unwrap();
    check_differences(&variables, || trained.forward_heads(x, 2));
    let frozen = RmsNorm::new(weight.as_detached_tensor(), 1e-5).unwrap();
    check_differences(from_ref(x), || frozen.forward_heads(x, 2));
}

#[test]
fn heads_are_rows_of_their_own() {
    let (x, norm) = (numbers(&[7, 60], 1), RmsNorm::new(numbers(&[20], 2), 1e-6).unwrap());
    let cut = norm.forward(&x.reshape((21, 20)).unwrap()).unwrap();
    assert_eq!(values(&norm.forward_heads(&x, 3).unwrap()), values(&cut));
}

#[test]
fn a_row_alone_has_the_bits_it_has_beside_others() {
    let x = Var::from_tensor(&numbers(&[9, 66], 1)).unwrap();
    let norm = RmsNorm::new(numbers(&[33], 2), 1e-5).unwrap();
    let run = |x: &Var| {
        let y = norm.forward_heads(x, 2).unwrap();
        let gradient = gradient_of(x)(&y);
        (y, gradient)
    };
    let (all, all_gradients) = run(&x);
    for row in 0..9 {
        let (alone, gradient) = run(&Var::from_tensor(&x.narrow(0, row, 1).unwrap()).unwrap());
        assert_eq!(values(&all.get(row).unwrap()), values(&alone), "row {row}");
        assert_eq!(values(&all_gradients.get(row).unwrap()), values(&gradient), "gradient of row {row}");
    }
}

#[test]
fn no_rows_and_no_heads_are_fine() {
    let norm = RmsNorm::new(numbers(&[4], 1), 1e-5).unwrap();
    for (rows, heads) in [(0, 1), (0, 3), (2, 0)] {
        let x = Var::from_tensor(&numbers(&[rows, 4 * heads], 1)).unwrap();
        let y = norm.forward_heads(&x, heads).unwrap();
        assert_eq!(y.dims(), [rows, 4 * heads]);
        assert!(y.sum_all().unwrap().backward().unwrap().get(&x).is_some());
    }
}

#[test]
fn wrong_shapes_are_named() {
    let norm = RmsNorm::new(numbers(&[4], 1), 1e-5).unwrap();
    let message = |x: &Tensor, heads| norm.forward_heads(x, heads).unwrap_err().to_string();
    let found = message(&numbers(&[2, 6], 1), 1);
    assert!(found.contains("rms norm: expected [rows, 1 * 4], found [2, 6]"), "{found}");
    assert!(message(&numbers(&[2, 4], 1), 2).contains("2 * 4"));
    let doubles = numbers(&[2, 4], 1).to_dtype(candle_core::DType::F64).unwrap();
    assert!(message(&doubles, 1).contains("expected f32, found F64"));
    assert!(
        RmsNorm::new(numbers(&[2, 2], 1), 1e-5).is_err() && RmsNorm::new(numbers(&[0], 1), 1e-5).is_err()
    );
    assert!(composed::rms_norm(&numbers(&[2, 6], 1), &numbers(&[4], 1), 1e-5).is_err());
}

#[test]
fn a_layer_norm_without_a_bias_has_bias_0() {
    let (x, weight) = (numbers(&[3, 20], 1), numbers(&[20], 2));
    let zeros = weight.zeros_like().unwrap();
    let (without, with) = (
        LayerNorm::new(weight.clone(), None, 1e-5).unwrap(),
        LayerNorm::new(weight.clone(), Some(zeros), 1e-5).unwrap(),
    );
    assert_eq!(values(&without.forward(&x).unwrap()), values(&with.forward(&x).unwrap()));
    let variables = variables(&[&[3, 20], &[20]]);
    let [x, weight] = &variables[..] else { panic!("two tensors") };
    let trained = LayerNorm::new(weight.as_tensor().clone(), None, 1e-5).unwrap();
    check_differences(&variables, || trained.forward(x));
}
