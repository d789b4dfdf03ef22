use std::path::Path;

use crate::error::{ModelError, Result};

/// Nothing, if all numbers of a tensor are finite.
///
/// # Errors
/// Names the first that is not.
pub(crate) fn check_finite(file: &Path, tensor: &str, values: &[f32]) -> Result<()> {
    not_finite(values).map_or(Ok(()), |(place, value)| Err(infinite(file, tensor, place, value)))
}

/// The first number that is NaN or infinite, and its place before it.
pub(crate) fn not_finite(values: &[f32]) -> Option<(usize, f32)> {
    // A sum of `0 x` is 0 or NaN, and unlike a search it is computed sixteen values at a time.
    let mut lanes = [0f32; 16];
    for chunk in values.chunks(16) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value * 0.0;
        }
    }
    let finite = lanes.iter().all(|lane| *lane == 0.0);
    if finite { None } else { values.iter().copied().enumerate().find(|(_, value)| !value.is_finite()) }
}

/// The error of a tensor that holds such a number.
pub(crate) fn infinite(file: &Path, tensor: &str, place: usize, value: f32) -> ModelError {
    ModelError::weight(file, tensor, "finite numbers", format!("{value} at element {place}"))
}
