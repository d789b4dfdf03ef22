//! Divisors of a rotation's inverse frequencies, which files of Llama 3.1 and later have in place of its settings.

use std::path::Path;

use serde_json::{Map, Value, json};
use skn_artifact::GgufFile;

use super::blocks;
use super::weights::ROPE_FREQS;
use crate::config::Config;
use crate::error::{ModelError, Result};

/// How far a divisor may be from what settings come to: they are stored as floats of 32 bits.
const TOLERANCE: f64 = 1e-5;

/// The fields with settings that come to a file's divisors, if it has some: those that Meta published, with the largest divisor as
/// their factor.
///
/// # Errors
/// If those settings come to others.
pub(super) fn with_scaling(file: &GgufFile, fields: Map<String, Value>) -> Result<Map<String, Value>> {
    let Some(divisors) = divisors(file)? else { return Ok(fields) };
    let factor = divisors.iter().copied().fold(1.0, f64::max).round();
    let settings = json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let mut scaled = fields.clone();
    scaled.insert("rope_scaling".to_owned(), settings);
    let [plain, scaled_config] = [&fields, &scaled].map(|fields| config(fields, file.path()));
    check(file, &divisors, &plain?, &scaled_config?)?;
    Ok(scaled)
}

/// Checks that what is said beside a file comes to its divisors, and makes its own rotation that one then.
///
/// # Errors
/// If it does not.
pub(super) fn check_divisors(file: &GgufFile, of_file: &mut Config, beside: &Config) -> Result<()> {
    let Some(divisors) = divisors(file)? else { return Ok(()) };
    check(file, &divisors, of_file, beside)?;
    for (own, other) in of_file.architecture.layers.iter_mut().zip(&beside.architecture.layers) {
        own.rotation.clone_from(&other.rotation);
    }
    Ok(())
}

fn config(fields: &Map<String, Value>, path: &Path) -> Result<Config> {
    let json = serde_json::to_vec(fields).map_err(|error| ModelError::input("config.json", "JSON", error))?;
    Config::from_json(&json, path)
}

/// The divisors, if the file has some.
fn divisors(file: &GgufFile) -> Result<Option<Vec<f64>>> {
    /// More than half a head's width is not of this world.
    const MOST: usize = 1 << 20;
    let Some((shape, kind)) = file.tensor(ROPE_FREQS) else { return Ok(None) };
    let wrong = |found: String| {
        ModelError::weight(file.path(), ROPE_FREQS, "a row of finite numbers above 0, in F32", found)
    };
    let [count] = *shape else { return Err(wrong(format!("shape {shape:?}"))) };
    if count > MOST || kind.name() != "F32" {
        return Err(wrong(format!("{count} numbers in {}", kind.name())));
    }
    let mut values = Vec::new();
    file.rows(ROPE_FREQS, 0..count, |bytes| blocks::append(kind, bytes, &mut values))??;
    match values.iter().find(|value| !value.is_finite() || **value <= 0.0) {
        Some(value) => Err(wrong(value.to_string())),
        None => Ok(Some(values.into_iter().map(f64::from).collect())),
    }
}

/// Checks that one model's frequencies, divided, are the other's.
fn check(file: &GgufFile, divisors: &[f64], plain: &Config, scaled: &Config) -> Result<()> {
    let close = |(plain, scaled): (&[f64], &[f64])| {
        let apart = |((plain, divisor), scaled): ((&f64, &f64), &f64)| (plain / divisor / scaled - 1.0).abs();
        plain.len() == divisors.len()
            && scaled.len() == divisors.len()
            && plain.iter().zip(divisors).zip(scaled).map(apart).all(|apart| apart < TOLERANCE)
    };
    let layers = plain.architecture.layers.iter().zip(&scaled.architecture.layers);
    let mut rotations =
        layers.map(|(plain, scaled)| plain.rotation.as_deref().zip(scaled.rotation.as_deref()));
    if rotations.all(|both| both.is_some_and(close)) {
        return Ok(());
    }
    let expected = "the divisors that settings of `rope_scaling` of the kind llama3 come to: those that Meta published, or those of \
                    a config.json beside the file";
    Err(ModelError::weight(file.path(), ROPE_FREQS, expected, "others"))
}
