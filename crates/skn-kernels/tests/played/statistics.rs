//! What probing takes of activations: the kernels of `pool.cu`, played, against plain Rust, to the last bit.

use crate::client::Argument::{self, Nothing, ReadWrite, U32, U64};
use crate::client::{Number, ORDERS, Player, read};

/// Widths on both sides of a block's 128 columns, and rows; the first ones are more than a grid has blocks for.
const SIZES: [(usize, usize); 5] = [(1, 65_538), (127, 41), (128, 64), (129, 43), (1000, 37)];

/// The largest magnitude that is added up, and steps of the fixed point in 1, as in skn-stats.
const MOST: f32 = (1u32 << 20) as f32;
const STEPS_PER_UNIT: f64 = (1u64 << 40) as f64;

/// Compares arrays of numbers of so many bytes.
fn assert_same(found: &[u8], expected: &[u8], size: usize, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.chunks(size).zip(expected.chunks(size)).enumerate() {
        assert_eq!(found, expected, "{what}, number {place}");
    }
}

/// Numbers of many magnitudes that can be added up, both zeros and halves of a step among them.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    const STEP: f32 = 1.0 / (1u64 << 40) as f32;
    let special: [f32; 10] =
        [0.0, -0.0, 0.5 * STEP, 1.5 * STEP, -2.5 * STEP, 1e-45, -1e-38, 2048.0, -2047.9999, MOST];
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (bits, exponent) = ((state >> 32) as u32, (state >> 24) as i32 & 63);
        match bits % 5 {
            0 => special[bits as usize / 5 % special.len()],
            sign => (bits >> 8) as f32 * 2f32.powi(exponent - 67) * if sign > 2 { 1.0 } else { -1.0 },
        }
    };
    (0..count).map(next).collect()
}

/// A matrix, and which of its rows are taken: nothing for all.
struct Rows {
    x: Vec<f32>,
    width: usize,
    chosen: Option<Vec<u32>>,
}

impl Rows {
    fn all(x: Vec<f32>, width: usize) -> Self {
        Self { x, width, chosen: None }
    }

    /// Some rows, not in order, one of them twice.
    fn some(x: Vec<f32>, width: usize) -> Self {
        let rows = (x.len() / width) as u32;
        let chosen = (0..rows).rev().step_by(3).chain([0, rows - 1]).collect();
        Self { x, width, chosen: Some(chosen) }
    }

    fn taken(&self) -> Vec<&[f32]> {
        let rows: Vec<&[f32]> = self.x.chunks(self.width).collect();
        match &self.chosen {
            None => rows,
            Some(chosen) => chosen.iter().map(|&row| rows[row as usize]).collect(),
        }
    }

    /// Those of a kernel: `first`, row, rows, width.
    fn arguments(&self, first: Vec<Argument>) -> Vec<Argument> {
        let row = self.chosen.as_ref().map_or(Nothing, |chosen| read(chosen));
        let sizes = [self.taken().len(), self.width].map(|number| U32(number as u32));
        first.into_iter().chain([row]).chain(sizes).collect()
    }
}

struct Statistics {
    sums: Vec<i128>,
    squares: Vec<i128>,
    minimum: Vec<f32>,
    maximum: Vec<f32>,
    beyond: u64,
}

impl Statistics {
    fn new(width: usize) -> Self {
        let (minimum, maximum) = (vec![f32::INFINITY; width], vec![f32::NEG_INFINITY; width]);
        Self { sums: vec![0; width], squares: vec![0; width], minimum, maximum, beyond: u64::MAX }
    }

    fn add(&mut self, rows: &Rows) {
        for (i, row) in rows.taken().into_iter().enumerate() {
            for (column, &value) in row.iter().enumerate() {
                if value.is_nan() || value.abs() > MOST {
                    self.beyond = self.beyond.min((i * rows.width + column) as u64);
                    continue;
                }
                let steps = |number: f64| (number * STEPS_PER_UNIT).round_ties_even() as i128;
                self.sums[column] += steps(value.into());
                self.squares[column] += steps(f64::from(value) * f64::from(value));
                let (least, most) = (&mut self.minimum[column], &mut self.maximum[column]);
                *least = if value < *least { value } else { *least };
                *most = if value > *most { value } else { *most };
            }
        }
    }

    /// As the kernel has them.
    fn arrays(&self) -> [Vec<u8>; 5] {
        let halves = |sums: &[i128]| {
            let (low, high) =
                (sums.iter().map(|&sum| sum as u64), sums.iter().map(|&sum| (sum >> 64) as u64));
            u64::bytes(&low.chain(high).collect::<Vec<_>>())
        };
        let (minimum, maximum) = (f32::bytes(&self.minimum), f32::bytes(&self.maximum));
        [halves(&self.sums), halves(&self.squares), minimum, maximum, u64::bytes(&[self.beyond])]
    }
}

