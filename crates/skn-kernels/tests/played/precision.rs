//! What a card holds of a frozen weight, and products in tf32, which only cards make.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor, Var};
use skn_kernels::{Activation, AttentionForm, Linear, Packing, Precision, SelfAttention, composed};

use crate::common::{assert_close, gradient, numbers, values};
use crate::compile;

const SIDES: [usize; 2] = [33, 20];
const NUMBERS: usize = SIDES[0] * SIDES[1];

/// Both passes through a layer: the result, and the gradient of its input.
fn passes(layer: &Linear) -> [Vec<f32>; 2] {
    let x = Var::from_tensor(&numbers(&[5, SIDES[1]], 3)).unwrap();
    let y = layer.forward(&x, Activation::Gelu).unwrap();
    let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    [values(&y), values(&gradient(&gradients, &x))]
}

#[test]
fn a_weight_that_was_given_is_held_once() {
    if compile::program().is_none() {
        return;
    }
    let layer = |precision| Linear::new(numbers(&SIDES, 1), None).unwrap().with_precision(precision);
    for (precision, bytes) in [(Precision::F32, 4), (Precision::Tf32, 4), (Precision::Bf16, 2)] {
        let layer = layer(precision);
        assert_eq!(layer.weight_bytes(), 4 * NUMBERS, "as it was given");
        let found = passes(&layer);
        assert_eq!(layer.weight_bytes(), bytes * NUMBERS, "{precision:?}");
        assert_eq!(passes(&layer.clone()), found, "what is left is enough");
    }
    // What was rounded is no weight in f32 any more, and does not pass for one.
    let layer = layer(Precision::Bf16);
    layer.pack().unwrap();
    for precision in [Precision::F32, Precision::Tf32] {
        let exact = layer.clone().with_precision(precision);
        let error = exact.forward(&numbers(&[5, SIDES[1]], 3), Activation::Identity).unwrap_err().to_string();
        assert!(error.contains("rounded to bf16"), "{error}");
    }
}

#[test]
fn a_weight_that_is_read_later_is_held_as_products_need_it() {
    if compile::program().is_none() {
        return;
    }
    let weight = numbers(&SIDES, 1);
    let reads = Arc::new(AtomicUsize::new(0));
    let (all, counted) = (values(&weight), Arc::clone(&reads));
    let read = move |rows: std::ops::Range<usize>, to: &mut Vec<f32>| {
        counted.fetch_add(1, Ordering::Relaxed);
        to.extend_from_slice(&all[rows.start * SIDES[1]..rows.end * SIDES[1]]);
        Ok(())
    };
    let bias = Tensor::zeros(SIDES[0], candle_core::DType::F32, &Device::Cpu).unwrap();
    let mut layer = Linear::deferred(SIDES, bias, read).unwrap();
    // There and back again: what was rounded is read anew.
    let order = [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F32];
    for (precision, bytes, expected_reads) in
        [(order[0], 4, 1), (order[1], 4, 1), (order[2], 2, 1), (order[3], 4, 2)]
    {
        layer.set_precision(precision);
        let given = Linear::new(weight.clone(), None).unwrap().with_precision(precision);
        assert_eq!(passes(&layer), passes(&given), "{precision:?}");
        passes(&layer);
        assert_eq!(layer.weight_bytes(), bytes * NUMBERS, "{precision:?}");
        assert_eq!(reads.load(Ordering::Relaxed), expected_reads, "{precision:?}");
    }
}

#[test]
fn nothing_is_held_of_a_layer_without_neurons() {
    if compile::program().is_none() {
        return;
    }
    for [outputs, inputs] in [[0, 4], [4, 0]] {
        for precision in Precision::ALL {
            let read = |_, _: &mut Vec<f32>| Ok(());
            let bias = numbers(&[outputs], 1);
            let deferred = Linear::deferred([outputs, inputs], bias.clone(), read).unwrap();
            let given = Linear::new(numbers(&[outputs, inputs], 1), Some(bias.clone())).unwrap();
            for layer in [deferred, given] {
                let layer = layer.with_precision(precision);
                let y = layer.forward(&numbers(&[2, inputs], 1), Activation::Identity).unwrap();
                assert_eq!(values(&y), [values(&bias), values(&bias)].concat());
                assert_eq!(layer.weight_bytes(), 0);
            }
        }
    }
}

