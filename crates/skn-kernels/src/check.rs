//! What every operation asks of its tensors.

use candle_core::{DType, Result, Tensor, bail};

use crate::precision::Precision;

/// Refuses a tensor that is not f32.
pub(crate) fn expect_f32(operation: &str, tensor: &Tensor) -> Result<()> {
    if tensor.dtype() != DType::F32 {
        bail!("{operation}: expected f32, found {:?} {:?}", tensor.dtype(), tensor.dims());
    }
    Ok(())
}

/// Refuses a precision that nothing but a card multiplies in.
pub(crate) fn expect_cpu_precision(precision: Precision) -> Result<()> {
    if precision == Precision::Tf32 {
        bail!("linear: products in tf32 are made by NVIDIA's GPUs alone, expected f32 or bf16");
    }
    Ok(())
}
