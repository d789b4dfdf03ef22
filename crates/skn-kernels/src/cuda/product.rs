//! Matrix products: all of ours go through one function. Those of attention with heads too wide for our kernels are candle's.

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};

use super::launch::Made;
use super::run::zeros;
use crate::cpu::with_slices;
use crate::launches::count_cast;
use crate::precision::Precision;

/// A product that was asked for with a bias.
pub(super) enum Product {
    /// With it.
    Biased(Made),
    /// Without: there is nothing to multiply, or no algorithm that adds one.
    Bare(Tensor),
}

/// `a b` of `a` `[rows, inner]` and `b` `[inner, columns]`, in f32: cuBLASLt's. Where the host plays, it is the processor's, whose rows
/// don't depend on each other, so that the kernels around it can be seen to keep that.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    alone(a, b, Precision::F32)
}

/// `x weight^T` of `x` `[rows, inner]` and a weight `[columns, inner]`, which is in bf16 for that precision, else in f32. Sums and the
/// result are f32.
pub(super) fn product_with(x: &Tensor, weight: &Tensor, precision: Precision) -> Result<Tensor> {
    alone(x, &weight.t()?, precision)
}

/// The same with a bias `[columns]` added in the same call, where that can be.
pub(super) fn product_and_bias(
    x: &Tensor,
    weight: &Tensor,
    precision: Precision,
    bias: &Tensor,
) -> Result<Product> {
    multiplied(x, &weight.t()?, precision, Some(bias))
}

/// `x weight` of `x` `[rows, inner]` and a weight `[inner, columns]`; as above.
pub(super) fn product_through(x: &Tensor, weight: &Tensor, precision: Precision) -> Result<Tensor> {
    alone(x, weight, precision)
}

fn alone(a: &Tensor, b: &Tensor, precision: Precision) -> Result<Tensor> {
    match multiplied(a, b, precision, None)? {
        Product::Bare(product) => Ok(product),
        Product::Biased(_) => bail!("product: expected one without a bias"),
    }
}

fn multiplied(a: &Tensor, b: &Tensor, precision: Precision, bias: Option<&Tensor>) -> Result<Product> {
    let [rows, inner, columns] = [a.dim(0)?, a.dim(1)?, b.dim(1)?];
    if b.dim(0)? != inner {
        bail!("product: expected [{inner}, columns] on the right, found {:?}", b.dims());
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [columns]) {
        bail!("product: expected a bias [{columns}], found {:?}", bias.dims());
    }
    if [rows, inner, columns].contains(&0) {
        return zeros((rows, columns), a.device()).map(Product::Bare);
    }
    // cuBLASLt reads a matrix or its transpose.
    let whole = |x: &Tensor| match x.is_contiguous() || x.is_fortran_contiguous() {
        true => Ok(x.clone()),
        false => x.contiguous(),
    };
    let read = |x: &Tensor| match precision {
        Precision::Bf16 => rounded(&whole(x)?),
        Precision::F32 | Precision::Tf32 => whole(x),
    };
    let (a, b) = (read(a)?, read(b)?);
    match a.device() {
        Device::Cpu => {
            let product = crate::cpu::product_of(&as_read(&a, precision)?, &as_read(&b, precision)?)?;
            match bias {
                Some(bias) => plus(&product, bias).map(Product::Biased),
                None => Ok(Product::Bare(product)),
            }
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let found = super::lt::product(device, [&a, &b], precision, bias)?;
            let made = Made { storage: found.storage, shape: (rows, columns).into() };
            Ok(if found.has_bias { Product::Biased(made) } else { Product::Bare(made.tensor()) })
        }
        device => bail!("product: {device:?} multiplies nothing"),
    }
}

/// Numbers, of which there are some, as products in bf16 read them.
pub(crate) fn rounded(x: &Tensor) -> Result<Tensor> {
    if x.dtype() != DType::BF16 {
        count_cast();
    }
    x.to_dtype(DType::BF16)
}

/// A product on the host, which has elements, with its bias.
fn plus(product: &Tensor, bias: &Tensor) -> Result<Made> {
    let sums = with_slices([product, bias], |[product, bias]| {
        let rows = product.chunks_exact(bias.len());
        Ok(rows.flat_map(|row| row.iter().zip(bias).map(|(sum, bias)| sum + bias)).collect::<Vec<_>>())
    })?;
    Ok(Made { storage: Storage::Cpu(CpuStorage::F32(sums)), shape: product.shape().clone() })
}

/// The numbers that a card multiplies, in f32.
fn as_read(x: &Tensor, precision: Precision) -> Result<Tensor> {
    match precision {
        Precision::F32 => Ok(x.clone()),
        Precision::Bf16 => x.to_dtype(DType::F32),
        Precision::Tf32 => {
            let numbers = x.flatten_all()?.to_vec1::<f32>()?.into_iter().map(to_tf32).collect();
            Tensor::from_vec(numbers, x.shape(), x.device())
        }
    }
}

/// A number rounded to the 11 bits of precision that tf32 has, the first of which is not stored; halves go away from 0, as PTX's
/// `cvt.rna.tf32` has it.
fn to_tf32(number: f32) -> f32 {
    /// Bits that go.
    const LOST: u32 = 13;
    if !number.is_finite() {
        return number;
    }
    let rounded = number.to_bits() + (1 << (LOST - 1));
    f32::from_bits(rounded >> LOST << LOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tf32_has_eleven_bits() {
        let step = 2f32.powi(-10);
        for (number, expected) in [
            (0.0, 0.0),
            (1.0 + step, 1.0 + step),
            (1.0 + 0.49 * step, 1.0),
            (1.0 + 0.5 * step, 1.0 + step),
            (-1.0 - 0.5 * step, -1.0 - step),
            (2.0 - 0.25 * step, 2.0),
            (f32::INFINITY, f32::INFINITY),
        ] {
            assert_eq!(to_tf32(number), expected, "{number}");
        }
        assert!(to_tf32(f32::NAN).is_nan());
    }
}
