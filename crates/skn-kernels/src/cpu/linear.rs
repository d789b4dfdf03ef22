//! A linear layer's operations on candle's graph: the product with what follows it, and the gradients.

mod gated;
mod weight;

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::activation::Activation;
use crate::cpu::operand::Operand;
use crate::cpu::simd::Isa;
use crate::cpu::slices::{slice, with_slices};
use crate::cpu::view::View;
use crate::features::Features;
use crate::linear::{Linear, Weight};
use crate::precision::Precision;

use gated::Gated;
pub(crate) use weight::{Original, Packed};

/// See [`Linear::forward`].
pub(super) fn forward(layer: &Linear, x: &Tensor, activation: Activation) -> Result<Tensor> {
    let x = x.contiguous()?;
    let bias = layer.bias().contiguous()?;
    match layer.stored() {
        Weight::Tensor(weight) => {
            let op = Trained { features: layer.features(), finish: Finish::new(activation) };
            x.apply_op3(&weight.contiguous()?, &bias, op)
        }
        Weight::OnCard(_) => {
            bail!("linear: expected a weight on the device of its input, found one on a card")
        }
        Weight::Frozen(packed) => {
            let packed = Arc::clone(packed);
            if x.track_op() || bias.track_op() {
                x.apply_op2(&bias, Frozen { packed, finish: Finish::new(activation) })
            } else {
                let finish = Finish::without_gradient(activation);
                x.apply_op2_no_bwd(&bias, &Frozen { packed, finish })
            }
        }
    }
}

/// See [`Linear::forward_gated`].
pub(super) fn forward_gated(layers: [&Linear; 2], x: &Tensor, activation: Activation) -> Result<Tensor> {
    let biases = layers.map(Linear::bias);
    match layers.map(Linear::stored) {
        [Weight::Frozen(gate), Weight::Frozen(up)] if !biases.iter().any(|bias| bias.track_op()) => {
            let layers = [Arc::clone(gate), Arc::clone(up)];
            Gated::new(layers, biases.map(Tensor::clone), activation).forward(&x.contiguous()?)
        }
        _ => {
            let [gate, up] = layers.map(|layer| forward(layer, x, Activation::Identity));
            crate::cpu::gated::forward(&gate?, &up?, activation)
        }
    }
}

/// The weight frozen, and perhaps the bias.
struct Frozen {
    packed: Arc<Packed>,
    finish: Finish,
}

impl CustomOp2 for Frozen {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward_product(self.packed.operand()?, (x, lx), slice(b, lb)?, &self.finish)
    }

    fn bwd(
        &self,
        x: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = self.finish.backward(gradient)?;
        let dx = if x.track_op() {
            let operand = self.packed.operand()?;
            let product = |gradient: View<'_>| operand.multiply_transposed(gradient);
            Some(input_gradient(self.packed.features.inputs, &gradient, product)?)
        } else {
            None
        };
        let db = if bias.track_op() { Some(bias_gradient(&gradient)?) } else { None };
        Ok((dx, db))
    }
}

/// The weight trained, and perhaps the bias: packed anew at each call.
struct Trained {
    features: Features,
    finish: Finish,
}

impl CustomOp3 for Trained {
    fn name(&self) -> &'static str {
        "linear with a trained weight"
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
        let weight = View::dense(slice(w, lw)?, self.features.outputs, self.features.inputs);
        let panels = Operand::of_transposed(weight, Precision::F32);
        forward_product(&panels, (x, lx), slice(b, lb)?, &self.finish)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = self.finish.backward(gradient)?;
        let dx = if x.track_op() {
            let operand = packed(weight, Precision::F32)?;
            let product = |gradient: View<'_>| operand.multiply(gradient, &[], |_| {});
            Some(input_gradient(self.features.inputs, &gradient, product)?)
        } else {
            None
        };
        let db = if bias.track_op() { Some(bias_gradient(&gradient)?) } else { None };
        Ok((dx, Some(weight_gradient(x, &gradient)?), db))
    }
}

/// What follows a product.
struct Finish {
    activation: Activation,
    /// Whether [`Self::input`] is to be kept: an activation's gradient needs it.
    keeps_input: bool,
    /// What went into the activation, once a forward pass has been made.
    input: OnceLock<Vec<f32>>,
}

