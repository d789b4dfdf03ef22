use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::{slice, with_slice};
use crate::simd::{Isa, lane_sum, multiversioned};

/// Layer normalisation (Ba et al., 2016): `(x - mean) / sqrt(variance + epsilon) * weight + bias` of each row.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    /// With weight and bias `[width]`.
    ///
    /// # Errors
    /// If their shapes differ.
    pub fn new(weight: Tensor, bias: Tensor, epsilon: f64) -> Result<Self> {
        if weight.rank() != 1 || weight.dims() != bias.dims() {
            bail!(
                "layer norm: expected weight and bias of one length, found {:?} and {:?}",
                weight.dims(),
                bias.dims()
            );
        }
        Ok(Self { weight, bias, epsilon })
    }

    /// The normalised rows of `x` `[rows, width]`.
    ///
    /// # Errors
    /// If `x` has another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.elem_count();
        match x.dims() {
            [_, found] if *found == width => {}
            found => bail!("layer norm: expected [rows, {width}], found {found:?}"),
        }
        if !x.device().is_cpu() {
            return composed::layer_norm(x, &self.weight, &self.bias, self.epsilon);
        }
        let x = x.contiguous()?;
        if self.weight.track_op() || self.bias.track_op() {
            return x.apply_op3(&self.weight, &self.bias, Trained { epsilon: self.epsilon as f32 });
        }
        x.apply_op1(Frozen {
            weight: self.weight.to_vec1()?,
            bias: self.bias.to_vec1()?,
            epsilon: self.epsilon as f32,
        })
    }

    /// The normalised rows of `x + residual`.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.forward(&(x + residual)?)
    }
}

struct Frozen {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "skn-layer-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        normalised((x, layout), &self.weight, &self.bias, self.epsilon)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(input_gradient(x, gradient, &self.weight, self.epsilon)?))
    }
}

struct Trained {
    epsilon: f32,
}

impl CustomOp3 for Trained {
    fn name(&self) -> &'static str {
        "skn-layer-norm-trained"
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
        normalised((x, lx), slice(w, lw)?, slice(b, lb)?, self.epsilon)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let values: Vec<f32> = weight.to_vec1()?;
        let dx = if x.track_op() { Some(input_gradient(x, gradient, &values, self.epsilon)?) } else { None };
        let (dw, db) = parameter_gradients(x, gradient, self.epsilon)?;
        Ok((dx, weight.track_op().then_some(dw), bias.track_op().then_some(db)))
    }
}

fn normalised(
    (x, layout): (&CpuStorage, &Layout),
    weight: &[f32],
    bias: &[f32],
    epsilon: f32,
) -> Result<(CpuStorage, Shape)> {
    let mut values = slice(x, layout)?.to_vec();
    normalise(Isa::best(), &mut values, weight, bias, epsilon);
    Ok((CpuStorage::F32(values), layout.shape().clone()))
}

fn input_gradient(x: &Tensor, gradient: &Tensor, weight: &[f32], epsilon: f32) -> Result<Tensor> {
    let mut values = with_slice(gradient, <[f32]>::to_vec)?;
    with_slice(x, |x| normalise_gradient(Isa::best(), &mut values, x, weight, epsilon))?;
    Tensor::from_vec(values, x.shape(), x.device())
}

fn parameter_gradients(x: &Tensor, gradient: &Tensor, epsilon: f32) -> Result<(Tensor, Tensor)> {
    let width = x.dim(1)?;
    let (mut dw, mut db) = (vec![0f32; width], vec![0f32; width]);
    let gradient = with_slice(gradient, <[f32]>::to_vec)?;
    with_slice(x, |x| {
        for (x, gradient) in x.chunks_exact(width.max(1)).zip(gradient.chunks_exact(width.max(1))) {
            let (mean, scale) = moments(x, epsilon);
            for column in 0..width {
                dw[column] += gradient[column] * (x[column] - mean) * scale;
                db[column] += gradient[column];
            }
        }
    })?;
    Ok((Tensor::new(dw, x.device())?, Tensor::new(db, x.device())?))
}

/// Mean and `1 / sqrt(variance + epsilon)` of a row.
#[inline(always)]
fn moments(row: &[f32], epsilon: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = lane_sum(row.len(), |i| row[i]) / count;
    let variance = lane_sum(row.len(), |i| (row[i] - mean) * (row[i] - mean)) / count;
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
        let mean_gradient = lane_sum(width, |i| row[i]) / count;
        let mean_product = lane_sum(width, |i| row[i] * (x[i] - mean) * scale) / count;
        for (value, x) in row.iter_mut().zip(x) {
            *value = scale * (*value - mean_gradient - (x - mean) * scale * mean_product);
        }
    }
}

multiversioned!(normalise = normalise_body(values: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32));
multiversioned!(
    normalise_gradient = normalise_gradient_body(gradient: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32)
);
