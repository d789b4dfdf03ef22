use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::{slice, with_slice};
use crate::matrix::{Panels, column_sums, transpose};
use crate::simd::{Isa, gelu, gelu_gradient};

/// What follows a matrix product, element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `x * P(X <= x)` for a standard normal X: the exact GELU, with erf.
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

/// A linear layer `x W^T + b`.
///
/// A frozen weight is packed once, at its first use, and autograd never sees it. Gradients go to the input, and to
/// weight and bias if they are variables.
#[derive(Debug)]
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

/// A frozen weight as the products need it; each form is made when it is first used.
#[derive(Debug)]
struct Packed {
    weight: Tensor,
    features: Features,
    forward: OnceLock<Panels>,
    backward: OnceLock<Panels>,
}

impl Linear {
    /// A layer with weight `[out, in]` and bias `[out]` (0 if there is none).
    ///
    /// # Errors
    /// If the shapes do not fit together.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let bias = match bias {
            Some(bias) => bias,
            None => Tensor::zeros(outputs, weight.dtype(), weight.device())?,
        };
        if bias.dims() != [outputs] {
            bail!("linear: expected a bias [{outputs}], found {:?}", bias.dims());
        }
        let features = Features { inputs, outputs };
        let packed =
            Packed { weight: weight.detach(), features, forward: OnceLock::new(), backward: OnceLock::new() };
        Ok(Self { weight, bias, features, packed: Arc::new(packed) })
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
    /// If `x` has another width.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        match x.dims() {
            [_, inputs] if *inputs == self.features.inputs => {}
            found => bail!("linear: expected [rows, {}], found {found:?}", self.features.inputs),
        }
        if !x.device().is_cpu() {
            return composed::linear(x, &self.weight, &self.bias, activation);
        }
        let x = x.contiguous()?;
        if !x.track_op() && !self.weight.track_op() && !self.bias.track_op() {
            return x.apply_op1_no_bwd(&self.frozen(activation)?);
        }
        // What the activation's gradient needs is its input, which the graph keeps.
        let y = match (self.weight.track_op(), self.bias.track_op()) {
            (true, _) => x.apply_op3(&self.weight.contiguous()?, &self.bias, TrainedWeight(self.features))?,
            (false, true) => x.apply_op2(&self.bias.contiguous()?, TrainedBias(Arc::clone(&self.packed)))?,
            (false, false) => x.apply_op1(self.frozen(Activation::Identity)?)?,
        };
        activate(&y, activation)
    }

    fn frozen(&self, activation: Activation) -> Result<Frozen> {
        let bias = self.bias.to_vec1()?;
        Ok(Frozen { packed: Arc::clone(&self.packed), bias, activation })
    }
}

impl Packed {
    fn forward(&self) -> Result<&Panels> {
        let Features { inputs, outputs } = self.features;
        made(&self.forward, || {
            with_slice(&self.weight, |weight| Panels::of_transposed(weight, outputs, inputs))
        })
    }

    fn backward(&self) -> Result<&Panels> {
        let Features { inputs, outputs } = self.features;
        made(&self.backward, || with_slice(&self.weight, |weight| Panels::of(weight, outputs, inputs)))
    }

    /// `gradient W`: the gradient of the input.
    fn input_gradient(&self, gradient: &Tensor) -> Result<Tensor> {
        let panels = self.backward()?;
        let rows = gradient.dim(0)?;
        let values =
            with_slice(gradient, |gradient| panels.multiply(Isa::best(), rows, gradient, None, |_| {}))?;
        Tensor::from_vec(values, (rows, self.features.inputs), gradient.device())
    }
}

/// The value of a cell, made by the first who asks.
fn made<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if cell.get().is_none() {
        let value = make()?;
        // If another thread was first, its value is the same.
        cell.set(value).ok();
    }
    match cell.get() {
        Some(value) => Ok(value),
        None => bail!("linear: a packed weight is gone"),
    }
}

fn product(
    panels: &Panels,
    (x, layout): (&CpuStorage, &Layout),
    bias: &[f32],
    activation: Activation,
) -> Result<(CpuStorage, Shape)> {
    let isa = Isa::best();
    let rows = layout.dims()[0];
    let values = panels.multiply(isa, rows, slice(x, layout)?, Some(bias), |row| match activation {
        Activation::Identity => {}
        Activation::Gelu => gelu(isa, row),
        Activation::Relu => relu(row),
    });
    Ok((CpuStorage::F32(values), Shape::from((rows, panels.columns()))))
}

fn relu(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = value.max(0.0));
}

/// Everything frozen: the gradient goes to the input alone.
struct Frozen {
    packed: Arc<Packed>,
    bias: Vec<f32>,
    activation: Activation,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "skn-linear-frozen"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        product(self.packed.forward()?, (x, layout), &self.bias, self.activation)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.packed.input_gradient(gradient)?))
    }
}

/// The weight frozen, the bias trained.
struct TrainedBias(Arc<Packed>);

impl CustomOp2 for TrainedBias {
    fn name(&self) -> &'static str {
        "skn-linear-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        product(self.0.forward()?, (x, lx), slice(b, lb)?, Activation::Identity)
    }

    fn bwd(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let input = if x.track_op() { Some(self.0.input_gradient(gradient)?) } else { None };
        Ok((input, Some(bias_gradient(gradient)?)))
    }
}

/// Weight and bias trained (or the bias at least given): packed anew at each call.
struct TrainedWeight(Features);

impl CustomOp3 for TrainedWeight {
    fn name(&self) -> &'static str {
        "skn-linear-weight"
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
        let panels = Panels::of_transposed(slice(w, lw)?, self.0.outputs, self.0.inputs);
        product(&panels, (x, lx), slice(b, lb)?, Activation::Identity)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Features { inputs, outputs } = self.0;
        let (rows, isa) = (gradient.dim(0)?, Isa::best());
        let dx = with_slice(weight, |weight| Panels::of(weight, outputs, inputs))?;
        let dx = with_slice(gradient, |gradient| dx.multiply(isa, rows, gradient, None, |_| {}))?;
        let columns = with_slice(gradient, |gradient| transpose(gradient, rows, outputs))?;
        let dw =
            with_slice(x, |x| Panels::of(x, rows, inputs).multiply(isa, outputs, &columns, None, |_| {}))?;
        let dx = Tensor::from_vec(dx, (rows, inputs), gradient.device())?;
        let dw = Tensor::from_vec(dw, (outputs, inputs), gradient.device())?;
        let db = if bias.track_op() { Some(bias_gradient(gradient)?) } else { None };
        Ok((Some(dx), Some(dw), db))
    }
}

fn bias_gradient(gradient: &Tensor) -> Result<Tensor> {
    let columns = gradient.dim(1)?;
    Tensor::from_vec(
        with_slice(gradient, |gradient| column_sums(gradient, columns))?,
        columns,
        gradient.device(),
    )
}

fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Identity => Ok(x.clone()),
        Activation::Gelu => x.apply_op1(Gelu),
        Activation::Relu => x.relu(),
    }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "skn-gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut values = slice(x, layout)?.to_vec();
        gelu(Isa::best(), &mut values);
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let mut values = with_slice(gradient, <[f32]>::to_vec)?;
        with_slice(x, |x| gelu_gradient(Isa::best(), x, &mut values))?;
        Ok(Some(Tensor::from_vec(values, gradient.shape(), gradient.device())?))
    }
}
