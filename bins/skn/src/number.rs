//! Numbers as they are shown and typed.

use std::fmt;

/// `0.9125 [0.8835, 0.9350]`, for a line of text.
pub(crate) fn with_interval(value: f64, [low, high]: [f64; 2]) -> String {
    format!("{value:.4} [{low:.4}, {high:.4}]")
}

/// So many of a thing: `1 draw`, `2 draws`.
pub(crate) struct Count(pub(crate) usize, pub(crate) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, thing) = self;
        write!(f, "{count} {thing}{}", if *count == 1 { "" } else { "s" })
    }
}

/// A chance: `0.0370`; `5.3e-11` where decimals would say 0.
pub(crate) fn probability(p: f64) -> String {
    if p >= 0.000_5 { format!("{p:.4}") } else { format!("{p:.1e}") }
}

/// A standard deviation, as `--alpha` gives it.
pub(crate) fn deviation(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(alpha) if f64::is_finite(alpha) && alpha >= 0.0 => Ok(alpha),
        _ => Err("expected a finite number of at least 0".into()),
    }
}
