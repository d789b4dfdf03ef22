//! Layer normalisation.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use crate::cpu::dropout::{self, Drop};
use crate::cpu::simd::{Isa, lane_sum, lane_sum_pairs, multiversioned};
use crate::cpu::slices::{slice, with_slices};
use crate::mask::Dropout;
use crate::norm::{Frozen, LayerNorm};
use crate::packing::RowSelection;

/// See [`LayerNorm::forward`].
pub(super) fn forward(norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    match &norm.frozen {
        Some(frozen) => x.apply_op1(Norm(Arc::clone(frozen))),
        None => x.apply_op3(
            &norm.weight.contiguous()?,
            &norm.bias.contiguous()?,
            Trained { epsilon: norm.epsilon as f32 },
        ),
    }
}

/// See [`LayerNorm::forward_residual`].
pub(super) fn forward_residual(
    norm: &LayerNorm,
    x: &Tensor,
    residual: &Tensor,
    dropped: Option<(&RowSelection, &Dropout)>,
) -> Result<Tensor> {
    let Some(frozen) = &norm.frozen else {
        let x = dropped.map_or_else(|| Ok(x.clone()), |(rows, mask)| dropout::forward(x, rows, mask))?;
        return forward(norm, &(x + residual)?);
    };
    let drop = dropped.map(|(rows, mask)| Drop::new(rows, mask));
    x.contiguous()?.apply_op2(&residual.contiguous()?, NormOfSum { norm: Arc::clone(frozen), drop })
}

/// Everything frozen.
struct Norm(Arc<Frozen>);

impl CustomOp1 for Norm {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut values = slice(x, layout)?.to_vec();
        normalise(Isa::best(), &mut values, &self.0.weight, &self.0.bias, self.0.epsilon);
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let values = with_slices([x, gradient], |[x, gradient]| {
            let mut values = gradient.to_vec();
            normalise_gradient(Isa::best(), &mut values, x, &self.0.weight, self.0.epsilon);
            Ok(values)
        })?;
        Ok(Some(Tensor::from_vec(values, x.shape(), x.device())?))
    }
}

/// Everything frozen, of the sum of two inputs, which is not kept, and the first of which is dropped out of.
struct NormOfSum {
    norm: Arc<Frozen>,
    drop: Option<Drop>,
}

impl NormOfSum {
    /// The sum, and the factors of dropout.
    fn sum(&self, x: &[f32], residual: &[f32]) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        let factors = self.drop.as_ref().map(|drop| drop.factors(self.norm.weight.len())).transpose()?;
        let sum = match &factors {
            None => x.iter().zip(residual).map(|(x, residual)| x + residual).collect(),
            Some(factors) => {
                let both = x.iter().zip(residual);
                both.zip(factors).map(|((x, residual), factor)| x * factor + residual).collect()
            }
        };
        Ok((sum, factors))
    }
}

