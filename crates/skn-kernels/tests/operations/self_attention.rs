//! Self-attention with its layers.

use candle_core::{Result, Tensor};
use skn_kernels::{
    Activation, AttentionForm, Dropout, Linear, Precision, RowSelection, SelfAttention, composed,
};

use crate::common::{
    assert_close, check, check_differences, form, keys, loss, numbers, packing, values, variables,
};

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
