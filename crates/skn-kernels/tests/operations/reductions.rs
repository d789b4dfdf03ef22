//! Reductions of rows against plain loops, to the last bit.

#![allow(clippy::single_range_in_vec_init, reason = "a single run of rows")]

use candle_core::{Device, Result, Tensor};
use skn_kernels::{
    Backend, ColumnBins, ColumnCounts, ColumnMoments, ColumnNumbers, ColumnShares, ColumnSums, Misfit,
    RowGroups, RowNumbers, RowRuns, numbers_read_back, pack_above, pick_columns, pool_rows, row_norms,
    with_values,
};

/// Rows, columns and groups of them: on both sides of a block's columns and of a slice's rows.
const SIZES: [[usize; 3]; 6] =
    [[1, 1, 1], [5, 127, 1], [12, 130, 3], [70, 9, 1], [134, 128, 2], [30, 257, 5]];

/// A matrix of so many rows whose numbers are of many magnitudes, zeros of both signs and halves of a step among them.
fn matrix(rows: usize, width: usize, seed: u64) -> Vec<Vec<f32>> {
    let step = 0.5f32.powi(40);
    let special = [0.0, -0.0, 0.5 * step, 1.5 * step, -2.5 * step, 1e-45, 2048.0, -1_048_576.0];
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (bits, exponent) = ((state >> 40) as u32, (state >> 34) as i32 & 31);
        match bits % 6 {
            0 => special[bits as usize / 6 % special.len()],
            sign => bits as f32 * 0.5f32.powi(exponent + 5) * if sign > 3 { 1.0 } else { -1.0 },
        }
    };
    (0..rows).map(|_| (0..width).map(|_| next()).collect()).collect()
}

/// As a part of a wider and longer tensor, as it comes out of a product that is cut.
fn tensor(rows: &[Vec<f32>], cut: bool) -> Result<Tensor> {
    let (count, width) = (rows.len(), rows[0].len());
    let whole: Vec<f32> = rows.iter().flatten().copied().collect();
    let whole = Tensor::from_vec(whole, (count, width), &Device::Cpu)?;
    if !cut {
        return Ok(whole);
    }
    let beside = Tensor::full(f32::NAN, (count, 3), &Device::Cpu)?;
    let wide = Tensor::cat(&[&beside, &whole], 1)?;
    let above = Tensor::full(f32::INFINITY, (1, width + 3), &Device::Cpu)?;
    Tensor::cat(&[&above, &wide], 0)?.narrow(1, 3, width)?.narrow(0, 1, count)
}

/// Rows in no order, some twice, as many in each group, of three classes.
fn groups(rows: usize, groups: usize) -> (Vec<u32>, Vec<u32>) {
    let each = rows.div_ceil(groups);
    let numbers = (0..groups * each).map(|place| (place * 7 % rows) as u32).collect();
    let mut classes: Vec<u32> = (0..each).map(|place| (place * place % 3) as u32).collect();
    // Half the sizes as a batch has them.
    if rows.is_multiple_of(2) {
        classes.sort_unstable();
    }
    (numbers, classes)
}

/// What is taken: for each group its rows.
fn taken<'x>(x: &'x [Vec<f32>], numbers: &[u32], each: usize) -> Vec<Vec<&'x [f32]>> {
    numbers.chunks(each).map(|of| of.iter().map(|&row| &x[row as usize][..]).collect()).collect()
}

fn steps(number: f64) -> i128 {
    (number * (1u64 << 40) as f64).round_ties_even() as i128
}

