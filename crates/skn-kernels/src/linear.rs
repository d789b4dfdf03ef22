use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::{expect_f32, slice, with_slices};
use crate::element::Pair;
use crate::matrix::{Panels, View, ViewMut};
use crate::simd::{Isa, gelu, gelu_gradient, gelu_tanh, gelu_tanh_gradient};

/// What follows a matrix product, element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `x * P(X <= x)` for a standard normal X: the exact GELU, with erf.
    Gelu,
    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`: the GELU of the first BERT code.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// What the products with a frozen weight multiply. Sums, biases and everything between products are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bfloat16: weights and what comes in are rounded to 8 bits of precision. On a CPU with AVX512-BF16 products take
    /// about half the time ([`Isa::multiplies_bf16`]); elsewhere they take longer than in f32, and the result is the
    /// same but for the order of sums.
    Bf16,
}

impl Precision {
    /// Its name: f32 or bf16.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A linear layer `x W^T + b`.
///
/// A frozen weight is packed at its first use, once more at its first backward pass, and autograd never sees it.
/// Gradients go to the input, and to weight and bias if they are variables.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    features: Features,
    packed: Arc<Packed>,
}

/// Inputs and outputs of a layer.
#[derive(Clone, Copy, Debug)]
struct Features {
    inputs: usize,
    outputs: usize,
}

/// What is frozen of a layer as the products need it; each form is made when it is first used.
#[derive(Debug)]
struct Packed {
    weight: Tensor,
    bias: Tensor,
    precision: Precision,
    forward: OnceLock<Operand>,
    backward: OnceLock<Operand>,
    bias_values: OnceLock<Vec<f32>>,
}

impl Linear {
    /// A layer with weight `[out, in]` and bias `[out]` (0 if there is none).
    ///
    /// # Errors
    /// If the shapes do not fit together, or a tensor is not f32.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let [outputs, inputs] = *weight.dims() else {
            bail!("linear: expected a weight [out, in], found {:?}", weight.dims());
        };
        let bias = match bias {
            Some(bias) => bias,
            None => Tensor::zeros(outputs, weight.dtype(), weight.device())?,
        };
        if bias.dims() != [outputs] {
            bail!(
                "linear: expected a bias [{outputs}] for a weight {:?}, found {:?}",
                weight.dims(),
                bias.dims()
            );
        }
        expect_f32("linear weight", &weight)?;
        expect_f32("linear bias", &bias)?;
        let features = Features { inputs, outputs };
        let packed = Packed::new(&weight, &bias, Precision::F32);
        Ok(Self { weight, bias, features, packed: Arc::new(packed) })
    }

    /// The same layer, its frozen weight multiplied in another precision. A weight that trains is multiplied in f32, and
    /// on other devices than the CPU every weight is.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.set_precision(precision);
        self
    }

    /// As [`Self::with_precision`], in place.
    pub fn set_precision(&mut self, precision: Precision) {
        if precision != self.packed.precision {
            self.packed = Arc::new(Packed::new(&self.weight, &self.bias, precision));
        }
    }

    /// Packs a frozen weight for passes without a gradient now instead of at the first of them.
    ///
    /// # Errors
    /// If the weight can't be read.
    pub fn pack(&self) -> Result<()> {
        if self.weight.device().is_cpu() && !self.weight.track_op() {
            self.packed.forward()?;
        }
        Ok(())
    }

    /// Its weight `[out, in]`.
    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// Its bias `[out]`.
    pub(crate) fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// What its frozen weight is multiplied in.
    pub(crate) fn precision(&self) -> Precision {
        self.packed.precision
    }

    /// Numbers that come in a row.
    pub fn in_features(&self) -> usize {
        self.features.inputs
    }

    /// Numbers that go out a row.
    pub fn out_features(&self) -> usize {
        self.features.outputs
    }

    /// `activation(x W^T + b)` of `x` `[rows, in]`: `[rows, out]`.
    ///
    /// # Errors
    /// If `x` has another width or is not f32.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        match x.dims() {
            [_, inputs] if *inputs == self.features.inputs => {}
            found => bail!("linear: expected [rows, {}], found {found:?}", self.features.inputs),
        }
        expect_f32("linear", x)?;
        if !x.device().is_cpu() {
            return composed::linear(x, &self.weight, &self.bias, activation);
        }
        let x = x.contiguous()?;
        let trained = (self.weight.track_op(), self.bias.track_op());
        if trained == (false, false) && !x.track_op() {
            return x.apply_op1_no_bwd(&Frozen { packed: Arc::clone(&self.packed), activation });
        }
        // The gradient of an activation needs its input: the graph keeps it as the result of the product.
        let product = match trained {
            (true, _) => {
                x.apply_op3(&self.weight.contiguous()?, &self.bias.contiguous()?, Trained(self.features))
            }
            (false, true) => x.apply_op2(&self.bias.contiguous()?, TrainedBias(Arc::clone(&self.packed))),
            (false, false) => {
                x.apply_op1(Frozen { packed: Arc::clone(&self.packed), activation: Activation::Identity })
            }
        }?;
        match activation {
            Activation::Identity => Ok(product),
            _ => product.apply_op1(Activate(activation)),
        }
    }
}

impl Packed {
    fn new(weight: &Tensor, bias: &Tensor, precision: Precision) -> Self {
        Self {
            weight: weight.detach(),
            bias: bias.detach(),
            precision,
            forward: OnceLock::new(),
            backward: OnceLock::new(),
            bias_values: OnceLock::new(),
        }
    }

    fn forward(&self) -> Result<&Operand> {
        made(&self.forward, || packed_transposed(&self.weight, self.precision))
    }

    fn backward(&self) -> Result<&Operand> {
        made(&self.backward, || packed(&self.weight, self.precision))
    }

    fn bias(&self) -> Result<&[f32]> {
        Ok(made(&self.bias_values, || self.bias.to_vec1())?)
    }
}

/// The value of a cell, made if there is none. Two threads may both make it: it is the same.
pub(crate) fn made<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}

/// The right-hand side of a product, packed.
#[derive(Debug)]
pub(crate) enum Operand {
    F32(Panels<f32>),
    Bf16(Panels<Pair>),
}

impl Operand {
    fn columns(&self) -> usize {
        match self {
            Self::F32(panels) => panels.columns(),
            Self::Bf16(panels) => panels.columns(),
        }
    }

    /// A matrix `[inner, columns]`.
    pub(crate) fn of(matrix: View<'_>, precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32(Panels::of(matrix)),
            Precision::Bf16 => Self::Bf16(Panels::of(matrix)),
        }
    }

    /// The transpose of a matrix `[columns, inner]`.
    pub(crate) fn of_transposed(matrix: View<'_>, precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32(Panels::of_transposed(matrix)),
            Precision::Bf16 => Self::Bf16(Panels::of_transposed(matrix)),
        }
    }

    /// See [`Panels::multiply_into`].
    pub(crate) fn multiply_into(&self, left: View<'_>, bias: &[f32], out: &mut ViewMut<'_>) {
        match self {
            Self::F32(panels) => panels.multiply_into(Isa::best(), left, bias, out, |_| {}),
            Self::Bf16(panels) => panels.multiply_into(Isa::best(), left, bias, out, |_| {}),
        }
    }

    /// See [`Panels::multiply`].
    fn multiply(&self, left: View<'_>, bias: &[f32], finish: impl FnMut(&mut ViewMut<'_>)) -> Vec<f32> {
        match self {
            Self::F32(panels) => panels.multiply(Isa::best(), left, bias, finish),
            Self::Bf16(panels) => panels.multiply(Isa::best(), left, bias, finish),
        }
    }
}

fn packed(matrix: &Tensor, precision: Precision) -> Result<Operand> {
    let (rows, columns) = matrix.dims2()?;
    with_slices([matrix], |[values]| Ok(Operand::of(View::dense(values, rows, columns), precision)))
}

fn packed_transposed(matrix: &Tensor, precision: Precision) -> Result<Operand> {
    let (rows, columns) = matrix.dims2()?;
    with_slices([matrix], |[values]| {
        Ok(Operand::of_transposed(View::dense(values, rows, columns), precision))
    })
}

/// `activation(x panels + bias)`.
fn forward_product(
    panels: &Operand,
    (x, layout): (&CpuStorage, &Layout),
    bias: &[f32],
    activation: Activation,
) -> Result<(CpuStorage, Shape)> {
    let (rows, inputs) = layout.shape().dims2()?;
    let values = panels.multiply(View::dense(slice(x, layout)?, rows, inputs), bias, |part| {
        activate(Isa::best(), activation, part.values, (part.stride, part.columns));
    });
    Ok((CpuStorage::F32(values), Shape::from((rows, panels.columns()))))
}

/// `gradient panels`, the panels being a weight `[out, in]`: the gradient of the input.
fn input_gradient(panels: &Operand, gradient: &Tensor) -> Result<Tensor> {
    let (rows, outputs) = gradient.dims2()?;
    let values = with_slices([gradient], |[gradient]| {
        Ok(panels.multiply(View::dense(gradient, rows, outputs), &[], |_| {}))
    })?;
    Tensor::from_vec(values, (rows, panels.columns()), gradient.device())
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

/// Weight and bias frozen: the gradient goes to the input alone.
struct Frozen {
    packed: Arc<Packed>,
    activation: Activation,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        forward_product(self.packed.forward()?, (x, layout), self.packed.bias()?, self.activation)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(input_gradient(self.packed.backward()?, gradient)?))
    }
}

/// The weight frozen, the bias trained.
struct TrainedBias(Arc<Packed>);

impl CustomOp2 for TrainedBias {
    fn name(&self) -> &'static str {
        "linear with a trained bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward_product(self.0.forward()?, (x, lx), slice(b, lb)?, Activation::Identity)
    }

    fn bwd(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = if x.track_op() { Some(input_gradient(self.0.backward()?, gradient)?) } else { None };
        Ok((dx, Some(bias_gradient(gradient)?)))
    }
}

/// The weight trained, and perhaps the bias: packed anew at each call.
struct Trained(Features);

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
        let panels = Panels::of_transposed(View::dense(slice(w, lw)?, self.0.outputs, self.0.inputs));
        forward_product(&Operand::F32(panels), (x, lx), slice(b, lb)?, Activation::Identity)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dx = if x.track_op() {
            Some(input_gradient(&packed(weight, Precision::F32)?, gradient)?)
        } else {
            None
        };
        let db = if bias.track_op() { Some(bias_gradient(gradient)?) } else { None };
        Ok((dx, Some(weight_gradient(x, gradient)?), db))
    }
}

/// An activation of its own, for the passes that need a gradient.
struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut values = slice(x, layout)?.to_vec();
        let length = values.len();
        activate(Isa::best(), self.0, &mut values, (length, length));
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let values = with_slices([x, gradient], |[x, gradient]| {
            let mut values = gradient.to_vec();
            match self.0 {
                Activation::Identity => {}
                Activation::Gelu => gelu_gradient(Isa::best(), x, &mut values),
                Activation::GeluTanh => gelu_tanh_gradient(Isa::best(), x, &mut values),
                Activation::Relu => relu_gradient(x, &mut values),
            }
            Ok(values)
        })?;
        Ok(Some(Tensor::from_vec(values, gradient.shape(), gradient.device())?))
    }
}

/// Applies an activation to the first `width` numbers of every `stride`.
fn activate(isa: Isa, activation: Activation, values: &mut [f32], (stride, width): (usize, usize)) {
    match activation {
        Activation::Identity => {}
        Activation::Gelu => gelu(isa, values, stride, width),
        Activation::GeluTanh => gelu_tanh(isa, values, stride, width),
        Activation::Relu => {
            for row in values.chunks_mut(stride.max(1)) {
                // Not `max`, which would turn what is not a number into 0 and hide it.
                row[..width].iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
            }
        }
    }
}

fn relu_gradient(x: &[f32], gradient: &mut [f32]) {
    for (gradient, x) in gradient.iter_mut().zip(x) {
        *gradient = if *x > 0.0 { *gradient } else { 0.0 };
    }
}
