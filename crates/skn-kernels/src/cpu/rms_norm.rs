//! Root mean square normalisation.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use crate::cpu::simd::{Isa, lane_sum, lane_sum_pairs, multiversioned};
use crate::cpu::slices::{slice, with_slices};
use crate::rms_norm::RmsNorm;

/// See [`RmsNorm::forward_heads`].
pub(super) fn forward(norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
    let (x, epsilon) = (x.contiguous()?, norm.epsilon as f32);
    match &norm.frozen {
        Some(weight) => x.apply_op1(Frozen { weight: Arc::clone(weight), epsilon }),
        None => x.apply_op2(&norm.weight.contiguous()?, Trained { epsilon }),
    }
}

/// The weight frozen.
struct Frozen {
    weight: Arc<[f32]>,
    epsilon: f32,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "rms norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut values = slice(x, layout)?.to_vec();
        normalise(Isa::best(), &mut values, &self.weight, self.epsilon);
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let values = with_slices([x, gradient], |[x, gradient]| {
            let mut values = gradient.to_vec();
            normalise_gradient(Isa::best(), &mut values, x, &self.weight, self.epsilon);
            Ok(values)
        })?;
        Ok(Some(Tensor::from_vec(values, x.shape(), x.device())?))
    }
}

/// The weight trained.
struct Trained {
    epsilon: f32,
}

impl CustomOp2 for Trained {
    fn name(&self) -> &'static str {
        "rms norm with a trained weight"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut values = slice(x, lx)?.to_vec();
        normalise(Isa::best(), &mut values, slice(w, lw)?, self.epsilon);
        Ok((CpuStorage::F32(values), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (isa, width) = (Isa::best(), weight.elem_count());
        let (dx, dw) = with_slices([x, weight, gradient], |[x, weight, gradient]| {
            let (mut dx, mut dw) = (gradient.to_vec(), vec![0f32; width]);
            weight_gradient(isa, x, gradient, &mut dw, self.epsilon);
            normalise_gradient(isa, &mut dx, x, weight, self.epsilon);
            Ok((dx, dw))
        })?;
        let dx = if x.track_op() { Some(Tensor::from_vec(dx, x.shape(), x.device())?) } else { None };
        Ok((dx, Some(Tensor::from_vec(dw, width, x.device())?)))
    }
}

/// `1 / sqrt(mean(x^2) + epsilon)`.
#[inline(always)]
fn scale_of(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (lane_sum(x, |value| value * value) / x.len() as f32 + epsilon).sqrt()
}

#[inline(always)]
fn normalise_body<const FUSED: bool>(values: &mut [f32], weight: &[f32], epsilon: f32) {
    for row in values.chunks_exact_mut(weight.len()) {
        let scale = scale_of(row, epsilon);
        row.iter_mut().zip(weight).for_each(|(value, weight)| *value = *value * scale * weight);
    }
}

/// With `n = x * scale` and `g` the gradient times weight: `scale * (g - n * mean(g n))`.
#[inline(always)]
fn normalise_gradient_body<const FUSED: bool>(gradient: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    for (row, x) in gradient.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let scale = scale_of(x, epsilon);
        row.iter_mut().zip(weight).for_each(|(value, weight)| *value *= weight);
        let mean = lane_sum_pairs(row, x, |value, x| value * (x * scale)) / width as f32;
        for (value, x) in row.iter_mut().zip(x) {
            *value = scale * (*value - x * scale * mean);
        }
    }
}

/// Adds `sum over rows of gradient * n` to `dw`.
#[inline(always)]
fn weight_gradient_body<const FUSED: bool>(x: &[f32], gradient: &[f32], dw: &mut [f32], epsilon: f32) {
    let width = dw.len();
    for (x, gradient) in x.chunks_exact(width).zip(gradient.chunks_exact(width)) {
        let scale = scale_of(x, epsilon);
        for ((dw, x), gradient) in dw.iter_mut().zip(x).zip(gradient) {
            *dw += gradient * (x * scale);
        }
    }
}

multiversioned!(normalise = normalise_body(values: &mut [f32], weight: &[f32], epsilon: f32));
multiversioned!(
    normalise_gradient = normalise_gradient_body(gradient: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32)
);
multiversioned!(
    weight_gradient = weight_gradient_body(x: &[f32], gradient: &[f32], dw: &mut [f32], epsilon: f32)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_hand_on_every_instruction_set() {
        for isa in Isa::available() {
            // The mean of the squares is 25.
            let mut rows = [1f32, 7.0, -7.0, 1.0];
            normalise(isa, &mut rows, &[1.0, 2.0], 0.0);
            assert_eq!(rows, [0.2, 2.8, -1.4, 0.4], "{isa:?}");
            // A longer row is the same row: along itself there is no gradient.
            let mut gradient = [3f32, 21.0];
            normalise_gradient(isa, &mut gradient, &[1.0, 7.0], &[1.0; 2], 0.0);
            assert!(gradient.iter().all(|value| value.abs() < 1e-6), "{isa:?}: {gradient:?}");
        }
    }

    #[test]
    fn instruction_sets_agree_in_every_bit() {
        // No fused products here, so that even the portable version has the same bits.
        let x: Vec<f32> = (0..3 * 37).map(|i| ((i * 37 % 101) as f32).sin()).collect();
        let run = |isa| {
            let (mut values, mut gradient) = (x.clone(), x.iter().rev().copied().collect::<Vec<f32>>());
            let mut of_weight = vec![0f32; 37];
            weight_gradient(isa, &x, &gradient, &mut of_weight, 1e-5);
            normalise(isa, &mut values, &x[..37], 1e-5);
            normalise_gradient(isa, &mut gradient, &x, &x[..37], 1e-5);
            (values, gradient, of_weight)
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Portable), "{isa:?}");
        }
    }

    #[test]
    fn what_is_no_number_stays_so() {
        for isa in Isa::available() {
            let mut row = [1f32, f32::NAN];
            normalise(isa, &mut row, &[1.0; 2], 1e-5);
            assert!(row.iter().all(|value| value.is_nan()), "{isa:?}: {row:?}");
        }
    }
}
