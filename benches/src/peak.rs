use std::hint::black_box;

use pulp::{Arch, Simd, WithSimd};

/// Makes `steps` steps of f32 multiply-adds on registers alone, the most that a core of this CPU gives. Returns how many
/// floating-point operations that were.
///
/// ```
/// assert_eq!(skn_bench::multiply_adds(10), 10 * skn_bench::multiply_adds(1));
/// ```
pub fn multiply_adds(steps: usize) -> u64 {
    Arch::new().dispatch(MultiplyAdds { steps })
}

/// As many chains as hide their latency.
struct MultiplyAdds {
    steps: usize,
}

impl WithSimd for MultiplyAdds {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        const CHAINS: usize = 12;
        let (factor, term) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
        let mut chains = [simd.splat_f32s(1.0); CHAINS];
        for _ in 0..self.steps {
            for chain in &mut chains {
                *chain = simd.mul_add_f32s(*chain, factor, term);
            }
        }
        black_box(chains);
        (2 * CHAINS * S::F32_LANES * self.steps) as u64
    }
}
