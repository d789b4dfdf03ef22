//! LayerNorm.

use std::slice::from_ref;

use candle_core::Tensor;
use skn_kernels::{Activation, Backend, Dropout, LayerNorm, Linear, Precision, composed};

use crate::common::{
    assert_close, check, check_differences, gradient, keys, loss, numbers, packing, values, variables,
};

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

/// To the bit, whoever adds the layer's bias, in every precision that there is.
#[test]
fn the_norm_of_a_linear_layer_and_a_sum_is_that_of_its_result() {
    let bits = |x: &Tensor| values(x).into_iter().map(f32::to_bits).collect::<Vec<_>>();
    for [rows, inputs, width] in
        [[1, 1, 1], [5, 3, 5], [4, 33, 33], [2, 0, 7], [3, 65, 768], [2, 8, 1025], [0, 4, 6]]
    {
        let [weight, bias] = [numbers(&[width, inputs], 1), numbers(&[width], 2)];
        let [scale, shift] = [numbers(&[width], 3), numbers(&[width], 4)];
        let [x, residual] = [numbers(&[rows, inputs], 5), numbers(&[rows, width], 6)];
        let norm = LayerNorm::new(scale, Some(shift), 1e-5).unwrap();
        let linear = Linear::new(weight, Some(bias)).unwrap();
        // Rows of two texts.
        let cut = rows / 2;
        let all = packing(&[cut, rows - cut]).all_rows();
        let mask = Dropout::new(0.4, keys(&[7, 8])).unwrap();
        let precisions = Precision::ALL.into_iter().filter(|&it| Backend::of(x.device()).multiplies_in(it));
        for precision in precisions {
            let linear = linear.clone().with_precision(precision);
            for dropped in [None, Some((&all, &mask))] {
                let y = linear.forward(&x, Activation::Identity).unwrap();
                let expected = norm.forward_residual(&y, &residual, dropped).unwrap();
                let found = norm.forward_linear_residual(&linear, x.clone(), &residual, dropped).unwrap();
                assert_eq!(found.dims(), [rows, width]);
                assert_eq!(bits(&found), bits(&expected), "{rows} x {inputs} x {width}, {precision:?}");
            }
        }
    }
}

#[test]
fn gradients_go_through_a_linear_layer_and_its_norm() {
    let rows = packing(&[3, 4]).select(&[0, 2, 5]).unwrap();
    let mask = Dropout::new(0.4, keys(&[7, 8])).unwrap();
    let variables = variables(&[&[3, 11], &[37, 11], &[37], &[37], &[37], &[3, 37]]);
    // Each of the six alone, and all.
    for trained in [1, 2, 4, 8, 16, 32, 63] {
        let tensors: Vec<Tensor> = (0..6)
            .map(|bit| match trained >> bit & 1 {
                1 => variables[bit].as_tensor().clone(),
                _ => variables[bit].as_detached_tensor(),
            })
            .collect();
        let [x, weight, bias, scale, shift, residual] = &tensors[..] else { panic!("six tensors") };
        let linear = Linear::new(weight.clone(), Some(bias.clone())).unwrap();
        let norm = LayerNorm::new(scale.clone(), Some(shift.clone()), 1e-5).unwrap();
        for dropped in [None, Some((&rows, &mask))] {
            let found = norm.forward_linear_residual(&linear, x.clone(), residual, dropped).unwrap();
            let y = composed::linear(x, weight, bias, Activation::Identity).unwrap();
            let y = dropped.map_or_else(|| Ok(y.clone()), |(rows, mask)| composed::dropout(&y, rows, mask));
            let expected =
                composed::layer_norm(&(y.unwrap() + residual).unwrap(), scale, shift, 1e-5).unwrap();
            assert_close(&found, &expected, 2e-5, "values");
            let (found, expected) = (loss(&found).backward().unwrap(), loss(&expected).backward().unwrap());
            for (bit, variable) in variables.iter().enumerate() {
                let wanted = trained >> bit & 1 == 1;
                assert_eq!(found.get(variable).is_some(), wanted, "gradient of input {bit} of {trained:06b}");
                if wanted {
                    let [found, expected] = [&found, &expected].map(|of| gradient(of, variable));
                    assert_close(&found, &expected, 5e-5, "gradient");
                }
            }
        }
    }
}

#[test]
fn a_linear_layer_that_does_not_fit_a_norm_is_refused() {
    let norm = LayerNorm::new(numbers(&[5], 1), None, 1e-5).unwrap();
    let linear = |width| Linear::new(numbers(&[width, 3], 2), None).unwrap();
    let told = |width, x: [usize; 2], residual: [usize; 2]| {
        let found =
            norm.forward_linear_residual(&linear(width), numbers(&x, 3), &numbers(&residual, 4), None);
        found.unwrap_err().to_string().lines().next().unwrap().to_owned()
    };
    assert_eq!(told(5, [2, 4], [2, 5]), "linear: expected [rows, 3], found [2, 4]");
    assert_eq!(told(6, [2, 3], [2, 5]), "layer norm: expected a residual [2, 6], found [2, 5]");
    assert_eq!(told(5, [2, 3], [3, 5]), "layer norm: expected a residual [2, 5], found [3, 5]");
    assert_eq!(told(5, [2, 3], [2, 6]), "layer norm: expected [rows, 5], found [2, 6]");
}
