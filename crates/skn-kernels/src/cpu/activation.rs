//! Activations and their derivatives, compiled for each instruction set.

use crate::activation::Activation;
use crate::cpu::simd::{Isa, LANES, exp, for_each_chunk, multiply_add, multiversioned};

impl Activation {
    /// Applies it to the first `width` numbers of every `stride`.
    #[inline]
    pub(crate) fn apply(self, isa: Isa, values: &mut [f32], stride: usize, width: usize) {
        match self {
            Self::Identity => {}
            Self::Gelu => gelu(isa, values, stride, width),
            Self::GeluTanh => gelu_tanh(isa, values, stride, width),
            Self::Silu => silu(isa, values, stride, width),
            Self::Relu => {
                for row in values.chunks_mut(stride.max(1)) {
                    // Not `max`, which would turn what is not a number into 0 and hide it.
                    row[..width]
                        .iter_mut()
                        .for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
                }
            }
        }
    }

    /// Multiplies `gradient` by its derivative at `x`, which is as long.
    #[inline]
    pub(crate) fn differentiate(self, isa: Isa, x: &[f32], gradient: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Gelu => gelu_gradient(isa, x, gradient),
            Self::GeluTanh => gelu_tanh_gradient(isa, x, gradient),
            Self::Silu => silu_gradient(isa, x, gradient),
            Self::Relu => relu_gradient(x, gradient),
        }
    }
}

fn relu_gradient(x: &[f32], gradient: &mut [f32]) {
    for (gradient, x) in gradient.iter_mut().zip(x) {
        *gradient = if *x > 0.0 { *gradient } else { 0.0 };
    }
}

/// Sixteen numbers from `start`, padded with 0 where there are fewer.
#[inline(always)]
fn chunk_at(values: &[f32], start: usize) -> [f32; LANES] {
    let rest = &values[start..];
    match rest.first_chunk::<LANES>() {
        Some(chunk) => *chunk,
        None => {
            let mut padded = [0f32; LANES];
            padded[..rest.len()].copy_from_slice(rest);
            padded
        }
    }
}

/// The standard normal distribution function `(1 + erf(x / sqrt 2)) / 2` and `e^(-x^2 / 2)`.
///
/// erf by Abramowitz and Stegun (1964), formula 7.1.26, absolute error below 2e-7.
#[inline(always)]
fn normal_distribution<const FUSED: bool>(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / multiply_add::<FUSED>(0.327_591_1, z, 1.0);
    let mut polynomial = 1.061_405_4f32;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        polynomial = multiply_add::<FUSED>(polynomial, t, coefficient);
    }
    let density = exp::<FUSED>(-z * z);
    let tail = 0.5 * polynomial * t * density;
    (if x >= 0.0 { 1.0 - tail } else { tail }, density)
}

/// The first `width` numbers of every `stride`, which may be the tile of a larger matrix.
#[inline(always)]
fn gelu_body<const FUSED: bool>(values: &mut [f32], stride: usize, width: usize) {
    for row in values.chunks_mut(stride.max(1)) {
        for_each_chunk(&mut row[..width], |chunk| {
            for value in chunk {
                *value *= normal_distribution::<FUSED>(*value).0;
            }
        });
    }
}

#[inline(always)]
fn gelu_gradient_body<const FUSED: bool>(x: &[f32], gradient: &mut [f32]) {
    const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
    let mut start = 0;
    for_each_chunk(gradient, |chunk| {
        for (gradient, x) in chunk.iter_mut().zip(chunk_at(x, start)) {
            let (distribution, density) = normal_distribution::<FUSED>(x);
            *gradient *= multiply_add::<FUSED>(x * INVERSE_SQRT_TAU, density, distribution);
        }
        start += LANES;
    });
}

/// The logistic function of `2 u`, which is `(1 + tanh u) / 2`, and the derivative of `2 u`, for GELU's
/// `u = sqrt(2 / pi) (x + 0.044715 x^3)`.
#[inline(always)]
fn tanh_distribution<const FUSED: bool>(x: f32) -> (f32, f32) {
    const TWICE: f32 = 1.595_769;
    const CUBIC: f32 = 0.044_715;
    let square = x * x;
    let doubled = TWICE * x * multiply_add::<FUSED>(CUBIC, square, 1.0);
    let slope = TWICE * multiply_add::<FUSED>(3.0 * CUBIC, square, 1.0);
    (1.0 / (1.0 + exp::<FUSED>(-doubled)), slope)
}

#[inline(always)]
fn gelu_tanh_body<const FUSED: bool>(values: &mut [f32], stride: usize, width: usize) {
    for row in values.chunks_mut(stride.max(1)) {
        for_each_chunk(&mut row[..width], |chunk| {
            for value in chunk {
                *value *= tanh_distribution::<FUSED>(*value).0;
            }
        });
    }
}

#[inline(always)]
fn gelu_tanh_gradient_body<const FUSED: bool>(x: &[f32], gradient: &mut [f32]) {
    let mut start = 0;
    for_each_chunk(gradient, |chunk| {
        for (gradient, x) in chunk.iter_mut().zip(chunk_at(x, start)) {
            let (distribution, slope) = tanh_distribution::<FUSED>(x);
            *gradient *= distribution * multiply_add::<FUSED>(x * slope, 1.0 - distribution, 1.0);
        }
        start += LANES;
    });
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
fn logistic<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FUSED>(-x))
}