#[test]
fn sums_squares_and_ranges_of_two_batches() -> Result<()> {
    crate::prepare();
    for (size, [rows, width, count]) in SIZES.into_iter().enumerate() {
        let (mut expected, mut squares) = (vec![0i128; count * width], vec![0i128; count * width]);
        let mut range = [vec![f32::INFINITY; count * width], vec![f32::NEG_INFINITY; count * width]];
        let mut all = ColumnSums::new([count, width], true, true, &Device::Cpu)?;
        let mut plain = ColumnSums::new([count, width], false, false, &Device::Cpu)?;
        let mut misfit = Misfit::new(&Device::Cpu)?;
        for seed in [1, 2] {
            let x = matrix(rows, width, seed);
            let (numbers, classes) = groups(rows, count);
            for (group, of) in taken(&x, &numbers, classes.len()).into_iter().enumerate() {
                for (column, &value) in of.into_iter().flat_map(|row| row.iter().enumerate()) {
                    let place = group * width + column;
                    expected[place] += steps(value.into());
                    squares[place] += steps(f64::from(value) * f64::from(value));
                    range[0][place] = range[0][place].min(value + 0.0);
                    range[1][place] = range[1][place].max(value + 0.0);
                }
            }
            let (x, rows) = (tensor(&x, size % 2 == 1)?, RowGroups::new(count, numbers, classes)?);
            all.add(&x, &rows, &mut misfit)?;
            plain.add(&x, &rows, &mut misfit)?;
        }
        let found = all.totals()?;
        assert_eq!(found.sums, expected, "{size}");
        assert_eq!(found.squares, Some(squares), "{size}");
        let bits =
            |of: &[Vec<f32>; 2]| of.each_ref().map(|of| of.iter().map(|of| of.to_bits()).collect::<Vec<_>>());
        assert_eq!(found.range.as_ref().map(bits), Some(bits(&range)), "{size}");
        let found = plain.totals()?;
        assert_eq!((found.sums, found.squares, found.range), (expected, None, None), "{size}");
        assert_eq!(misfit.found()?, None);
    }
    Ok(())
}

#[test]
fn counts_and_bits_of_two_batches() -> Result<()> {
    crate::prepare();
    for (size, [rows, width, count]) in SIZES.into_iter().enumerate() {
        let places = count * width;
        let mut expected = vec![0u64; 3 * places];
        let mut counts = ColumnCounts::new(3, [count, width], &Device::Cpu)?;
        let mut misfit = Misfit::new(&Device::Cpu)?;
        let first = matrix(rows, width, 1);
        // Some are equal to a number that is compared with them.
        let mut threshold = matrix(count, width, 3);
        threshold.iter_mut().for_each(|of| of[width / 2] = first[rows - 1][width / 2]);
        for x in [first, matrix(rows, width, 2)] {
            let (numbers, classes) = groups(rows, count);
            let mut bits = Vec::new();
            for (group, of) in taken(&x, &numbers, classes.len()).into_iter().enumerate() {
                for (row, &class) in of.into_iter().zip(&classes) {
                    let above: Vec<bool> = row.iter().zip(&threshold[group]).map(|(a, b)| a > b).collect();
                    for (column, _) in above.iter().enumerate().filter(|(_, above)| **above) {
                        expected[class as usize * places + group * width + column] += 1;
                    }
                    let byte =
                        |of: &[bool]| of.iter().rev().fold(0u8, |byte, &bit| byte << 1 | u8::from(bit));
                    bits.push(above.chunks(8).map(byte).collect::<Vec<_>>());
                }
            }
            let (x, threshold) = (tensor(&x, size % 2 == 1)?, tensor(&threshold, size % 3 == 1)?);
            let rows = RowGroups::new(count, numbers, classes)?;
            counts.add(&x, &rows, &threshold, &mut misfit)?;
            assert_eq!(pack_above(&x, &rows, &threshold, &mut misfit)?.to_vec2::<u8>()?, bits, "{size}");
        }
        assert_eq!(counts.counts()?, expected, "{size}");
        assert_eq!(misfit.found()?, None);
    }
    Ok(())
}

