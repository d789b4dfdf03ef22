//! Self-attention as decoders have it: norms of queries and keys, rotary positions, grouped heads, and a last row that asks.

use candle_core::{Result, Tensor, Var};
use skn_kernels::{
    Activation, AttentionForm, Dropout, Linear, RmsNorm, Rotary, RowSelection, Sees, SelfAttention, composed,
};

use crate::common::{check, check_differences, gradient, keys, loss, numbers, packing, values, variables};

const HIDDEN: usize = 20;

/// Layers of a form, with biases.
fn layers(form: &AttentionForm) -> [Linear; 3] {
    let (query, key) = (form.heads * form.head_width, form.key_value_heads * form.head_width);
    [(10, query), (20, key), (30, key)].map(|(seed, width)| {
        let weight = (numbers(&[width, HIDDEN], seed) * 0.4).unwrap();
        Linear::new(weight, Some(numbers(&[width], seed + 1))).unwrap()
    })
}

/// What is put between the layers and attention.
#[derive(Clone)]
struct Between {
    norms: Option<[Tensor; 2]>,
    rotary: Option<Rotary>,
}

fn ours(form: &AttentionForm, between: &Between) -> SelfAttention {
    let [q, k, v] = layers(form);
    let mut made = SelfAttention::new(q, k, v, *form).unwrap();
    if let Some(norms) = &between.norms {
        let [q, k] = norms.clone().map(|weight| RmsNorm::new(weight, 1e-6).unwrap());
        made = made.with_norms(q, k).unwrap();
    }
    match &between.rotary {
        Some(rotary) => made.with_rotary(rotary.clone()).unwrap(),
        None => made,
    }
}

/// Layers, norms, rotation and attention, one after the other.
fn theirs(
    form: &AttentionForm,
    between: &Between,
    [x, asking]: [&Tensor; 2],
    queries: &RowSelection,
    mask: Option<&Dropout>,
) -> Result<Tensor> {
    let [q, k, v] = layers(form);
    let mut q = q.forward(asking, Activation::Identity)?;
    let (mut k, v) = (k.forward(x, Activation::Identity)?, v.forward(x, Activation::Identity)?);
    if let Some([of_q, of_k]) = &between.norms {
        (q, k) = (composed::rms_norm(&q, of_q, 1e-6)?, composed::rms_norm(&k, of_k, 1e-6)?);
    }
    if let Some(rotary) = &between.rotary {
        q = composed::rotary(&q, queries, rotary)?;
        k = composed::rotary(&k, &queries.packing().all_rows(), rotary)?;
    }
    composed::attention(&q, &k, &v, queries.packing(), queries, form, mask)
}

fn forms() -> Vec<AttentionForm> {
    let plain = AttentionForm { sees: Sees::CAUSAL, ..AttentionForm::encoder(HIDDEN, 5).unwrap() };
    let grouped = AttentionForm { heads: 4, key_value_heads: 2, head_width: 6, scale: 0.3, ..plain };
    let window = Sees { before: Some(3), after: Some(0) };
    vec![
        plain,
        AttentionForm { sees: window, ..plain },
        AttentionForm { soft_cap: Some(0.8), ..plain },
        grouped,
        AttentionForm { sees: window, soft_cap: Some(0.8), ..grouped },
        AttentionForm { sees: Sees { before: Some(2), after: Some(2) }, ..plain },
    ]
}

fn betweens(form: &AttentionForm) -> Vec<Between> {
    let (head, query, key) =
        (form.head_width, form.heads * form.head_width, form.key_value_heads * form.head_width);
    let of = |width: usize, seed| (numbers(&[width], seed) + 1.5).unwrap();
    let rotary = Rotary::new(&[1.0, 0.05], head).unwrap();
    let (per_head, whole) = ([of(head, 5), of(head, 6)], [of(query, 7), of(key, 8)]);
    vec![
        Between { norms: None, rotary: None },
        Between { norms: None, rotary: Some(rotary.clone()) },
        Between { norms: Some(per_head), rotary: Some(rotary) },
        Between { norms: Some(whole), rotary: None },
    ]
}

