//! Norms of rows. A warp works on a row.

use candle_core::{Error, Result, Tensor, bail};

use super::elementwise::{dropout, with_dropout};
use super::launch::{Launch, Made, THREADS, warps};
use super::node::{of_three, of_two};
use super::run::nothing;
use crate::mask::Dropout;
use crate::norm::LayerNorm;
use crate::packing::RowSelection;
use crate::rms_norm::RmsNorm;

fn made(made: Option<Made>) -> Result<Made> {
    match made {
        Some(made) => Ok(made),
        None => bail!("norm: expected a result"),
    }
}

/// See [`LayerNorm::forward`].
pub(super) fn layer_norm(norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
    let LayerNorm { weight, bias, epsilon, .. } = norm;
    if x.elem_count() == 0 {
        let made = Made::nothing(x.shape(), x.device())?;
        return of_three("layer norm", [x, weight, bias], made, |inputs, _, _| nothing(inputs));
    }
    let epsilon = *epsilon as f32;
    let result = normalised(norm, x, None, None)?;
    let wanted = [x, weight, bias].map(Tensor::track_op);
    of_three("layer norm", [x, weight, bias], result, move |[x, weight, _], _, gradient| {
        let of_x = wanted[0].then(|| {
            let [of_x, _] = gradients(x, None, weight, gradient, None, epsilon)?;
            Ok::<_, Error>(made(of_x)?.tensor())
        });
        let of_parameters = (wanted[1] || wanted[2]).then(|| parameter_gradients(x, gradient, epsilon));
        let [of_weight, of_bias] = of_parameters.transpose()?.map_or([None, None], |both| both.map(Some));
        Ok([of_x.transpose()?, of_weight, of_bias])
    })
}

/// See [`LayerNorm::forward_residual`].
pub(super) fn layer_norm_of_sum(
    norm: &LayerNorm,
    x: &Tensor,
    residual: &Tensor,
    dropped: Option<(&RowSelection, &Dropout)>,
) -> Result<Tensor> {
    if x.elem_count() == 0 {
        let made = Made::nothing(x.shape(), x.device())?;
        return of_two("layer norm of a sum", [x, residual], made, |inputs, _, _| nothing(inputs));
    }
    if norm.frozen.is_none() {
        let x = dropped.map_or_else(|| Ok(x.clone()), |(rows, mask)| dropout(x, rows, mask))?;
        return layer_norm(norm, &(x + residual)?);
    }
    let result = normalised(norm, x, Some(residual), dropped)?;
    let (weight, epsilon) = (norm.weight.clone(), norm.epsilon as f32);
    let dropped = dropped.map(|(rows, dropout)| (rows.clone(), dropout.clone()));
    of_two("layer norm of a sum", [x, residual], result, move |[x, residual], _, gradient| {
        let dropped = dropped.as_ref().map(|(rows, dropout)| (rows, dropout));
        let [of_sum, of_x] = gradients(x, Some(residual), &weight, gradient, dropped, epsilon)?;
        let of_sum = made(of_sum)?.tensor();
        let of_x = of_x.map_or_else(|| of_sum.clone(), Made::tensor);
        Ok([Some(of_x), Some(of_sum)])
    })
}

fn normalised(
    norm: &LayerNorm,
    x: &Tensor,
    residual: Option<&Tensor>,
    dropped: Option<(&RowSelection, &Dropout)>,
) -> Result<Made> {
    let (rows, width) = x.dims2()?;
    let launch = Launch::new("layer_norm", warps(rows), THREADS)
        .output(x.shape())
        .tensor(x)?
        .tensor_if(residual)?
        .tensor(&norm.weight)?
        .tensor(&norm.bias)?;
    let launch = with_dropout(launch, dropped, x)?.u32(rows)?.u32(width)?;
    launch.f32(norm.epsilon as f32).run_one(x.device())
}

