use std::collections::HashMap;

use crate::error::{Result, StatsError};

/// How much more probable than the measured table another may be and still count as no more probable: rounding must not
/// part equals.
const TIE: f64 = 1e-7;
/// Terms of a tail below this share of its sum are left out.
const NEGLIGIBLE: f64 = 1e-17;

/// Fisher's exact test of a table of two yes-or-no counts, two-sided: the chance of this table or of one that is no more
/// probable, where its margins are given and the two are independent (Fisher 1935). It is the limit of permuting labels.
///
/// `[a, b, c, d]` are the texts that have both, the first alone, the second alone, and neither.
///
/// ```
/// let p = skn_stats::fisher_exact([8, 2, 1, 5])?;
/// assert!((p - 0.034_965_034_965).abs() < 1e-9);
/// # Ok::<(), skn_stats::StatsError>(())
/// ```
///
/// # Errors
/// If the counts are too large to be added.
pub fn fisher_exact([a, b, c, d]: [u64; 4]) -> Result<f64> {
    let add = |x: u64, y: u64| x.checked_add(y).filter(|&sum| sum < 1 << 52);
    let sums = [(a, b), (a, c), (b, d), (c, d)].map(|(x, y)| add(x, y));
    let ([Some(drawn), Some(marked), Some(plain), Some(left)], Some(_)) =
        (sums, add(a, b).zip(add(c, d)).and_then(|(x, y)| add(x, y)))
    else {
        return Err(StatsError::Overflow { what: "texts of a table" });
    };
    if [drawn, marked, plain, left].contains(&0) {
        return Ok(1.0);
    }
    Ok(Hypergeometric { marked, plain, drawn }.two_sided(a))
}

/// [`fisher_exact`] for many rules on the same texts: each pair of counts is computed once.
#[derive(Clone, Debug)]
pub struct FisherTest {
    positives: u64,
    total: u64,
    known: HashMap<(u64, u64), f64>,
}

impl FisherTest {
    /// Of `total` texts, `positives` of the class.
    ///
    /// # Errors
    /// If there are more of the class than texts.
    pub fn new(positives: u64, total: u64) -> Result<Self> {
        if positives > total {
            return Err(StatsError::mismatch("texts of the class", format!("at most {total}"), positives));
        }
        Ok(Self { positives, total, known: HashMap::new() })
    }

    /// The p value of a neuron that fires for `fires` texts, `hits` of them of the class.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn p(&mut self, fires: u64, hits: u64) -> Result<f64> {
        if let Some(&p) = self.known.get(&(fires, hits)) {
            return Ok(p);
        }
        let (positives, negatives) = (self.positives, self.total - self.positives);
        if fires > self.total || hits > fires.min(positives) || fires - hits > negatives {
            let expected = format!("counts that fit {positives} of {} texts", self.total);
            return Err(StatsError::mismatch("table", expected, format!("{fires}, {hits} of the class")));
        }
        let alarms = fires - hits;
        let p = fisher_exact([hits, alarms, positives - hits, negatives - alarms])?;
        self.known.insert((fires, hits), p);
        Ok(p)
    }
}

/// How many of `drawn` texts are marked, if of all `marked + plain` each is as likely to be drawn. None is 0.
struct Hypergeometric {
    marked: u64,
    plain: u64,
    drawn: u64,
}

impl Hypergeometric {
    fn low(&self) -> u64 {
        self.drawn.saturating_sub(self.plain)
    }

    fn high(&self) -> u64 {
        self.drawn.min(self.marked)
    }

    fn mode(&self) -> u64 {
        let (drawn, marked) = (u128::from(self.drawn) + 1, u128::from(self.marked) + 1);
        // At most the smaller of the two.
        (drawn * marked / (u128::from(self.marked) + u128::from(self.plain) + 2)) as u64
    }

    /// The chance of all that is no more probable than `found`.
    fn two_sided(&self, found: u64) -> f64 {
        let mode = self.mode();
        let ln_found = self.ln_chance(found);
        if ln_found >= self.ln_chance(mode) - TIE {
            return 1.0;
        }
        let below = found < mode;
        let own = self.tail(found, below);
        let Some((place, ratio)) = self.other_side(found, ln_found, mode) else {
            return ln_found.exp() * own;
        };
        let middle = place.abs_diff(found) - 1;
        // Near the middle what is between is less than what is outside.
        let between =
            if middle <= self.deviation() as u64 { Some(self.run(found, below, middle) - 1.0) } else { None };
        let p = match between {
            Some(between) => 1.0 - ln_found.exp() * between,
            None => ln_found.exp() * (own + ratio * self.tail(place, !below)),
        };
        p.clamp(0.0, 1.0)
    }