#[test]
fn sums_by_class_products_and_squares_of_two_batches() -> Result<()> {
    crate::prepare();
    for (size, [rows, width, count]) in SIZES.into_iter().enumerate() {
        let places = count * width;
        let (mut of_class, mut of_all) = (vec![0i128; 3 * places], vec![0i128; places]);
        let (mut products, mut squares) = (vec![0i128; places], vec![0i128; places]);
        let new = |classes, wanted| ColumnMoments::new(classes, [count, width], wanted, &Device::Cpu);
        let (mut by_class, mut together) = (new(Some(3), [false, true])?, new(None, [true, false])?);
        let mut plain = new(Some(3), [false, false])?;
        let mut misfit = Misfit::new(&Device::Cpu)?;
        for seed in [1, 2] {
            let x = matrix(rows, width, seed);
            let (numbers, classes) = groups(rows, count);
            let factors: Vec<f32> = (0..classes.len()).map(|row| 0.37 * (row % 5) as f32 - 0.9).collect();
            for (group, of) in taken(&x, &numbers, classes.len()).into_iter().enumerate() {
                for ((row, &class), factor) in of.into_iter().zip(&classes).zip(&factors) {
                    for (column, &value) in row.iter().enumerate() {
                        let place = group * width + column;
                        of_class[class as usize * places + place] += steps(value.into());
                        of_all[place] += steps(value.into());
                        // Rounded before it is added.
                        products[place] += steps((value * factor).into());
                        squares[place] += steps(f64::from(value) * f64::from(value));
                    }
                }
            }
            let (x, rows) = (tensor(&x, size % 2 == 1)?, RowGroups::new(count, numbers, classes)?);
            by_class.add(&x, &rows, None, &mut misfit)?;
            together.add(&x, &rows, Some(&RowNumbers::new(factors)), &mut misfit)?;
            plain.add(&x, &rows, None, &mut misfit)?;
        }
        let found = by_class.totals()?;
        assert_eq!((&found.sums, found.products, found.squares), (&of_class, None, Some(squares)), "{size}");
        let found = together.totals()?;
        assert_eq!((found.sums, found.products, found.squares), (of_all, Some(products), None), "{size}");
        assert_eq!(plain.totals()?.sums, of_class, "{size}");
        assert_eq!(misfit.found()?, None);
    }
    Ok(())
}

/// The smallest, the mean and the largest number of a column; every seventh is one number.
fn ends_of(place: usize) -> [f32; 3] {
    let least = (place % 5) as f32 - 3.25;
    if place % 7 == 6 { [least; 3] } else { [least, least + 0.5 + (place % 3) as f32, least + 9.0] }
}

/// A number in a bin, and the bin.
fn in_bin(bin: usize, [least, mean, most]: [f32; 3]) -> (f32, usize) {
    match bin {
        0 => (least - 1.0, 0),
        31 => (most + 1.0, 31),
        // Of one number, at which bins begin anew.
        _ if least == most => (least, 16),
        // The outermost numbers of both sides.
        1 => (least, 1),
        15 => (mean.next_down(), 15),
        16 => (mean, 16),
        30 => (most, 30),
        2..15 => (least + (bin as f32 - 0.5) / 15.0 * (mean - least), bin),
        _ => (mean + ((bin as f32 - 15.5) / 15.0).powi(2) * (most - mean), bin),
    }
}