#[test]
fn it_is_its_composition() {
    let mask = Dropout::new(0.3, keys(&[1, 2, 3, 4])).unwrap();
    let packing = packing(&[5, 0, 1, 60]);
    let some = packing.select(&[1, 4, 6, 30, 65]).unwrap();
    for queries in
        [packing.last_rows(1), packing.first_rows(1), packing.last_rows(3), packing.all_rows(), some]
    {
        for form in forms() {
            for between in betweens(&form) {
                let ours = ours(&form, &between);
                let variables = variables(&[&[packing.rows(), HIDDEN], &[queries.len(), HIDDEN]]);
                let [x, asking] = &variables[..] else { panic!("two tensors") };
                for mask in [None, Some(&mask)] {
                    check(
                        &variables,
                        || ours.forward(x, asking, &queries, mask),
                        || theirs(&form, &between, [x, asking], &queries, mask),
                    );
                }
            }
        }
    }
}

#[test]
fn a_last_row_has_slopes_and_bits_of_its_own() {
    let together = packing(&[4, 27]);
    for form in forms() {
        for between in betweens(&form) {
            let ours = ours(&form, &between);
            let variables = variables(&[&[31, HIDDEN], &[2, HIDDEN]]);
            let [x, asking] = &variables[..] else { panic!("two tensors") };
            let answers = together.last_rows(1);
            check_differences(&variables, || ours.forward(x, asking, &answers, None));
            let both = ours.forward(x, asking, &answers, None).unwrap();
            let (own_x, own_asking) = (x.narrow(0, 4, 27).unwrap(), asking.narrow(0, 1, 1).unwrap());
            let alone = ours.forward(&own_x, &own_asking, &packing(&[27]).last_rows(1), None).unwrap();
            assert_eq!(values(&both.narrow(0, 1, 1).unwrap()), values(&alone));
        }
    }
}

#[test]
fn norms_that_train_get_their_gradients() {
    let packing = packing(&[3, 5]);
    let all = packing.all_rows();
    let form = forms()[3];
    let weights = variables(&[&[6], &[6]]);
    let x = numbers(&[8, HIDDEN], 1);
    let norms = Some([0, 1].map(|n: usize| weights[n].as_tensor().clone()));
    let between = Between { norms, rotary: Some(Rotary::new(&[0.5], 6).unwrap()) };
    let ours = ours(&form, &between);
    check(&weights, || ours.forward(&x, &x, &all, None), || theirs(&form, &between, [&x, &x], &all, None));
    let gradients = loss(&ours.forward(&x, &x, &all, None).unwrap()).backward().unwrap();
    assert!(weights.iter().all(|weight| values(&gradient(&gradients, weight)).iter().any(|&v| v != 0.0)));
}

#[test]
fn packing_ahead_changes_nothing() {
    let packing = packing(&[9, 4]);
    let x = Var::from_tensor(&numbers(&[13, HIDDEN], 1)).unwrap();
    for form in forms() {
        for between in betweens(&form) {
            for one_each in [true, false] {
                let rows = if one_each { packing.last_rows(1) } else { packing.all_rows() };
                let asking = skn_kernels::select_rows(&x, &rows).unwrap();
                let (packed, fresh) = (ours(&form, &between), ours(&form, &between));
                packed.pack(one_each).unwrap();
                let [packed, fresh] = [packed, fresh].map(|it| it.forward(&x, &asking, &rows, None).unwrap());
                assert_eq!(values(&packed), values(&fresh));
            }
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let form = forms()[3];
    let made = || {
        let [q, k, v] = layers(&form);
        SelfAttention::new(q, k, v, form)
    };
    let norm = |width| RmsNorm::new(numbers(&[width], 1), 1e-6).unwrap();
    let error = made().unwrap().with_norms(norm(6), norm(24)).unwrap_err().to_string();
    assert!(error.contains("a key norm of width 6 or 12, found 24"), "{error}");
    let error = made().unwrap().with_norms(norm(12), norm(6)).unwrap_err().to_string();
    assert!(error.contains("a query norm of width 6 or 24, found 12"), "{error}");
    let error = made().unwrap().with_rotary(Rotary::new(&[1.0], 4).unwrap()).unwrap_err().to_string();
    assert!(error.contains("rotary positions of heads of 6, found 4"), "{error}");
    let [q, k, _] = layers(&form);
    let error = SelfAttention::new(q.clone(), k, q, form).unwrap_err().to_string();
    assert!(error.contains("expected a value weight [12, 20], found [24, 20]"), "{error}");
}
