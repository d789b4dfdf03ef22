use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use skn_artifact::names::{file, key, stage};
use skn_artifact::{ArtifactError, RunRecord, TensorBundle, TensorFile, read_regular};
use skn_counts::Performance;
use skn_probing::{Average, Metadata, Pool, Positions};

use crate::error::{Result, SessionError};
use crate::options::{Merge, Shard};
use crate::provenance;
use crate::run_writer::RunWriter;
use crate::session::Session;

/// What was merged.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Merged {
    /// The run's folder.
    pub run: PathBuf,
    /// How many shards it has.
    pub shards: usize,
    /// The files that were made of them, by their paths in the run; none if all were merged before.
    pub files: Vec<String>,
}

impl Session {
    /// Puts the shards of a probe together: every file that all have becomes one file of the run, the same bytes as from one
    /// probe without shards.
    ///
    /// # Errors
    /// If shards are missing, damaged, or do not belong together; if the run has files that may not be replaced.
    pub fn merge(&self, options: &Merge) -> Result<Merged> {
        let run = options.out.as_path();
        let shards = shards(run)?;
        let mut names: Vec<String> = Vec::new();
        for shard in &shards {
            names.extend(files(shard)?);
        }
        names.sort_unstable();
        names.dedup();
        // What an earlier merge made, and no shard has changed since, is left alone.
        let mut merged = BTreeMap::new();
        for name in names {
            let bundle = merge(&shards, &name)?;
            let there = read_regular(&run.join(&name), u64::MAX).ok();
            if there.as_ref() != Some(&bundle.to_bytes()?) {
                merged.insert(name, bundle);
            }
        }
        let files: Vec<String> = merged.keys().cloned().collect();
        if files.is_empty() {
            return Ok(Merged { run: run.into(), shards: shards.len(), files });
        }
        let entry = stage::merge(&files);
        let mut writer = RunWriter::open(self, options.clone(), run, &entry, options.overwrite)?;
        writer.check_free(&files)?;
        for (name, bundle) in &merged {
            writer.tensors(name, bundle)?;
        }
        for shard in &shards {
            for name in &files {
                writer.read(&shard.join(name))?;
            }
        }
        if !run.join(file::SPLIT).is_file() {
            let split = shards[0].join(file::SPLIT);
            let read = read_regular(&split, u64::MAX);
            writer.bytes(
                file::SPLIT,
                read.map_err(|error| SessionError::input(format!("{}: {error}", split.display())))?,
            )?;
        }
        writer.finish()?;
        Ok(Merged { run: run.into(), shards: shards.len(), files })
    }
}

/// The folders of all shards of a run.
fn shards(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join(file::SHARDS);
    let entries = std::fs::read_dir(&folder).map_err(|error| {
        SessionError::input(format!(
            "{}: {error}; probing with option `shard` I/N makes it",
            folder.display()
        ))
    })?;
    let mut found = Vec::new();
    for entry in entries {
        let wrong = |source| ArtifactError::Io { file: folder.clone(), operation: "read", source };
        let name = entry.map_err(wrong)?.file_name();
        let shard = name.to_str().and_then(file::parse_shard);
        found.extend(shard.map(|(index, count)| Shard { index, count }));
    }
    found.sort_unstable_by_key(|shard| (shard.count, shard.index));
    let Some(&Shard { count, .. }) = found.first() else {
        return Err(SessionError::input(format!(
            "{}: expected shards, such as 1-of-4, found none",
            folder.display()
        )));
    };
    if let Some(other) = found.iter().find(|shard| shard.count != count) {
        let place = folder.display();
        return Err(SessionError::input(format!(
            "{place}: expected shards of {count}, found {other} too; remove what is old"
        )));
    }
    let missing: Vec<String> = (1..=count)
        .map(|index| Shard { index, count })
        .filter(|shard| !found.contains(shard))
        .map(|shard| shard.to_string())
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(SessionError::input(format!("{}: missing shards {missing}", folder.display())));
    }
    Ok((1..=count).map(|index| Shard { index, count }.folder(run)).collect())
}

/// The tensor files of a shard, by their paths in it.
fn files(shard: &Path) -> Result<Vec<String>> {
    let record = RunRecord::read(shard)?;
    let outputs = record.stages.into_values().flat_map(|stage| stage.outputs.into_keys());
    Ok(outputs.filter(|name| file::is_tensors(name)).collect())
}

/// One file of all shards.
fn merge(shards: &[PathBuf], name: &str) -> Result<TensorBundle> {
    let read = |shard: &PathBuf| -> Result<TensorFile> {
        let path = shard.join(name);
        if path.is_file() {
            provenance::check(&path)?;
        }
        Ok(TensorFile::read(&path)?)
    };
    let files = shards.iter().map(read).collect::<Result<Vec<_>>>()?;
    let metadata = common_metadata(&files)?;
    let found = files[0].metadata().get(key::KIND).map_or("", String::as_str);
    if let Some(pool) = Pool::ALL.into_iter().find(|pool| pool.average_file() == found) {
        let whole =
            fold(&files, |file| Ok(Average::read(file, pool)?), |whole, part| Ok(whole.merge(part)?))?;
        return Ok(whole.to_bundle(&metadata)?);
    }
    if Pool::ALL.into_iter().any(|pool| pool.performance_kind() == found) {
        let whole = fold(&files, |file| Ok(Performance::read(file)?), |whole, part| Ok(whole.merge(part)?))?;
        return Ok(whole.to_bundle(&metadata)?);
    }
    let whole = fold(&files, |file| Ok(Positions::read(file)?), |whole, part| Ok(whole.append(part)?))?;
    Ok(whole.to_bundle(&metadata)?)
}

fn fold<T>(
    files: &[TensorFile],
    read: impl Fn(&TensorFile) -> Result<T>,
    join: impl Fn(&mut T, &T) -> Result<()>,
) -> Result<T> {
    let mut whole = read(&files[0])?;
    for file in &files[1..] {
        join(&mut whole, &read(file)?).map_err(|error| error.within(file.path().display().to_string()))?;
    }
    Ok(whole)
}

/// What all files say of themselves; only the shard may differ.
fn common_metadata(files: &[TensorFile]) -> Result<Metadata> {
    let of = |file: &TensorFile| {
        let mut metadata = file.metadata().clone();
        metadata.remove(key::SHARD);
        metadata
    };
    let first = of(&files[0]);
    for file in &files[1..] {
        let other = of(file);
        // What only the other says counts too: products were made in another type, say.
        let differs = first.keys().chain(other.keys()).find(|key| first.get(*key) != other.get(*key));
        if let Some(key) = differs {
            let said = |by: &Metadata| by.get(key).cloned().unwrap_or_else(|| "nothing".into());
            let hint = match key.as_str() {
                key::SCHEMA | key::VERSION => "; probe the shards that an older version wrote again",
                _ => "",
            };
            return Err(SessionError::input(format!(
                "{}: {key}: expected {} as in {}, found {}{hint}",
                file.path().display(),
                said(&first),
                files[0].path().display(),
                said(&other),
            )));
        }
    }
    Ok(first)
}
