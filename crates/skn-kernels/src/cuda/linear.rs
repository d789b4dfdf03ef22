//! Linear layers: the product by cuBLAS, then bias and activation in one pass over it.

use candle_core::{Result, Tensor};

use super::elementwise::code;
use super::launch::{Launch, Made, THREADS, blocks, warps};
use super::node::of_three;
use super::product::{product, product_through_rounded, product_with_rounded, rounded};
use super::run::zeros;
use crate::activation::Activation;
use crate::linear::Linear;

/// See [`Linear::forward`].
pub(super) fn forward(layer: &Linear, x: &Tensor, activation: Activation) -> Result<Tensor> {
    // cuBLAS takes no columns out of wider rows.
    let x = &x.contiguous()?;
    let (weight, bias, halved) = (layer.weight()?, layer.bias(), layer.rounded_by(rounded)?);
    let ((rows, _), columns) = (x.dims2()?, layer.out_features());
    let tracked = [x, &weight, bias].map(Tensor::track_op);
    let keeps = tracked.contains(&true) && activation != Activation::Identity;
    let [made, kept] = finished(&plain_product(x, &weight, halved)?, bias, activation, keeps)?;
    let made = match made {
        Some(made) => made,
        None => Made::nothing((rows, columns), x.device())?,
    };
    let (kept, halved) = (kept.map(Made::tensor), halved.cloned());
    of_three("linear", [x, &weight, bias], made, move |[x, weight, _], _, gradient| {
        let gradient = match &kept {
            Some(input) => activation_gradient(input, gradient, activation)?,
            None => gradient.contiguous()?,
        };
        let of_x = tracked[0].then(|| match &halved {
            Some(halved) => product_through_rounded(&gradient, halved),
            None => product(&gradient, weight),
        });
        let of_weight = tracked[1].then(|| product(&gradient.t()?, x)).transpose()?;
        let of_bias = tracked[2].then(|| column_sums(&gradient)).transpose()?;
        Ok([of_x.transpose()?, of_weight, of_bias])
    })
}

/// `x weight^T`, in bf16 if there is such a weight.
fn plain_product(x: &Tensor, weight: &Tensor, halved: Option<&Tensor>) -> Result<Tensor> {
    match halved {
        Some(halved) => product_with_rounded(&x.detach(), halved),
        None => product(&x.detach(), &weight.detach().t()?),
    }
}

/// A product with its bias after an activation, and what went into that, if it is to be kept. Nothing of nothing.
fn finished(plain: &Tensor, bias: &Tensor, activation: Activation, keeps: bool) -> Result<[Option<Made>; 2]> {
    let (count, columns) = (plain.elem_count(), bias.elem_count());
    if count == 0 {
        return Ok([None, None]);
    }
    Launch::new("bias_activation", blocks(count), THREADS)
        .output(plain.shape())
        .output_if(keeps, plain.shape())
        .tensor(plain)?
        .tensor(bias)?
        .u64(count)
        .u32(columns)?
        .u32(code(activation))?
        .run(plain.device())
}

fn activation_gradient(input: &Tensor, gradient: &Tensor, activation: Activation) -> Result<Tensor> {
    let count = input.elem_count();
    let launch = Launch::new("activation_gradient", blocks(count), THREADS)
        .output(input.shape())
        .tensor(input)?
        .tensor(gradient)?;
    Ok(launch.u64(count).u32(code(activation))?.run_one(input.device())?.tensor())
}

/// The sum of the rows `[columns]`.
fn column_sums(x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    if rows == 0 || columns == 0 {
        return zeros((1, columns), x.device())?.reshape(columns);
    }
    let launch = Launch::new("column_sums", warps(columns), THREADS).output(columns);
    Ok(launch.tensor(x)?.u32(rows)?.u32(columns)?.run_one(x.device())?.tensor())
}
