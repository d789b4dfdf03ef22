//! The temperature that a run keeps.

use std::path::PathBuf;

use skn_artifact::names::file;
use skn_artifact::{Calibration, Likelihood, read_json};
use skn_model::LanguageModel;
use skn_probing::Evaluation;
use skn_stats::{calibration_error, fit_temperature, negative_log_likelihood, softmax};

use crate::base::Base;
use crate::error::{Result, SessionError};
use crate::provenance;

/// The bins of the calibration error.
pub(crate) const BINS: usize = 15;
/// Temperatures beyond these say that dev does not tell any.
const USUAL: std::ops::Range<f64> = 0.02..50.0;

/// A temperature that was kept, and the file that keeps it.
pub(crate) struct Kept {
    pub(crate) found: Calibration,
    pub(crate) path: PathBuf,
}

/// The temperature of what is resumed from: of its run, or of the folder with its tuned parameters; of a folder that lies
/// elsewhere than in its run that one's own first.
///
/// # Errors
/// If it keeps none, or one that was fitted for other parameters, another model or other words.
pub(crate) fn read(base: &Base<'_>, model: &LanguageModel) -> Result<Kept> {
    let Some(source) = &base.source else {
        return Err(SessionError::usage(
            "option `calibrated`: expected a run with a temperature (option `resume_from` RUN), found none",
        ));
    };
    let folders = match (source.own_run(), &source.run) {
        (Some(run), _) => [run, &source.best],
        (None, Some(around)) => [source.best.as_path(), around],
        (None, None) => [source.best.as_path(); 2],
    };
    let [place, other] = folders.map(|folder| folder.join(file::CALIBRATION));
    let path = match provenance::is_there(&place)? {
        true => place,
        false if provenance::is_there(&other)? => other,
        false => {
            return Err(SessionError::input(format!(
                "{}: no such file, so option `calibrated` has no temperature; evaluating with option `calibrate` fits one",
                place.display()
            )));
        }
    };
    let found: Calibration = read_json(&path)?;
    let now = [&base.identity.sha256, &model.tuning()?.sha256()?];
    let wrong = |field: &str, expected: &str, found: &str| {
        Err(SessionError::input(format!(
            "{}: {field}: expected {expected}, found {found}: it was fitted for another model; fit it again with option \
             `calibrate` and option `overwrite`",
            path.display()
        )))
    };
    for ((field, kept), now) in
        [("model_sha256", &found.model_sha256), ("tuning_sha256", &found.tuning_sha256)].into_iter().zip(now)
    {
        if kept != now {
            return wrong(field, now, kept);
        }
    }
    if found.words != base.verbalizer.words {
        return wrong("words", &base.verbalizer.words.join(", "), &found.words.join(", "));
    }
    if !(found.temperature.is_finite() && found.temperature > 0.0) {
        return wrong("temperature", "a number above 0", &found.temperature.to_string());
    }
    Ok(Kept { found, path })
}

/// Fits the temperature on dev.
///
/// # Errors
/// If the tuned parameters can't be read from the device.
pub(crate) fn fit(base: &Base<'_>, model: &LanguageModel, dev: &Evaluation) -> Result<Calibration> {
    let temperature = fit_temperature(&dev.logits, dev.classes, &dev.labels)?;
    if !USUAL.contains(&temperature) {
        tracing::warn!(
            "the temperature is {temperature:.3e}: {} texts of dev do not tell any, as where all of them are answered right",
            dev.labels.len()
        );
    }
    Ok(Calibration {
        task: base.task.name.clone(),
        temperature,
        rows: dev.labels.len() as u64,
        words: base.verbalizer.words.clone(),
        model_sha256: base.identity.sha256.clone(),
        tuning_sha256: model.tuning()?.sha256()?,
        before: likelihood(dev, 1.0)?,
        after: likelihood(dev, temperature)?,
    })
}

/// How true the probabilities are that a temperature gives.
///
/// # Errors
/// If there are no rows.
pub(crate) fn likelihood(answers: &Evaluation, temperature: f64) -> Result<Likelihood> {
    let Evaluation { logits, classes, predicted, labels, .. } = answers;
    let rows = logits.chunks_exact(*classes).zip(predicted);
    let confidences: Vec<f64> = rows.map(|(row, class)| softmax(row, temperature)[*class]).collect();
    let right: Vec<bool> = answers.right().collect();
    Ok(Likelihood {
        nll: negative_log_likelihood(logits, *classes, labels, temperature)?,
        calibration_error: calibration_error(&confidences, &right, BINS)?,
    })
}
