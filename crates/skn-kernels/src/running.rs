//! Numbers that stay on a device while launch after launch goes on from them.

use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cpu_backend::CpuDevice;
use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};

/// Numbers that have come to the host.
static READ_BACK: AtomicU64 = AtomicU64::new(0);

pub(crate) fn numbers_so_far() -> u64 {
    READ_BACK.load(Ordering::Relaxed)
}

pub(crate) fn count_numbers(count: usize) {
    READ_BACK.fetch_add(count as u64, Ordering::Relaxed);
}

/// Such numbers. Where the room of their device works on the host they lie there.
pub(crate) struct Running {
    /// Nothing while a launch has it, and ever after if that failed.
    storage: Option<Storage>,
    len: usize,
}

impl Running {
    /// So many integers that are 0, which no copy brings to a device.
    pub(crate) fn zeros_on(len: usize, device: &Device) -> Result<Self> {
        Self::nothing_yet(len, DType::I64, device)
    }

    /// So many words of 32 bits that are 0.
    pub(crate) fn zero_words_on(len: usize, device: &Device) -> Result<Self> {
        Self::nothing_yet(len, DType::U32, device)
    }

    fn nothing_yet(len: usize, dtype: DType, device: &Device) -> Result<Self> {
        let storage = match device {
            // A card gives no memory of no bytes.
            Device::Cuda(device) if len > 0 => Storage::Cuda(device.zeros_impl(&len.into(), dtype)?),
            _ => Storage::Cpu(CpuDevice.zeros_impl(&len.into(), dtype)?),
        };
        Ok(Self { storage: Some(storage), len })
    }

    /// Integers, as they are at first.
    pub(crate) fn integers_on(values: Vec<i64>, device: &Device) -> Result<Self> {
        Self::new(values.len(), CpuStorage::I64(values), device)
    }

    /// Words of 32 bits, as they are at first, such as places in the order of numbers ([`in_order`]).
    pub(crate) fn words_on(values: Vec<u32>, device: &Device) -> Result<Self> {
        Self::new(values.len(), CpuStorage::U32(values), device)
    }

