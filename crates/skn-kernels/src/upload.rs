//! Numbers on their way to a device.

use std::cell::Cell;

use candle_core::{DType, Device, Result, Shape, Tensor, WithDType, bail};

use crate::backend::Backend;
use crate::cuda::no_numbers;
use crate::noted::or_upload;

thread_local! {
    static UPLOADS: Cell<u64> = const { Cell::new(0) };
}

/// How often the operations of this crate have copied numbers from this thread to a device that kernels of GPUs compute on: a
/// card, or the host where [`play_on_host`](crate::play_on_host) was called. Tests count by it what a pass uploads.
pub fn uploads() -> u64 {
    UPLOADS.get()
}

/// Numbers on a device, at least one. What is captured is given what it uploaded before.
pub(crate) fn upload<T: WithDType>(
    numbers: Vec<T>,
    shape: impl Into<Shape>,
    device: &Device,
) -> Result<Tensor> {
    upload_slice(&numbers, shape, device)
}

/// The same of numbers that somebody keeps. Where they lie on the host says whether they are those that change from one replay to the
/// next ([`Graphs`](crate::Graphs)).
pub(crate) fn upload_slice<T: WithDType>(
    numbers: &[T],
    shape: impl Into<Shape>,
    device: &Device,
) -> Result<Tensor> {
    let shape = shape.into();
    or_upload(numbers, &shape, || {
        UPLOADS.set(UPLOADS.get() + 1);
        to_device(numbers, shape.clone(), device)
    })
}

/// Puts numbers where others lie on a device, of which there are as many.
pub(crate) fn upload_over(numbers: &[u32], to: &Tensor) -> Result<()> {
    UPLOADS.set(UPLOADS.get() + 1);
    if to.dtype() != DType::U32 || to.elem_count() != numbers.len() || !to.is_contiguous() {
        bail!(
            "upload: expected place for {} numbers, found {:?} {:?}",
            numbers.len(),
            to.shape(),
            to.dtype()
        );
    }
    over(numbers, to)
}

#[cfg(feature = "cuda")]
fn to_device<T: WithDType>(numbers: &[T], shape: Shape, device: &Device) -> Result<Tensor> {
    match device {
        Device::Cuda(card) => crate::cuda::uploaded(numbers, shape, card),
        _ => Tensor::from_slice(numbers, shape, device),
    }
}

#[cfg(not(feature = "cuda"))]
fn to_device<T: WithDType>(numbers: &[T], shape: Shape, device: &Device) -> Result<Tensor> {
    Tensor::from_slice(numbers, shape, device)
}

fn over(numbers: &[u32], to: &Tensor) -> Result<()> {
    match to.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(card) => crate::cuda::uploaded_over(numbers, to, card),
        device => to.slice_set(&Tensor::from_slice(numbers, to.shape(), device)?, 0, 0),
    }
}

/// Numbers on a device, of which there may be none: of a card candle asks memory of no bytes then, which is refused.
///
/// # Errors
/// If the shape is not theirs, or the device gives no memory.
pub fn numbers_on(numbers: Vec<f32>, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    match Backend::of(device) {
        Backend::Cuda if shape.elem_count() == 0 => no_numbers(shape, device),
        Backend::Cuda => upload(numbers, shape, device),
        Backend::Cpu | Backend::Composed => Tensor::from_vec(numbers, shape, device),
    }
}

/// Zeros on a device, of which there may be none; see [`numbers_on`].
///
/// # Errors
/// If the device gives no memory.
pub fn zeros_on(shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    match Backend::of(device) {
        Backend::Cuda if shape.elem_count() == 0 => no_numbers(shape, device),
        _ => Tensor::zeros(shape, DType::F32, device),
    }
}
