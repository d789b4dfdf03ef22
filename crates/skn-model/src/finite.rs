use std::path::Path;

use skn_kernels::not_finite;

use crate::error::{ModelError, Result};

/// Nothing, if all numbers of a tensor are finite.
///
/// # Errors
/// Names the first that is not.
pub(crate) fn check_finite(file: &Path, tensor: &str, values: &[f32]) -> Result<()> {
    not_finite(values).map_or(Ok(()), |(place, value)| Err(infinite(file, tensor, place, value)))
}

/// The error of a tensor that holds such a number.
pub(crate) fn infinite(file: &Path, tensor: &str, place: usize, value: f32) -> ModelError {
    ModelError::weight(file, tensor, "finite numbers", format!("{value} at element {place}"))
}