    fn deviation(&self) -> f64 {
        let [marked, plain, drawn] = [self.marked, self.plain, self.drawn].map(|count| count as f64);
        let total = marked + plain;
        (drawn * marked * plain * (total - drawn) / (total * total * (total - 1.0).max(1.0))).sqrt()
    }

    /// The first place beyond the mode that is no more probable than `found`, and how probable it is beside it; nothing if all
    /// there are more probable.
    fn other_side(&self, found: u64, ln_found: f64, mode: u64) -> Option<(u64, f64)> {
        let below = found < mode;
        let end = if below { self.high() } else { self.low() };
        let relative = |place: u64| self.ln_chance(place) - ln_found;
        if relative(end) > TIE {
            return None;
        }
        // The distribution is nearly symmetric: from the mirror's place the way is short.
        let mirror = if below {
            (2 * mode).saturating_sub(found).clamp(mode, end)
        } else {
            (2 * mode).saturating_sub(found).clamp(end, mode)
        };
        let mut place = mirror;
        let mut ln_ratio = relative(place);
        let outward = |place: u64| if below { place + 1 } else { place - 1 };
        let inward = |place: u64| if below { place - 1 } else { place + 1 };
        while ln_ratio > TIE {
            ln_ratio += self.ln_step(place, below);
            place = outward(place);
        }
        while place != mode {
            let nearer = ln_ratio + self.ln_step(place, !below);
            if nearer > TIE {
                break;
            }
            (place, ln_ratio) = (inward(place), nearer);
        }
        Some((place, ln_ratio.exp()))
    }

    /// The logarithm of [`Self::step`].
    fn ln_step(&self, place: u64, up: bool) -> f64 {
        self.step(place, up).ln()
    }

    /// How probable the next place is, up or down, beside this one.
    fn step(&self, place: u64, up: bool) -> f64 {
        let [x, marked, plain, drawn] =
            [place, self.marked, self.plain, self.drawn].map(|count| count as f64);
        if up {
            (marked - x) * (drawn - x) / ((x + 1.0) * (plain - drawn + x + 1.0))
        } else {
            x * (plain - drawn + x) / ((marked - x + 1.0) * (drawn - x + 1.0))
        }
    }

    /// The chance of a place and of all beyond it, away from the mode, beside that of the place.
    fn tail(&self, place: u64, down: bool) -> f64 {
        let length = if down { place - self.low() } else { self.high() - place };
        self.run(place, !down, length)
    }

    /// The chance of a place and of up to `length` beyond it, beside that of the place.
    fn run(&self, place: u64, up: bool, length: u64) -> f64 {
        let (mut sum, mut term, mut place) = (1.0, 1.0, place);
        for _ in 0..length {
            let step = self.step(place, up);
            term *= step;
            sum += term;
            // Where terms still grow, the sum is not near its end.
            if step < 1.0 && term < NEGLIGIBLE * sum {
                break;
            }
            place = if up { place + 1 } else { place - 1 };
        }
        sum
    }

    /// The logarithm of a place's chance, from three binomial ones, by Loader (2000), "Fast and accurate computation of
    /// binomial probabilities": right to some 15 digits however large the counts are.
    fn ln_chance(&self, place: u64) -> f64 {
        let [x, marked, plain, drawn] =
            [place, self.marked, self.plain, self.drawn].map(|count| count as f64);
        let total = marked + plain;
        let (p, q) = (drawn / total, (total - drawn) / total);
        ln_binomial(x, marked, p, q) + ln_binomial(drawn - x, plain, p, q) - ln_binomial(drawn, total, p, q)
    }
}

/// The logarithm of the chance of `x` successes in `n` trials, each with chance `p`, `q` being 1 less that.
fn ln_binomial(x: f64, n: f64, p: f64, q: f64) -> f64 {
    if x == 0.0 {
        return if p < 0.1 { -deviance(n, n * q) - n * p } else { n * q.ln() };
    }
    if x == n {
        return if q < 0.1 { -deviance(n, n * p) - n * q } else { n * p.ln() };
    }
    let rest = n - x;
    let stirling = stirling_error(n) - stirling_error(x) - stirling_error(rest);
    let factor = (std::f64::consts::TAU * x).ln() + (-x / n).ln_1p();
    stirling - deviance(x, n * p) - deviance(rest, n * q) - 0.5 * factor
}

