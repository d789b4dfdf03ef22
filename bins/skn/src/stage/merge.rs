//! `skn-merge`: put the shards of a probe together.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use skn_artifact::{TensorBundle, TensorFile};
use skn_probing::{Average, Metadata, Performance, Pool, Positions};

use crate::cli::{Common, Destination, Shard};
use crate::exit::Failure;
use crate::program::{Call, Stage};
use crate::run::Sink;
use crate::stage::probe::shard_folder;

/// Put the shards of a probe (`skn-probe --shard I/N`) together.
///
/// Every file that all N shards in RUN/shards have becomes one file of the run, the same bytes as from one probe without
/// shards.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-merge", version)]
pub struct Merge {
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    common: Common,
}

/// What was merged.
#[derive(Clone, Debug, Serialize)]
pub struct Merged {
    run: PathBuf,
    shards: usize,
    files: Vec<String>,
}

impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, shards, files } = self;
        match files.as_slice() {
            [] => write!(f, "{}: all that its {shards} shards have is merged already", run.display()),
            files => write!(f, "merged {shards} shards into {}: {}", run.display(), files.join(", ")),
        }
    }
}

impl Stage for Merge {
    const PROGRAM: &'static str = "skn-merge";
    type Output = Merged;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, call: &Call<'_>) -> Result<Merged> {
        let run = self.destination.out.as_path();
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
            let there = std::fs::read(run.join(&name)).ok();
            if there.as_ref() != Some(&bundle.to_bytes()?) {
                merged.insert(name, bundle);
            }
        }
        let files: Vec<String> = merged.keys().cloned().collect();
        if files.is_empty() {
            return Ok(Merged { run: run.into(), shards: shards.len(), files });
        }
        let mut sink = Sink::open(call, run, &format!("merge {}", files.join(",")), self.destination.force)?;
        sink.check_free(&files)?;
        for (name, bundle) in &merged {
            sink.tensors(name, bundle)?;
        }
        for shard in &shards {
            for name in &files {
                sink.read(&shard.join(name))?;
            }
        }
        if !run.join("split.json").is_file() {
            let split = shards[0].join("split.json");
            let read = std::fs::read(&split);
            sink.bytes(
                "split.json",
                read.map_err(|error| Failure::input(format!("{}: {error}", split.display())))?,
            )?;
        }
        sink.finish()?;
        Ok(Merged { run: run.into(), shards: shards.len(), files })
    }
}

/// The folders of all shards of a run.
fn shards(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join("shards");
    let entries = std::fs::read_dir(&folder).map_err(|error| {
        Failure::input(format!("{}: {error}; skn-probe --shard I/N makes it", folder.display()))
    })?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| folder.display().to_string())?.file_name();
        let shard = name.to_str().and_then(|name| name.replacen("-of-", "/", 1).parse::<Shard>().ok());
        found.extend(shard);
    }
    found.sort_unstable_by_key(|shard| (shard.count, shard.index));
    let Some(&Shard { count, .. }) = found.first() else {
        return Err(Failure::input(format!(
            "{}: expected shards, such as 1-of-4, found none",
            folder.display()
        )));
    };
    if let Some(other) = found.iter().find(|shard| shard.count != count) {
        let place = folder.display();
        return Err(Failure::input(format!(
            "{place}: expected shards of {count}, found {other} too; remove what is old"
        )));
    }
    let missing: Vec<String> = (1..=count)
        .map(|index| Shard { index, count })
        .filter(|shard| !found.contains(shard))
        .map(|shard| shard.to_string())
        .collect();
    if !missing.is_empty() {
        return Err(Failure::input(format!("{}: missing shards {}", folder.display(), missing.join(", "))));
    }
    Ok((1..=count).map(|index| shard_folder(run, Shard { index, count })).collect())
}

/// The tensor files of a shard, by their paths in it.
fn files(shard: &Path) -> Result<Vec<String>> {
    let record = skn_artifact::RunRecord::read(shard)?;
    let outputs = record.stages.into_values().flat_map(|stage| stage.outputs.into_keys());
    Ok(outputs.filter(|name| name.ends_with(".safetensors")).collect())
}

/// One file of all shards.
fn merge(shards: &[PathBuf], name: &str) -> Result<TensorBundle> {
    let files =
        shards.iter().map(|shard| TensorFile::read(&shard.join(name))).collect::<Result<Vec<_>, _>>()?;
    let metadata = common_metadata(&files)?;
    let kind = files[0].metadata().get("skn.kind").cloned().unwrap_or_default();
    let pool = [Pool::Position, Pool::Mean, Pool::Max]
        .into_iter()
        .find(|pool| kind == pool.average_file() || pool.performance_file("dev") == format!("dev_{kind}"));
    match pool {
        Some(pool) if kind == pool.average_file() => {
            let whole = fold(&files, |file| Average::read(file, pool), |whole, part| whole.merge(part))?;
            Ok(whole.to_bundle(&metadata)?)
        }
        Some(_) => {
            let whole =
                fold(&files, |file| Ok(Performance::read(file)?), |whole, part| Ok(whole.merge(part)?))?;
            Ok(whole.to_bundle(&metadata)?)
        }
        None => Ok(fold(&files, Positions::read, |whole, part| whole.append(part))?.to_bundle(&metadata)?),
    }
}

fn fold<T>(
    files: &[TensorFile],
    read: impl Fn(&TensorFile) -> skn_probing::Result<T>,
    join: impl Fn(&mut T, &T) -> skn_probing::Result<()>,
) -> Result<T> {
    let mut whole = read(&files[0])?;
    for file in &files[1..] {
        join(&mut whole, &read(file)?).with_context(|| file.path().display().to_string())?;
    }
    Ok(whole)
}

/// What all files say of themselves; only the shard may differ.
fn common_metadata(files: &[TensorFile]) -> Result<Metadata> {
    let of = |file: &TensorFile| {
        let mut metadata = file.metadata().clone();
        metadata.remove("skn.shard");
        metadata
    };
    let first = of(&files[0]);
    for file in &files[1..] {
        let other = of(file);
        let differs = first.iter().find(|(key, value)| other.get(*key) != Some(value));
        if let Some((key, expected)) = differs {
            let found = other.get(key).map_or("nothing", String::as_str);
            let (file, first) = (file.path().display(), files[0].path().display());
            return Err(Failure::input(format!(
                "{file}: {key}: expected {expected} as in {first}, found {found}"
            )));
        }
    }
    Ok(first)
}
