//! What probing takes of activations on a device next to the CPU: integers and bits, all of which must be the same.

use std::time::Instant;

use candle_core::{Device, Tensor};
use skn_kernels::{ColumnCounts, ColumnSums, Misfit, RowGroups, RowRuns, pack_above, pool_rows};
use skn_random::{Key, Purpose, Rng};

use crate::Result;
use crate::table::Table;

/// Rows of a group, groups and columns.
const SIZES: [[usize; 3]; 5] = [[1, 1, 1], [130, 1, 257], [65, 16, 128], [700, 2, 1000], [96, 16, 3072]];

const CLASSES: usize = 3;

/// Compares them all; `short` leaves out what takes long on one core, and times.
pub(crate) fn check(table: &mut Table, device: &Device, seed: u64, short: bool) {
    let sizes = if short { &SIZES[..3] } else { &SIZES[..] };
    let mut found = Vec::new();
    for (number, &size) in sizes.iter().enumerate() {
        let at = |device: &Device| reduce(size, device, Key::new(seed, Purpose::Corpus).step(number as u64));
        match (at(device), at(&Device::Cpu)) {
            (Ok(found_here), Ok(expected)) => found.push(found_here.differences(&expected)),
            (Err(error), _) | (_, Err(error)) => {
                return table.fail(format!("reductions of {size:?}"), error);
            }
        }
    }
    for (place, name) in
        ["sums, squares and ranges", "counts", "bits", "means and maxima", "what is no number"]
            .into_iter()
            .enumerate()
    {
        let wrong: usize = found.iter().map(|of| of[place]).sum();
        let what = format!("{name} of rows, {} sizes", sizes.len());
        table.check(what, format!("{wrong} differ"), "none", wrong == 0);
    }
    if !short {
        match speed(device) {
            Ok(said) => table.tell("sums, counts of 16 x 1024 rows of 3072", said, "of activations"),
            Err(error) => table.fail("sums, counts of 16 x 1024 rows of 3072", error),
        }
    }
}

/// What two batches come to.
#[derive(Debug)]
struct Reduced {
    sums: Vec<i128>,
    squares: Vec<i128>,
    range: Vec<u32>,
    counts: Vec<u64>,
    bits: Vec<u8>,
    pooled: Vec<u32>,
    misfits: Vec<Option<u64>>,
}

impl Reduced {
    /// How many numbers differ, of each kind.
    fn differences(&self, other: &Self) -> [usize; 5] {
        fn of<T: PartialEq>(found: &[T], expected: &[T]) -> usize {
            let same = found.iter().zip(expected).filter(|(found, expected)| found == expected).count();
            found.len().max(expected.len()) - same
        }
        let sums = of(&self.sums, &other.sums) + of(&self.squares, &other.squares);
        [
            sums + of(&self.range, &other.range),
            of(&self.counts, &other.counts),
            of(&self.bits, &other.bits),
            of(&self.pooled, &other.pooled),
            of(&self.misfits, &other.misfits),
        ]
    }
}

/// Numbers as activations are, and some others.
fn number(rng: &mut Rng) -> f32 {
    match rng.below(16) {
        0 => 0.0,
        1 => -0.0,
        2 => rng.normal() as f32 * 1e5,
        3 => rng.normal() as f32 * 1e-12,
        _ => rng.normal() as f32,
    }
}