#[test]
fn bins_of_two_batches() -> Result<()> {
    crate::prepare();
    for (size, [rows, width, count]) in SIZES.into_iter().enumerate() {
        let (places, in_one) =
            (count * width, |whole: f32, way: f32| if way > 0.0 { whole / way } else { 0.0 });
        let ends: Vec<[f32; 3]> = (0..places).map(ends_of).collect();
        let each = |of: fn([f32; 3]) -> f32| ends.iter().map(move |&ends| of(ends));
        let all: Vec<f32> = each(|ends| ends[0])
            .chain(each(|ends| ends[1]))
            .chain(each(|ends| ends[2]))
            .chain(ends.iter().map(|[least, mean, _]| in_one(15.0, mean - least)))
            .chain(ends.iter().map(|[_, mean, most]| in_one(1.0, most - mean)))
            .collect();
        let all = Tensor::from_vec(all, (5, count, width), &Device::Cpu)?;
        let mut bins = ColumnBins::new(3, [count, width], all)?;
        let (mut expected, mut misfit) = (vec![0u32; places * 3 * 32], Misfit::new(&Device::Cpu)?);
        let each = rows.div_ceil(count);
        for batch in 0..2 {
            // A row for each of each group, so that all numbers of a group are between its ends.
            let mut x = vec![vec![0f32; width]; count * each];
            let classes: Vec<u32> = (0..each).map(|row| ((row + batch) * row % 3) as u32).collect();
            for (row, x) in x.iter_mut().enumerate() {
                for (column, value) in x.iter_mut().enumerate() {
                    let place = row / each * width + column;
                    let (number, bin) = in_bin((row * 5 + column * 3 + batch * 16) % 32, ends[place]);
                    *value = number;
                    expected[(place * 3 + classes[row % each] as usize) * 32 + bin] += 1;
                }
            }
            let numbers = (0..(count * each) as u32).collect();
            let rows = RowGroups::new(count, numbers, classes)?;
            bins.add(&tensor(&x, size % 2 == 1)?, &rows, &mut misfit)?;
        }
        assert_eq!(bins.counts()?, expected, "{size}");
        assert_eq!(misfit.found()?, None);
    }
    Ok(())
}

#[test]
fn shares_of_two_batches() -> Result<()> {
    crate::prepare();
    for (size, [rows, width, count]) in SIZES.into_iter().enumerate() {
        let places = count * width;
        let factors: Vec<f32> = (0..width).map(|column| (column % 7) as f32 * 0.3).collect();
        let of = Tensor::from_vec(factors.clone(), width, &Device::Cpu)?;
        let (mut shares, mut none) = (ColumnShares::new(count, of.clone())?, ColumnShares::new(count, of)?);
        let (mut expected, mut misfit) = (vec![0i128; places], Misfit::new(&Device::Cpu)?);
        for seed in [1, 2] {
            let x = matrix(rows, width, seed);
            // Where there is no output nobody has a share in it.
            let of_row = |row: usize| if row % 5 == 3 { 0.0 } else { 2.0 + row as f32 };
            let norms: Vec<f32> = (0..rows).map(of_row).collect();
            let (numbers, classes) = groups(rows, count);
            for (place, &row) in numbers.iter().enumerate().filter(|(_, row)| *row % 5 != 3) {
                let group = place / classes.len();
                for (column, value) in x[row as usize].iter().enumerate() {
                    let share = value.abs() * factors[column] / norms[row as usize];
                    expected[group * width + column] += steps(share.into());
                }
            }
            let (x, norms) = (tensor(&x, size % 2 == 1)?, Tensor::from_vec(norms, rows, &Device::Cpu)?);
            let rows = RowGroups::new(count, numbers, classes)?;
            shares.add(&x, &rows, Some(&norms), &mut misfit)?;
            none.add(&x, &rows, None, &mut misfit)?;
        }
        assert_eq!(shares.sums()?, expected, "{size}");
        assert_eq!(none.sums()?, vec![0; places], "{size}");
        assert_eq!(misfit.found()?, None);
    }
    // A share that is too large, or none.
    let x = Tensor::new(&[[2f32, 1e6], [3.0, 4.0]], &Device::Cpu)?;
    let rows = RowGroups::new(1, vec![0, 1], vec![0, 0])?;
    for (factor, norm, fits) in
        [(1.0, 1.0, true), (2.0, 1.0, false), (f32::NAN, 1.0, false), (9.0, f32::NAN, true)]
    {
        let factors = Tensor::new(&[1f32, factor], &Device::Cpu)?;
        let mut misfit = Misfit::new(&Device::Cpu)?;
        misfit.set_mark(6);
        let norms = Tensor::new(&[norm, 1.0], &Device::Cpu)?;
        ColumnShares::new(1, factors)?.add(&x, &rows, Some(&norms), &mut misfit)?;
        assert_eq!(misfit.found()?, (!fits).then_some(6), "{factor} {norm}");
    }
    Ok(())
}

