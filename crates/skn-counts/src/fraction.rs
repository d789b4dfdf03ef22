use std::cmp::Ordering;

/// How far a rule is from guessing, exactly: twice the distance of its share of right answers from 0.5 is `part / whole`.
#[derive(Clone, Copy, Debug)]
pub struct Fraction {
    /// At most `whole`.
    pub part: u64,
    /// Not 0.
    pub whole: u64,
}

impl Fraction {
    /// A guess.
    pub const ZERO: Self = Self { part: 0, whole: 1 };

    /// The share of right answers of the rule, or of its reverse: 0.5 to 1.
    pub fn predictivity(self) -> f64 {
        0.5 + self.part as f64 / (2.0 * self.whole as f64)
    }
}

impl Ord for Fraction {
    fn cmp(&self, other: &Self) -> Ordering {
        let times = |part: u64, whole: u64| u128::from(part) * u128::from(whole);
        times(self.part, other.whole).cmp(&times(other.part, self.whole))
    }
}

impl PartialOrd for Fraction {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Fraction {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Fraction {}
