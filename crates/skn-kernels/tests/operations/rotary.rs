//! Rotary positions.

use std::slice::from_ref;

use candle_core::{Tensor, Var};
use proptest::prelude::*;
use skn_kernels::{Packing, Rotary, RowSelection, composed};

use crate::common::{check, check_differences, gradient, loss, numbers, packing, values};

/// Inverse frequencies of base 10,000.
fn frequencies(rotated: usize) -> Vec<f64> {
    (0..rotated / 2).map(|i| 10_000f64.powf(-2.0 * i as f64 / rotated as f64)).collect()
}

fn check_rotary(rows: &RowSelection, heads: usize, head_width: usize, rotated: usize) {
    let x = Var::from_tensor(&numbers(&[rows.len(), heads * head_width], 1)).unwrap();
    let rotary = Rotary::new(&frequencies(rotated), head_width).unwrap();
    assert_eq!(rotary.head_width(), head_width);
    for rotary in [rotary.clone(), rotary.with_factor(1.25).unwrap()] {
        check(from_ref(&x), || rotary.apply(&x, rows), || composed::rotary(&x, rows, &rotary));
    }
}

#[test]
fn rotary_is_its_composition() {
    let packing = packing(&[5, 0, 1, 33]);
    for rows in [packing.all_rows(), packing.first_rows(1), packing.select(&[3, 5, 7, 38]).unwrap()] {
        for (heads, head_width, rotated) in [(1, 2, 2), (3, 21, 10), (9, 64, 64), (2, 64, 16), (2, 5, 0)] {
            check_rotary(&rows, heads, head_width, rotated);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn rotary_is_its_composition_for_all_sizes(
        lengths in prop::collection::vec(0usize..20, 1..4), heads in 1usize..4, half in 1usize..20, rest in 0usize..4
    ) {
        prop_assume!(lengths.iter().sum::<usize>() > 0);
        check_rotary(&packing(&lengths).all_rows(), heads, 2 * half + rest, 2 * half);
    }
}

/// Each pair is a complex number that is multiplied with `e^(i * position * frequency)`, computed in f64.
#[test]
fn pairs_turn_by_position_times_frequency() {
    let (packing, width, heads) = (packing(&[700, 3]), 12, 2);
    let frequencies = frequencies(8);
    let rotary = Rotary::new(&frequencies, width).unwrap();
    let x = numbers(&[703, heads * width], 1);
    let found = rotary.apply(&x, &packing.all_rows()).unwrap().to_vec2::<f32>().unwrap();
    for (row, (found, x)) in found.iter().zip(x.to_vec2::<f32>().unwrap()).enumerate() {
        let position = if row < 700 { row } else { row - 700 } as f64;
        for head in 0..heads {
            let [found, x] = [found, &x].map(|row| &row[head * width..(head + 1) * width]);
            for (i, frequency) in frequencies.iter().enumerate() {
                let (sin, cos) = (position * frequency).sin_cos();
                let (a, b) = (f64::from(x[i]), f64::from(x[i + 4]));
                let expected = [a * cos - b * sin, b * cos + a * sin];
                for (found, expected) in [found[i], found[i + 4]].into_iter().zip(expected) {
                    assert!((f64::from(found) - expected).abs() < 3e-7, "row {row}, pair {i}");
                }
            }
            assert_eq!(found[8..], x[8..], "the rest of a head passes through");
        }
    }
}

#[test]
fn rotary_gradients_are_slopes() {
    let packing = packing(&[4, 7]);
    let rows = packing.select(&[0, 2, 5, 6, 10]).unwrap();
    let x = Var::from_tensor(&numbers(&[5, 20], 1)).unwrap();
    let rotary = Rotary::new(&frequencies(6), 10).unwrap();
    check_differences(from_ref(&x), || rotary.apply(&x, &rows));
}

#[test]
fn a_row_alone_has_the_bits_it_has_beside_others() {
    let together = packing(&[3, 37, 14]);
    let rotary = Rotary::new(&frequencies(16), 16).unwrap();
    let x = Var::from_tensor(&numbers(&[54, 32], 1)).unwrap();
    let all = rotary.apply(&x, &together.all_rows()).unwrap();
    let gradients = gradient(&all.sum_all().unwrap().backward().unwrap(), &x);
    for number in [0u32, 2, 3, 20, 53] {
        let row = together.select(&[number]).unwrap();
        let own = Var::from_tensor(&x.narrow(0, number as usize, 1).unwrap()).unwrap();
        let alone = rotary.apply(&own, &row).unwrap();
        assert_eq!(values(&alone), values(&all.get(number as usize).unwrap()));
        let of_alone = gradient(&alone.sum_all().unwrap().backward().unwrap(), &own);
        assert_eq!(values(&of_alone), values(&gradients.get(number as usize).unwrap()));
    }
    let alone = rotary.apply(&x.narrow(0, 3, 37).unwrap(), &packing(&[37]).all_rows()).unwrap();
    assert_eq!(values(&alone), values(&all.narrow(0, 3, 37).unwrap()));
}

#[test]
fn threads_share_one_table() {
    let rotary = Rotary::new(&frequencies(8), 8).unwrap();
    let run = |rotary: &Rotary, length: usize| {
        let rows = packing(&[length]).all_rows();
        values(&rotary.apply(&numbers(&[length, 16], 1), &rows).unwrap())
    };
    std::thread::scope(|scope| {
        let (rotary, run) = (&rotary, &run);
        for length in [1usize, 50, 300, 20] {
            scope.spawn(move || {
                let fresh = Rotary::new(&frequencies(8), 8).unwrap();
                assert_eq!(run(rotary, length), run(&fresh, length));
            });
        }
    });
}

#[test]
fn no_rows_are_fine_and_wrong_shapes_are_named() {
    let rotary = Rotary::new(&frequencies(4), 6).unwrap();
    let none = Packing::from_starts(&[0, 0]).unwrap().all_rows();
    let x = Var::from_tensor(&numbers(&[0, 12], 1)).unwrap();
    let y = rotary.apply(&x, &none).unwrap();
    assert_eq!(y.dims(), [0, 12]);
    assert!(loss(&y).backward().unwrap().get(&x).is_some());
    let message = |x: &Tensor| rotary.apply(x, &packing(&[2]).all_rows()).unwrap_err().to_string();
    let found = message(&numbers(&[2, 10], 1));
    assert!(found.contains("rotary: expected [2, a multiple of 6], found [2, 10]"), "{found}");
    assert!(message(&numbers(&[3, 12], 1)).contains("found [3, 12]"));
    let doubles = numbers(&[2, 12], 1).to_dtype(candle_core::DType::F64).unwrap();
    assert!(message(&doubles).contains("expected f32, found F64"));
    let found = Rotary::new(&frequencies(8), 6).unwrap_err().to_string();
    assert!(found.contains("at most 3 inverse frequencies for heads of 6, found 4"), "{found}");
    assert!(Rotary::new(&[], 0).is_err() && Rotary::new(&[f64::NAN], 4).is_err());
    assert!(rotary.with_factor(f64::INFINITY).is_err());
}
