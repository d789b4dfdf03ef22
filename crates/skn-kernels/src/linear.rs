mod gated;
mod operation;
mod weight;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use crate::activation::Activation;
use crate::composed;
use crate::cpu::expect_f32;
use crate::operand::Precision;
use gated::Gated;
use operation::{Finish, Frozen, Trained};
use weight::{Features, Original, Packed};

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

    fn check(&self, x: &Tensor) -> Result<()> {
        match x.dims() {
            [_, inputs] if *inputs == self.features.inputs => expect_f32("linear", x),
            found => bail!("linear: expected [rows, {}], found {found:?}", self.features.inputs),
        }
    }

    /// `activation(x W^T + b)` of `x` `[rows, in]`: `[rows, out]`.
    ///
    /// # Errors
    /// If `x` has another width or is not f32.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.check(x)?;
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

    /// `activation(gate) * up`, element by element, of this layer's result `gate` and another layer's result `up` for the
    /// same `x` `[rows, in]`: `[rows, out]`. It has the bits of [`gated`](crate::gated()) of both results; if nothing trains
    /// in either layer it is one operation, with one tensor less.
    ///
    /// # Errors
    /// If the layers have different shapes, `x` has another width, or is not f32.
    pub fn forward_gated(&self, up: &Linear, x: &Tensor, activation: Activation) -> Result<Tensor> {
        if self.features != up.features {
            bail!(
                "linear: expected a gate and an up layer of one shape, found {:?} and {:?}",
                [self.features.outputs, self.features.inputs],
                [up.features.outputs, up.features.inputs]
            );
        }
        self.check(x)?;
        let biases = [&self.bias, &up.bias];
        match (&self.weight, &up.weight) {
            (Weight::Frozen(gate), Weight::Frozen(up))
                if x.device().is_cpu() && !biases.iter().any(|bias| bias.track_op()) =>
            {
                let layers = [Arc::clone(gate), Arc::clone(up)];
                Gated::new(layers, biases.map(Tensor::clone), activation).forward(&x.contiguous()?)
            }
            _ => {
                let gate = self.forward(x, Activation::Identity)?;
                crate::gated::gated(&gate, &up.forward(x, Activation::Identity)?, activation)
            }
        }
    }
}
