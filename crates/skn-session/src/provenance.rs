//! Is a file of a run what the stage wrote that made it?

use std::path::Path;

use skn_artifact::names::file;
use skn_artifact::{RunRecord, hash_file, verify};

use crate::cache::real;
use crate::error::{Result, SessionError};

/// The most folders between a run and a file of it, the run's own counted.
const DEPTH: usize = 3;

/// Checks a file before it is used: one that a run lists must have the hash that its stage noted. One that no run lists is
/// taken as it is, and told.
///
/// # Errors
/// If it was changed since, or the record of the run that it lies in can't be read.
pub(crate) fn check(path: &Path) -> Result<()> {
    let place = real(path);
    // `info/<task>/<mask>` and `<task>/pos_dev/<neuron>` are as deep as files of a run lie; what is called run.json further
    // up is somebody else's.
    for run in place.ancestors().skip(1).take(DEPTH) {
        let record = RunRecord::read(run)?;
        let Some(name) = place.strip_prefix(run).ok().and_then(Path::to_str) else { continue };
        for (entry, stage) in &record.stages {
            let Some(expected) = stage.outputs.get(name) else { continue };
            let found = hash_file(path)?;
            if found == *expected {
                return Ok(());
            }
            return Err(SessionError::input(format!(
                "{}: expected SHA-256 {expected}, as stage {entry} wrote it ({}), found {found}; do the stage again, or copy the \
                 file elsewhere to use it as your own",
                path.display(),
                run.join(file::RUN).display()
            )));
        }
        // A file belongs to the nearest run.
        if !record.stages.is_empty() {
            break;
        }
    }
    tracing::warn!("{}: no run lists it, so nobody can say whether it is what was written", path.display());
    Ok(())
}

/// Checks all files of a run that are there, but for the report, which is made of the others.
///
/// # Errors
/// Names those that were changed since they were written.
pub(crate) fn check_run(run: &Path) -> Result<()> {
    if RunRecord::read(run)?.stages.is_empty() {
        return Ok(());
    }
    let changed = verify(run)?.changed.into_iter().filter(|name| name != file::REPORT);
    let changed: Vec<String> = changed.collect();
    if changed.is_empty() {
        return Ok(());
    }
    let (run, changed) = (run.display(), changed.join(", "));
    Err(SessionError::input(format!("{run}: changed since they were written: {changed}")))
}