#[test]
fn norms_of_rows() -> Result<()> {
    crate::prepare();
    for (size, [rows, width, _]) in SIZES.into_iter().enumerate() {
        let x = matrix(rows, width, 3);
        let norm = |row: &Vec<f32>| {
            row.iter().fold(0f64, |sum, &it| sum + f64::from(it) * f64::from(it)).sqrt() as f32
        };
        let expected: Vec<u32> = x.iter().map(|row| norm(row).to_bits()).collect();
        let found = row_norms(&tensor(&x, size % 2 == 1)?)?.to_vec1::<f32>()?;
        assert_eq!(found.into_iter().map(f32::to_bits).collect::<Vec<_>>(), expected, "{size}");
    }
    for shape in [(0, 3), (2, 0)] {
        let none = row_norms(&Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu)?)?;
        assert_eq!(none.to_vec1::<f32>()?, vec![0.0; shape.0]);
    }
    Ok(())
}

#[test]
fn picked_columns_are_those_of_the_rows() -> Result<()> {
    crate::prepare();
    let mut misfit = Misfit::new(&Device::Cpu)?;
    for (size, [rows, width, count]) in SIZES.into_iter().enumerate() {
        let x = matrix(rows, width, 1);
        let (numbers, classes) = groups(rows, count);
        // In no order, one twice; more than a block has threads.
        let many = (0..width as u32).rev().chain([0, width as u32 / 2]).collect();
        for columns in [vec![width as u32 - 1], many] {
            let of_row =
                |row: &&[f32]| columns.iter().map(|&column| row[column as usize].to_bits()).collect();
            let expected: Vec<Vec<u32>> =
                taken(&x, &numbers, classes.len()).iter().flatten().map(of_row).collect();
            let (x, rows) =
                (tensor(&x, size % 2 == 1)?, RowGroups::new(count, numbers.clone(), classes.clone())?);
            let found =
                pick_columns(&x, &rows, &ColumnNumbers::new(columns), &mut misfit)?.to_vec2::<f32>()?;
            let found: Vec<Vec<u32>> =
                found.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect();
            assert_eq!(found, expected, "{size}");
        }
    }
    assert_eq!(misfit.found()?, None);
    Ok(())
}

#[test]
fn means_and_maxima_of_runs() -> Result<()> {
    crate::prepare();
    for (size, [rows, width, _]) in SIZES.into_iter().enumerate() {
        let mut x = matrix(rows, width, 5);
        // Numbers whose sum shows its order.
        x.iter_mut().enumerate().for_each(|(row, of)| of[width - 1] = [1e20, 1.0, -1e20, 3.0][row % 4]);
        let runs = [0..rows, rows / 2..rows, rows - 1..rows];
        let mut expected = [Vec::new(), Vec::new()];
        for run in &runs {
            let column = |column: usize| run.clone().map(move |row| (row, column));
            let sum = |of: usize| column(of).fold(0f64, |sum, (row, of)| sum + f64::from(x[row][of]));
            let most =
                |most: f32, (row, of): (usize, usize)| if x[row][of] > most { x[row][of] } else { most };
            expected[0].push((0..width).map(|of| (sum(of) / run.len() as f64) as f32).collect::<Vec<_>>());
            expected[1].push((0..width).map(|of| column(of).fold(f32::NEG_INFINITY, most)).collect());
        }
        let bits = |of: &[Vec<f32>]| of.iter().flatten().map(|of| of.to_bits()).collect::<Vec<_>>();
        let (x, runs, mut misfit) =
            (tensor(&x, size % 2 == 1)?, RowRuns::new(&runs)?, Misfit::new(&Device::Cpu)?);
        for wanted in [[true, true], [true, false], [false, true]] {
            let found = pool_rows(&x, &runs, wanted, &mut misfit)?;
            for ((found, expected), wanted) in found.into_iter().zip(&expected).zip(wanted) {
                assert_eq!(found.is_some(), wanted);
                if let Some(found) = found {
                    assert_eq!(bits(&found.to_vec2()?), bits(expected), "{size}");
                }
            }
        }
        assert_eq!(misfit.found()?, None);
    }
    Ok(())
}

