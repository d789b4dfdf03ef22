use std::ops::Range;

use crate::error::{Result, SessionError};
use crate::options::LayerRange;

/// The layers asked for, of a model that has `all`; `first` is where the range begins unless it is said.
///
/// # Errors
/// If it is empty or goes beyond the model.
pub(crate) fn within(range: LayerRange, all: usize, first: usize) -> Result<Range<usize>> {
    let (low, high) = (range.low_layer.unwrap_or(first), range.high_layer.unwrap_or(all));
    if low < high && high <= all {
        return Ok(low..high);
    }
    Err(SessionError::usage(format!(
        "option `low_layer` {low} option `high_layer` {high}: expected low < high <= {all}, the model's layers"
    )))
}
