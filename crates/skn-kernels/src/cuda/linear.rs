//! Linear layers. A bias that nothing follows is added by the product itself, others by the kernel of the activation, in one pass over
//! the product: cuBLASLt has no GELU by erf and no SiLU, and its ReLU promises nothing of what is no number, which ours lets through.

use candle_core::{Result, Tensor, bail};

use super::elementwise::code;
use super::launch::{Launch, Made, THREADS, blocks, warps};
use super::node::{of_three, of_two};
use super::product::{Product, product, product_and_bias, product_through, product_with};
use super::run::zeros;
use super::weight::OnCard;
use crate::activation::Activation;
use crate::linear::{Linear, Weight};
use crate::noted::hold;
use crate::precision::Precision;

/// See [`Linear::forward`].
pub(super) fn forward(layer: &Linear, x: &Tensor, activation: Activation, rounded: bool) -> Result<Tensor> {
    // cuBLASLt is given no columns out of wider rows.
    let x = &x.contiguous()?;
    match layer.stored() {
        Weight::OnCard(weight) => frozen(layer, weight, x, activation, rounded),
        Weight::Tensor(weight) => trained(layer, weight, x, activation),
        Weight::Frozen(_) => bail!("{ELSEWHERE}"),
    }
}

/// The weight frozen, and perhaps the bias: products of both passes are made in its precision.
fn frozen(
    layer: &Linear,
    weight: &OnCard,
    x: &Tensor,
    activation: Activation,
    rounded: bool,
) -> Result<Tensor> {
    let (operand, precision, bias) = (weight.operand()?.clone(), weight.precision, layer.bias());
    // Whoever has the layer may let it go.
    [&operand, bias].into_iter().for_each(hold);
    let tracked = [x, bias].map(Tensor::track_op);
    let factors = [&x.detach(), &operand];
    let asked = Asked { tracked: tracked.contains(&true), rounded };
    let Finished { made, kept } = finished(factors, precision, bias, activation, asked)?;
    of_two("linear", [x, bias], made, move |_, _, gradient| {
        let gradient = through_activation(kept.as_ref(), gradient, activation)?;
        let of_x = tracked[0].then(|| product_through(&gradient, &operand, precision)).transpose()?;
        Ok([of_x, tracked[1].then(|| column_sums(&gradient)).transpose()?])
    })
}

const ELSEWHERE: &str = "linear: expected a weight on the device of its input, found one on the CPU";

/// The weight trained, and perhaps the bias: products are made in f32.
fn trained(layer: &Linear, weight: &Tensor, x: &Tensor, activation: Activation) -> Result<Tensor> {
    let bias = layer.bias();
    let tracked = [x, weight, bias].map(Tensor::track_op);
    let factors = [&x.detach(), &weight.detach()];
    let asked = Asked { tracked: tracked.contains(&true), rounded: false };
    let Finished { made, kept } = finished(factors, Precision::F32, bias, activation, asked)?;
    of_three("linear", [x, weight, bias], made, move |[x, weight, _], _, gradient| {
        let gradient = through_activation(kept.as_ref(), gradient, activation)?;
        let of_x = tracked[0].then(|| product_through(&gradient, weight, Precision::F32)).transpose()?;
        let of_weight = tracked[1].then(|| product(&gradient.t()?, x)).transpose()?;
        Ok([of_x, of_weight, tracked[2].then(|| column_sums(&gradient)).transpose()?])
    })
}

/// What is asked of a result.
struct Asked {
    /// Something needs its gradient.
    tracked: bool,
    /// Who reads it rounds it.
    rounded: bool,
}

/// What a layer gives.
struct Finished {
    made: Made,
    /// What went into the activation, if its gradient will need it.
    kept: Option<Tensor>,
}

/// A product with its bias after an activation. Nothing of nothing.
fn finished(
    [x, weight]: [&Tensor; 2],
    precision: Precision,
    bias: &Tensor,
    activation: Activation,
    Asked { tracked, rounded }: Asked,
) -> Result<Finished> {
    let plain = match activation {
        Activation::Identity => match product_and_bias(x, weight, precision, bias)? {
            Product::Biased(made) => return Ok(Finished { made, kept: None }),
            Product::Bare(plain) => plain,
        },
        _ => product_with(x, weight, precision)?,
    };
    let (count, columns) = (plain.elem_count(), bias.elem_count());
    if count == 0 {
        return Ok(Finished { made: Made::nothing(plain.shape(), plain.device())?, kept: None });
    }
    let keeps = tracked && activation != Activation::Identity;
    let [whole, rounded, kept] = Launch::new("bias_activation", blocks(count), THREADS)
        .output_rounded_if(rounded && !tracked, plain.shape())
        .output_if(keeps, plain.shape())
        .tensor(&plain)?
        .tensor(bias)?
        .u64(count)
        .u32(columns)?
        .u32(code(activation))?
        .run::<3>(plain.device())?;
    match whole.or(rounded) {
        Some(made) => Ok(Finished { made, kept: kept.map(Made::tensor) }),
        None => bail!("linear: expected a result"),
    }
}

/// The gradient of the product, from that of the activation.
fn through_activation(kept: Option<&Tensor>, gradient: &Tensor, activation: Activation) -> Result<Tensor> {
    match kept {
        Some(input) => activation_gradient(input, gradient, activation),
        None => gradient.contiguous(),
    }
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