/// With 11 bits of precision; halves go away from 0.
fn rounded(x: &Tensor) -> Tensor {
    let round = |number: f32| {
        let scale = 2f64.powi(10 - number.abs().log2().floor() as i32);
        ((f64::from(number) * scale).round() / scale) as f32
    };
    let numbers =
        values(x).into_iter().map(|number| if number == 0.0 { 0.0 } else { round(number) }).collect();
    Tensor::from_vec(numbers, x.shape(), x.device()).unwrap()
}

#[test]
fn tf32_is_the_product_of_rounded_numbers() {
    if compile::program().is_none() {
        return;
    }
    for [rows, inputs, outputs] in [[5, 37, 19], [1, 2, 64], [14, 64, 33]] {
        let x = Var::from_tensor(&numbers(&[rows, inputs], 1)).unwrap();
        let (weight, bias) = (numbers(&[outputs, inputs], 2), numbers(&[outputs], 3));
        let layer = Linear::new(weight.clone(), Some(bias.clone())).unwrap();
        let tf32 = layer.clone().with_precision(Precision::Tf32);
        let y = tf32.forward(&x, Activation::Identity).unwrap();
        let expected =
            composed::linear(&rounded(&x), &rounded(&weight), &bias, Activation::Identity).unwrap();
        assert_close(&y, &expected, 1e-5, "tf32 forward");
        assert_ne!(values(&y), values(&layer.forward(&x, Activation::Identity).unwrap()), "it is not f32");
        let coefficients = numbers(&[rows, outputs], 4);
        let gradients = (&y * &coefficients).unwrap().sum_all().unwrap().backward().unwrap();
        let expected = rounded(&coefficients).matmul(&rounded(&weight)).unwrap();
        assert_close(&gradient(&gradients, &x), &expected, 1e-5, "tf32 input gradient");
    }
}

/// The bits of a tensor of bf16, of what is no number the same.
fn bits(x: &Tensor) -> Vec<u16> {
    let bit = |number: half::bf16| if number.is_nan() { u16::MAX } else { number.to_bits() };
    x.flatten_all().unwrap().to_vec1::<half::bf16>().unwrap().into_iter().map(bit).collect()
}

/// What a reader in bf16 is made for is rounded as it would have rounded that, and nothing else is.
#[track_caller]
fn check_rounded(found: &Tensor, whole: &Tensor, reader: &Linear) {
    assert_eq!((found.dtype(), whole.dtype()), (DType::BF16, DType::F32));
    assert_eq!(found.dims(), whole.dims());
    assert_eq!(bits(found), bits(&whole.to_dtype(DType::BF16).unwrap()));
    let [found, expected] = [found, whole].map(|x| values(&reader.forward(x, Activation::Identity).unwrap()));
    let bit = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bit(found), bit(expected));
}

fn reader(inputs: usize) -> Linear {
    Linear::new(numbers(&[3, inputs], 7), None).unwrap().with_precision(Precision::Bf16)
}

#[test]
fn neurons_are_rounded_for_who_reads_them() {
    if compile::program().is_none() {
        return;
    }
    // Four columns of a quad, and others.
    for [rows, inputs, outputs] in [[5, 20, 33], [3, 8, 64], [1, 4, 1], [300, 3, 12]] {
        let x = numbers(&[rows, inputs], 1);
        let layer = |seed| {
            Linear::new(numbers(&[outputs, inputs], seed), Some(numbers(&[outputs], seed + 1))).unwrap()
        };
        let ([gate, up], read) = ([layer(2), layer(4)], reader(outputs));
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
            let whole = up.forward(&x, activation).unwrap();
            check_rounded(&up.forward_for(&x, activation, Some(&read)).unwrap(), &whole, &read);
            let whole = gate.forward_gated(&up, &x, activation).unwrap();
            check_rounded(&gate.forward_gated_for(&up, &x, activation, Some(&read)).unwrap(), &whole, &read);
        }
        // Nobody rounds for a reader that does not, and nothing is rounded that needs a gradient.
        let exact = read.clone().with_precision(Precision::Tf32);
        let variable = Var::from_tensor(&x).unwrap();
        for (x, read) in [(&x, &exact), (variable.as_tensor(), &read)] {
            let found = up.forward_for(x, Activation::Gelu, Some(read)).unwrap();
            assert_eq!(found.dtype(), DType::F32);
            let found = gate.forward_gated_for(&up, x, Activation::Gelu, Some(read)).unwrap();
            assert_eq!(found.dtype(), DType::F32);
            assert_eq!(reader(inputs).rounded(variable.as_tensor()).unwrap().dtype(), DType::F32);
        }
    }
}

