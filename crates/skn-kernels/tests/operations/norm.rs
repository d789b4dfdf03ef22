//! LayerNorm.

use std::slice::from_ref;

use candle_core::Tensor;
use skn_kernels::{Dropout, LayerNorm, composed};

use crate::common::{check, check_differences, keys, loss, packing, variables};

#[test]
fn layer_norm_is_its_composition() {
    for (rows, width) in [(1, 1), (1, 16), (3, 5), (4, 33), (2, 768), (2, 1024), (3, 1025), (1, 2048)] {
        let variables = variables(&[&[rows, width], &[width], &[width], &[rows, width]]);
        let [x, weight, bias, residual] = &variables[..] else { panic!("four tensors") };
        // A row of width 1 has no variance: without a larger epsilon its gradient is rounding alone.
        let epsilon = if width == 1 { 1.0 } else { 1e-5 };
        let theirs = |x: &Tensor| composed::layer_norm(x, weight, bias, epsilon);
        let trained =
            LayerNorm::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()), epsilon).unwrap();
        check(&variables, || trained.forward(x), || theirs(x));
        check(
            &variables,
            || trained.forward_residual(x, residual, None),
            || theirs(&(x.as_tensor() + residual.as_tensor())?),
        );
        let frozen =
            LayerNorm::new(weight.as_detached_tensor(), Some(bias.as_detached_tensor()), epsilon).unwrap();
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
    let trained = LayerNorm::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()), 1e-5).unwrap();
    let frozen = LayerNorm::new(weight.as_detached_tensor(), Some(bias.as_detached_tensor()), 1e-5).unwrap();
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

#[test]
fn layer_norm_gradients_are_slopes() {
    let variables = variables(&[&[3, 21], &[21], &[21], &[3, 21]]);
    let [x, weight, bias, residual] = &variables[..] else { panic!("four tensors") };
    let norm = LayerNorm::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()), 1e-5).unwrap();
    check_differences(&variables, || norm.forward_residual(x, residual, None));
    let frozen = LayerNorm::new(weight.as_detached_tensor(), Some(bias.as_detached_tensor()), 1e-5).unwrap();
    check_differences(&[x.clone(), residual.clone()], || frozen.forward_residual(x, residual, None));
    check_differences(from_ref(x), || frozen.forward(x));
}

#[test]
fn only_the_trained_half_of_a_layer_norm_gets_a_gradient() {
    let variables = variables(&[&[2, 6], &[6], &[6]]);
    let [x, weight, bias] = &variables[..] else { panic!("three tensors") };
    let norm = LayerNorm::new(weight.as_detached_tensor(), Some(bias.as_tensor().clone()), 1e-5).unwrap();
    let gradients = loss(&norm.forward(&x.as_detached_tensor()).unwrap()).backward().unwrap();
    assert!(gradients.get(weight).is_none() && gradients.get(x).is_none() && gradients.get(bias).is_some());
}