#[test]
fn what_can_not_be_taken_is_told_by_the_first_mark() -> Result<()> {
    crate::prepare();
    let sizes = (9, 130);
    let threshold = Tensor::zeros((1, sizes.1), candle_core::DType::F32, &Device::Cpu)?;
    let rows = RowGroups::new(1, vec![0, 4, 8], vec![0, 1, 0])?;
    let runs = RowRuns::new(&[0..1, 4..9])?;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1_048_577.0] {
        // In a row that nobody takes, and in one that is taken.
        for (row, is_taken) in [(2, false), (4, true)] {
            let mut x = matrix(sizes.0, sizes.1, 9);
            x[row][sizes.1 - 1] = bad;
            let (right, x) = (tensor(&matrix(sizes.0, sizes.1, 9), false)?, tensor(&x, false)?);
            let factors = RowNumbers::new(vec![1.0, 0.5, 1.0]);
            let ends = Tensor::ones((5, 1, sizes.1), candle_core::DType::F32, &Device::Cpu)?;
            let first = ColumnNumbers::new(vec![0]);
            for kind in 0..9 {
                let mut misfit = Misfit::new(&Device::Cpu)?;
                for (mark, x) in [(3, &right), (8, &x), (9, &x), (5, &right)] {
                    misfit.set_mark(mark);
                    match kind {
                        0 => ColumnSums::new([1, sizes.1], false, true, &Device::Cpu)?.add(
                            x,
                            &rows,
                            &mut misfit,
                        )?,
                        1 => ColumnCounts::new(2, [1, sizes.1], &Device::Cpu)?.add(
                            x,
                            &rows,
                            &threshold,
                            &mut misfit,
                        )?,
                        2 => drop(pack_above(x, &rows, &threshold, &mut misfit)?),
                        3 => ColumnMoments::new(Some(2), [1, sizes.1], [false, true], &Device::Cpu)?.add(
                            x,
                            &rows,
                            None,
                            &mut misfit,
                        )?,
                        4 => ColumnMoments::new(None, [1, sizes.1], [true, false], &Device::Cpu)?.add(
                            x,
                            &rows,
                            Some(&factors),
                            &mut misfit,
                        )?,
                        5 => ColumnBins::new(2, [1, sizes.1], ends.clone())?.add(x, &rows, &mut misfit)?,
                        7 => ColumnShares::new(1, Tensor::zeros(sizes.1, x.dtype(), &Device::Cpu)?)?.add(
                            x,
                            &rows,
                            None,
                            &mut misfit,
                        )?,
                        // Not in this column.
                        6 => drop(pick_columns(x, &rows, &first, &mut misfit)?),
                        _ => drop(pool_rows(x, &runs, [true, true], &mut misfit)?),
                    }
                }
                // What is too large is so for sums alone.
                let expected = (is_taken && ([0, 3, 4].contains(&kind) || !bad.is_finite())).then_some(8);
                assert_eq!(misfit.found()?, expected, "{bad} in row {row}, {kind}");
            }
        }
    }
    Ok(())
}

