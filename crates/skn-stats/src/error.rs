/// Why a statistic could not be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// A value is NaN, infinite or too large to be added up exactly.
    #[error("value {place}: expected a finite number of at most 2^20, found {found}")]
    Value {
        /// Its place in the slice.
        place: usize,
        /// The value.
        found: f32,
    },

    /// A slice, a class or a count does not fit.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// What does not fit.
        what: &'static str,
        /// What would have.
        expected: String,
        /// What was given.
        found: String,
    },

    /// A sum or count left its range.
    #[error("{what}: more than can be counted")]
    Overflow {
        /// What was counted.
        what: &'static str,
    },
}

impl StatsError {
    pub(crate) fn mismatch(what: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Mismatch { what, expected: expected.to_string(), found: found.to_string() }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = StatsError> = std::result::Result<T, E>;

/// Checks that two things are of the same length.
pub(crate) fn same(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(StatsError::mismatch(what, expected, found)) }
}

/// `offset .. offset + len`, if that lies within `total`.
pub(crate) fn span(offset: usize, len: usize, total: usize) -> Result<std::ops::Range<usize>> {
    match offset.checked_add(len) {
        Some(end) if end <= total => Ok(offset..end),
        _ => Err(StatsError::mismatch("values", format!("room in {total} from {offset}"), len)),
    }
}
