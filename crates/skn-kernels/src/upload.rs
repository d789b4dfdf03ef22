//! Numbers on their way to a device.

use std::cell::Cell;

use candle_core::{DType, Device, Result, Shape, Tensor, WithDType};

use crate::backend::Backend;
use crate::cuda::no_numbers;

thread_local! {
    static UPLOADS: Cell<u64> = const { Cell::new(0) };
}

/// How often the operations of this crate have copied numbers from this thread to a device that kernels of GPUs compute on: a
/// card, or the host where [`play_on_host`](crate::play_on_host) was called. Tests count by it what a pass uploads.
pub fn uploads() -> u64 {
    UPLOADS.get()
}

/// Numbers on a device, at least one.
pub(crate) fn upload<T: WithDType>(
    numbers: Vec<T>,
    shape: impl Into<Shape>,
    device: &Device,
) -> Result<Tensor> {
    UPLOADS.set(UPLOADS.get() + 1);
    Tensor::from_vec(numbers, shape.into(), device)
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
