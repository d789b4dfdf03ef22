use skn_random::{Key, Purpose, Rng};

use crate::error::{Result, StatsError};

/// The test that paired differences lie about 0, by flipping their signs (Fisher 1935): how often `draws` random flips
/// give a sum at least as far from 0 as theirs, the one that was measured counted too. Draws are keyed by `seed`, and the
/// order of the differences makes no difference.
///
/// A sign is one random bit. Differences of one size are flipped together: their sum depends on how many bits are set,
/// so that shares of a few draws over ten thousand texts take some milliseconds for ten thousand flips.
///
/// ```
/// // All of 2^10 flips but two are nearer to 0 than ten equal differences.
/// let p = skn_stats::sign_flip(&[1.0; 10], 10_000, 3)?;
/// assert!((p - 2.0 / 1024.0).abs() < 2e-3);
/// # Ok::<(), skn_stats::StatsError>(())
/// ```
///
/// # Errors
/// If there are no differences, or one is not finite.
pub fn sign_flip(differences: &[f64], draws: u64, seed: u64) -> Result<f64> {
    if differences.is_empty() {
        return Err(StatsError::mismatch("differences", "at least 1", 0));
    }
    if let Some(bad) = differences.iter().find(|x| !x.is_finite()) {
        return Err(StatsError::mismatch("difference", "a finite number", bad));
    }
    let sizes = sizes(differences);
    // Of each size the surplus of one sign over the other.
    let sum = |surplus: &mut dyn FnMut(&Size) -> i64| -> f64 {
        sizes.iter().map(|size| size.value * surplus(size) as f64).sum::<f64>().abs()
    };
    let measured = sum(&mut |size| 2 * size.above as i64 - size.count as i64);
    let far = (0..draws).filter(|&draw| {
        let mut bits = Bits::new(Key::new(seed, Purpose::SignFlip).step(draw));
        // Sums of the same terms in other signs differ by rounding: equals must count.
        sum(&mut |size| 2 * bits.set_of(size.count) as i64 - size.count as i64) >= measured * (1.0 - 1e-12)
    });
    Ok((far.count() as f64 + 1.0) / (draws as f64 + 1.0))
}

/// The differences of one absolute value.
struct Size {
    value: f64,
    count: u64,
    /// How many of them are above 0.
    above: u64,
}

/// All absolute values but 0, which no flip changes.
fn sizes(differences: &[f64]) -> Vec<Size> {
    let mut sorted: Vec<f64> = differences.iter().copied().filter(|x| *x != 0.0).collect();
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let equal = sorted.chunk_by(|a, b| a.abs() == b.abs());
    equal
        .map(|equal| Size {
            value: equal[0].abs(),
            count: equal.len() as u64,
            above: equal.iter().filter(|x| **x > 0.0).count() as u64,
        })
        .collect()
}

/// Random bits, of which none is left over.
struct Bits {
    rng: Rng,
    word: u64,
    left: u64,
}

impl Bits {
    fn new(key: Key) -> Self {
        Self { rng: key.rng(), word: 0, left: 0 }
    }

    /// How many of the next `count` bits are set.
    fn set_of(&mut self, count: u64) -> u64 {
        let (mut wanted, mut set) = (count, 0);
        while wanted > 0 {
            if self.left == 0 {
                (self.word, self.left) = (self.rng.next_u64(), 64);
            }
            let taken = wanted.min(self.left);
            let mask = u64::MAX >> (64 - taken);
            set += u64::from((self.word & mask).count_ones());
            self.word = if taken == 64 { 0 } else { self.word >> taken };
            (self.left, wanted) = (self.left - taken, wanted - taken);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_differences_is_of_no_account() {
        let differences: Vec<f64> = (0..300).map(|place| f64::from(place % 21 - 9) / 10.0).collect();
        let mut reversed = differences.clone();
        reversed.reverse();
        assert_eq!(sign_flip(&differences, 500, 1).unwrap(), sign_flip(&reversed, 500, 1).unwrap());
        assert_ne!(sign_flip(&differences, 500, 1).unwrap(), sign_flip(&differences, 500, 2).unwrap());
    }

    #[test]
    fn nothing_differs_from_nothing() {
        assert_eq!(sign_flip(&[0.0, -0.0], 100, 3).unwrap(), 1.0);
        assert!(sign_flip(&[], 10, 0).is_err() && sign_flip(&[f64::NAN], 10, 0).is_err());
    }

    #[test]
    fn bits_are_those_of_the_words() {
        let key = Key::new(1, Purpose::SignFlip);
        let mut rng = key.rng();
        let all: u64 = (0..3).map(|_| u64::from(rng.next_u64().count_ones())).sum();
        let mut bits = Bits::new(key);
        assert_eq!([1, 63, 5, 100, 23].map(|count| bits.set_of(count)).iter().sum::<u64>(), all);
    }
}
