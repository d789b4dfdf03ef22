//! Who runs what is launched.

use candle_core::{CpuStorage, DType, Device, Result, Shape, Storage, Tensor, bail};

use super::launch::{Launch, Made};
use super::player;
use crate::launches::count_launch;

impl Made {
    /// What has no elements, which no kernel is asked for.
    pub(super) fn nothing(shape: impl Into<Shape>, device: &Device) -> Result<Self> {
        let storage = match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => super::device::nothing(device)?,
            Device::Cpu => Storage::Cpu(CpuStorage::F32(Vec::new())),
            _ => bail!("{device:?} has no such storage"),
        };
        Ok(Self { storage, shape: shape.into() })
    }
}

impl Launch {
    /// Calls the kernel on a device, and gives its `N` outputs.
    pub(super) fn run<const N: usize>(self, device: &Device) -> Result<[Option<Made>; N]> {
        debug_assert_eq!(self.outputs.len(), N, "{}", self.kernel);
        count_launch();
        let made = match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => super::device::launch(device, self)?,
            Device::Cpu => player::launch(self)?,
            _ => bail!("{}: {device:?} runs no such kernels", self.kernel),
        };
        let mut made = made.into_iter();
        Ok(std::array::from_fn(|_| made.next().flatten()))
    }

    /// Calls a kernel with one output.
    pub(super) fn run_one(self, device: &Device) -> Result<Made> {
        let kernel = self.kernel;
        match self.run::<1>(device)? {
            [Some(made)] => Ok(made),
            [None] => bail!("{kernel}: expected one output"),
        }
    }
}

/// The gradients of inputs of a result without elements: zeros.
pub(super) fn nothing<const N: usize>(inputs: [&Tensor; N]) -> Result<[Option<Tensor>; N]> {
    let mut made = inputs.map(|_| None);
    for (made, input) in made.iter_mut().zip(inputs) {
        *made = Some(zeros_like(input)?);
    }
    Ok(made)
}

/// Zeros as many as there are of something, which may be none: a card launches nothing for no elements.
fn zeros_like(x: &Tensor) -> Result<Tensor> {
    if x.elem_count() == 0 {
        return Ok(Made::nothing(x.shape(), x.device())?.tensor());
    }
    Tensor::zeros(x.shape(), x.dtype(), x.device())
}

/// Zeros, of which there may be none.
pub(super) fn zeros(shape: (usize, usize), device: &Device) -> Result<Tensor> {
    if shape.0 == 0 || shape.1 == 0 {
        return Ok(Made::nothing(shape, device)?.tensor());
    }
    Tensor::zeros(shape, DType::F32, device)
}

/// No numbers.
pub(crate) fn no_numbers(shape: Shape, device: &Device) -> Result<Tensor> {
    Ok(Made::nothing(shape, device)?.tensor())
}
