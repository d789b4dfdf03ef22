//! Statistics merge exactly: any tree, any order, empty parts, the smallest and the largest numbers; what is beyond them is an error.

use skn_stats::{FireAccumulator, MAX_ACTIVATION, MeanAccumulator};

use crate::cases;
use crate::damage::Dice;

/// The steps of fixed point in a value, from its bits alone: `mantissa * 2^(exponent + 40)`, ties to even.
fn steps(value: f32) -> i128 {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 23) & 0xff, i128::from(bits & 0x7f_ffff));
    let (mantissa, exponent) = match exponent {
        0 => (fraction, -149),
        exponent => (fraction | 1 << 23, i64::from(exponent) - 150),
    };
    let shift = exponent + 40;
    let magnitude = if shift >= 0 {
        mantissa << shift
    } else if shift < -30 {
        0
    } else {
        let (whole, half) = (mantissa >> -shift, 1i128 << (-shift - 1));
        let rest = mantissa - (whole << -shift);
        whole + i128::from(rest > half || (rest == half && whole % 2 == 1))
    };
    if value.is_sign_negative() { -magnitude } else { magnitude }
}

fn value(dice: &mut Dice) -> f32 {
    let sign = dice.one_of(&[1f32, -1.0]);
    sign * match dice.below(8) {
        0 => 0.0,
        1 => f32::from_bits(1 + dice.below(0x7f_fffe) as u32),
        2 => MAX_ACTIVATION,
        3 => MAX_ACTIVATION - dice.below(1000) as f32 / 16.0,
        // Half a step, where it matters to which side ties go.
        4 => (dice.below(1 << 20) as f32 + 0.5) / (1u64 << 40) as f32,
        // Where another way of rounding begins.
        5 => 2048.0 + (dice.below(64) as f32 - 32.0) / 4096.0,
        6 => dice.below(1 << 24) as f32 / 1024.0,
        _ => f32::from_bits((80 + dice.below(60) as u32) << 23 | dice.below(1 << 23) as u32),
    }
}

/// Merges parts two at a time, in an order of the dice's, until one is left.
fn merged<T>(mut parts: Vec<T>, dice: &mut Dice, merge: impl Fn(&mut T, &T)) -> T {
    while parts.len() > 1 {
        let other = parts.swap_remove(dice.below(parts.len()));
        let place = dice.below(parts.len());
        merge(&mut parts[place], &other);
    }
    parts.pop().unwrap()
}

fn means(dice: &mut Dice) {
    let width = 1 + dice.below(5);
    let mut parts = vec![MeanAccumulator::new(width); 1 + dice.below(6)];
    let (mut sums, mut rows) = (vec![0i128; width], 0u64);
    for _ in 0..dice.below(24) {
        let row: Vec<f32> = (0..width).map(|_| value(dice)).collect();
        let place = dice.below(parts.len());
        let part = &mut parts[place];
        let cut = dice.below(width + 1);
        part.add_row_at(0, &row[..cut]).unwrap();
        part.add_row_at(cut, &row[cut..]).unwrap();
        part.add_rows(1).unwrap();
        rows += 1;
        sums.iter_mut().zip(&row).for_each(|(sum, value)| *sum += steps(*value));
    }
    // What is read again from a file goes on as well.
    for part in &mut parts {
        if dice.below(3) == 0 {
            let (high, low, rows) = part.parts().unwrap();
            *part = MeanAccumulator::from_parts(&high, &low, rows).unwrap();
        }
    }
    // A part merged with itself many times: 2^30 rows of the largest leave 64 bits.
    let doubled = if dice.below(4) == 0 { dice.below(40) as u32 } else { 0 };
    let mut whole = merged(parts, dice, |part, other| part.merge(other).unwrap());
    for _ in 0..doubled {
        let copy = whole.clone();
        whole.merge(&copy).unwrap();
    }
    let (high, low, counted) = whole.parts().unwrap();
    for (place, sum) in sums.iter().enumerate() {
        let found = (i128::from(high[place]) << 63) + i128::from(low[place]);
        assert_eq!(found, sum << doubled, "sum {place} of {rows} rows, doubled {doubled} times");
    }
    assert_eq!(counted as u64, rows << doubled);
    if rows > 0 {
        for (mean, sum) in whole.mean().unwrap().iter().zip(&sums) {
            // The sum of 24 rows needs not more than the 53 bits of f64 unless large and small numbers met in it.
            let expected = *sum as f64 / ((1u64 << 40) as f64 * rows as f64);
            assert!(
                (f64::from(*mean) - expected).abs() <= expected.abs() * 6e-8 + 1e-45,
                "{mean} {expected}"
            );
        }
    }
    let wrong = dice.one_of(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, MAX_ACTIVATION + 1.0, f32::MAX]);
    let before = whole.parts().unwrap();
    let place = dice.below(width);
    let mut row = vec![1.0; width];
    row[place] = wrong;
    let message = whole.add_row_at(0, &row).unwrap_err().to_string();
    assert!(message.contains(&place.to_string()), "{message}");
    assert_eq!(whole.parts().unwrap(), before, "{wrong} was added in part");
}

fn counts(dice: &mut Dice) {
    let (neurons, classes) = (1 + dice.below(5), 1 + dice.below(4));
    let mut parts = vec![FireAccumulator::new(neurons, classes).unwrap(); 1 + dice.below(6)];
    let mut fired = vec![vec![0u64; neurons]; classes];
    let mut labels = vec![0u64; classes];
    let thresholds: Vec<f32> = (0..neurons).map(|_| value(dice)).collect();
    for _ in 0..dice.below(24) {
        let class = dice.below(classes);
        let row: Vec<f32> = thresholds
            .iter()
            .map(|threshold| if dice.below(3) == 0 { *threshold } else { value(dice) })
            .collect();
        let place = dice.below(parts.len());
        parts[place].add(class, 0, &row, &thresholds).unwrap();
        parts[place].add_row_label(class).unwrap();
        labels[class] += 1;
        for neuron in 0..neurons {
            fired[class][neuron] += u64::from(row[neuron] > thresholds[neuron]);
        }
    }
    let whole = merged(parts, dice, |part, other| part.merge(other).unwrap());
    assert_eq!(whole.label_counts(), labels);
    for (class, expected) in fired.iter().enumerate() {
        assert_eq!(whole.fired(class).unwrap(), expected);
        for (neuron, correct) in whole.correct(class).unwrap().enumerate() {
            let others = |other: &usize| *other != class;
            let silent = (0..classes).filter(others).map(|other| labels[other] - fired[other][neuron]);
            assert_eq!(correct, expected[neuron] + silent.sum::<u64>(), "class {class}, neuron {neuron}");
        }
    }
}

#[test]
fn merge_trees() {
    cases::run("torture", "merges::merge_trees", 100_000, |number| {
        let mut dice = Dice::of(number);
        means(&mut dice);
        counts(&mut dice);
        "merged exactly".into()
    });
}
