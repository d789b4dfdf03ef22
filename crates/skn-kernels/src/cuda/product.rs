//! Matrix products.

use candle_core::{DType, Device, Result, Tensor, bail};

#[cfg(feature = "cuda")]
use super::launch::Made;
use super::run::zeros;

/// `a b` of `a` `[rows, inner]` and `b` `[inner, columns]`: cuBLAS's. Where the host plays, it is the processor's, whose rows don't
/// depend on each other, so that the kernels around it can be seen to keep that.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let [rows, inner, columns] = [a.dim(0)?, a.dim(1)?, b.dim(1)?];
    // Candle has no product without inner elements.
    if [rows, inner, columns].contains(&0) {
        return zeros((rows, columns), a.device());
    }
    match a.device() {
        Device::Cpu => crate::cpu::product_of(a, b),
        _ => a.matmul(b),
    }
}

/// A weight `[columns, inner]` as products in bf16 read it.
pub(super) fn rounded(weight: &Tensor) -> Result<Tensor> {
    weight.contiguous()?.to_dtype(DType::BF16)
}

/// `x weight^T` of `x` `[rows, inner]` and a rounded weight `[columns, inner]`: `x` is rounded too, sums and the result are f32.
pub(super) fn product_with_rounded(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    of_bf16(x, weight, [x.dim(0)?, x.dim(1)?, weight.dim(0)?], true)
}

/// `x weight` of `x` `[rows, columns]` and a rounded weight `[columns, inner]`; as above.
pub(super) fn product_through_rounded(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    of_bf16(x, weight, [x.dim(0)?, x.dim(1)?, weight.dim(1)?], false)
}

fn of_bf16(x: &Tensor, weight: &Tensor, sides: [usize; 3], transposed: bool) -> Result<Tensor> {
    let [rows, _, columns] = sides;
    if sides.contains(&0) {
        return zeros((rows, columns), x.device());
    }
    let x = rounded(x)?;
    match x.device() {
        Device::Cpu => {
            let (x, weight) = (x.to_dtype(DType::F32)?, weight.to_dtype(DType::F32)?);
            product(&x, &if transposed { weight.t()? } else { weight })
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let storage = super::device::product_of_bf16(device, [&x, weight], sides, transposed)?;
            Ok(Made { storage, shape: (rows, columns).into() }.tensor())
        }
        device => bail!("product: {device:?} multiplies nothing in bf16"),
    }
}
