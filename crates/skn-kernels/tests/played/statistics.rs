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

/// A matrix, and which of its rows are taken, group by group: nothing for all.
struct Rows {
    x: Vec<f32>,
    width: usize,
    groups: usize,
    chosen: Option<Vec<u32>>,
}

impl Rows {
    fn all(x: Vec<f32>, width: usize) -> Self {
        Self { x, width, groups: 1, chosen: None }
    }

    /// The same in groups, without the rows that are left over.
    fn in_groups(self, groups: usize) -> Self {
        let chosen = self.chosen.map(|chosen| chosen[..chosen.len() / groups * groups].to_vec());
        let rows = self.x.len() / self.width / groups * groups;
        let x = if chosen.is_none() { self.x[..rows * self.width].to_vec() } else { self.x };
        Self { x, groups, chosen, ..self }
    }

    /// Some rows, not in order, one of them twice.
    fn some(x: Vec<f32>, width: usize) -> Self {
        let rows = (x.len() / width) as u32;
        let chosen = (0..rows).rev().step_by(3).chain([0, rows - 1]).collect();
        Self { x, width, groups: 1, chosen: Some(chosen) }
    }

    /// Of all groups, one behind the other.
    fn taken(&self) -> Vec<&[f32]> {
        let rows: Vec<&[f32]> = self.x.chunks(self.width).collect();
        match &self.chosen {
            None => rows,
            Some(chosen) => chosen.iter().map(|&row| rows[row as usize]).collect(),
        }
    }

    /// The rows of a group.
    fn rows(&self) -> usize {
        self.taken().len() / self.groups
    }

    /// Blocks of 128 columns, groups, and so many slices of their rows.
    fn grid(&self, slices: usize) -> [usize; 3] {
        [self.width.div_ceil(128), self.groups, slices]
    }

    fn list(&self) -> Argument {
        self.chosen.as_ref().map_or(Nothing, |chosen| read(chosen))
    }

    fn size(&self) -> [Argument; 2] {
        [self.rows(), self.width].map(|number| U32(number as u32))
    }
}

/// As the kernels have numbers in order.
fn in_order(number: f32) -> u32 {
    let bits = number.to_bits();
    if number.is_sign_negative() { !bits } else { bits | 1 << 31 }
}

struct Statistics {
    sums: Vec<i128>,
    squares: Vec<i128>,
    minimum: Vec<f32>,
    maximum: Vec<f32>,
    wrong: u64,
}

impl Statistics {
    fn new(places: usize) -> Self {
        let (minimum, maximum) = (vec![f32::INFINITY; places], vec![f32::NEG_INFINITY; places]);
        Self { sums: vec![0; places], squares: vec![0; places], minimum, maximum, wrong: u64::MAX }
    }

    fn add(&mut self, rows: &Rows, mark: u64) {
        let each = rows.rows();
        for (i, row) in rows.taken().into_iter().enumerate() {
            for (column, &value) in row.iter().enumerate() {
                if value.is_nan() || value.abs() > MOST {
                    self.wrong = self.wrong.min(mark);
                    continue;
                }
                let place = i / each * rows.width + column;
                let steps = |number: f64| (number * STEPS_PER_UNIT).round_ties_even() as i128;
                self.sums[place] += steps(value.into());
                self.squares[place] += steps(f64::from(value) * f64::from(value));
                let (least, most) = (&mut self.minimum[place], &mut self.maximum[place]);
                *least = if value < *least { value } else { *least };
                *most = if value > *most { value } else { *most };
            }
        }
    }

    /// As a kernel begins with them.
    fn arrays(&self) -> [Vec<u8>; 5] {
        let counters = |sums: &[i128]| u64::bytes(&vec![0; 3 * sums.len()]);
        let places =
            |numbers: &[f32]| u32::bytes(&numbers.iter().map(|number| in_order(*number)).collect::<Vec<_>>());
        let (minimum, maximum) = (places(&self.minimum), places(&self.maximum));
        [counters(&self.sums), counters(&self.squares), minimum, maximum, u64::bytes(&[self.wrong])]
    }

