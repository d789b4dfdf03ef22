use std::path::Path;

use skn_artifact::names::{key, kind};
use skn_artifact::{TensorFile, resolve};
use skn_model::{NeuronSite, Tuning};
use skn_perturb::mean_over_positions;
use skn_probing::check_averages;

use super::mask_file::{check_model, check_site};
use crate::base::Base;
use crate::error::{Result, SessionError};
use crate::provenance;

/// The tensor of variances.
const VARIANCE: &str = "variance";

/// Averages of a file, `[L, F]`: over prompt positions where it has them. Those of other tuned parameters are
/// told: they are not the means of what this model does.
///
/// # Errors
/// If the file is missing or not of the model's shape, or its averages are not of activations.
pub(super) fn means(path: &Path, base: &Base<'_>, tuning: &Tuning) -> Result<Vec<Vec<f32>>> {
    of_neurons(path, kind::AVERAGE, base, tuning)
}

/// Variances of a file, likewise.
///
/// # Errors
/// As [`means`].
pub(super) fn variances(path: &Path, base: &Base<'_>, tuning: &Tuning) -> Result<Vec<Vec<f32>>> {
    let mut variances = of_neurons(path, VARIANCE, base, tuning)?;
    // Beyond its own width a layer has no neurons to be drawn.
    let widths = &base.model.config.intermediate_sizes;
    variances.iter_mut().zip(widths).for_each(|(layer, &width)| layer.truncate(width));
    Ok(variances)
}

/// A number of each neuron, of a tensor of a file.
fn of_neurons(path: &Path, tensor: &str, base: &Base<'_>, tuning: &Tuning) -> Result<Vec<Vec<f32>>> {
    let path = resolve(path, "safetensors")?;
    provenance::check(&path)?;
    let file = TensorFile::read(&path)?;
    provenance::check_whole(&file)?;
    if tensor == kind::AVERAGE {
        check_kind(&file)?;
        check_averages(&file)?;
    }
    if tensor == VARIANCE && !file.contains(tensor) {
        return Err(SessionError::input(format!(
            "{}: expected tensor `{tensor}`, found none; skn-probe --variance keeps it beside the averages",
            path.display()
        )));
    }
    let (shape, values) = file.f32(tensor, None)?;
    let config = &base.model.config;
    let (layers, width) = (config.layers(), config.widest());
    let fits = matches!(shape[..], [l, f] | [l, _, f] if (l, f) == (layers, width));
    if !fits {
        return Err(SessionError::input(format!(
            "{}: tensor `{tensor}`: expected [{layers}, {width}] or [{layers}, positions, {width}], found {shape:?}",
            path.display()
        )));
    }
    if let Some(place) = values.iter().position(|value| !value.is_finite()) {
        return Err(SessionError::input(format!(
            "{}: tensor `{tensor}`: expected finite numbers, found {} at element {place}",
            path.display(),
            values[place]
        )));
    }
    check_model(&file, base)?;
    check_site(&file, NeuronSite::Product)?;
    let now = tuning.sha256()?;
    let other = file.metadata().get(key::TUNING).filter(|found| **found != now);
    // To hold neurons at another prompt's means is an experiment; to match its variances is a mistake.
    if let (Some(found), VARIANCE) = (other, tensor) {
        return Err(SessionError::input(format!(
            "{}: {}: expected {now} as of the tuned parameters, found {found}; probe with skn-probe --variance under these",
            path.display(),
            key::TUNING
        )));
    }
    if other.is_some() {
        tracing::warn!("{}: `{tensor}` of other tuned parameters than these ({now})", path.display());
    }
    Ok(mean_over_positions(&values, &shape)?)
}

/// Refuses averages of each text's largest activation: they are above every neuron's mean.
///
/// # Errors
/// If the file says that it has these.
fn check_kind(file: &TensorFile) -> Result<()> {
    match file.metadata().get(key::KIND) {
        Some(found) if found == kind::MAX_AVERAGE => Err(SessionError::input(format!(
            "{}: metadata {}: expected averages of activations, {}, {} or {}, found {found}, those of each text's largest activation",
            file.path().display(),
            key::KIND,
            kind::AVERAGE,
            kind::MEAN_AVERAGE,
            kind::LAST_AVERAGE
        ))),
        _ => Ok(()),
    }
}
