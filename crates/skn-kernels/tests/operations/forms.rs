//! Attention in the forms of other models: grouped heads, heads of their own width, soft caps, and rows that don't see all.

use candle_core::{Tensor, Var};
use proptest::prelude::*;
use skn_kernels::{AttentionForm, Dropout, Packing, RowSelection, Sees, attention, composed, select_rows};

use crate::common::{
    check, check_differences, form, gradient, keys, loss, numbers, packing, values, variables,
};

const WINDOW: Sees = Sees { before: Some(4), after: Some(0) };
const LOCAL: Sees = Sees { before: Some(3), after: Some(3) };

/// A form whose heads are `heads` for each head of keys.
fn grouped(key_value_heads: usize, group: usize, head_width: usize, sees: Sees) -> AttentionForm {
    let heads = key_value_heads * group;
    AttentionForm { heads, key_value_heads, head_width, scale: 0.4, soft_cap: None, sees }
}

/// Queries, keys and values.
fn inputs(queries: &RowSelection, form: &AttentionForm) -> Vec<Var> {
    let keys = [queries.packing().rows(), form.key_value_heads * form.head_width];
    variables(&[&[queries.len(), form.heads * form.head_width], &keys, &keys])
}

fn check_form(packing: &Packing, queries: &RowSelection, form: &AttentionForm, mask: Option<&Dropout>) {
    let variables = inputs(queries, form);
    let [q, k, v] = &variables[..] else { panic!("three tensors") };
    check(
        &variables,
        || attention(q, k, v, packing, queries, form, mask),
        || composed::attention(q, k, v, packing, queries, form, mask),
    );
}

#[test]
fn every_form_is_its_composition() {
    let packing = packing(&[5, 0, 1, 33, 150]);
    let mask = Dropout::new(0.3, keys(&[1, 2, 3, 4, 5])).unwrap();
    let some = packing.select(&[1, 4, 6, 30, 38, 39, 41, 55, 130, 180]).unwrap();
    for queries in [packing.all_rows(), packing.last_rows(1), packing.last_rows(2), some] {
        for sees in [Sees::ALL, Sees::CAUSAL, WINDOW, LOCAL, Sees { before: None, after: Some(2) }] {
            for (key_value_heads, group, width) in [(1, 1, 1), (2, 3, 21), (1, 4, 8)] {
                let form = grouped(key_value_heads, group, width, sees);
                check_form(&packing, &queries, &form, None);
                check_form(&packing, &queries, &form, Some(&mask));
                check_form(&packing, &queries, &AttentionForm { soft_cap: Some(0.7), ..form }, None);
            }
        }
    }
}