    /// Compares with what a kernel has.
    fn assert_are(&self, found: &[Vec<u8>; 5], wanted: [bool; 5], what: &str) {
        let numbers = |place: usize| {
            let places = found[place].as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
            let number = |place: u32| f32::from_bits(if place >> 31 == 1 { place ^ 1 << 31 } else { !place });
            // Which of two zeros there is depends on who was first.
            places.map(|place| number(place) + 0.0).collect::<Vec<_>>()
        };
        let unsigned = |numbers: &[f32]| numbers.iter().map(|number| number + 0.0).collect::<Vec<_>>();
        if wanted[0] {
            assert_eq!(wide(&found[0]), self.sums, "sums, {what}");
        }
        if wanted[1] {
            assert_eq!(wide(&found[1]), self.squares, "squares, {what}");
        }
        for (place, expected) in [(2, &self.minimum), (3, &self.maximum)] {
            if wanted[place] {
                let [found, expected] = [numbers(place), unsigned(expected)].map(|of| f32::bytes(&of));
                assert_same(&found, &expected, 4, &format!("range, {what}"));
            }
        }
        assert_eq!(found[4], u64::bytes(&[self.wrong]), "{what}");
    }
}

/// Sums of three counters each.
fn wide(bytes: &[u8]) -> Vec<i128> {
    let counters: Vec<u64> =
        bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let places = counters.len() / 3;
    let of = |place: usize| {
        let part = |counter: usize| u128::from(counters[counter * places + place]);
        part(0).wrapping_add(part(1) << 32).wrapping_add(part(2) << 64) as i128
    };
    (0..places).map(of).collect()
}

/// Each launch goes on from what the one before gave. `wanted` says which arrays there are.
fn check_statistics(player: &mut Player, launches: &[Rows], wanted: [bool; 5]) {
    let (width, groups) = (launches[0].width, launches[0].groups);
    for (order, slices) in ORDERS.into_iter().zip([1, 3, 7]) {
        let mut expected = Statistics::new(groups * width);
        let mut found = expected.arrays();
        // Marks that descend: the last one that was wrong is told.
        for (rows, mark) in launches.iter().zip((40..50).rev()) {
            expected.add(rows, mark);
            let array = |place: usize| if wanted[place] { ReadWrite(found[place].clone()) } else { Nothing };
            let arguments = (0..5).map(array).chain([read(&rows.x), rows.list()]).chain(rows.size());
            let arguments: Vec<_> = arguments.chain([U64(mark)]).collect();
            let mut written =
                player.call("add_statistics", rows.grid(slices), 128, order, &arguments).unwrap().into_iter();
            for place in (0..5).filter(|place| wanted[*place]) {
                found[place] = written.next().unwrap();
            }
            expected.assert_are(&found, wanted, &format!("order {order}, width {width}, {groups} groups"));
        }
    }
}