/// Each number could be added up by itself.
#[test]
fn a_product_that_is_too_large_is_told_and_left_out() -> Result<()> {
    crate::prepare();
    let x = Tensor::new(&[[2f32, 1_048_576.0], [3.0, 4.0]], &Device::Cpu)?;
    let rows = RowGroups::new(1, vec![0, 1], vec![0, 0])?;
    for (number, expected) in [(1.0, None), (1.5, Some(6)), (f32::INFINITY, Some(6))] {
        let mut moments = ColumnMoments::new(None, [1, 2], [true, false], &Device::Cpu)?;
        let mut misfit = Misfit::new(&Device::Cpu)?;
        misfit.set_mark(6);
        moments.add(&x, &rows, Some(&RowNumbers::new(vec![number, 1.0])), &mut misfit)?;
        assert_eq!(misfit.found()?, expected, "{number}");
        let of_first = if number.is_finite() { steps(2.0 * f64::from(number)) } else { 0 };
        let of_second = if expected.is_none() { steps(1_048_576.0) } else { 0 };
        let totals = moments.totals()?;
        assert_eq!(totals.products, Some(vec![of_first + steps(3.0), of_second + steps(4.0)]), "{number}");
        assert_eq!(totals.sums, [steps(5.0), steps(1_048_580.0)]);
    }
    Ok(())
}

