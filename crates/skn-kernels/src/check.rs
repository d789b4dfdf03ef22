//! What every operation asks of its tensors.

use candle_core::{DType, Result, Tensor, bail};

/// Refuses a tensor that is not f32.
pub(crate) fn expect_f32(operation: &str, tensor: &Tensor) -> Result<()> {
    if tensor.dtype() != DType::F32 {
        bail!("{operation}: expected f32, found {:?} {:?}", tensor.dtype(), tensor.dims());
    }
    Ok(())
}