#[inline(always)]
fn silu_body<const FUSED: bool>(values: &mut [f32], stride: usize, width: usize) {
    for row in values.chunks_mut(stride.max(1)) {
        for_each_chunk(&mut row[..width], |chunk| {
            for value in chunk {
                *value *= logistic::<FUSED>(*value);
            }
        });
    }
}

#[inline(always)]
fn silu_gradient_body<const FUSED: bool>(x: &[f32], gradient: &mut [f32]) {
    let mut start = 0;
    for_each_chunk(gradient, |chunk| {
        for (gradient, x) in chunk.iter_mut().zip(chunk_at(x, start)) {
            let share = logistic::<FUSED>(x);
            *gradient *= share * multiply_add::<FUSED>(x, 1.0 - share, 1.0);
        }
        start += LANES;
    });
}

multiversioned!(
    /// GELU (Hendrycks and Gimpel, 2016) in its exact form, in place: `x` times the standard normal distribution
    /// function at `x`, for the first `width` numbers of every `stride`.
    gelu = gelu_body(values: &mut [f32], stride: usize, width: usize)
);
multiversioned!(
    /// Multiplies `gradient` by the derivative of GELU at `x`.
    gelu_gradient = gelu_gradient_body(x: &[f32], gradient: &mut [f32])
);
multiversioned!(
    /// GELU with tanh in place of erf, as [`gelu`].
    gelu_tanh = gelu_tanh_body(values: &mut [f32], stride: usize, width: usize)
);
multiversioned!(
    /// Multiplies `gradient` by the derivative of [`gelu_tanh`] at `x`.
    gelu_tanh_gradient = gelu_tanh_gradient_body(x: &[f32], gradient: &mut [f32])
);
multiversioned!(
    /// SiLU (Elfwing et al., 2017), as [`gelu`].
    silu = silu_body(values: &mut [f32], stride: usize, width: usize)
);
multiversioned!(
    /// Multiplies `gradient` by the derivative of [`silu`] at `x`.
    silu_gradient = silu_gradient_body(x: &[f32], gradient: &mut [f32])
);

#[cfg(test)]
mod tests {
    use super::*;

    /// erf by its Taylor series, in f64: exact enough below 4, and 1 above.
    fn erf(x: f64) -> f64 {
        if x.abs() > 5.0 {
            return x.signum();
        }
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn gelu_and_its_derivative_are_exact() {
        for isa in Isa::available() {
            let xs: Vec<f32> = (-1000..=1000).map(|i| i as f32 / 100.0).collect();
            let mut values = xs.clone();
            gelu(isa, &mut values, xs.len(), xs.len());
            let mut gradients = vec![1.0; xs.len()];
            gelu_gradient(isa, &xs, &mut gradients);
            for ((&x, &value), &gradient) in xs.iter().zip(&values).zip(&gradients) {
                let x = f64::from(x);
                let distribution = 0.5 * (1.0 + erf(x / 2f64.sqrt()));
                let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
                assert!((f64::from(value) - x * distribution).abs() < 2e-6, "{isa:?} gelu({x}) = {value}");
                assert!(
                    (f64::from(gradient) - distribution - x * density).abs() < 2e-6,
                    "{isa:?} gelu'({x})"
                );
            }
        }
    }

    #[test]
    fn gelu_with_tanh_and_its_derivative_are_exact() {
        for isa in Isa::available() {
            let xs: Vec<f32> = (-1000..=1000).map(|i| i as f32 / 100.0).collect();
            let mut values = xs.clone();
            gelu_tanh(isa, &mut values, xs.len(), xs.len());
            let mut gradients = vec![1.0; xs.len()];
            gelu_tanh_gradient(isa, &xs, &mut gradients);
            for ((&x, &value), &gradient) in xs.iter().zip(&values).zip(&gradients) {
                let x = f64::from(x);
                let scale = (2.0 / std::f64::consts::PI).sqrt();
                let tanh = (scale * (x + 0.044_715 * x.powi(3))).tanh();
                let slope = scale * (1.0 + 3.0 * 0.044_715 * x * x);
                let derivative = 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope;
                assert!((f64::from(value) - 0.5 * x * (1.0 + tanh)).abs() < 2e-6, "{isa:?} {x}: {value}");
                assert!((f64::from(gradient) - derivative).abs() < 2e-6, "{isa:?} {x}: slope {gradient}");
            }
        }
    }

    #[test]
    fn silu_and_its_derivative_are_exact() {
        for isa in Isa::available() {
            let xs: Vec<f32> = (-1000..=1000).map(|i| i as f32 / 10.0).collect();
            let mut values = xs.clone();
            silu(isa, &mut values, xs.len(), xs.len());
            let mut gradients = vec![1.0; xs.len()];
            silu_gradient(isa, &xs, &mut gradients);
            for ((&x, &value), &gradient) in xs.iter().zip(&values).zip(&gradients) {
                let x = f64::from(x);
                let share = 1.0 / (1.0 + (-x).exp());
                let error = (f64::from(value) - x * share).abs();
                assert!(error < 1e-6 * (1.0 + x.abs()), "{isa:?} silu({x}) = {value}");
                let derivative = share * (1.0 + x * (1.0 - share));
                assert!((f64::from(gradient) - derivative).abs() < 1e-6, "{isa:?} silu'({x}) = {gradient}");
            }
        }
    }

    #[test]
    fn numbers_that_are_none_stay_so() {
        for isa in Isa::available() {
            for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
                let mut values = [f32::NAN, 1.0, f32::INFINITY];
                activation.apply(isa, &mut values, 3, 3);
                assert!(values[0].is_nan() && values[1].is_finite() && values[2] == f32::INFINITY);
            }
        }
    }
}