/// `x ln(x / mean) + mean - x`, without cancellation where the two are near.
fn deviance(x: f64, mean: f64) -> f64 {
    if (x - mean).abs() >= 0.1 * (x + mean) {
        return x * (x / mean).ln() + mean - x;
    }
    let v = (x - mean) / (x + mean);
    let (mut sum, mut term) = ((x - mean) * v, 2.0 * x * v);
    for odd in (3..2000).step_by(2) {
        term *= v * v;
        let next = sum + term / f64::from(odd);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// What Stirling's formula lacks of the logarithm of `n!`, `n` a whole number.
fn stirling_error(n: f64) -> f64 {
    if n <= 15.0 {
        let factorial: f64 = (1..=n as u64).map(|factor| factor as f64).product();
        return factorial.ln() - 0.5 * (std::f64::consts::TAU * n.max(1.0)).ln() - n * n.max(1.0).ln() + n;
    }
    let square = n * n;
    let inner = 1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / 1188.0 / square) / square;
    (1.0 / 12.0 - (1.0 / 360.0 - inner / square) / square) / n
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By adding up whole numbers: for tables whose numbers of ways fit 128 bits.
    fn slow([a, b, c, d]: [u64; 4]) -> f64 {
        let choose =
            |n: u64, k: u64| (0..k).fold(1u128, |ways, i| ways * u128::from(n - i) / u128::from(i + 1));
        let (drawn, marked, plain) = (a + b, a + c, b + d);
        let ways = |x: u64| choose(marked, x) * choose(plain, drawn - x);
        let (low, high) = (drawn.saturating_sub(plain), drawn.min(marked));
        let all: u128 = (low..=high).map(ways).sum();
        let least: u128 = (low..=high).map(ways).filter(|&of| of <= ways(a)).sum();
        least as f64 / all as f64
    }

    #[test]
    fn tables_by_hand() {
        let near = |table, expected: f64| {
            let found = fisher_exact(table).unwrap();
            assert!((found - expected).abs() <= 1e-12 * expected, "{table:?}: {found}, {expected}");
        };
        // Of 70 ways to draw 4 of 8 one has all four; two-sided also the one with none.
        near([4, 0, 0, 4], 2.0 / 70.0);
        near([2, 2, 2, 2], 1.0);
        near([3, 1, 1, 3], 34.0 / 70.0);
        for empty in [[0, 0, 3, 4], [3, 4, 0, 0], [3, 0, 4, 0], [0, 3, 0, 4]] {
            near(empty, 1.0);
        }
        assert!(
            fisher_exact([u64::MAX, 1, 0, 0]).is_err() && fisher_exact([1 << 51, 1 << 51, 1, 1]).is_err()
        );
    }

    /// The tail has 4 x 10^11 terms, of which each is less than half of the one before it.
    #[test]
    fn terms_that_are_negligible_are_left_out() {
        assert_eq!(
            fisher_exact([400_000_000_000, 600_000_000_000, 600_000_000_000, 400_000_000_000]).unwrap(),
            0.0
        );
        let tail = Hypergeometric { marked: 1 << 40, plain: 1 << 40, drawn: 1 << 40 }.tail(1 << 38, true);
        // A quarter of them: each term is (1/4 / 3/4)^2 = 1/9 of the one before it.
        assert!((tail - 9.0 / 8.0).abs() < 1e-9, "{tail}");
    }

    #[test]
    fn a_test_remembers_and_refuses() {
        let mut test = FisherTest::new(4, 8).unwrap();
        assert_eq!(test.p(4, 4).unwrap(), fisher_exact([4, 0, 0, 4]).unwrap());
        assert_eq!(test.p(4, 4).unwrap(), test.p(4, 0).unwrap());
        assert!(test.p(9, 4).is_err() && test.p(4, 5).is_err() && test.p(5, 0).is_err());
        assert!(FisherTest::new(9, 8).is_err());
    }

    proptest! {
        #[test]
        fn it_is_the_sum_of_the_less_probable(table in prop::array::uniform4(0u64..25)) {
            let (found, expected) = (fisher_exact(table).unwrap(), slow(table));
            prop_assert!((found - expected).abs() <= 1e-11 * expected, "{} {}", found, expected);
            let [a, b, c, d] = table;
            for same in [[c, d, a, b], [b, a, d, c], [a, c, b, d]] {
                let turned = fisher_exact(same).unwrap();
                prop_assert!((found - turned).abs() <= 1e-11 * expected, "{} {}", found, turned);
            }
        }
    }
}
