//! What computes on a device: the one place where that is decided.

use candle_core::{Device, Result};

use crate::cpu::Isa;
use crate::cuda::plays;
#[cfg(feature = "cuda")]
use crate::cuda::{card, too_old};
use crate::precision::Precision;

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
            Device::Cpu if plays() => Self::Cuda,
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

    /// Whether rows are reduced where they lie ([`ColumnSums`](crate::ColumnSums) and others), so that they need not come to the host.
    /// Elsewhere the same functions read them on the host, as whoever has them there does better himself, row by row.
    pub fn reduces(self) -> bool {
        self == Self::Cuda
    }

    /// Whether work can be captured and replayed there ([`Graphs`](crate::Graphs)).
    pub fn replays(self) -> bool {
        self == Self::Cuda
    }

    /// Whether frozen weights may be read when they are first used ([`Linear::deferred`](crate::Linear::deferred)), and are kept only
    /// as products need them: packed on the CPU, in the precision of the products on a GPU.
    pub fn defers_weights(self) -> bool {
        self != Self::Composed
    }

    /// Whether frozen weights can be multiplied in a precision. Where they can't be in bf16, they are in f32; tf32 is an error of the
    /// product then.
    pub fn multiplies_in(self, precision: Precision) -> bool {
        match precision {
            Precision::F32 => true,
            Precision::Tf32 => self == Self::Cuda,
            Precision::Bf16 => self != Self::Composed,
        }
    }

    /// The name of a device, with its compute capability, if it is a card that is too old for a precision that others of its kind
    /// multiply in: bf16 needs 8.0. Whoever does not ask is told by the first product.
    ///
    /// # Errors
    /// If the card doesn't tell.
    pub fn too_old_for(precision: Precision, device: &Device) -> Result<Option<String>> {
        match (device, precision) {
            #[cfg(feature = "cuda")]
            (Device::Cuda(device), precision) => too_old(device, precision),
            _ => Ok(None),
        }
    }

    /// What the last bits of results on a device depend on, as records name it: the processor's instructions, or the card with its
    /// compute capability.
    ///
    /// # Errors
    /// If the card doesn't tell.
    pub fn machine(device: &Device) -> Result<String> {
        Ok(match (Self::of(device), device) {
            (Self::Cpu, _) => format!("cpu {}", Isa::best().name()),
            #[cfg(feature = "cuda")]
            (_, Device::Cuda(device)) => format!("gpu {}", card(device)?),
            (Self::Cuda | Self::Composed, _) => "gpu".to_string(),
        })
    }
}