#[test]
fn nothing_comes_to_nothing() -> Result<()> {
    crate::prepare();
    let mut misfit = Misfit::new(&Device::Cpu)?;
    let empty = |rows, width| Tensor::zeros((rows, width), candle_core::DType::F32, &Device::Cpu);
    // No rows, no columns, no groups.
    for (groups, each, width) in [(2, 0, 3), (2, 3, 0), (0, 3, 4)] {
        let rows = RowGroups::new(groups, vec![0; groups * each], vec![0; each])?;
        let (x, threshold) = (empty(1, width)?, empty(groups, width)?);
        let (mut sums, mut counts) = (
            ColumnSums::new([groups, width], true, true, &Device::Cpu)?,
            ColumnCounts::new(1, [groups, width], &Device::Cpu)?,
        );
        sums.add(&x, &rows, &mut misfit)?;
        counts.add(&x, &rows, &threshold, &mut misfit)?;
        assert_eq!(sums.totals()?.sums, vec![0; groups * width]);
        assert_eq!(counts.counts()?, vec![0; groups * width]);
        assert_eq!(pack_above(&x, &rows, &threshold, &mut misfit)?.elem_count(), 0);
        let mut moments = ColumnMoments::new(Some(1), [groups, width], [false, true], &Device::Cpu)?;
        moments.add(&x, &rows, None, &mut misfit)?;
        assert_eq!(moments.totals()?.squares, Some(vec![0; groups * width]));
        let ends = Tensor::zeros((5, groups, width), candle_core::DType::F32, &Device::Cpu)?;
        let mut bins = ColumnBins::new(1, [groups, width], ends)?;
        bins.add(&x, &rows, &mut misfit)?;
        assert_eq!(bins.counts()?, vec![0; groups * width * 32]);
        let columns = ColumnNumbers::new(if width == 0 { vec![] } else { vec![0] });
        let picked = pick_columns(&x, &rows, &columns, &mut misfit)?;
        assert_eq!(picked.dims(), [groups * each, columns.len()]);
    }
    let [mean, max] = pool_rows(&empty(2, 0)?, &RowRuns::new(&[0..2])?, [true, true], &mut misfit)?;
    assert_eq!([mean, max].map(|of| of.map(|of| of.dims().to_vec())), [Some(vec![1, 0]), Some(vec![1, 0])]);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    crate::prepare();
    let mut misfit = Misfit::new(&Device::Cpu)?;
    let x = tensor(&matrix(4, 3, 1), false)?;
    let rows = RowGroups::new(1, vec![0, 3], vec![1, 0])?;
    // The first line: behind it stands where it was made, if somebody asked for that.
    let told = |found: Result<()>| found.unwrap_err().to_string().lines().next().unwrap().to_owned();
    assert!(RowGroups::new(2, vec![0, 1, 2], vec![0]).is_err() && RowRuns::new(&[2..2]).is_err());
    let mut sums = ColumnSums::new([1, 3], false, false, &Device::Cpu)?;
    let beyond = RowGroups::new(1, vec![0, 4], vec![0, 0])?;
    assert_eq!(
        told(sums.add(&x, &beyond, &mut misfit)),
        "column sums: expected [5 rows or more, width], found [4, 3]"
    );
    let two = RowGroups::new(2, vec![0, 1], vec![0])?;
    assert_eq!(
        told(sums.add(&x, &two, &mut misfit)),
        "column sums: expected [groups, width] [1, 3], found [2, 3]"
    );
    let (mut counts, threshold) =
        (ColumnCounts::new(1, [1, 3], &Device::Cpu)?, Tensor::ones((1, 3), x.dtype(), &Device::Cpu)?);
    assert_eq!(
        told(counts.add(&x, &rows, &threshold, &mut misfit)),
        "counts: expected classes below 1, found 1"
    );
    let mut moments = ColumnMoments::new(Some(1), [1, 3], [true, false], &Device::Cpu)?;
    let numbers = RowNumbers::new(vec![1.0]);
    assert_eq!(
        told(moments.add(&x, &rows, Some(&numbers), &mut misfit)),
        "counts: expected classes below 1, found 1"
    );
    let mut moments = ColumnMoments::new(None, [1, 3], [true, false], &Device::Cpu)?;
    assert_eq!(
        told(moments.add(&x, &rows, Some(&numbers), &mut misfit)),
        "numbers of rows: expected one for each of 2, found 1"
    );
    assert_eq!(
        told(moments.add(&x, &rows, None, &mut misfit)),
        "moments: expected numbers of rows for products, and for nothing else"
    );
    let ends = Tensor::ones((5, 1, 3), x.dtype(), &Device::Cpu)?;
    assert_eq!(
        told(ColumnBins::new(1, [1, 3], ends.clone())?.add(&x, &rows, &mut misfit)),
        "counts: expected classes below 1, found 1"
    );
    assert_eq!(
        told(ColumnBins::new(1, [3, 1], ends).map(drop)),
        "ends of bins: expected [5, 3, 1], found [5, 1, 3]"
    );
    let norms = Tensor::ones(3, x.dtype(), &Device::Cpu)?;
    assert_eq!(
        told(ColumnShares::new(1, norms.clone())?.add(&x, &rows, Some(&norms), &mut misfit)),
        "norms of rows: expected [4], found [3]"
    );
    let found = pick_columns(&x, &rows, &ColumnNumbers::new(vec![0, 3]), &mut misfit).map(drop);
    assert_eq!(told(found), "columns: expected indexes below 3, found 3");
    let found = pack_above(&x, &rows, &threshold.t()?, &mut misfit).map(drop);
    assert_eq!(told(found), "thresholds: expected [1, 3], found [3, 1]");
    let found = pool_rows(&x, &RowRuns::new(&[2..5])?, [true, true], &mut misfit).map(drop);
    assert_eq!(told(found), "pooled rows: expected [5 rows or more, width], found [4, 3]");
    Ok(())
}

/// The only test that looks at the count: others read at the same time, so it is a bound here.
#[test]
fn what_comes_back_is_counted() -> Result<()> {
    crate::prepare();
    let x = tensor(&matrix(100, 50, 1), false)?;
    let before = numbers_read_back();
    with_values(&x, |values: &[f32]| assert_eq!(values.len(), 5000))?;
    if Backend::of(&Device::Cpu).reduces() {
        assert!(numbers_read_back() >= before + 5000);
    }
    let (mut sums, before) = (ColumnSums::new([1, 50], true, true, &Device::Cpu)?, numbers_read_back());
    sums.add(&x, &RowGroups::new(1, vec![0; 70], vec![0; 70])?, &mut Misfit::new(&Device::Cpu)?)?;
    sums.totals()?;
    assert!(numbers_read_back() >= before + (3 + 3 + 1 + 1) * 50);
    Ok(())
}