impl Finish {
    /// For a pass that needs a gradient.
    fn new(activation: Activation) -> Self {
        Self { activation, keeps_input: activation != Activation::Identity, input: OnceLock::new() }
    }

    /// For one that doesn't.
    fn without_gradient(activation: Activation) -> Self {
        Self { keeps_input: false, ..Self::new(activation) }
    }

    /// The activation of a product, which is kept.
    fn keeping(&self, product: Vec<f32>) -> Vec<f32> {
        let mut values = self.input.get_or_init(|| product).clone();
        let length = values.len();
        self.activation.apply(Isa::best(), &mut values, length, length);
        values
    }

    /// The gradient of the product, from that of the activation.
    fn backward(&self, gradient: &Tensor) -> Result<Tensor> {
        if self.activation == Activation::Identity {
            return Ok(gradient.clone());
        }
        let Some(input) = self.input.get() else {
            bail!("linear: a gradient was asked for before the result");
        };
        let values = with_slices([gradient], |[gradient]| {
            let mut values = gradient.to_vec();
            self.activation.differentiate(Isa::best(), input, &mut values);
            Ok(values)
        })?;
        Tensor::from_vec(values, gradient.shape(), gradient.device())
    }
}

/// `x panels + bias`, finished.
fn forward_product(
    panels: &Operand,
    (x, layout): (&CpuStorage, &Layout),
    bias: &[f32],
    finish: &Finish,
) -> Result<(CpuStorage, Shape)> {
    let (rows, inputs) = layout.shape().dims2()?;
    let x = View::dense(slice(x, layout)?, rows, inputs);
    let values = if finish.keeps_input {
        finish.keeping(panels.multiply(x, bias, |_| {}))
    } else {
        panels.multiply(x, bias, |part| {
            finish.activation.apply(Isa::best(), part.values, part.stride, part.columns);
        })
    };
    Ok((CpuStorage::F32(values), Shape::from((rows, panels.columns()))))
}

/// `gradient W`, the gradient of the input `[rows, inputs]`, by a function that multiplies with W.
fn input_gradient(
    inputs: usize,
    gradient: &Tensor,
    multiply: impl FnOnce(View<'_>) -> Vec<f32>,
) -> Result<Tensor> {
    let (rows, outputs) = gradient.dims2()?;
    let values = with_slices([gradient], |[gradient]| Ok(multiply(View::dense(gradient, rows, outputs))))?;
    Tensor::from_vec(values, (rows, inputs), gradient.device())
}

/// `gradient^T x`.
fn weight_gradient(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (rows, outputs) = gradient.dims2()?;
    let panels = packed(x, Precision::F32)?;
    let values = with_slices([gradient], |[gradient]| {
        let columns = View::dense(gradient, rows, outputs).transposed();
        Ok(panels.multiply(View::dense(&columns, outputs, rows), &[], |_| {}))
    })?;
    Tensor::from_vec(values, (outputs, panels.columns()), gradient.device())
}

/// The sum of the gradient's rows.
fn bias_gradient(gradient: &Tensor) -> Result<Tensor> {
    let (rows, outputs) = gradient.dims2()?;
    let sums = with_slices([gradient], |[gradient]| Ok(View::dense(gradient, rows, outputs).column_sums()))?;
    Tensor::from_vec(sums, outputs, gradient.device())
}

fn packed(matrix: &Tensor, precision: Precision) -> Result<Operand> {
    let (rows, columns) = matrix.dims2()?;
    with_slices([matrix], |[values]| Ok(Operand::of(View::dense(values, rows, columns), precision)))
}

/// `a b` of `a` `[rows, inner]` and `b` `[inner, columns]`, without a history.
pub(crate) fn product_of(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ((rows, inner), b) = (a.dims2()?, b.contiguous()?);
    let operand = packed(&b, Precision::F32)?;
    let values =
        with_slices([a], |[values]| Ok(operand.multiply(View::dense(values, rows, inner), &[], |_| {})))?;
    Tensor::from_vec(values, (rows, operand.columns()), a.device())
}