fn reduce([each, groups, width]: [usize; 3], device: &Device, key: Key) -> Result<Reduced> {
    let mut rng = key.rng();
    let rows = each * groups + 3;
    let mut matrix = |rows: usize| {
        let values: Vec<f32> = (0..rows * width).map(|_| number(&mut rng)).collect();
        Tensor::from_vec(values, (rows, width), device)
    };
    let threshold = matrix(groups)?;
    let (mut sums, mut counts) = (
        ColumnSums::new([groups, width], true, true, device)?,
        ColumnCounts::new(CLASSES, [groups, width], device)?,
    );
    let (mut bits, mut pooled, mut misfit) = (Vec::new(), Vec::new(), Misfit::new(device)?);
    for _ in 0..2 {
        let x = matrix(rows)?;
        let numbers = (0..each * groups).map(|place| (place * 7 % rows) as u32).collect();
        let classes = (0..each).map(|row| (row * CLASSES / each) as u32).collect();
        let list = RowGroups::new(groups, numbers, classes)?;
        sums.add(&x, &list, &mut misfit)?;
        counts.add(&x, &list, &threshold, &mut misfit)?;
        bits.extend(pack_above(&x, &list, &threshold, &mut misfit)?.flatten_all()?.to_vec1::<u8>()?);
        let runs = RowRuns::new(&[0..rows, rows / 2..rows, rows - 1..rows])?;
        for made in pool_rows(&x, &runs, [true, true], &mut misfit)?.into_iter().flatten() {
            pooled.extend(made.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
        }
    }
    let totals = sums.totals()?;
    let range = totals.range.into_iter().flatten().flatten().map(f32::to_bits).collect();
    let mut misfits = vec![misfit.found()?];
    for bad in [f32::NAN, f32::INFINITY, 2e6] {
        let mut values = vec![1f32; 2 * width];
        values[2 * width - 1] = bad;
        let x = Tensor::from_vec(values, (2, width), device)?;
        let list = RowGroups::new(1, vec![0, 1], vec![0, 1])?;
        let mut misfit = Misfit::new(device)?;
        misfit.set_mark(5);
        ColumnSums::new([1, width], false, true, device)?.add(&x, &list, &mut misfit)?;
        misfits.push(misfit.found()?);
    }
    let squares = totals.squares.unwrap_or_default();
    Ok(Reduced { sums: totals.sums, squares, range, counts: counts.counts()?, bits, pooled, misfits })
}

/// How fast activations are read.
fn speed(device: &Device) -> Result<String> {
    const TURNS: usize = 20;
    let (each, groups, width) = (1024, 16, 3072);
    let x = Tensor::ones((each * groups, width), candle_core::DType::F32, device)?;
    let threshold = Tensor::zeros((groups, width), candle_core::DType::F32, device)?;
    let numbers =
        (0..groups).flat_map(|group| (0..each).map(move |row| (row * groups + group) as u32)).collect();
    let list = RowGroups::new(groups, numbers, (0..each).map(|row| (row / 512) as u32).collect())?;
    let mut sums = ColumnSums::new([groups, width], false, true, device)?;
    let mut counts = ColumnCounts::new(2, [groups, width], device)?;
    let mut misfit = Misfit::new(device)?;
    let mut timed = |turn: &mut dyn FnMut(&mut Misfit) -> candle_core::Result<()>| -> Result<f64> {
        // Once without a clock, for what is compiled or uploaded then.
        turn(&mut misfit)?;
        misfit.found()?;
        let begun = Instant::now();
        for _ in 0..TURNS {
            turn(&mut misfit)?;
        }
        misfit.found()?;
        let bytes = (4 * TURNS * each * groups * width) as f64;
        Ok(bytes / begun.elapsed().as_secs_f64() / 1e9)
    };
    let of_sums = timed(&mut |misfit| sums.add(&x, &list, misfit))?;
    let of_counts = timed(&mut |misfit| counts.add(&x, &list, &threshold, misfit))?;
    Ok(format!("{of_sums:.0}, {of_counts:.0} GB/s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_counted() {
        let of = |seed| reduce([9, 2, 10], &Device::Cpu, Key::new(seed, Purpose::Corpus)).unwrap();
        assert_eq!(of(1).differences(&of(1)), [0; 5]);
        let found = of(1).differences(&of(2));
        assert!(found[..4].iter().all(|differ| *differ > 0) && found[4] == 0, "{found:?}");
        assert_eq!(of(1).misfits, [None, Some(5), Some(5), Some(5)]);
    }
}