/// Each launch goes on from what the one before gave. `wanted` says which arrays there are.
fn check_statistics(player: &mut Player, launches: &[Rows], wanted: [bool; 5]) {
    let width = launches[0].width;
    for order in ORDERS {
        let mut expected = Statistics::new(width);
        let mut found = expected.arrays();
        for rows in launches {
            expected.add(rows);
            let array = |place: usize| if wanted[place] { ReadWrite(found[place].clone()) } else { Nothing };
            let arguments = rows.arguments((0..5).map(array).chain([read(&rows.x)]).collect());
            let grid = [width.div_ceil(128), 1];
            let mut written =
                player.call("add_statistics", grid, 128, order, &arguments).unwrap().into_iter();
            for (place, expected) in expected.arrays().iter().enumerate().filter(|(place, _)| wanted[*place])
            {
                found[place] = written.next().unwrap();
                let (size, what) =
                    [(8, "sums"), (8, "squares"), (4, "minimum"), (4, "maximum"), (8, "beyond")][place];
                assert_same(&found[place], expected, size, &format!("{what}, order {order}, width {width}"));
            }
        }
    }
}

#[test]
fn sums_squares_and_ranges_go_on() {
    let Some(mut player) = Player::start() else { return };
    for (width, rows) in SIZES {
        let large = |seed| {
            let mut x = numbers(rows * width, seed);
            // Every other row makes sums leave 64 bits, on both sides of 0.
            for (place, value) in x.iter_mut().enumerate().filter(|(place, _)| place / width % 2 == 0) {
                *value = [MOST, -MOST, *value][place % width % 3];
            }
            x
        };
        let one = Rows::all(numbers(width, 3), width);
        let launches = [Rows::all(large(1), width), Rows::some(large(2), width), one];
        check_statistics(&mut player, &launches, [true; 5]);
        for alone in 0..4 {
            check_statistics(&mut player, &launches[1..], [0, 1, 2, 3, alone].map(|place| place == alone));
        }
    }
}

#[test]
fn what_can_not_be_added_is_told_and_left_out() {
    let Some(mut player) = Player::start() else { return };
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, MOST.next_up(), -MOST.next_up()] {
        let with = |places: &[[usize; 2]]| {
            let mut x = numbers(16 * 129, 4);
            places.iter().for_each(|[row, column]| x[row * 129 + column] = bad);
            x
        };
        // Row 1 is not among the chosen ones. The launches behind find nothing, something later, something sooner.
        let launches = [
            Rows::some(with(&[[1, 0], [3, 128], [3, 5], [6, 0]]), 129),
            Rows::some(with(&[[1, 3]]), 129),
            Rows::all(with(&[[15, 128]]), 129),
            Rows::all(with(&[[2, 128], [2, 127], [7, 0], [9, 127]]), 129),
        ];
        check_statistics(&mut player, &launches, [true; 5]);
        check_statistics(&mut player, &launches, [false, false, false, false, true]);
    }
}

#[test]
fn counts_and_bits_are_of_what_is_above() {
    let Some(mut player) = Player::start() else { return };
    for ((width, rows), order) in SIZES.into_iter().flat_map(|size| ORDERS.map(|order| (size, order))) {
        let mut x = numbers(rows * width, 5);
        let not_finite = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().cycle();
        x.iter_mut().skip(width).step_by(11).zip(not_finite).for_each(|(value, other)| *value = other);
        // Equal to the first row's, other ones, or none.
        let mut thresholds = x[..width].to_vec();
        thresholds
            .iter_mut()
            .zip(numbers(width, 6))
            .step_by(2)
            .for_each(|(threshold, other)| *threshold = other);
        thresholds.iter_mut().skip(3).step_by(7).for_each(|threshold| *threshold = f32::NAN);
        // A launch goes on from the one before, and counts are beyond 32 bits.
        let mut expected: Vec<u64> = (0..3 * width as u64).map(|place| (1 << 32) - 2 + place).collect();
        let mut fired = u64::bytes(&expected);
        for rows in [Rows::all(x.clone(), width), Rows::some(x, width)] {
            let (taken, bytes) = (rows.taken(), width.div_ceil(8));
            let labels: Vec<u32> = (0..taken.len()).map(|i| (i * i % 7 % 3) as u32).collect();
            let mut expected_bits = vec![0u8; taken.len() * bytes];
            for ((row, bits), &label) in taken.iter().zip(expected_bits.chunks_mut(bytes)).zip(&labels) {
                for column in (0..width).filter(|&column| row[column] > thresholds[column]) {
                    expected[label as usize * width + column] += 1;
                    bits[column / 8] |= 1 << (column % 8);
                }
            }
            let mut call = |kernel, columns, first| {
                let grid = [width.div_ceil(columns), taken.len().min(65_535)];
                player.call(kernel, grid, 128, order, &rows.arguments(first)).unwrap().swap_remove(0)
            };
            let what = format!("order {order}, width {width}, {} rows", taken.len());
            let (x, thresholds) = (read(&rows.x), read(&thresholds));
            let first = vec![ReadWrite(fired), x.clone(), thresholds.clone(), read(&labels)];
            fired = call("count_above", 128, first);
            assert_same(&fired, &u64::bytes(&expected), 8, &what);
            let bits = call("pack_above", 1024, vec![Argument::Write(expected_bits.len()), x, thresholds]);
            assert_same(&bits, &expected_bits, 1, &what);
        }
    }
}

