use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use crate::backend::Backend;
use crate::check::expect_f32;
use crate::cpu::{Original, Packed};
use crate::features::Features;
use crate::on_device::OnDevice;
use crate::precision::Precision;

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
    /// What a frozen weight is multiplied in that is not packed.
    precision: Precision,
    /// The weight as products in another precision than f32 read it, on a device that packs nothing.
    rounded: OnDevice<Tensor>,
}

/// Where a layer's weight `[out, in]` is.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
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
        let packs = Backend::of(weight.device()).packs_weights();
        let weight = if weight.track_op() || !packs {
            Weight::Tensor(weight)
        } else {
            Weight::Frozen(Arc::new(Packed::new(Original::Tensor(weight.detach()), features, precision)))
        };
        Ok(Self::of(weight, bias, features))
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
        if !Backend::of(bias.device()).packs_weights() {
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
        Ok(Self::of(Weight::Frozen(Arc::new(packed)), bias, features))
    }

    fn of(weight: Weight, bias: Tensor, features: Features) -> Self {
        Self { weight, bias, features, precision: Precision::F32, rounded: OnDevice::default() }
    }

    /// The same layer, its frozen weight multiplied in another precision. A weight that trains is multiplied in f32,
    /// and every weight where [`Backend::multiplies_in`] says so.
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
            Weight::Frozen(_) => {}
            Weight::Tensor(_) => self.precision = precision,
        }
    }

    /// A frozen weight that is not packed, as products in its precision read it; nothing if that is f32. It is made once.
    pub(crate) fn rounded_by(
        &self,
        round: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Option<&Tensor>> {
        match (&self.weight, self.precision()) {
            (Weight::Tensor(weight), Precision::Bf16) if weight.elem_count() > 0 => {
                self.rounded.or_make(|| round(weight)).map(Some)
            }
            _ => Ok(None),
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

    /// Where its weight is.
    pub(crate) fn stored(&self) -> &Weight {
        &self.weight
    }

    /// Its inputs and outputs.
    pub(crate) fn features(&self) -> Features {
        self.features
    }

    /// Its bias `[out]`.
    pub(crate) fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// What its weight is multiplied in.
    pub(crate) fn precision(&self) -> Precision {
        match &self.weight {
            Weight::Tensor(weight) if weight.track_op() => Precision::F32,
            Weight::Tensor(_) => self.precision,
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
}