/// Halves, the largest numbers, and what is none; through an activation that changes nothing of them.
#[test]
fn every_kind_of_number_is_rounded() {
    if compile::program().is_none() {
        return;
    }
    let half = f32::from_bits(0x3f80_8000);
    let odd_half = f32::from_bits(0x3f81_8000);
    let kinds = [0.0, 1.0, half, odd_half, f32::from_bits(0x3f80_8001), f32::MAX, f32::MIN_POSITIVE, 1e-42];
    let kinds: Vec<f32> = [&kinds[..], &[f32::INFINITY, f32::NAN]].concat();
    for outputs in [4, 3] {
        let read = reader(outputs);
        let x = Tensor::new(kinds.clone(), &Device::Cpu).unwrap().unsqueeze(1).unwrap();
        let ones = Tensor::ones((outputs, 1), DType::F32, &Device::Cpu).unwrap();
        let layer = Linear::new(ones, None).unwrap();
        let found = layer.forward_for(&x, Activation::Relu, Some(&read)).unwrap();
        let expected = layer.forward(&x, Activation::Relu).unwrap().to_dtype(DType::BF16).unwrap();
        assert_eq!(bits(&found), bits(&expected));
        assert_eq!(bits(&found)[2 * outputs], 0x3f80, "a half goes to the even one");
        assert_eq!(bits(&found)[3 * outputs], 0x3f82, "a half goes to the even one");
    }
}

#[test]
fn what_rows_attend_to_is_rounded_for_who_reads_it() {
    if compile::program().is_none() {
        return;
    }
    for (width, heads) in [(8, 3), (40, 1), (64, 2), (130, 1), (260, 1)] {
        let hidden = width * heads;
        let form = AttentionForm::encoder(hidden, heads).unwrap();
        let layer = |seed| {
            let layer = Linear::new(numbers(&[hidden, hidden], seed), None).unwrap();
            layer.with_precision(Precision::Bf16)
        };
        let attention = SelfAttention::new(layer(1), layer(2), layer(3), form).unwrap();
        let packing = Packing::from_starts(&[0, 5, 6, 17]).unwrap();
        let x = numbers(&[17, hidden], 4);
        let read = reader(hidden);
        for rows in [packing.all_rows(), packing.first_rows(1)] {
            let asking = skn_kernels::select_rows(&x, &rows).unwrap();
            let whole = attention.forward(&x, &asking, &rows, None).unwrap();
            let found = attention.forward_for(&x, &asking, &rows, None, Some(&read)).unwrap();
            match width {
                // Composed of candle's operations.
                260 => assert_eq!(found.dtype(), DType::F32),
                _ => check_rounded(&found, &whole, &read),
            }
        }
    }
}

/// Rows are rounded for all three layers or for none.
#[test]
fn layers_of_other_precisions_read_the_same_rows() {
    if compile::program().is_none() {
        return;
    }
    let packing = Packing::from_starts(&[0, 5, 6]).unwrap();
    let (x, rows) = (numbers(&[6, 8], 4), packing.all_rows());
    for exact in 0..3 {
        let layer = |place: u32| {
            let rounds = if place == exact { Precision::F32 } else { Precision::Bf16 };
            Linear::new(numbers(&[8, 8], place + 1), None).unwrap().with_precision(rounds)
        };
        let form = AttentionForm::encoder(8, 2).unwrap();
        let attention = SelfAttention::new(layer(0), layer(1), layer(2), form).unwrap();
        let found = attention.forward(&x, &x, &rows, None).unwrap();
        let [q, k, v] = [0, 1, 2].map(|place| layer(place).forward(&x, Activation::Identity).unwrap());
        let expected = skn_kernels::attention(&q, &k, &v, &packing, &rows, &form, None).unwrap();
        assert_eq!(values(&found), values(&expected));
    }
}
