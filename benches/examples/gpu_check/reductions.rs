//! What probing takes of activations on a device next to the CPU: integers and bits, all of which must be the same.

use std::time::Instant;

use candle_core::{Device, Tensor};
use skn_kernels::{
    ColumnBins, ColumnCounts, ColumnMoments, ColumnNumbers, ColumnShares, ColumnSums, Misfit, RowGroups,
    RowNumbers, RowRuns, pack_above, pick_columns, pool_rows, row_norms,
};
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
    let kinds = [
        "sums, squares and ranges",
        "counts",
        "bits",
        "means and maxima",
        "what is no number",
        "sums by class, products, shares",
        "counts in bins",
        "norms and some columns",
    ];
    for (place, name) in kinds.into_iter().enumerate() {
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
    moments: Vec<i128>,
    bins: Vec<u32>,
    picked: Vec<u32>,
}

impl Reduced {
    /// How many numbers differ, of each kind.
    fn differences(&self, other: &Self) -> [usize; 8] {
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
            of(&self.moments, &other.moments),
            of(&self.bins, &other.bins),
            of(&self.picked, &other.picked),
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
    let of_class = ColumnMoments::new(Some(CLASSES), [groups, width], [false, true], device)?;
    let products = ColumnMoments::new(None, [groups, width], [true, false], device)?;
    let (mut moments, mut picked) = ([of_class, products], Vec::new());
    let mut shares = ColumnShares::new(groups, Tensor::full(0.37f32, width, device)?)?;
    let mut bins = ColumnBins::new(CLASSES, [groups, width], ends([groups, width], device)?)?;
    for _ in 0..2 {
        let x = matrix(rows)?;
        let numbers = (0..each * groups).map(|place| (place * 7 % rows) as u32).collect();
        let classes = (0..each).map(|row| (row * CLASSES / each) as u32).collect();
        let list = RowGroups::new(groups, numbers, classes)?;
        sums.add(&x, &list, &mut misfit)?;
        counts.add(&x, &list, &threshold, &mut misfit)?;
        bits.extend(pack_above(&x, &list, &threshold, &mut misfit)?.flatten_all()?.to_vec1::<u8>()?);
        let factors = RowNumbers::new((0..each).map(|row| (row % 9) as f32 * 0.21 - 0.8).collect());
        for (moments, factors) in moments.iter_mut().zip([None, Some(&factors)]) {
            moments.add(&x, &list, factors, &mut misfit)?;
        }
        let norms = row_norms(&x)?;
        shares.add(&x, &list, Some(&norms), &mut misfit)?;
        bins.add(&x, &list, &mut misfit)?;
        let some = ColumnNumbers::new(vec![width as u32 - 1, 0, width as u32 / 2]);
        for made in [norms, pick_columns(&x, &list, &some, &mut misfit)?] {
            picked.extend(made.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
        }
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
    let mut all = shares.sums()?;
    for moments in &moments {
        let totals = moments.totals()?;
        all.extend(
            [totals.sums, totals.squares.unwrap_or_default(), totals.products.unwrap_or_default()].concat(),
        );
    }
    let (counts, bins) = (counts.counts()?, bins.counts()?);
    Ok(Reduced {
        sums: totals.sums,
        squares,
        range,
        counts,
        bits,
        pooled,
        misfits,
        moments: all,
        bins,
        picked,
    })
}

/// Ends of bins from -1.5 to a mean of 0.25 and on to 3, of every third column of one number.
fn ends(shape: [usize; 2], device: &Device) -> Result<Tensor> {
    let places = shape[0] * shape[1];
    let of =
        |usual: f32, single: f32| (0..places).map(move |place| if place % 3 == 2 { single } else { usual });
    let all = of(-1.5, 0.0).chain(of(0.25, 0.0)).chain(of(3.0, 0.0)).chain(of(15.0 / 1.75, 0.0));
    let all: Vec<f32> = all.chain(of(1.0 / 2.75, 0.0)).collect();
    Ok(Tensor::from_vec(all, (5, shape[0], shape[1]), device)?)
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
        assert_eq!(of(1).differences(&of(1)), [0; 8]);
        let mut found = of(1).differences(&of(2));
        assert_eq!(std::mem::replace(&mut found[4], 1), 0);
        assert!(found.iter().all(|differ| *differ > 0), "{found:?}");
        assert_eq!(of(1).misfits, [None, Some(5), Some(5), Some(5)]);
    }
}