#[test]
fn means_and_maxima_of_texts_are_summed_in_order() {
    let Some(mut player) = Player::start() else { return };
    for width in [1, 127, 128, 129, 1000] {
        let mut x = numbers(40 * width, 7);
        for (place, value) in x.iter_mut().enumerate() {
            match (place / width, place % width % 4) {
                // Numbers whose sum shows its order.
                (row, 0) => *value = [1e20, 1.0, -1e20, 3.0][row % 4],
                (row, 1) => *value = [-0.0, 0.0, -1.0, -0.0][row % 4],
                (5, 2) => *value = f32::NAN,
                (6, 3) => *value = f32::INFINITY,
                _ => {}
            }
        }
        // One without rows, some of one row, some that overlap.
        let (first, count) = ([0u32, 9, 4, 39, 5, 3], [4u32, 0, 17, 1, 1, 36]);
        let [mut mean, mut maximum] = [Vec::new(), Vec::new()];
        for (first, count) in first.into_iter().zip(count) {
            for column in 0..width {
                let column = (first..first + count).map(|row| x[row as usize * width + column]);
                let sum = column.clone().fold(0f64, |sum, value| sum + f64::from(value));
                mean.push((sum / f64::from(count)) as f32);
                maximum.push(
                    column.fold(f32::NEG_INFINITY, |most, value| if value > most { value } else { most }),
                );
            }
        }
        let expected = [mean, maximum].map(|numbers| f32::bytes(&numbers));
        for (order, wanted) in ORDERS.into_iter().flat_map(|order| [3, 1, 2].map(|wanted| (order, wanted))) {
            let array = |place: usize| match wanted >> place & 1 {
                1 => Argument::Write(expected[place].len()),
                _ => Nothing,
            };
            let [texts, columns] = [first.len(), width].map(|number| U32(number as u32));
            let arguments = [array(0), array(1), read(&x), read(&first), read(&count), texts, columns];
            let grid = [first.len(), width.div_ceil(128)];
            let found = player.call("pool_rows", grid, 128, order, &arguments).unwrap();
            let places = (0..2).filter(|place| wanted >> place & 1 == 1);
            for (found, place) in found.iter().zip(places) {
                let what = format!("{}, order {order}, width {width}", ["mean", "maximum"][place]);
                assert_same(&one_nan(found), &one_nan(&expected[place]), 4, &what);
            }
        }
    }
}

/// Which NaN it is, is the compiler's business.
fn one_nan(bytes: &[u8]) -> Vec<u8> {
    let numbers = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let same = numbers.map(|number| if number.is_nan() { f32::NAN } else { number });
    f32::bytes(&same.collect::<Vec<_>>())
}

#[test]
fn the_first_number_that_is_not_finite_is_found() {
    let Some(mut player) = Player::start() else { return };
    let bad = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for (count, order) in
        [1usize, 127, 1025, 5003].into_iter().flat_map(|count| ORDERS.map(|order| (count, order)))
    {
        for (first, bad) in [0, 1, count / 2, count - 1, count].into_iter().zip(bad.into_iter().cycle()) {
            let mut x = [f32::MAX, f32::MIN, 0.0, 1e-45].repeat(count.div_ceil(4));
            x.truncate(count);
            x.iter_mut().skip(first).step_by(5).for_each(|value| *value = bad);
            // What is there stays if it is lower; a block goes on with later numbers where there are few.
            for (before, blocks) in [(u64::MAX, count.div_ceil(1024)), (count as u64 / 3, 1)] {
                let arguments = [ReadWrite(u64::bytes(&[before])), read(&x), U64(count as u64)];
                let found = player.call("first_not_finite", [blocks, 1], 256, order, &arguments).unwrap();
                let expected = if first < count { before.min(first as u64) } else { before };
                let what = format!("order {order}, {count} numbers, from {first} on, {before} before");
                assert_same(&found[0], &u64::bytes(&[expected]), 8, &what);
            }
        }
    }
}
