use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

use crate::activation::Activation;
use crate::composed;
use crate::cpu::{expect_f32, slice, with_slices};
use crate::element::Pair;
use crate::matrix::{Panels, View, ViewMut};
use crate::simd::Isa;

/// What the products with a frozen weight multiply. Sums, biases and everything between products are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bfloat16: weights and what comes in are rounded to 8 bits of precision, and packed weights take half the memory. On a
    /// CPU with AVX512-BF16 products take about half the time ([`Isa::multiplies_bf16`]); elsewhere they take about as long as
    /// in f32, and the result is the same but for the order of sums.
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
/// A frozen weight on the CPU is packed at its first use, for the forward and the backward pass, and autograd never sees it.
/// In f32 its tensor is let go then, so that a layer holds what the products need and nothing else, unless somebody
/// else has the tensor too. Gradients go to the input, and to weight and bias if they are variables.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Tensor,
    features: Features,
}

/// Where a layer's weight `[out, in]` is.
#[derive(Clone, Debug)]
enum Weight {
    /// In a tensor that trains, or on another device than the CPU.
    Tensor(Tensor),
    /// Frozen, on the CPU.
    Frozen(Arc<Packed>),
}

/// Inputs and outputs of a layer.
#[derive(Clone, Copy, Debug)]
struct Features {
    inputs: usize,
    outputs: usize,
}

/// A frozen weight as the products need it, which is made when it is first used.
#[derive(Debug)]
struct Packed {
    features: Features,
    precision: Precision,
    original: Mutex<Original>,
    operand: OnceLock<Operand>,
}

/// Every bit of a weight `[out, in]`.
#[derive(Clone)]
enum Original {
    /// Still where it can be read from.
    Unread(Arc<ReadRows>),
    /// As it was given.
    Tensor(Tensor),
    /// Packed: then the tensor is not needed any more.
    Panels(Arc<Panels<f32>>),
}

/// Appends some rows of a weight `[out, in]` to a vector.
type ReadRows = dyn Fn(Range<usize>, &mut Vec<f32>) -> Result<()> + Send + Sync;