impl CustomOp2 for NormOfSum {
    fn name(&self) -> &'static str {
        "layer norm of a sum"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        r: &CpuStorage,
        lr: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (mut values, _) = self.sum(slice(x, lx)?, slice(r, lr)?)?;
        normalise(Isa::best(), &mut values, &self.norm.weight, &self.norm.bias, self.norm.epsilon);
        Ok((CpuStorage::F32(values), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        residual: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (of_sum, of_x) = with_slices([x, residual, gradient], |[x, residual, gradient]| {
            let (sum, factors) = self.sum(x, residual)?;
            let mut values = gradient.to_vec();
            normalise_gradient(Isa::best(), &mut values, &sum, &self.norm.weight, self.norm.epsilon);
            let of_x = factors.map(|mut factors| {
                factors.iter_mut().zip(&values).for_each(|(factor, value)| *factor *= value);
                factors
            });
            Ok((values, of_x))
        })?;
        let tensor = |values| Tensor::from_vec(values, x.shape(), x.device());
        let of_sum = tensor(of_sum)?;
        let of_x =
            if x.track_op() { of_x.map_or_else(|| Ok(of_sum.clone()), tensor).map(Some)? } else { None };
        Ok((of_x, residual.track_op().then_some(of_sum)))
    }
}

/// Weight or bias trained.
struct Trained {
    epsilon: f32,
}

impl CustomOp3 for Trained {
    fn name(&self) -> &'static str {
        "layer norm with trained parameters"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut values = slice(x, lx)?.to_vec();
        normalise(Isa::best(), &mut values, slice(w, lw)?, slice(b, lb)?, self.epsilon);
        Ok((CpuStorage::F32(values), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (isa, width, device) = (Isa::best(), weight.elem_count(), x.device());
        let (dx, dw, db) = with_slices([x, weight, gradient], |[x, weight, gradient]| {
            let (mut dw, mut db) = (vec![0f32; width], vec![0f32; width]);
            parameter_gradients(isa, x, gradient, &mut dw, &mut db, self.epsilon);
            let mut dx = gradient.to_vec();
            normalise_gradient(isa, &mut dx, x, weight, self.epsilon);
            Ok((dx, dw, db))
        })?;
        Ok((
            if x.track_op() { Some(Tensor::from_vec(dx, x.shape(), device)?) } else { None },
            if weight.track_op() { Some(Tensor::from_vec(dw, width, device)?) } else { None },
            if bias.track_op() { Some(Tensor::from_vec(db, width, device)?) } else { None },
        ))
    }
}

/// Mean and `1 / sqrt(variance + epsilon)` of a row.
#[inline(always)]
fn moments(row: &[f32], epsilon: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = lane_sum(row, |value| value) / count;
    let variance = lane_sum(row, |value| (value - mean) * (value - mean)) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

#[inline(always)]
fn normalise_body<const FUSED: bool>(values: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    for row in values.chunks_exact_mut(weight.len().max(1)) {
        let (mean, scale) = moments(row, epsilon);
        for ((value, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
            *value = (*value - mean) * scale * weight + bias;
        }
    }
}

/// With `n = (x - mean) * scale` and `g` the gradient times weight:
/// `scale * (g - mean(g) - n * mean(g n))`.
#[inline(always)]
fn normalise_gradient_body<const FUSED: bool>(gradient: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32) {
    let width = weight.len().max(1);
    for (row, x) in gradient.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let (mean, scale) = moments(x, epsilon);
        row.iter_mut().zip(weight).for_each(|(value, weight)| *value *= weight);
        let count = width as f32;
        let mean_gradient = lane_sum(row, |value| value) / count;
        let mean_product = lane_sum_pairs(row, x, |value, x| value * ((x - mean) * scale)) / count;
        for (value, x) in row.iter_mut().zip(x) {
            *value = scale * (*value - mean_gradient - (x - mean) * scale * mean_product);
        }
    }
}

/// Adds `sum over rows of gradient * n` to `dw` and `sum over rows of gradient` to `db`.
#[inline(always)]
fn parameter_gradients_body<const FUSED: bool>(
    x: &[f32],
    gradient: &[f32],
    dw: &mut [f32],
    db: &mut [f32],
    epsilon: f32,
) {
    let width = dw.len().max(1);
    for (x, gradient) in x.chunks_exact(width).zip(gradient.chunks_exact(width)) {
        let (mean, scale) = moments(x, epsilon);
        for (((dw, db), x), gradient) in dw.iter_mut().zip(&mut *db).zip(x).zip(gradient) {
            *dw += gradient * ((x - mean) * scale);
            *db += gradient;
        }
    }
}

multiversioned!(normalise = normalise_body(values: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32));
multiversioned!(
    normalise_gradient = normalise_gradient_body(gradient: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32)
);
multiversioned!(
    parameter_gradients =
        parameter_gradients_body(x: &[f32], gradient: &[f32], dw: &mut [f32], db: &mut [f32], epsilon: f32)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_hand_on_every_instruction_set() {
        for isa in Isa::available() {
            // Mean 2, variance 1.
            let mut row = [1f32, 3.0, 1.0, 3.0];
            normalise(isa, &mut row, &[1.0, 2.0, 3.0, 4.0], &[0.0, 0.0, 10.0, 0.0], 0.0);
            assert_eq!(row, [-1.0, 2.0, 7.0, 4.0], "{isa:?}");
            // The gradient of a constant is gone: every row sums to the same.
            let mut gradient = [5f32; 4];
            normalise_gradient(isa, &mut gradient, &[1.0, 3.0, 1.0, 3.0], &[1.0; 4], 0.0);
            assert_eq!(gradient, [0.0; 4], "{isa:?}");
        }
    }

    #[test]
    fn instruction_sets_agree_in_every_bit() {
        // No fused products here, so that even the portable version has the same bits.
        let x: Vec<f32> = (0..3 * 37).map(|i| ((i * 37 % 101) as f32).sin()).collect();
        let (weight, bias) = (&x[..37], &x[37..74]);
        let run = |isa| {
            let (mut values, mut gradient) = (x.clone(), x.iter().rev().copied().collect::<Vec<f32>>());
            normalise(isa, &mut values, weight, bias, 1e-5);
            normalise_gradient(isa, &mut gradient, &x, weight, 1e-5);
            (values, gradient)
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Portable), "{isa:?}");
        }
    }
}
