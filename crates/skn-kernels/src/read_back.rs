//! The one door by which numbers of a device come to the host.

use candle_core::{Result, Storage, Tensor, WithDType};

use crate::backend::Backend;
use crate::running::{count_numbers, numbers_so_far};

/// How many numbers have come to the host by [`with_values`], and as the results of reductions
/// ([`ColumnSums`](crate::ColumnSums) and others), in this process so far. Bits count by bytes. Where the host plays a GPU's kernels
/// ([`play_on_host`](crate::play_on_host)) it is the device too; values that the processor's own kernels made have not come from
/// elsewhere, and are not counted.
pub fn numbers_read_back() -> u64 {
    numbers_so_far()
}

/// Lets `read` see the values of a tensor, row-major; without a copy if they lie on the CPU in one piece.
///
/// # Errors
/// If they are of another type, or the device fails.
pub fn with_values<T: WithDType, R>(x: &Tensor, read: impl FnOnce(&[T]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    if Backend::of(x.device()) != Backend::Cpu {
        count_numbers(x.elem_count());
    }
    {
        let (storage, layout) = x.storage_and_layout();
        if let Storage::Cpu(values) = &*storage {
            let start = layout.start_offset();
            return Ok(read(&values.as_slice::<T>()?[start..start + x.elem_count()]));
        }
    }
    Ok(read(&x.flatten_all()?.to_vec1::<T>()?))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn values_are_seen_in_row_order() {
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu).unwrap();
        let see = |x: &Tensor| with_values(x, <[f32]>::to_vec).unwrap();
        assert_eq!(see(&x), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(see(&x.narrow(0, 1, 2).unwrap()), [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(see(&x.t().unwrap()), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert!(with_values(&x, <[u8]>::to_vec).is_err());
    }
}