impl fmt::Debug for Original {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unread(_) => "Unread",
            Self::Tensor(_) => "Tensor",
            Self::Panels(_) => "Panels",
        })
    }
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
        let precision = Precision::F32;
        let weight = if weight.track_op() || !weight.device().is_cpu() {
            Weight::Tensor(weight)
        } else {
            Weight::Frozen(Arc::new(Packed::new(Original::Tensor(weight.detach()), features, precision)))
        };
        Ok(Self { weight, bias, features })
    }

    /// A frozen layer on the CPU with bias `[out]` and weight `[out, in]`, of which `read` appends some rows to a vector when
    /// they are first needed. So not even one matrix is there as a whole beside what is packed.
    ///
    /// # Errors
    /// If the bias has another length, is not f32 or not on the CPU. What is wrong with the weight is known when it is read.
    pub fn deferred(
        [outputs, inputs]: [usize; 2],
        bias: Tensor,
        read: impl Fn(Range<usize>, &mut Vec<f32>) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        if bias.dims() != [outputs] {
            bail!("linear: expected a bias [{outputs}], found {:?}", bias.dims());
        }
        if !bias.device().is_cpu() {
            bail!(
                "linear: expected a bias on the CPU, where a weight can be read later, found one elsewhere"
            );
        }
        expect_f32("linear bias", &bias)?;
        let checked = move |rows: Range<usize>, values: &mut Vec<f32>| {
            let before = values.len();
            read(rows.clone(), values)?;
            let (expected, found) = (rows.len() * inputs, values.len() - before);
            if found != expected {
                bail!("linear: expected {expected} numbers of rows {rows:?} of a weight, found {found}");
            }
            Ok(())
        };
        let features = Features { inputs, outputs };
        let precision = Precision::F32;
        let packed = Packed::new(Original::Unread(Arc::new(checked)), features, precision);
        Ok(Self { weight: Weight::Frozen(Arc::new(packed)), bias, features })
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
        match &mut self.weight {
            Weight::Frozen(packed) if packed.precision != precision => {
                *packed = Arc::new(packed.with_precision(precision));
            }
            _ => {}
        }
    }

    /// Packs a frozen weight for passes without a gradient now instead of at the first of them.
    ///
    /// # Errors
    /// If the weight can't be read.
    pub fn pack(&self) -> Result<()> {
        match &self.weight {
            Weight::Frozen(packed) => packed.operand().map(drop),
            Weight::Tensor(_) => Ok(()),
        }
    }

    /// Its weight `[out, in]`: the tensor that trains, or a copy of the frozen one if only the packed form is left.
    pub(crate) fn weight(&self) -> Result<Tensor> {
        match &self.weight {
            Weight::Tensor(weight) => Ok(weight.clone()),
            Weight::Frozen(packed) => packed.weight(),
        }
    }

    /// Whether its weight is frozen, and on the CPU.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.weight, Weight::Frozen(_))
    }

    /// Its bias `[out]`.
    pub(crate) fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// What its weight is multiplied in.
    pub(crate) fn precision(&self) -> Precision {
        match &self.weight {
            Weight::Tensor(_) => Precision::F32,
            Weight::Frozen(packed) => packed.precision,
        }
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
            return composed::linear(x, &self.weight()?, &self.bias, activation);
        }
        let x = x.contiguous()?;
        let bias = self.bias.contiguous()?;
        match &self.weight {
            Weight::Tensor(weight) => {
                let op = Trained { features: self.features, finish: Finish::new(activation) };
                x.apply_op3(&weight.contiguous()?, &bias, op)
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
}

impl Packed {
    fn new(original: Original, features: Features, precision: Precision) -> Self {
        let original = Mutex::new(original);
        Self { features, precision, original, operand: OnceLock::new() }
    }

    /// The same weight for products in another precision.
    fn with_precision(&self, precision: Precision) -> Self {
        Self::new(self.original().clone(), self.features, precision)
    }

    fn original(&self) -> MutexGuard<'_, Original> {
        // It is replaced as a whole or not at all.
        self.original.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operand(&self) -> Result<&Operand> {
        if let Some(operand) = self.operand.get() {
            return Ok(operand);
        }
        // Who comes second waits here, instead of packing it too.
        let mut original = self.original();
        made(&self.operand, || {
            let operand = match (&*original, self.precision) {
                (Original::Panels(panels), Precision::F32) => Operand::F32(Arc::clone(panels)),
                (Original::Unread(read), precision) => {
                    let Features { inputs, outputs } = self.features;
                    Operand::of_read([outputs, inputs], precision, read.as_ref())?
                }
                (_, precision) => {
                    let weight = self.weight_of(&original)?;
                    let Features { inputs, outputs } = self.features;
                    with_slices([&weight], |[values]| {
                        let read = |rows: Range<usize>, to: &mut Vec<f32>| {
                            to.extend_from_slice(&values[rows.start * inputs..rows.end * inputs]);
                            Ok(())
                        };
                        Operand::of_read([outputs, inputs], precision, read)
                    })?
                }
            };
            if let Operand::F32(panels) = &operand {
                *original = Original::Panels(Arc::clone(panels));
            }
            Ok(operand)
        })
    }

    fn weight(&self) -> Result<Tensor> {
        self.weight_of(&self.original())
    }

    fn weight_of(&self, original: &Original) -> Result<Tensor> {
        let Features { inputs, outputs } = self.features;
        match original {
            Original::Unread(read) => {
                let mut values = Vec::with_capacity(outputs * inputs);
                read(0..outputs, &mut values)?;
                Tensor::from_vec(values, (outputs, inputs), &Device::Cpu)
            }
            Original::Tensor(weight) => Ok(weight.clone()),
            Original::Panels(panels) => {
                Tensor::from_vec(panels.transposed(), (outputs, inputs), &Device::Cpu)
            }
        }
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
    F32(Arc<Panels<f32>>),
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
            Precision::F32 => Self::F32(Arc::new(Panels::of(matrix))),
            Precision::Bf16 => Self::Bf16(Panels::of(matrix)),
        }
    }

    /// The transpose of a matrix `[columns, inner]`.
    pub(crate) fn of_transposed(matrix: View<'_>, precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32(Arc::new(Panels::of_transposed(matrix))),
            Precision::Bf16 => Self::Bf16(Panels::of_transposed(matrix)),
        }
    }

    /// As [`Self::of_transposed`], of a matrix whose rows are read.
    fn of_read(
        shape: [usize; 2],
        precision: Precision,
        read: impl Fn(Range<usize>, &mut Vec<f32>) -> Result<()>,
    ) -> Result<Self> {
        Ok(match precision {
            Precision::F32 => Self::F32(Arc::new(Panels::of_read(shape, read)?)),
            Precision::Bf16 => Self::Bf16(Panels::of_read(shape, read)?),
        })
    }

    /// See [`Panels::multiply_into`].
    pub(crate) fn multiply_into(&self, left: View<'_>, bias: &[f32], out: &mut ViewMut<'_>) {
        match self {
            Self::F32(panels) => panels.multiply_into(Isa::best(), left, bias, out, |_| {}),
            Self::Bf16(panels) => panels.multiply_into(Isa::best(), left, bias, out, |_| {}),
        }
    }

    /// See [`Panels::multiply_transposed`].
    fn multiply_transposed(&self, left: View<'_>) -> Vec<f32> {
        match self {
            Self::F32(panels) => panels.multiply_transposed(Isa::best(), left),
            Self::Bf16(panels) => panels.multiply_transposed(Isa::best(), left),
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
