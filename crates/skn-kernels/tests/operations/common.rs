//! What all of these tests are made of.

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use skn_kernels::{Activation, AttentionForm, Packing};

pub(crate) const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu];

/// Numbers from -1 to 1, the same for the same seed.
pub(crate) fn numbers(shape: &[usize], seed: u32) -> Tensor {
    crate::prepare();
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(next).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn variables(shapes: &[&[usize]]) -> Vec<Var> {
    let each = shapes.iter().enumerate();
    each.map(|(seed, shape)| Var::from_tensor(&numbers(shape, seed as u32 + 1)).unwrap()).collect()
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// A number that depends on every element of `y` in its own way.
pub(crate) fn loss(y: &Tensor) -> Tensor {
    (y * numbers(y.dims(), 99)).unwrap().sum_all().unwrap()
}

pub(crate) fn precise_loss(y: &Tensor) -> f64 {
    values(y).iter().zip(values(&numbers(y.dims(), 99))).map(|(y, w)| f64::from(*y) * f64::from(w)).sum()
}

pub(crate) fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f32, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    for (place, (found, expected)) in values(found).iter().zip(values(expected)).enumerate() {
        let allowed = tolerance * (1.0 + expected.abs());
        assert!(
            (found - expected).abs() <= allowed,
            "{what}, element {place}: {found} instead of {expected}"
        );
    }
}

/// The gradient, or zeros where the graph stopped: candle's own operations do so on empty tensors.
pub(crate) fn gradient(gradients: &GradStore, variable: &Var) -> Tensor {
    gradients.get(variable).cloned().unwrap_or_else(|| variable.zeros_like().unwrap())
}

/// Compares values and all gradients of two versions of an operation of `variables`.
pub(crate) fn check(
    variables: &[Var],
    ours: impl Fn() -> Result<Tensor>,
    theirs: impl Fn() -> Result<Tensor>,
) {
    let (found, expected) = (ours().unwrap(), theirs().unwrap());
    assert_close(&found, &expected, 2e-5, "values");
    let (found, expected) = (loss(&found).backward().unwrap(), loss(&expected).backward().unwrap());
    for (number, variable) in variables.iter().enumerate() {
        let what = format!("gradient of input {number}");
        assert_close(&gradient(&found, variable), &gradient(&expected, variable), 5e-5, &what);
    }
}

/// Compares each variable's gradient with a central difference along some directions.
pub(crate) fn check_differences(variables: &[Var], operation: impl Fn() -> Result<Tensor>) {
    const STEP: f64 = 1e-2;
    let gradients = loss(&operation().unwrap()).backward().unwrap();
    for (number, variable) in variables.iter().enumerate() {
        let start = variable.as_tensor().copy().unwrap();
        for seed in 0..3 {
            let direction = numbers(variable.dims(), 1000 + seed);
            let at = |step: f64| {
                variable.set(&(&start + (&direction * step).unwrap()).unwrap()).unwrap();
                precise_loss(&operation().unwrap())
            };
            let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            variable.set(&start).unwrap();
            let slope = (gradient(&gradients, variable) * &direction).unwrap().sum_all().unwrap();
            let slope = f64::from(slope.to_scalar::<f32>().unwrap());
            let allowed = 2e-3 * (1.0 + slope.abs());
            assert!((slope - difference).abs() < allowed, "input {number}: {slope} instead of {difference}");
        }
    }
}

pub(crate) fn packing(lengths: &[usize]) -> Packing {
    crate::prepare();
    let mut starts = vec![0];
    for length in lengths {
        starts.push(starts[starts.len() - 1] + length);
    }
    Packing::from_starts(&starts).unwrap()
}

pub(crate) fn keys(numbers: &[u8]) -> Vec<[u8; 32]> {
    numbers.iter().map(|&number| [number; 32]).collect()
}

/// An encoder's form.
pub(crate) fn form(hidden: usize, heads: usize) -> AttentionForm {
    AttentionForm::encoder(hidden, heads).unwrap()
}

pub(crate) fn gradient_of(x: &Var) -> impl Fn(&Tensor) -> Tensor + '_ {
    |y| gradient(&y.sum_all().unwrap().backward().unwrap(), x)
}
