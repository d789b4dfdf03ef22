use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::{Map, Value};
use skn_artifact::TensorFile;
use skn_artifact::names::file::ADAPTER_CONFIG;

use crate::architecture::Names;
use crate::error::{ModelError, Result};
use crate::finite::check_finite;

/// How the tuned parameters of a folder are to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadAs {
    /// Whether the `<mask>` row is put before a prompt that does not start with it.
    pub prepend_mask: bool,
    /// Whether the label words answer although a classifier was saved with the parameters.
    pub verbalizer: bool,
}

/// A folder of tuned parameters that is read.
pub(super) struct Source<'a> {
    pub(super) folder: &'a Path,
    /// What the tensors of its model are called.
    pub(super) names: &'static Names,
    pub(super) how: ReadAs,
}

impl Source<'_> {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn tensors(&self, name: &str) -> Result<TensorFile> {
        Ok(TensorFile::read(&self.file(name))?)
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.file(ADAPTER_CONFIG)
    }

    pub(super) fn config(&self) -> Result<Map<String, Value>> {
        Ok(skn_artifact::read_json(&self.config_file())?)
    }

    /// Passes over tensors that are none of the tuned parameters, if they are a classifier's and the user says that it does not
    /// answer.
    ///
    /// # Errors
    /// Names the first otherwise: who saved it computes something else.
    pub(super) fn pass_over(&self, file: &TensorFile, others: &[&str]) -> Result<()> {
        let error = |tensor, expected, found| Err(ModelError::weight(file.path(), tensor, expected, found));
        if let Some(other) = others.iter().find(|name| !is_classifier(name)) {
            return error(other, "tuned parameters alone", "this one, which changes what the model computes");
        }
        match others {
            [first, ..] if !self.how.verbalizer => error(first, "no classifier", CLASSIFIER),
            [_, ..] => {
                let (file, names) = (file.path().display(), others.join(", "));
                tracing::info!("{file}: the label words answer; a classifier is not used: {names}");
                Ok(())
            }
            [] => Ok(()),
        }
    }
}

/// What is said of a classifier that was saved with tuned parameters.
pub(super) const CLASSIFIER: &str =
    "one, which answers where it was saved; option `verbalizer` answers with the label words instead";

/// Whether a module or a tensor belongs to what answers a task in transformers or `adapters`.
pub(super) fn is_classifier(name: &str) -> bool {
    name.split('.').any(|part| ["classifier", "score", "qa_outputs", "heads"].contains(&part))
}

/// A tensor of a file.
///
/// # Errors
/// If it does not hold finite floats.
pub(super) fn read_tensor(file: &TensorFile, name: &str) -> Result<Tensor> {
    let (shape, values) = file.f32(name, None)?;
    check_finite(file.path(), name, &values)?;
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Says which fields of a configuration are not known here: newer versions add some that change nothing.
pub(super) fn tell_unknown<'a>(file: &Path, fields: impl Iterator<Item = &'a String>, known: &[&str]) {
    let unknown: Vec<&str> = fields.map(String::as_str).filter(|field| !known.contains(field)).collect();
    if !unknown.is_empty() {
        tracing::debug!("{}: fields that are not known here: {}", file.display(), unknown.join(", "));
    }
}