#[test]
fn sums_squares_and_ranges_go_on() {
    let Some(mut player) = Player::start() else { return };
    for ((width, rows), groups) in SIZES.into_iter().zip([1, 3, 2, 1, 5]) {
        let large = |seed| {
            let mut x = numbers(rows * width, seed);
            // Every other row makes sums leave 64 bits, on both sides of 0.
            for (place, value) in x.iter_mut().enumerate().filter(|(place, _)| place / width % 2 == 0) {
                *value = [MOST, -MOST, *value][place % width % 3];
            }
            x
        };
        // Fewer rows than slices, some of which have none.
        let few = Rows::all(numbers(groups * width, 3), width);
        let launches = [Rows::all(large(1), width), Rows::some(large(2), width), few];
        let launches = launches.map(|rows| rows.in_groups(groups));
        check_statistics(&mut player, &launches, [true; 5]);
        for alone in 0..4 {
            check_statistics(
                &mut player,
                &launches[1..],
                [0, 1, 2, 3, 4].map(|place| place == alone || place == 4),
            );
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
        // Row 1 is not among the chosen ones.
        let launches = [
            Rows::some(with(&[[1, 3]]), 129),
            Rows::some(with(&[[1, 0], [3, 128], [3, 5], [6, 0]]), 129),
            Rows::some(with(&[]), 129),
            Rows::all(with(&[[15, 128]]), 129),
        ];
        check_statistics(&mut player, &launches, [true; 5]);
        check_statistics(&mut player, &launches, [false, false, false, false, true]);
    }
}

#[test]
fn counts_and_bits_are_of_what_is_above() {
    let Some(mut player) = Player::start() else { return };
    for (((width, rows), groups), (order, slices)) in SIZES
        .into_iter()
        .zip([1, 3, 2, 1, 5])
        .flat_map(|size| ORDERS.into_iter().zip([1, 3, 7]).map(move |order| (size, order)))
    {
        let mut x = numbers(rows * width, 5);
        let not_finite = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().cycle();
        x.iter_mut().skip(width).step_by(11).zip(not_finite).for_each(|(value, other)| *value = other);
        // Equal to the first row's, other ones, or none.
        let mut thresholds = x[..width].repeat(groups);
        let others = numbers(groups * width, 6);
        thresholds.iter_mut().zip(others).step_by(2).for_each(|(threshold, other)| *threshold = other);
        thresholds.iter_mut().skip(3).step_by(7).for_each(|threshold| *threshold = f32::NAN);
        let places = groups * width;
        // A launch goes on from the one before, and counts are beyond 32 bits.
        let mut expected: Vec<u64> = (0..3 * places as u64).map(|place| (1 << 32) - 2 + place).collect();
        let mut fired = u64::bytes(&expected);
        let finite = Rows::all(numbers(rows * width, 8), width);
        for (rows, mark) in [finite, Rows::all(x.clone(), width), Rows::some(x, width)].into_iter().zip(2..) {
            let rows = rows.in_groups(groups);
            let (taken, each, bytes) = (rows.taken(), rows.rows(), width.div_ceil(8));
            // In no order, or in order.
            let mut labels: Vec<u32> = (0..each).map(|i| (i * i % 7 % 3) as u32).collect();
            if mark == 3 {
                labels.sort_unstable();
            }
            let mut expected_bits = vec![0u8; taken.len() * bytes];
            for (i, (row, bits)) in taken.iter().zip(expected_bits.chunks_mut(bytes)).enumerate() {
                let (group, label) = (i / each, labels[i % each] as usize);
                for column in (0..width).filter(|&column| row[column] > thresholds[group * width + column]) {
                    expected[label * places + group * width + column] += 1;
                    bits[column / 8] |= 1 << (column % 8);
                }
            }
            let fit = taken.iter().all(|row| row.iter().all(|value| value.is_finite()));
            let wrong = u64::bytes(&[if fit { u64::MAX } else { mark }]);
            let what = format!("order {order}, width {width}, {} rows", taken.len());
            let (x, threshold) = (read(&rows.x), read(&thresholds));
            let none = || ReadWrite(u64::bytes(&[u64::MAX]));
            let [count, columns] = rows.size();
            let arguments = vec![
                ReadWrite(fired),
                none(),
                x.clone(),
                threshold.clone(),
                read(&labels),
                rows.list(),
                count.clone(),
                columns.clone(),
                U64(mark),
            ];
            let mut found = player.call("count_above", rows.grid(slices), 128, order, &arguments).unwrap();
            assert_eq!(found[1], wrong, "{what}");
            fired = found.swap_remove(0);
            assert_same(&fired, &u64::bytes(&expected), 8, &what);
            let groups = U32(rows.groups as u32);
            let bits = Argument::Write(expected_bits.len());
            let arguments = [bits, none(), x, threshold, rows.list(), groups, count, columns, U64(mark)];
            let grid = [width.div_ceil(1024), taken.len().min(65_535), 1];
            let found = player.call("pack_above", grid, 128, order, &arguments).unwrap();
            assert_eq!(found[1], wrong, "{what}");
            assert_same(&found[0], &expected_bits, 1, &what);
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
            let wrong = ReadWrite(u64::bytes(&[9]));
            let arguments =
                [array(0), array(1), wrong, read(&x), read(&first), read(&count), texts, columns, U64(7)];
            let grid = [first.len(), width.div_ceil(128), 1];
            let mut found = player.call("pool_rows", grid, 128, order, &arguments).unwrap();
            // Narrow ones have no number that is wrong, which stands in the third column.
            assert_eq!(found.pop(), Some(u64::bytes(&[if width > 2 { 7 } else { 9 }])));
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
