use crate::error::{PerturbError, Result};

/// Nothing, if all numbers are finite; `what` says what the one at a place is.
pub(crate) fn check_finite(values: &[f32], what: impl Fn(usize) -> String) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(place) => {
            let found = f64::from(values[place]);
            Err(PerturbError::Value { what: what(place), expected: "a finite number", found })
        }
    }
}
