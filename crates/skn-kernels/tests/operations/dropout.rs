//! Dropout.

use std::slice::from_ref;

use candle_core::{DType, Device, Tensor, Var};
use skn_kernels::{Dropout, composed, dropout};

use crate::common::{check, check_differences, keys, numbers, packing, values};

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
    let ones = Tensor::ones((400, 500), DType::F32, &Device::Cpu).unwrap();
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
    let ones = |rows| Tensor::ones((rows, 33), DType::F32, &Device::Cpu).unwrap();
    let in_batch = dropout(&ones(15), &together.all_rows(), &mask).unwrap().narrow(0, 4, 9).unwrap();
    let by_itself = dropout(&ones(9), &alone.all_rows(), &own).unwrap();
    assert_eq!(values(&in_batch), values(&by_itself));
    let selected = dropout(&ones(2), &together.select(&[5, 10]).unwrap(), &mask).unwrap();
    assert_eq!(values(&selected.get(0).unwrap()), values(&by_itself.get(1).unwrap()));
    assert_eq!(values(&selected.get(1).unwrap()), values(&by_itself.get(6).unwrap()));
}
