use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use crate::backend::Backend;
use crate::check::expect_f32;
use crate::cpu::{Original, Packed};
use crate::cuda::OnCard;
use crate::features::Features;
use crate::precision::Precision;
use crate::upload::zeros_on;

/// A linear layer `x W^T + b`.
///
/// A frozen weight is made ready for the forward and the backward pass at its first use: packed on the CPU, rounded on a GPU
/// for products in bf16. Autograd never sees it. Its tensor is let go then, so that a layer holds what the products need and
/// nothing else, unless somebody else has the tensor too, or it was given to a layer that multiplies in bf16 on the CPU.
/// Gradients go to the input, and to weight and bias if they are variables.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Tensor,
    features: Features,
    /// What a frozen weight is to be multiplied in on a device without kernels here.
    precision: Precision,
}

/// Where a layer's weight `[out, in]` is.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    /// In a tensor that trains, or on a device without kernels here.
    Tensor(Tensor),
    /// Frozen, on the CPU.
    Frozen(Arc<Packed>),
    /// Frozen, on a card.
    OnCard(Arc<OnCard>),
}

impl Linear {
    /// A layer with weight `[out, in]` and bias `[out]` (0 if there is none).
    ///
    /// # Errors
    /// If the shapes do not fit together, a tensor is not f32, or its card fails, for which a frozen weight is waited.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let [outputs, inputs] = *weight.dims() else {
            bail!("linear: expected a weight [out, in], found {:?}", weight.dims());
        };
        let bias = match bias {
            Some(bias) => bias,
            None => zeros_on(outputs, weight.device())?,
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
        let weight = match Backend::of(weight.device()) {
            _ if weight.track_op() => Weight::Tensor(weight),
            Backend::Composed => Weight::Tensor(weight),
            Backend::Cpu => {
                let original = Original::Tensor(weight.detach());
                Weight::Frozen(Arc::new(Packed::new(original, features, Precision::F32)))
            }
            Backend::Cuda => Weight::OnCard(Arc::new(OnCard::given(weight.detach(), features)?)),
        };
        Ok(Self::of(weight, bias, features))
    }

    /// A frozen layer on the device of its bias `[out]`, with a weight `[out, in]`, of which `read` appends some rows to a vector
    /// when they are first needed. So on the CPU not even one matrix is there as a whole beside what is packed, and a GPU
    /// that multiplies in bf16 never holds it in f32.
    ///
    /// # Errors
    /// If the bias has another length, is not f32, or lies on a device without kernels here ([`Backend::defers_weights`]). What
    /// is wrong with the weight is known when it is read.
    pub fn deferred(
        [outputs, inputs]: [usize; 2],
        bias: Tensor,
        read: impl Fn(Range<usize>, &mut Vec<f32>) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        if bias.dims() != [outputs] {
            bail!("linear: expected a bias [{outputs}], found {:?}", bias.dims());
        }
        let backend = Backend::of(bias.device());
        if !backend.defers_weights() {
            bail!(
                "linear: expected a bias on a device where a weight can be read later, found one elsewhere"
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
        let weight = match backend {
            Backend::Cuda => {
                Weight::OnCard(Arc::new(OnCard::unread(Arc::new(checked), features, bias.device().clone())))
            }
            Backend::Cpu | Backend::Composed => {
                let original = Original::Unread(Arc::new(checked));
                Weight::Frozen(Arc::new(Packed::new(original, features, Precision::F32)))
            }
        };
        Ok(Self::of(weight, bias, features))
    }

    fn of(weight: Weight, bias: Tensor, features: Features) -> Self {
        Self { weight, bias, features, precision: Precision::F32 }
    }

    /// The same layer, its frozen weight multiplied in another precision. A weight that trains is multiplied in f32;
    /// [`Backend::multiplies_in`] says what a device can do. On a GPU a weight that was given as a tensor and rounded to bf16 is
    /// no weight for another precision any more, which is an error of the product.
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
            Weight::OnCard(held) if held.precision != precision => {
                *held = Arc::new(held.with_precision(precision));
            }
            Weight::Frozen(_) | Weight::OnCard(_) => {}
            Weight::Tensor(_) => self.precision = precision,
        }
    }

    /// Packs a frozen weight, or has it on its card, for passes without a gradient now instead of at the first of them.
    ///
    /// # Errors
    /// If the weight can't be read.
    pub fn pack(&self) -> Result<()> {
        match &self.weight {
            Weight::Frozen(packed) => packed.operand().map(drop),
            Weight::OnCard(held) => held.operand().map(drop),
            Weight::Tensor(_) => Ok(()),
        }
    }

    /// Bytes of memory that its weight takes now on its device, in every form that the layer holds it in: none of one that is
    /// still where it is read from.
    pub fn weight_bytes(&self) -> usize {
        match &self.weight {
            Weight::Frozen(packed) => packed.bytes(),
            Weight::OnCard(held) => held.bytes(),
            Weight::Tensor(weight) => 4 * weight.elem_count(),
        }
    }

    /// Its weight `[out, in]`: the tensor that trains, or a copy of the frozen one if only the packed form is left.
    pub(crate) fn weight(&self) -> Result<Tensor> {
        match &self.weight {
            Weight::Tensor(weight) => Ok(weight.clone()),
            Weight::Frozen(packed) => packed.weight(),
            Weight::OnCard(held) => held.weight(),
        }
    }

    /// Whether its weight is frozen, and on the CPU.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.weight, Weight::Frozen(_))
    }

    /// Whether its product rounds what it reads to bf16, and takes it rounded.
    pub(crate) fn reads_rounded(&self) -> bool {
        matches!(&self.weight, Weight::OnCard(held) if held.precision == Precision::Bf16)
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
            Weight::OnCard(held) => held.precision,
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
