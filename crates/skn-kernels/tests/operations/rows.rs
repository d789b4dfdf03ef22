//! What holds for all operations: bits of a row alone, nothing at all, wrong shapes.

use std::slice::from_ref;

use candle_core::{DType, Result, Tensor, Var};
use skn_kernels::{
    Activation, AttentionForm, Dropout, LayerNorm, Linear, attention, dropout, rows_at_positions, rows_of,
    select_rows, zeros_on,
};

use crate::common::{check_differences, form, gradient, gradient_of, keys, numbers, packing, values};

#[test]
fn wrong_shapes_are_named() {
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    let layer = Linear::new(numbers(&[3, 2], 1), None).unwrap();
    let found = message(layer.forward(&numbers(&[4, 5], 1), Activation::Identity));
    assert!(found.contains("linear: expected [rows, 2], found [4, 5]"), "{found}");
    assert!(Linear::new(numbers(&[3, 2], 1), Some(numbers(&[2], 1))).is_err());
    assert!(Linear::new(numbers(&[3], 1), None).is_err());
    let doubles = numbers(&[4, 2], 1).to_dtype(DType::F64).unwrap();
    let found = message(layer.forward(&doubles, Activation::Identity));
    assert!(found.contains("linear: expected f32, found F64"), "{found}");
    assert!(LayerNorm::new(numbers(&[3], 1), Some(numbers(&[2], 1)), 1e-5).is_err());
    let norm = LayerNorm::new(numbers(&[3], 1), Some(numbers(&[3], 1)), 1e-5).unwrap();
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
fn nothing_at_all_is_fine() {
    let packing = packing(&[0, 3]);
    let none = packing.first_rows(0);
    let x = Var::from_tensor(&numbers(&[3, 8], 1)).unwrap();
    let empty = select_rows(&x, &none).unwrap();
    assert_eq!(empty.dims(), [0, 8]);
    let mixed = attention(&empty, &x, &x, &packing, &none, &form(8, 2), None).unwrap();
    assert_eq!(mixed.dims(), [0, 8]);
    let norm = LayerNorm::new(numbers(&[8], 1), Some(numbers(&[8], 2)), 1e-5).unwrap();
    let mask = Dropout::new(0.5, keys(&[1, 2])).unwrap();
    let y = dropout(&norm.forward_residual(&mixed, &empty, None).unwrap(), &none, &mask).unwrap();
    assert_eq!(y.dims(), [0, 8]);
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert!(values(&gradient(&gradients, &x)).iter().all(|&value| value == 0.0));
}

#[test]
fn a_row_alone_has_the_bits_it_has_in_a_batch() {
    let x = Var::from_tensor(&numbers(&[145, 100], 1)).unwrap();
    let layer = Linear::new(numbers(&[70, 100], 2), Some(numbers(&[70], 3))).unwrap();
    let norm = LayerNorm::new(numbers(&[100], 4), Some(numbers(&[100], 5)), 1e-5).unwrap();
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
fn rows_are_picked_by_position_and_by_number() {
    let table = Var::from_tensor(&numbers(&[5, 4], 1)).unwrap();
    let row = |number| values(&table.get(number).unwrap());
    let rows = packing(&[2, 0, 3]).select(&[1, 2, 4]).unwrap();
    let by_position = rows_at_positions(&table, &rows).unwrap();
    assert_eq!(values(&by_position), [row(1), row(0), row(2)].concat());
    let by_number = rows_of(&table, &[4, 4, 0]).unwrap();
    assert_eq!(values(&by_number), [row(4), row(4), row(0)].concat());
    check_differences(from_ref(&table), || rows_at_positions(&table, &rows));
    check_differences(from_ref(&table), || rows_of(&table, &[4, 4, 0]));
}

#[test]
fn no_rows_are_rows_too() {
    let table = Var::from_tensor(&numbers(&[5, 4], 1)).unwrap();
    assert_eq!(zeros_on((0, 4), table.device()).unwrap().dims(), [0, 4]);
    for none in [rows_of(&table, &[]).unwrap(), rows_at_positions(&table, &packing(&[0]).all_rows()).unwrap()]
    {
        assert_eq!(none.dims(), [0, 4]);
        let gradients = none.sum_all().unwrap().backward().unwrap();
        assert!(values(&gradient(&gradients, &table)).iter().all(|&value| value == 0.0));
    }
}

#[test]
fn a_row_that_is_not_there_is_refused_by_its_number() {
    let table = numbers(&[5, 4], 1);
    assert!(rows_of(&table, &[4, 0]).is_ok());
    let error = rows_of(&table, &[4, 5, 0]).unwrap_err().to_string();
    assert!(error.starts_with("rows of a table: expected numbers of rows below 5, found 5"), "{error}");
    // Of no columns too, where nothing is picked.
    assert!(rows_of(&numbers(&[5, 0], 1), &[u32::MAX]).is_err());
    let packing = packing(&[2, 6, 3]);
    let error = rows_at_positions(&table, &packing.all_rows()).unwrap_err().to_string();
    assert!(error.starts_with("rows at positions: expected numbers of rows below 5, found 5"), "{error}");
    assert!(rows_at_positions(&table, &packing.first_rows(5)).is_ok());
}
