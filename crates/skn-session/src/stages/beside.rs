//! What lies beside counts of a split, and is of the same texts.

use std::collections::BTreeMap;
use std::path::Path;

use skn_artifact::TensorFile;
use skn_artifact::names::{file, key, rank};
use skn_counts::{Performance, Pool};

use crate::error::{Result, SessionError};
use crate::options::Split;
use crate::provenance;
use crate::stages::selected::{SAME_NEURON, difference};

/// A file beside counts of dev, if it is there: it must be of the same model, parameters, texts' form, seed and precision, and
/// of all rows.
///
/// # Errors
/// If it is of another, or can't be read.
pub(super) fn beside(
    path: &Path,
    dev: &Performance,
    metadata: &BTreeMap<String, String>,
    more: &[&str],
) -> Result<Option<TensorFile>> {
    if !provenance::is_there(path)? {
        return Ok(None);
    }
    let read = TensorFile::open(path)?;
    provenance::check_whole(&read)?;
    let keys = [&SAME_NEURON[..], &[key::TUNING, key::DTYPE, key::SEED], more].concat();
    match difference(&keys, (dev.file(), metadata), (path, read.metadata())) {
        Some(wrong) => Err(SessionError::input(format!("{wrong}; probe both again"))),
        None => Ok(Some(read)),
    }
}

/// Takes the areas under ROC curves that lie beside counts of dev or of test.
///
/// # Errors
/// If there are none, or they are of other rows, parameters or another model than the counts.
pub(super) fn with_areas(counts: Performance, metadata: &BTreeMap<String, String>) -> Result<Performance> {
    let splits = [Split::Dev, Split::Test]
        .map(|split| (split, counts.pool().map(|pool| pool.performance_file(split.name()))));
    let named = |name: &Option<String>| {
        name.as_ref()
            .is_some_and(|name| counts.file().file_name().is_some_and(|file| *file == *file::tensors(name)))
    };
    let Some((split, _)) = splits.into_iter().find(|(_, name)| named(name)) else {
        return Err(SessionError::input(format!(
            "{}: option `score` auc: expected a file of counts that has its name, such as dev_perf, beside which the areas lie, found \
             another name",
            counts.file().display()
        )));
    };
    match areas_beside(&counts, metadata, split)? {
        Some(areas) => Ok(counts.with_areas(&areas)?),
        None => {
            let folder = counts.file().parent().unwrap_or(Path::new(""));
            Err(SessionError::input(format!(
                "{}: option `score` auc: expected the areas under ROC curves of the neurons beside {}, found none; skn-probe --probe_type {} \
                 --rank auc, into the same run, makes them",
                folder.join(file::tensors(&rank::areas(split.name()))).display(),
                counts.file().display(),
                match counts.pool().map_or("", Pool::name) {
                    "" => "acc".into(),
                    pool => format!("acc_{pool}"),
                }
            )))
        }
    }
}

/// The file of them, if there is one.
///
/// # Errors
/// As [`beside`].
pub(super) fn areas_beside(
    counts: &Performance,
    metadata: &BTreeMap<String, String>,
    split: Split,
) -> Result<Option<TensorFile>> {
    let folder = counts.file().parent().unwrap_or(Path::new(""));
    beside(&folder.join(file::tensors(&rank::areas(split.name()))), counts, metadata, &[key::DATA])
}
