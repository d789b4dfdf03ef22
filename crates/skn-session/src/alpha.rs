use crate::error::{Result, SessionError};

/// Refuses what is no standard deviation.
///
/// # Errors
/// If it is.
pub(crate) fn check_alpha(alpha: f64) -> Result<()> {
    if alpha.is_finite() && alpha >= 0.0 {
        return Ok(());
    }
    Err(SessionError::usage(format!("option `alpha` {alpha}: expected a finite number of at least 0")))
}
