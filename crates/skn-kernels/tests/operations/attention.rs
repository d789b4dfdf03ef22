//! Attention inside each sequence.

use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;
use skn_kernels::{Dropout, Packing, RowSelection, attention, composed, select_rows};

use crate::common::{
    assert_close, check, check_differences, form, gradient, keys, numbers, packing, values, variables,
};

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

#[test]
fn attention_of_equal_keys_is_the_mean() {
    let packing = packing(&[3]);
    let (q, k) = (numbers(&[3, 4], 1), Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap());
    let v = Tensor::new(&[[3f32, 0.0, 1.0, 6.0], [0.0, 0.0, 2.0, 3.0], [0.0, 9.0, 3.0, 0.0]], &Device::Cpu)
        .unwrap();
    let found = attention(&q, &k, &v, &packing, &packing.all_rows(), &form(4, 2), None).unwrap();
    let expected = Tensor::new(&[[1f32, 3.0, 2.0, 3.0]; 3], &Device::Cpu).unwrap();
    assert_close(&found, &expected, 1e-6, "values");
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