/// The gradient of the sum, and that of what was dropped out of, if anything was.
fn gradients(
    x: &Tensor,
    residual: Option<&Tensor>,
    weight: &Tensor,
    gradient: &Tensor,
    dropped: Option<(&RowSelection, &Dropout)>,
    epsilon: f32,
) -> Result<[Option<Made>; 2]> {
    let (rows, width) = x.dims2()?;
    let launch = Launch::new("layer_norm_gradient", warps(rows), THREADS)
        .output(x.shape())
        .output_if(dropped.is_some(), x.shape())
        .tensor(x)?
        .tensor_if(residual)?
        .tensor(weight)?
        .tensor(gradient)?;
    with_dropout(launch, dropped, x)?.u32(rows)?.u32(width)?.f32(epsilon).run(x.device())
}

/// The gradients of weight and bias.
fn parameter_gradients(x: &Tensor, gradient: &Tensor, epsilon: f32) -> Result<[Tensor; 2]> {
    let (rows, width) = x.dims2()?;
    let moments = Launch::new("layer_norm_moments", warps(rows), THREADS)
        .output((rows, 2))
        .tensor(x)?
        .u32(rows)?
        .u32(width)?
        .f32(epsilon)
        .run_one(x.device())?
        .tensor();
    let [of_weight, of_bias] = Launch::new("layer_norm_parameter_gradients", warps(width), THREADS)
        .output(width)
        .output(width)
        .tensor(x)?
        .tensor(gradient)?
        .tensor(&moments)?
        .u32(rows)?
        .u32(width)?
        .run(x.device())?;
    Ok([made(of_weight)?.tensor(), made(of_bias)?.tensor()])
}

/// See [`RmsNorm::forward_heads`].
pub(super) fn rms_norm(norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
    let RmsNorm { weight, epsilon, .. } = norm;
    if x.elem_count() == 0 {
        let made = Made::nothing(x.shape(), x.device())?;
        return of_two("rms norm", [x, weight], made, |inputs, _, _| nothing(inputs));
    }
    // A kernel's row is what is normalised together.
    let (width, epsilon) = (norm.width(), *epsilon as f32);
    let rows = x.elem_count() / width;
    let result = Launch::new("rms_norm", warps(rows), THREADS)
        .output(x.shape())
        .tensor(x)?
        .tensor(weight)?
        .u32(rows)?
        .u32(width)?
        .f32(epsilon)
        .run_one(x.device())?;
    let wanted = [x, weight].map(Tensor::track_op);
    of_two("rms norm", [x, weight], result, move |[x, weight], _, gradient| {
        let of_x = wanted[0].then(|| {
            let launch = Launch::new("rms_norm_gradient", warps(rows), THREADS)
                .output(x.shape())
                .tensor(x)?
                .tensor(weight)?
                .tensor(gradient)?;
            Ok::<_, Error>(launch.u32(rows)?.u32(width)?.f32(epsilon).run_one(x.device())?.tensor())
        });
        let of_weight = wanted[1].then(|| rms_norm_weight_gradient(x, gradient, [rows, width], epsilon));
        Ok([of_x.transpose()?, of_weight.transpose()?])
    })
}

fn rms_norm_weight_gradient(
    x: &Tensor,
    gradient: &Tensor,
    [rows, width]: [usize; 2],
    epsilon: f32,
) -> Result<Tensor> {
    let scales = Launch::new("rms_norm_scales", warps(rows), THREADS)
        .output(rows)
        .tensor(x)?
        .u32(rows)?
        .u32(width)?
        .f32(epsilon)
        .run_one(x.device())?
        .tensor();
    let launch = Launch::new("rms_norm_weight_gradient", warps(width), THREADS)
        .output(width)
        .tensor(x)?
        .tensor(gradient)?
        .tensor(&scales)?;
    Ok(launch.u32(rows)?.u32(width)?.run_one(x.device())?.tensor())
}
