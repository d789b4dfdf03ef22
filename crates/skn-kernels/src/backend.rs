//! Which operations compute on a device: the one place where that is decided.

use candle_core::{Device, Result, Tensor};

use crate::activation::Activation;
use crate::attention::AttentionForm;
use crate::composed::Composed;
use crate::cpu::{Cpu, Isa};
use crate::cuda::{self, Cuda};
use crate::linear::Linear;
use crate::mask::Dropout;
use crate::norm::LayerNorm;
use crate::packing::RowSelection;
use crate::precision::Precision;
use crate::rms_norm::RmsNorm;
use crate::rotary::Turned;

/// What computes the operations of this crate on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// Kernels for the processor.
    Cpu,
    /// Kernels for NVIDIA's GPUs.
    Cuda,
    /// Candle's own operations, on any device; see [`composed`](crate::composed).
    Composed,
}

impl Backend {
    /// What computes on a device.
    pub fn of(device: &Device) -> Self {
        match device {
            Device::Cpu if cuda::plays() => Self::Cuda,
            Device::Cpu => Self::Cpu,
            Device::Cuda(_) => Self::Cuda,
            Device::Metal(_) => Self::Composed,
        }
    }

    /// Whether an operation is computed by the thread that asks for it, so that several threads with a batch each use several
    /// cores. Elsewhere one thread keeps the device busy.
    pub fn computes_on_caller(self) -> bool {
        self == Self::Cpu
    }

    /// Whether frozen weights are packed when they are first used, and may be read only then ([`Linear::deferred`]).
    pub fn packs_weights(self) -> bool {
        self == Self::Cpu
    }

    /// Whether frozen weights can be multiplied in a precision. Where they can't, they are in f32.
    pub fn multiplies_in(self, precision: Precision) -> bool {
        self != Self::Composed || precision == Precision::F32
    }

    /// What the last bits of results depend on, as records name it: the processor's instructions, or that it is a GPU.
    pub fn machine(self) -> String {
        match self {
            Self::Cpu => format!("cpu {}", Isa::best().name()),
            Self::Cuda | Self::Composed => "gpu".to_string(),
        }
    }

    pub(crate) fn operations(self) -> &'static dyn Operations {
        match self {
            Self::Cpu => &Cpu,
            Self::Cuda => &Cuda,
            Self::Composed => &Composed,
        }
    }
}

/// Every operation, of arguments that are checked.
pub(crate) trait Operations {
    /// See [`Linear::forward`].
    fn linear(&self, layer: &Linear, x: &Tensor, activation: Activation) -> Result<Tensor>;

    /// See [`Linear::forward_gated`].
    fn gated_linear(&self, layers: [&Linear; 2], x: &Tensor, activation: Activation) -> Result<Tensor>;

    /// See [`gated`](crate::gated()).
    fn gated(&self, gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor>;

    /// See [`LayerNorm::forward`].
    fn layer_norm(&self, norm: &LayerNorm, x: &Tensor) -> Result<Tensor>;

    /// See [`LayerNorm::forward_residual`].
    fn layer_norm_of_sum(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor>;

    /// See [`RmsNorm::forward_heads`].
    fn rms_norm(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor>;

    /// See [`Rotary::apply`](crate::Rotary::apply).
    fn rotary(&self, turned: Turned, x: &Tensor) -> Result<Tensor>;

    /// See [`attention`](crate::attention()); the packing is that of the queries.
    fn attention(
        &self,
        q_k_v: [&Tensor; 3],
        queries: &RowSelection,
        form: &AttentionForm,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor>;

    /// Whether self-attention of one row of each sequence absorbs keys and values; see
    /// [`SelfAttention`](crate::SelfAttention).
    fn absorbs(&self) -> bool;

    /// See [`dropout`](crate::dropout()).
    fn dropout(&self, x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor>;
}
