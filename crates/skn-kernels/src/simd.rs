//! Which vector instructions this CPU has, and elementwise functions compiled for each of them.
//!
//! The functions are written once on chunks of sixteen numbers, in an order that does not depend on the
//! instructions; the compiler turns them into vector code for the features of the function they are inlined into.
#![allow(unsafe_code)] // calling a function that is compiled for instructions found at run time is unsafe

use std::sync::OnceLock;

/// Instructions that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every CPU of the architecture has.
    Portable,
    /// AVX2 and FMA: 8 numbers an instruction.
    Avx2,
    /// AVX-512: 16 numbers an instruction.
    Avx512,
}

impl Isa {
    /// The best that this CPU has.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::Portable))
    }

    /// All that this CPU has, the best last.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f") {
                    all.push(Self::Avx512);
                }
            }
        }
        all
    }

    /// The name, for checkpoints and reports: results have the same bits on one instruction set.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => std::env::consts::ARCH,
            Self::Avx2 => "x86_64-avx2",
            Self::Avx512 => "x86_64-avx512",
        }
    }
}

/// Defines `$name`, which runs the inlined `$body` compiled for the instructions of `$isa`.
macro_rules! multiversioned {
    ($(#[$doc:meta])* $visibility:vis $name:ident = $body:ident($($argument:ident: $type:ty),*)) => {
        $(#[$doc])*
        #[allow(unsafe_code, reason = "calls code compiled for instructions that were found at run time")]
        $visibility fn $name(isa: Isa, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx2,fma")]
                fn avx512($($argument: $type),*) { $body::<true>($($argument),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) { $body::<true>($($argument),*) }
                match isa {
                    // SAFETY: `Isa` values other than Portable exist only where the CPU has the instructions.
                    Isa::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    Isa::Portable => {}
                }
            }
            let _ = isa;
            $body::<{ cfg!(target_arch = "aarch64") }>($($argument),*)
        }
    };
}

pub(crate) use multiversioned;

/// `a * b + c`, fused where the instructions have it: without them a fused product would be a library call.
#[inline(always)]
pub(crate) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` for x <= 88: 2^n times a polynomial of the rest (Cephes' expf), relative error below 2e-7.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let n = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let rest = multiply_add::<FUSED>(n, -LN2_HIGH, x);
    let rest = multiply_add::<FUSED>(n, -LN2_LOW, rest);
    let mut polynomial = 1.987_569_1e-4f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        polynomial = multiply_add::<FUSED>(polynomial, rest, coefficient);
    }
    let value = multiply_add::<FUSED>(polynomial, rest * rest, rest + 1.0);
    value * f32::from_bits(((n as i32 + 127) as u32) << 23)
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

#[inline(always)]
fn gelu_body<const FUSED: bool>(values: &mut [f32]) {
    for value in values {
        *value *= normal_distribution::<FUSED>(*value).0;
    }
}

#[inline(always)]
fn gelu_gradient_body<const FUSED: bool>(x: &[f32], gradient: &mut [f32]) {
    const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
    for (gradient, &x) in gradient.iter_mut().zip(x) {
        let (distribution, density) = normal_distribution::<FUSED>(x);
        *gradient *= multiply_add::<FUSED>(x * INVERSE_SQRT_TAU, density, distribution);
    }
}

multiversioned!(
    /// `x * normal_distribution(x)`: GELU (Hendrycks and Gimpel, 2016), exact form, in place.
    pub(crate) gelu = gelu_body(values: &mut [f32])
);
multiversioned!(
    /// Multiplies `gradient` by the derivative of GELU at `x`.
    pub(crate) gelu_gradient = gelu_gradient_body(x: &[f32], gradient: &mut [f32])
);

/// The sum of `term(i)` over `0..n` in sixteen lanes that are added up in pairs: vectorisable, and in one order
/// whatever the instructions.
#[inline(always)]
pub(crate) fn lane_sum(n: usize, mut term: impl FnMut(usize) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let whole = n - n % 16;
    for start in (0..whole).step_by(16) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    for index in whole..n {
        lanes[index - whole] += term(index);
    }
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

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
            gelu(isa, &mut values);
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
    fn exp_is_exact_to_seven_digits() {
        for i in -8700..=100 {
            let x = i as f32 / 100.0;
            let (ours, theirs) = (f64::from(exp::<false>(x)), f64::from(x).exp());
            assert!((ours / theirs - 1.0).abs() < 5e-7, "exp({x}) = {ours}, not {theirs}");
        }
    }

    #[test]
    fn lanes_add_up() {
        for n in 0..50 {
            assert_eq!(lane_sum(n, |i| i as f32), (0..n).sum::<usize>() as f32);
        }
    }
}
