//! Files of a run, each read whole or found wrong.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use skn_artifact::{
    ArtifactError, MetricRecord, PerturbationResult, RankingComparison, Summary, UntunedSummary, is_file,
    open_regular, read_json,
};

use crate::error::{ReportError, Result};

/// What a whole run found, tuned or untuned: that of the latter says how frequent the larger class is.
pub(crate) fn summaries(path: &Path) -> Result<(Option<Summary>, Option<UntunedSummary>)> {
    let Some(value) = optional::<Value>(path)? else { return Ok((None, None)) };
    let wrong = |error: serde_json::Error| format(path, "the summary".into(), "what skn-run writes", error);
    match value.get("majority") {
        None => Ok((optional(path)?, None)),
        Some(_) => Ok((None, Some(serde_json::from_value(value).map_err(wrong)?))),
    }
}

/// What comparing rankings gave: numbers for every share.
pub(crate) fn comparison(path: &Path) -> Result<Option<RankingComparison>> {
    let Some(found) = optional::<RankingComparison>(path)? else { return Ok(None) };
    let shares = found.shares.len();
    let fits = |of: &skn_artifact::RankingDamage| of.scores.len() == shares && of.intervals.len() == shares;
    let all = found.agreement.iter().all(|of| of.overlap.len() == shares);
    if shares > 0 && found.random.len() == shares && found.rankings.iter().all(fits) && all {
        return Ok(Some(found));
    }
    let expected = format!("numbers for each of {shares} shares, one at least");
    Err(format(path, "the comparison".into(), expected.as_str(), "another number of them"))
}

pub(crate) fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    Ok(is_file(path)?.then(|| read_json(path)).transpose()?)
}

/// A file with one result, or with a list of them.
pub(crate) fn perturbations(path: &Path) -> Result<Vec<PerturbationResult>> {
    let values = match optional(path)? {
        None => Vec::new(),
        Some(Value::Array(values)) => values,
        Some(value) => vec![value],
    };
    let parse = |(place, value)| {
        serde_json::from_value(value)
            .map_err(|error| format(path, format!("result {place}"), "a perturbation's result", error))
    };
    values.into_iter().enumerate().map(parse).collect()
}

/// The lines of a journal. A line without its end is being written, or was when the machine stopped; it is left out, as
/// a resumed run cuts it off.
pub(crate) fn journal(path: &Path) -> Result<Vec<MetricRecord>> {
    if !is_file(path)? {
        return Ok(Vec::new());
    }
    let text = open_regular(path).and_then(std::io::read_to_string).map_err(|source| ArtifactError::Io {
        file: path.into(),
        operation: "read",
        source,
    })?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            format(path, format!("line {}", number + 1), "an evaluation while training", error)
        })
    };
    whole.lines().enumerate().map(parse).collect()
}

fn format(path: &Path, place: String, expected: &str, found: impl ToString) -> ReportError {
    let (expected, found) = (expected.into(), found.to_string());
    ArtifactError::Format { file: path.into(), place, expected, found }.into()
}

pub(crate) fn mismatch(
    path: &Path,
    tensor: &str,
    expected: String,
    found: impl std::fmt::Debug,
) -> ReportError {
    let found = format!("{found:?}");
    ArtifactError::Tensor { file: path.into(), tensor: tensor.into(), expected, found }.into()
}