    fn new(len: usize, values: CpuStorage, device: &Device) -> Result<Self> {
        let storage = match device {
            // A card gives no memory of no bytes.
            Device::Cuda(device) if len > 0 => Storage::Cuda(device.storage_from_cpu_storage_owned(values)?),
            _ => Storage::Cpu(values),
        };
        Ok(Self { storage: Some(storage), len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// For a launch, whose [`Self::put`] follows.
    pub(crate) fn take(&mut self) -> Result<Storage> {
        match self.storage.take() {
            Some(storage) => Ok(storage),
            None => bail!("what was added up on the device is lost: a launch failed before"),
        }
    }

    pub(crate) fn put(&mut self, storage: Storage) {
        self.storage = Some(storage);
    }

    /// The integers, which lie on the host.
    pub(crate) fn integers(&mut self) -> Result<&mut [i64]> {
        match &mut self.storage {
            Some(Storage::Cpu(CpuStorage::I64(values))) => Ok(values),
            _ => bail!("expected integers on the host"),
        }
    }

    /// The words of 32 bits, which lie on the host.
    pub(crate) fn words(&mut self) -> Result<&mut [u32]> {
        match &mut self.storage {
            Some(Storage::Cpu(CpuStorage::U32(values))) => Ok(values),
            _ => bail!("expected words of 32 bits on the host"),
        }
    }

    /// A copy on the host.
    pub(crate) fn read(&self) -> Result<CpuStorage> {
        let Some(storage) = &self.storage else {
            bail!("what was added up on the device is lost: a launch failed before");
        };
        let values = match storage {
            Storage::Cpu(values) => values.clone(),
            Storage::Cuda(storage) => storage.to_cpu_storage()?,
            Storage::Metal(storage) => storage.to_cpu_storage()?,
        };
        count_numbers(self.len);
        Ok(values)
    }

    pub(crate) fn read_integers(&self) -> Result<Vec<i64>> {
        match self.read()? {
            CpuStorage::I64(values) => Ok(values),
            _ => bail!("expected integers"),
        }
    }

    pub(crate) fn read_words(&self) -> Result<Vec<u32>> {
        match self.read()? {
            CpuStorage::U32(values) => Ok(values),
            _ => bail!("expected words of 32 bits"),
        }
    }
}

/// What [`ColumnSums`](crate::ColumnSums) goes on from.
pub(crate) struct RunningSums {
    /// `[COUNTERS, groups, width]`, as the squares.
    pub(crate) sums: Running,
    pub(crate) squares: Option<Running>,
    /// [`in_order`]'s numbers `[groups, width]`, as the maximum.
    pub(crate) minimum: Option<Running>,
    pub(crate) maximum: Option<Running>,
}

/// What [`ColumnMoments`](crate::ColumnMoments) goes on from.
pub(crate) struct RunningMoments {
    /// Of sums by class, their number; rows have the class 0 without.
    pub(crate) classes: Option<usize>,
    /// `[COUNTERS, classes, groups, width]`
    pub(crate) sums: Running,
    /// `[COUNTERS, groups, width]`, as the squares.
    pub(crate) products: Option<Running>,
    pub(crate) squares: Option<Running>,
}

/// What the shares of [`ColumnShares`](crate::ColumnShares) are made with: a number for each column, and one for each row of the matrix.
#[derive(Clone, Copy)]
pub(crate) struct SharesOf<'a> {
    pub(crate) columns: &'a Tensor,
    pub(crate) norms: Option<&'a Tensor>,
}

/// Bins of a [`ColumnBins`](crate::ColumnBins): one below the smallest number that is expected, one above the largest, and 15 on each
/// side of the mean.
pub(crate) const BINS: usize = 32;

/// Counters of a sum of 128 bits: of bits 0 to 31, of 32 to 63, and of the others. Whoever adds to it adds to each, in any order.
pub(crate) const COUNTERS: usize = 3;

/// Adds to the sum of a place of so many.
pub(crate) fn add_wide(counters: &mut [i64], places: usize, place: usize, number: i128) {
    let (low, middle) = (number & 0xffff_ffff, (number >> 32) & 0xffff_ffff);
    for (counter, part) in [low, middle, number >> 64].into_iter().enumerate() {
        let counter = &mut counters[counter * places + place];
        *counter = counter.wrapping_add(part as i64);
    }
}

/// The sums of all places.
pub(crate) fn wide_of(counters: &[i64]) -> Vec<i128> {
    let places = counters.len() / COUNTERS;
    let (low, rest) = counters.split_at(places);
    let (middle, high) = rest.split_at(places);
    let parts = low.iter().zip(middle).zip(high);
    parts
        .map(|((&low, &middle), &high)| {
            // The lower two count up only; the third has the sign.
            let below = i128::from(low as u64) + (i128::from(middle as u64) << 32);
            below.wrapping_add(i128::from(high) << 64)
        })
        .collect()
}

/// A number's place among all that are not NaN: of two the lower number has the lower one; -0 is below 0.
pub(crate) fn in_order(number: f32) -> u32 {
    const SIGN: u32 = 1 << 31;
    let bits = number.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The number at such a place.
pub(crate) fn number_at(place: u32) -> f32 {
    const SIGN: u32 = 1 << 31;
    f32::from_bits(if place & SIGN == 0 { !place } else { place & !SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_put_together_in_any_order() {
        let numbers = [1i128 << 100, -1, 5, -(1 << 90), i128::from(u64::MAX), -(1 << 32), 1 << 63, -7 << 60];
        for order in [[0, 1, 2, 3, 4, 5, 6, 7], [7, 3, 5, 1, 0, 2, 6, 4]] {
            let mut counters = vec![0; 2 * COUNTERS];
            order.iter().for_each(|&place: &usize| add_wide(&mut counters, 2, place % 2, numbers[place]));
            let of = |odd: usize| numbers.iter().skip(odd).step_by(2).sum::<i128>();
            assert_eq!(wide_of(&counters), [of(0), of(1)]);
        }
    }

    #[test]
    fn places_are_in_the_order_of_numbers() {
        let numbers =
            [f32::NEG_INFINITY, f32::MIN, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, f32::MAX, f32::INFINITY];
        assert!(numbers.windows(2).all(|pair| in_order(pair[0]) < in_order(pair[1])));
        assert_eq!(numbers.map(|number| number_at(in_order(number)).to_bits()), numbers.map(f32::to_bits));
    }
}
