//! Which vector instructions this CPU has, and elementwise functions compiled for each of them.
//!
//! The functions are written once on chunks of sixteen numbers, in an order that does not depend on the
//! instructions; the compiler turns them into vector code for the features of the function they are inlined into.

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

    /// Whether products of numbers of 16 bits (bfloat16) are made by instructions for them.
    pub fn multiplies_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self == Self::Avx512 {
            return is_x86_feature_detected!("avx512bf16");
        }
        false
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

/// Numbers that the elementwise functions and the reductions take at a time.
pub(crate) const LANES: usize = 16;

/// Calls `each` for sixteen numbers at a time; the last ones are padded with 0.
#[inline(always)]
pub(crate) fn for_each_chunk(values: &mut [f32], mut each: impl FnMut(&mut [f32; LANES])) {
    let (chunks, tail) = values.as_chunks_mut::<LANES>();
    chunks.iter_mut().for_each(&mut each);
    if !tail.is_empty() {
        let mut padded = [0f32; LANES];
        padded[..tail.len()].copy_from_slice(tail);
        each(&mut padded);
        tail.copy_from_slice(&padded[..tail.len()]);
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

/// The sum of `term` of each number, in sixteen lanes that are added up in pairs: vectorisable, and in one order
/// whatever the instructions.
#[inline(always)]
pub(crate) fn lane_sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, tail) = values.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(tail) {
        *lane += term(*value);
    }
    in_pairs(lanes, |a, b| a + b)
}

/// The sum of `term` of each pair of numbers of two equally long slices, in the order of [`lane_sum`].
#[inline(always)]
pub(crate) fn lane_sum_pairs(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let ((chunks, tail), (other_chunks, other_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0f32; LANES];
    for (chunk, other) in chunks.iter().zip(other_chunks) {
        for lane in 0..LANES {
            lanes[lane] += term(chunk[lane], other[lane]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(tail.iter().zip(other_tail)) {
        *lane += term(*a, *b);
    }
    in_pairs(lanes, |a, b| a + b)
}

/// The largest number; numbers that are not numbers are passed over.
#[inline(always)]
pub(crate) fn lane_max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, tail) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(tail) {
        *lane = larger(*lane, *value);
    }
    in_pairs(lanes, larger)
}

#[inline(always)]
fn in_pairs(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
    }
    lanes[0]
}

/// `e^x`: 2^n times a polynomial of the rest (Cephes' expf), relative error below 2e-7. Below -87 the result is
/// e^-87, which no sum in f32 can tell from 0; above 88 it is e^88.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// Adding 1.5 * 2^23 rounds to the nearest integer, which the low bits of the sum then hold.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let rest = multiply_add::<FUSED>(n, -LN2_HIGH, x);
    let rest = multiply_add::<FUSED>(n, -LN2_LOW, rest);
    let mut polynomial = 1.987_569_1e-4f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        polynomial = multiply_add::<FUSED>(polynomial, rest, coefficient);
    }
    let value = multiply_add::<FUSED>(polynomial, rest * rest, rest + 1.0);
    value * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
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

multiversioned!(
    /// GELU (Hendrycks and Gimpel, 2016) in its exact form, in place: `x` times the standard normal distribution
    /// function at `x`, for the first `width` numbers of every `stride`.
    pub(crate) gelu = gelu_body(values: &mut [f32], stride: usize, width: usize)
);
multiversioned!(
    /// Multiplies `gradient` by the derivative of GELU at `x`.
    pub(crate) gelu_gradient = gelu_gradient_body(x: &[f32], gradient: &mut [f32])
);
multiversioned!(
    /// GELU with tanh in place of erf, as [`gelu`].
    pub(crate) gelu_tanh = gelu_tanh_body(values: &mut [f32], stride: usize, width: usize)
);
multiversioned!(
    /// Multiplies `gradient` by the derivative of [`gelu_tanh`] at `x`.
    pub(crate) gelu_tanh_gradient = gelu_tanh_gradient_body(x: &[f32], gradient: &mut [f32])
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
    fn exp_is_exact_to_seven_digits() {
        for i in -8700..=100 {
            let x = i as f32 / 100.0;
            let (ours, theirs) = (f64::from(exp::<false>(x)), f64::from(x).exp());
            assert!((ours / theirs - 1.0).abs() < 5e-7, "exp({x}) = {ours}, not {theirs}");
        }
    }

    #[test]
    fn lanes_add_up_and_find_the_largest() {
        for n in 0..50u16 {
            let values: Vec<f32> = (0..n).map(f32::from).collect();
            let sum = f32::from(n) * (f32::from(n) - 1.0) / 2.0;
            assert_eq!(lane_sum(&values, |value| 2.0 * value), 2.0 * sum);
            assert_eq!(lane_sum_pairs(&values, &vec![3.0; values.len()], |a, b| a * b), 3.0 * sum);
            let largest = if n == 0 { f32::NEG_INFINITY } else { f32::from(n - 1) };
            assert_eq!(lane_max(&values), largest);
        }
    }

    #[test]
    fn numbers_that_are_none_stay_so() {
        for isa in Isa::available() {
            let mut values = [f32::NAN, 1.0, f32::INFINITY];
            gelu(isa, &mut values, 3, 3);
            assert!(values[0].is_nan() && values[1].is_finite() && values[2] == f32::INFINITY);
        }
        assert!(exp::<false>(f32::NAN).is_nan());
    }
}