#[test]
fn heads_of_any_width_are_their_composition() {
    let packing = packing(&[3, 37]);
    let mask = Dropout::new(0.3, keys(&[1, 2])).unwrap();
    let queries = packing.select(&[0, 2, 3, 20, 38, 39]).unwrap();
    for width in [32, 33, 64, 65, 96, 128, 129, 160, 256, 260] {
        let form = AttentionForm { scale: 0.1, ..grouped(1, 2, width, Sees::CAUSAL) };
        check_form(&packing, &packing.all_rows(), &form, None);
        check_form(&packing, &queries, &AttentionForm { sees: Sees::ALL, ..form }, Some(&mask));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_form_is_its_composition_for_all_lengths(
        lengths in prop::collection::vec(0usize..90, 1..4), last in 1usize..60, key_value_heads in 1usize..3,
        group in 1usize..4, width in 1usize..20, before in prop::option::of(0usize..70),
        after in prop::option::of(0usize..70), cap in prop::option::of(0.2f32..50.0), dropped: bool
    ) {
        prop_assume!(lengths.iter().sum::<usize>() > 0);
        let packing = packing(&lengths);
        let form = grouped(key_value_heads, group, width, Sees { before, after });
        let mask = Dropout::new(0.2, keys(&[9, 8, 7])).unwrap();
        let form = AttentionForm { soft_cap: cap, ..form };
        check_form(&packing, &packing.last_rows(last), &form, dropped.then_some(&mask));
    }
}

#[test]
fn gradients_of_every_form_are_slopes() {
    let packing = packing(&[4, 7]);
    let queries = packing.select(&[0, 2, 5, 6, 10]).unwrap();
    let mask = Dropout::new(0.25, keys(&[1, 2])).unwrap();
    for sees in [Sees::CAUSAL, WINDOW, LOCAL] {
        for soft_cap in [None, Some(0.5)] {
            let form = AttentionForm { soft_cap, ..grouped(2, 2, 5, sees) };
            let variables = inputs(&queries, &form);
            let [q, k, v] = &variables[..] else { panic!("three tensors") };
            for mask in [None, Some(&mask)] {
                check_differences(&variables, || attention(q, k, v, &packing, &queries, &form, mask));
            }
        }
    }
}

/// A long text is cut into blocks; nothing of it may show. Its rows see all, so that every block reads every key.
#[test]
fn a_long_text_is_its_composition() {
    let packing = packing(&[1100, 3]);
    let mask = Dropout::new(0.1, keys(&[1, 2])).unwrap();
    for sees in [Sees::ALL, Sees::CAUSAL, Sees { before: Some(64), after: Some(64) }] {
        check_form(&packing, &packing.all_rows(), &grouped(1, 2, 8, sees), None);
        check_form(&packing, &packing.all_rows(), &grouped(1, 1, 8, sees), Some(&mask));
    }
}

#[test]
fn a_sequence_alone_has_the_bits_it_has_in_a_batch() {
    let (together, alone) = (packing(&[3, 137, 14]), packing(&[137]));
    let mask = Dropout::new(0.1, keys(&[1, 2, 3])).unwrap();
    let own = Dropout::new(0.1, keys(&[2])).unwrap();
    for sees in [Sees::ALL, Sees::CAUSAL, WINDOW, LOCAL] {
        let form = AttentionForm { soft_cap: Some(2.0), ..grouped(2, 2, 8, sees) };
        let all = inputs(&together.all_rows(), &form);
        let part: Vec<Var> =
            all.iter().map(|x| Var::from_tensor(&x.narrow(0, 3, 137).unwrap()).unwrap()).collect();
        let run = |inputs: &[Var], packing: &Packing, mask| {
            let [q, k, v] = inputs else { panic!("three tensors") };
            attention(q, k, v, packing, &packing.all_rows(), &form, mask).unwrap()
        };
        for masks in [None, Some((&mask, &own))] {
            let in_batch = run(&all, &together, masks.map(|masks| masks.0));
            let by_itself = run(&part, &alone, masks.map(|masks| masks.1));
            assert_eq!(values(&in_batch.narrow(0, 3, 137).unwrap()), values(&by_itself), "{sees:?}");
            let (of_batch, of_part) = (
                in_batch.sum_all().unwrap().backward().unwrap(),
                by_itself.sum_all().unwrap().backward().unwrap(),
            );
            for (all, part) in all.iter().zip(&part) {
                let of_batch = gradient(&of_batch, all).narrow(0, 3, 137).unwrap();
                assert_eq!(values(&of_batch), values(&gradient(&of_part, part)), "{sees:?}");
            }
            // Neither does a query's result depend on which others are asked, though blocks do.
            for asked in [&[4u32, 20, 39, 100, 139][..], &[139], &[60, 61, 62]] {
                let asked = together.select(asked).unwrap();
                let q = select_rows(&all[0], &asked).unwrap();
                let mask = masks.map(|masks| masks.0);
                let some = attention(&q, &all[1], &all[2], &together, &asked, &form, mask).unwrap();
                assert_eq!(values(&some), values(&select_rows(&in_batch, &asked).unwrap()), "{sees:?}");
            }
        }
    }
}

/// What a row doesn't see changes no bit of it: a text's beginning is what it is without its end.
#[test]
fn what_is_not_seen_changes_nothing() {
    let form = grouped(2, 3, 8, Sees::CAUSAL);
    let run = |rows: usize| {
        let packing = packing(&[rows]);
        let [q, k, v] = [(1, 48), (2, 16), (3, 16)]
            .map(|(seed, width)| numbers(&[200, width], seed).narrow(0, 0, rows).unwrap());
        attention(&q, &k, &v, &packing, &packing.all_rows(), &form, None).unwrap()
    };
    let whole = run(200);
    for rows in [1, 15, 16, 47, 48, 49, 131] {
        assert_eq!(values(&whole.narrow(0, 0, rows).unwrap()), values(&run(rows)), "{rows} rows");
    }
}

#[test]
fn gradients_stop_at_what_is_not_seen() {
    let (packing, form) = (packing(&[60]), grouped(1, 2, 4, Sees { before: Some(9), after: Some(0) }));
    let row = packing.select(&[40]).unwrap();
    let variables = inputs(&row, &form);
    let [q, k, v] = &variables[..] else { panic!("three tensors") };
    let gradients = loss(&attention(q, k, v, &packing, &row, &form, None).unwrap()).backward().unwrap();
    for input in [k, v] {
        let of_rows = gradient(&gradients, input).abs().unwrap().sum(1).unwrap();
        for (row, sum) in values(&of_rows).into_iter().enumerate() {
            assert_eq!(sum > 0.0, (31..=40).contains(&row), "row {row}");
        }
    }
}

#[test]
fn heads_of_a_group_read_the_same_keys() {
    let (packing, form) = (packing(&[9]), grouped(2, 3, 4, Sees::CAUSAL));
    let [q, k, v] = [(1, 24), (2, 8), (3, 8)].map(|(seed, width)| numbers(&[9, width], seed));
    // As many heads of keys as of queries, each of them three times.
    let repeated = |x: &Tensor| {
        let heads = x.reshape((9, 2, 1, 4)).unwrap().broadcast_as((9, 2, 3, 4)).unwrap();
        heads.contiguous().unwrap().reshape((9, 24)).unwrap()
    };
    let all = packing.all_rows();
    let grouped = attention(&q, &k, &v, &packing, &all, &form, None).unwrap();
    let form = AttentionForm { key_value_heads: 6, ..form };
    let apart = attention(&q, &repeated(&k), &repeated(&v), &packing, &all, &form, None).unwrap();
    assert_eq!(values(&grouped), values(&apart));
}

#[test]
fn no_rows_at_all_are_fine() {
    let packing = packing(&[0, 3]);
    let none = packing.last_rows(0);
    let form = grouped(2, 2, 4, Sees::CAUSAL);
    let variables = inputs(&none, &form);
    let [q, k, v] = &variables[..] else { panic!("three tensors") };
    let y = attention(q, k, v, &packing, &none, &form, None).unwrap();
    assert_eq!(y.dims(), [0, 16]);
    assert!(values(&gradient(&loss(&y).backward().unwrap(), k)).iter().all(|&value| value == 0.0));
    let narrow = AttentionForm { head_width: 0, scale: 1.0, ..form };
    let nothing = numbers(&[3, 0], 1);
    let y = attention(&nothing, &nothing, &nothing, &packing, &packing.all_rows(), &narrow, None).unwrap();
    assert_eq!(y.dims(), [3, 0]);
}

#[test]
fn what_is_no_form_is_refused() {
    let (packing, x) = (packing(&[3]), numbers(&[3, 12], 1));
    let all = packing.all_rows();
    let message = |form: AttentionForm| {
        let ours = attention(&x, &x, &x, &packing, &all, &form, None).unwrap_err().to_string();
        assert!(composed::attention(&x, &x, &x, &packing, &all, &form, None).is_err());
        ours
    };
    let good = form(12, 4);
    let found = message(AttentionForm { key_value_heads: 3, ..good });
    assert!(found.contains("that divide the heads that ask, found 3 and 4"), "{found}");
    assert!(message(AttentionForm { key_value_heads: 0, ..good }).contains("found 0 and 4"));
    for cap in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(message(AttentionForm { soft_cap: Some(cap), ..good }).contains("soft cap above 0"));
    }
    assert!(message(AttentionForm { head_width: usize::MAX, ..good }).contains("fit into memory"));
    let found = attention(&x, &x, &x, &packing, &all, &AttentionForm { key_value_heads: 2, ..good }, None);
    assert!(found.unwrap_err().to_string().contains("expected k [3, 6], found [3, 12]"));
}
