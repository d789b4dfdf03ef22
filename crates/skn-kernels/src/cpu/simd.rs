//! Which vector instructions this CPU has, and what functions that are compiled for each of them are made of.
//!
//! Functions are written once on chunks of sixteen numbers, in an order that does not depend on the
//! instructions; the compiler turns them into vector code for the features of the function they are inlined into.

use std::sync::OnceLock;

/// Instructions that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_no_number_stays_so() {
        assert!(exp::<false>(f32::NAN).is_nan());
    }
}
