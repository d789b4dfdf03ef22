//! Is a file of a run what the stage wrote that made it?

use std::path::{Path, PathBuf, absolute};

use skn_artifact::names::{file, key};
use skn_artifact::{ArtifactError, RunRecord, TensorFile, hash_file, is_file, real_path, verify};

use crate::cache::real;
use crate::error::{Result, SessionError};
use crate::options::Split;

/// The most folders between a run and a file of it, the run's own counted.
const DEPTH: usize = 3;

/// What a run's record says of a file.
struct Listed {
    run: PathBuf,
    /// The stage that wrote it.
    entry: String,
    sha256: String,
}

/// Checks a file before it is used: one that a run lists must have the hash that its stage noted. One that no run lists is
/// taken as it is, and told.
///
/// # Errors
/// If it was changed since, or the record of the run that it lies in can't be read.
pub(crate) fn check(path: &Path) -> Result<()> {
    if !check_listed(path)? {
        tracing::warn!(
            "{}: no run lists it, so nobody can say whether it is what was written",
            path.display()
        );
    }
    Ok(())
}

/// As [`check`], of a list or an array of neurons (CSV, JSON, npy). People make those, so one that no run lists is nothing to tell, but for
/// the one that stages write too.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_list(path: &Path) -> Result<()> {
    match path.file_name().is_some_and(|name| name == file::NEURONS) {
        true => check(path),
        false => check_listed(path).map(drop),
    }
}

/// As [`check`], of files that need not be of a run: whether one lists it.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_listed(path: &Path) -> Result<bool> {
    let Some(Listed { run, entry, sha256 }) = listed(path)? else { return Ok(false) };
    let found = hash_file(path)?;
    if found == sha256 {
        return Ok(true);
    }
    Err(SessionError::input(format!(
        "{}: expected SHA-256 {sha256}, as stage {entry} wrote it ({}), found {found}; do the stage again, or copy the file \
         elsewhere to use it as your own",
        path.display(),
        run.join(file::RUN).display()
    )))
}

/// Refuses what was made of a part of the rows.
///
/// # Errors
/// If it says that it is a shard's.
pub(crate) fn check_whole(file: &TensorFile) -> Result<()> {
    match file.metadata().get(key::SHARD) {
        None => Ok(()),
        Some(shard) => Err(SessionError::input(format!(
            "{}: metadata {}: expected a file of all rows, found shard {shard}; merge the shards first (skn-merge)",
            file.path().display(),
            key::SHARD
        ))),
    }
}

/// Whether a file is there, which is [`check`]ed then.
///
/// # Errors
/// If it was changed since it was written, or a run lists it and it is gone: what remains would mean something else.
pub(crate) fn is_there(path: &Path) -> Result<bool> {
    if is_file(path)? {
        check(path)?;
        return Ok(true);
    }
    match listed(path)? {
        None => Ok(false),
        Some(Listed { run, entry, .. }) => Err(SessionError::input(format!(
            "{}: missing; stage {entry} wrote it ({}): put it back, or do the stage again",
            path.display(),
            run.join(file::RUN).display()
        ))),
    }
}

/// What the nearest run says of a file, if one lists it.
fn listed(path: &Path) -> Result<Option<Listed>> {
    // By the name that it was asked for by: a link in a run's folder stands for the file that the run lists. What is gone has no
    // other name.
    let named = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if folder.as_os_str().is_empty() => real(Path::new("."))?.join(name),
        (Some(folder), Some(name)) => real(folder)?.join(name),
        _ => real(path)?,
    };
    // Of a place that can't be told nobody knows whether a run lists it.
    let lexical = absolute(path).map_err(|source| ArtifactError::Io {
        file: path.into(),
        operation: "look at",
        source,
    })?;
    let mut places = vec![lexical, named];
    // It may lead into another run, whose file it is then.
    places.extend(real_path(path)?);
    places.dedup();
    for place in places {
        if let Some(found) = listed_at(&place)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The same, of the place where a file is.
fn listed_at(place: &Path) -> Result<Option<Listed>> {
    // `info/<task>/<mask>` and `<task>/pos_dev/<neuron>` are as deep as files of a run lie; what is called run.json further
    // up is somebody else's.
    for run in place.ancestors().skip(1).take(DEPTH) {
        let record = RunRecord::read(run)?;
        let Some(name) = place.strip_prefix(run).ok().and_then(Path::to_str) else { continue };
        for (entry, stage) in &record.stages {
            if let Some(sha256) = stage.outputs.get(name) {
                let (entry, sha256) = (entry.clone(), sha256.clone());
                return Ok(Some(Listed { run: run.into(), entry, sha256 }));
            }
        }
        // A file belongs to the nearest run.
        if !record.stages.is_empty() {
            break;
        }
    }
    Ok(None)
}

/// Checks all files of a run that its report is drawn from, and that none of them is gone; of others only that they are what
/// was written if they are there.
///
/// # Errors
/// Names those that were changed since they were written, or are gone.
pub(crate) fn check_run(run: &Path) -> Result<()> {
    if RunRecord::read(run)?.stages.is_empty() {
        return Ok(());
    }
    let found = verify(run)?;
    let changed: Vec<String> = found.changed.into_iter().filter(|name| name != file::REPORT).collect();
    let missing: Vec<String> = found.missing.into_iter().filter(|name| is_drawn(name)).collect();
    let list = |what: &str, names: &[String]| format!("{what}: {}", names.join(", "));
    let wrong = match (changed.is_empty(), missing.is_empty()) {
        (true, true) => return Ok(()),
        (false, true) => list("changed since they were written", &changed),
        (true, false) => list("missing", &missing),
        (false, false) => {
            format!("{}; {}", list("changed since they were written", &changed), list("missing", &missing))
        }
    };
    Err(SessionError::input(format!("{}: {wrong}", run.join(file::RUN).display())))
}

/// Whether a report shows something of a file, by its path in the run. Checkpoints and weights are large, and people remove
/// them.
fn is_drawn(name: &str) -> bool {
    let path = Path::new(name);
    let folders = [file::LAST, file::INFO, file::SWEEPS];
    if name == file::REPORT || folders.iter().any(|folder| path.starts_with(folder)) {
        return false;
    }
    // The texts beside single neurons' activations are for other programs.
    if [Split::Train, Split::Dev, Split::Test]
        .iter()
        .any(|split| path.ends_with(file::position_texts(split.name())))
    {
        return false;
    }
    !path.starts_with(file::BEST) || path == Path::new(file::BEST).join(file::SKILL_CONFIG)
}

/// Tells which `files` of a run its record does not list, such as those of a stage that was killed before it was done.
///
/// # Errors
/// If the record can't be read.
pub(crate) fn tell_unlisted(run: &Path, files: &[PathBuf]) -> Result<()> {
    let record = RunRecord::read(run)?;
    let is_listed = |name: &&Path| {
        let name = name.to_string_lossy();
        record.stages.values().any(|stage| stage.outputs.contains_key(&*name))
    };
    let names = files.iter().filter_map(|path| path.strip_prefix(run).ok()).filter(|name| !is_listed(name));
    let unlisted: Vec<String> = names.map(|name| name.display().to_string()).collect();
    if !record.stages.is_empty() && !unlisted.is_empty() {
        let (run, unlisted) = (run.display(), unlisted.join(", "));
        tracing::warn!(
            "{run}: run.json does not list {unlisted}: the stage was not done, or others made them"
        );
    }
    Ok(())
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
