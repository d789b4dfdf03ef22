//! Numbers of texts that activations are correlated with.

use std::sync::Arc;

use skn_artifact::sha256_hex;

use crate::error::{Result, SessionError};
use crate::named::Named;
use crate::options::{Probe, Split};
use crate::session::Session;
use crate::setup::Setup;

/// Numbers of texts.
pub(super) struct Numbers {
    /// Of mean 0 and variance 1.
    pub(super) scaled: Arc<Vec<f32>>,
    /// The hash of the numbers as they are in the data, of all texts of dev: of all shards too.
    pub(super) sha256: String,
}

/// The numbers of the texts of dev in the column that is asked for. Their mean is taken from each, and their deviation divides it, over all of
/// dev: so a shard's sums are in the same units as another's.
///
/// # Errors
/// If there is no such column, a cell is no number, or all are the same.
pub(super) fn numbers(session: &Session, options: &Probe, setup: &Setup<'_>) -> Result<Option<Numbers>> {
    let Some(column) = &options.metric_column else { return Ok(None) };
    if *column == setup.base.task.label {
        return Err(SessionError::usage(format!(
            "option `metric_column` {column}: that of the label, by which option `rank` correlation goes without the option"
        )));
    }
    let named = Named::of(&options.subject, &options.tuned, None)?;
    let (part, rows) = (&setup.splits.source.dev, setup.part(Split::Dev.name()));
    // Rank 0 has the rows that they stand beside.
    let group = session.group();
    let read = group.is_first().then(|| named.numbers(session, column, part, rows)).transpose()?;
    let numbers: Vec<f64> = match (group.size(), read) {
        (1, Some(numbers)) => numbers,
        (_, numbers) => {
            let numbers = numbers.unwrap_or_default().into_iter().flat_map(f64::to_le_bytes).collect();
            let numbers = group.broadcast(numbers)?;
            numbers.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number)).collect()
        }
    };
    let count = numbers.len().max(1) as f64;
    // Divided by the largest, so that no square overflows.
    let largest = numbers.iter().fold(0f64, |largest, number| largest.max(number.abs()));
    let scaled = |number: &f64| if largest > 0.0 { number / largest } else { 0.0 };
    let mean = numbers.iter().map(scaled).sum::<f64>() / count;
    let variance = numbers.iter().map(|number| (scaled(number) - mean).powi(2)).sum::<f64>() / count;
    // What is left of rounding where all are the same.
    if variance <= 1e-24 {
        return Err(SessionError::input(format!(
            "option `metric_column` {column}: split {}: expected numbers that differ, found {} for all {} texts of dev",
            part.split,
            numbers.first().copied().unwrap_or_default(),
            numbers.len()
        )));
    }
    let deviation = variance.sqrt();
    let sha256 = sha256_hex(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>());
    let scaled = numbers.iter().map(|number| ((scaled(number) - mean) / deviation) as f32).collect();
    Ok(Some(Numbers { scaled: Arc::new(scaled), sha256 }))
}
