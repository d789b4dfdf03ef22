use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use skn_artifact::names::{file, key, rank, setting, stage};
use skn_artifact::{
    ArtifactError, RunRecord, SplitRecord, StageRecord, TensorBundle, TensorFile, hash_file, is_file,
    parse_json, read_regular,
};
use skn_probing::{Kinds, Metadata, Pool};

use super::probe::rankings_but;
use super::probe_top::top_file;
use crate::division;
use crate::error::{Result, SessionError};
use crate::options::{Merge, Shard, Split};
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
        let mut names: Vec<String> = shards.iter().flat_map(Part::files).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(SessionError::input(format!(
                "{}: expected shards with statistics, found {} of which none is finished; probe them again",
                run.join(file::SHARDS).display(),
                shards.len()
            )));
        }
        // What an earlier merge made, and no shard has changed since, is left alone; what one that was killed made is listed.
        let record = RunRecord::read(run)?;
        let is_listed = |name: &String| record.stages.values().any(|stage| stage.outputs.contains_key(name));
        let (mut merged, mut unlisted) = (BTreeMap::new(), Vec::new());
        for name in names {
            let bundle = merge(self.kinds(), &shards, &name)?;
            check_settings(&shards, &name)?;
            let file = run.join(&name);
            if !is_file(&file)? || hash_file(&file)? != bundle.sha256()? {
                merged.insert(name, bundle);
            } else if !is_listed(&name) {
                unlisted.push(name);
            }
        }
        let mut outdated = outdated_rankings(&record, &shards, merged.keys());
        outdated.extend(outdated_tops(&shards, merged.keys()));
        let mut files: Vec<String> = merged.keys().chain(&unlisted).cloned().collect();
        files.sort_unstable();
        if files.is_empty() {
            return Ok(Merged { run: run.into(), shards: shards.len(), files });
        }
        let entry = stage::merge(&files);
        let mut writer = RunWriter::open(self, options.clone(), run, &entry, options.overwrite)?;
        writer.remove_listed(outdated)?;
        for name in &unlisted {
            writer.wrote(name)?;
        }
        for (name, bundle) in &merged {
            writer.tensors(name, bundle)?;
        }
        for shard in &shards {
            for name in &files {
                writer.read(&shard.folder.join(name))?;
            }
        }
        for (name, value) in cut_and_joined(&shards, &files)? {
            writer.set(name, value);
        }
        division::keep(&mut writer, &common_split(&shards)?, false)?;
        writer.finish()?;
        Ok(Merged { run: run.into(), shards: shards.len(), files })
    }
}

/// So many of the shards that are missing are named.
const NAMED: usize = 16;

/// A shard of a probe.
struct Part {
    shard: Shard,
    folder: PathBuf,
    record: RunRecord,
}

impl Part {
    fn read(run: &Path, shard: Shard) -> Result<Self> {
        let folder = shard.folder(run);
        Ok(Self { record: RunRecord::read(&folder)?, folder, shard })
    }

    /// Its tensor files, by their paths in it.
    fn files(&self) -> impl Iterator<Item = String> {
        let outputs = self.record.stages.values().flat_map(|stage| stage.outputs.keys());
        outputs.filter(|name| file::is_tensors(name)).cloned()
    }

    /// How a file of it was made, if its record says so.
    fn stage_of(&self, name: &str) -> Option<&StageRecord> {
        self.record.stages.values().find(|stage| stage.outputs.contains_key(name))
    }
}

/// Rankings that are in the run and in no shard, and what compared them, where averages, counts of dev or rankings are replaced: they
/// would be taken for rankings of these.
fn outdated_rankings<'n>(
    record: &RunRecord,
    shards: &[Part],
    replaced: impl Iterator<Item = &'n String>,
) -> Vec<String> {
    let kept: Vec<String> = shards.iter().flat_map(Part::files).collect();
    let counts =
        Pool::ALL.map(|pool| [pool.average_file().to_owned(), pool.performance_file(Split::Dev.name())]);
    let counts: BTreeSet<String> = counts.into_iter().flatten().map(|name| file::tensors(&name)).collect();
    let of_task = |name: &'n String| {
        let (task, of_task) = name.split_once('/')?;
        let is_ranking = of_task.split_once('/').is_some_and(|(folder, _)| folder == rank::FOLDER);
        (is_ranking || counts.contains(of_task)).then_some(task)
    };
    let tasks: BTreeSet<&str> = replaced.filter_map(of_task).collect();
    tasks.into_iter().flat_map(|task| rankings_but(record, task, &kept)).collect()
}

/// The texts of the best neurons of counts of dev that are replaced, which are in no shard: they would be taken for those of the new ones.
fn outdated_tops<'n>(shards: &[Part], replaced: impl Iterator<Item = &'n String>) -> Vec<String> {
    let kept: BTreeSet<String> = shards.iter().flat_map(Part::files).collect();
    let pools =
        Pool::ALL.map(|pool| (file::tensors(&pool.performance_file(Split::Dev.name())), top_file(pool)));
    let of_counts = |name: &'n String| {
        let (task, of_task) = name.split_once('/')?;
        let (_, top) = pools.iter().find(|(counts, _)| counts == of_task)?;
        Some(format!("{task}/{top}"))
    };
    replaced.filter_map(of_counts).filter(|name| !kept.contains(name)).collect()
}

/// All shards of a run.
fn shards(run: &Path) -> Result<Vec<Part>> {
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
    let lacks = count - found.len();
    if lacks > 0 {
        let all = (1..=count).map(|index| Shard { index, count });
        let missing =
            all.filter(|shard| found.binary_search_by_key(&shard.index, |found| found.index).is_err());
        let named: Vec<String> = missing.take(NAMED).map(|shard| shard.to_string()).collect();
        let more = if lacks > NAMED { format!(" and {} more", lacks - NAMED) } else { String::new() };
        let missing = named.join(", ");
        return Err(SessionError::input(format!("{}: missing shards {missing}{more}", folder.display())));
    }
    (1..=count).map(|index| Part::read(run, Shard { index, count })).collect()
}

/// Refuses shards that were made in different ways which their files don't tell: with texts cut elsewhere, or counts against
/// other averages.
fn check_settings(shards: &[Part], name: &str) -> Result<()> {
    let mut made = shards.iter().filter_map(|part| Some((part, part.stage_of(name)?)));
    let Some((first, expected)) = made.next() else { return Ok(()) };
    for (part, stage) in made {
        let settings = [setting::MAX_LENGTH, setting::COMPAT].map(|setting| {
            let of = |stage: &StageRecord| stage.settings.get(setting).cloned();
            (setting.to_string(), of(expected), of(stage))
        });
        let averages = Pool::ALL.map(|pool| {
            let average = file::tensors(pool.average_file());
            let of = |stage: &StageRecord| {
                let mut inputs = stage.inputs.iter();
                let found = inputs.find(|(path, _)| Path::new(path).ends_with(&average));
                found.map(|(_, hash)| hash.clone())
            };
            let (expected, found) = (of(expected), of(stage));
            // Older versions did not note them.
            let found = if expected.is_none() || found.is_none() { expected.clone() } else { found };
            (average, expected, found)
        });
        let all = settings.into_iter().chain(averages);
        if let Some((what, expected, found)) = all.into_iter().find(|(_, expected, found)| expected != found)
        {
            let said = |value: Option<String>| value.unwrap_or_else(|| "nothing".into());
            return Err(SessionError::input(format!(
                "{}: {what} of {name}: expected {} as in {}, found {}; probe the shards alike",
                part.folder.join(file::RUN).display(),
                said(expected),
                first.folder.join(file::RUN).display(),
                said(found)
            )));
        }
    }
    Ok(())
}

/// How the texts were cut and joined that some files of all shards were made of: the record of what is made of them says it too.
fn cut_and_joined(shards: &[Part], files: &[String]) -> Result<Vec<(&'static str, String)>> {
    let of = |name: &String| {
        let stage = shards.iter().find_map(|part| part.stage_of(name));
        [setting::MAX_LENGTH, setting::COMPAT]
            .map(|setting| (setting, stage.and_then(|stage| stage.settings.get(setting)).cloned()))
    };
    let Some(first) = files.first() else { return Ok(Vec::new()) };
    let expected = of(first);
    for name in files {
        let mut both = expected.iter().zip(of(name));
        if let Some(((setting, expected), (_, found))) = both.find(|(expected, found)| *expected != found) {
            let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
            let shards = shards.first().map(|part| part.folder.join(file::RUN).display().to_string());
            return Err(SessionError::input(format!(
                "{}: {setting} of {name}: expected {} as of {first}, found {}; what is merged together must be probed alike",
                shards.unwrap_or_default(),
                said(expected),
                said(&found)
            )));
        }
    }
    Ok(expected.into_iter().filter_map(|(setting, value)| Some((setting, value?))).collect())
}

/// The division of the data that all shards have.
fn common_split(shards: &[Part]) -> Result<SplitRecord> {
    let mut first: Option<(PathBuf, SplitRecord)> = None;
    for part in shards {
        let path = part.folder.join(file::SPLIT);
        provenance::is_there(&path)?;
        let read = read_regular(&path, u64::MAX);
        let bytes = read.map_err(|error| SessionError::input(format!("{}: {error}", path.display())))?;
        let found: SplitRecord = parse_json(&path, &bytes, "the documented JSON")?;
        let Some((place, expected)) = &first else {
            first = Some((path, found));
            continue;
        };
        if found != *expected {
            let (what, expected, found) = differing(expected, &found);
            return Err(SessionError::input(format!(
                "{}: {what}: expected {expected} as in {}, found {found}; probe the shards alike",
                path.display(),
                place.display()
            )));
        }
    }
    let none = || SessionError::input("shards: expected at least one, found none");
    first.map(|(_, record)| record).ok_or_else(none)
}

/// In what two divisions differ, and what each says of it.
fn differing(a: &SplitRecord, b: &SplitRecord) -> (&'static str, String, String) {
    let data = |of: &SplitRecord| of.data_sha256.clone();
    if a.task != b.task {
        ("task", a.task.clone(), b.task.clone())
    } else if a.seed != b.seed {
        ("seed", a.seed.to_string(), b.seed.to_string())
    } else if data(a) != data(b) {
        ("data_sha256", data(a), data(b))
    } else {
        ("rows", "those".into(), "others".into())
    }
}

/// One file of all shards.
fn merge(kinds: &Kinds, shards: &[Part], name: &str) -> Result<TensorBundle> {
    let read = |part: &Part| -> Result<TensorFile> {
        let path = part.folder.join(name);
        // What was killed while it wrote may have left the file: nobody can say of what settings.
        if part.stage_of(name).is_none() || !provenance::is_there(&path)? {
            let mut others = shards.iter().filter(|part| part.stage_of(name).is_some());
            let by = others.next().map(|part| part.folder.join(file::RUN).display().to_string());
            return Err(SessionError::input(format!(
                "{}: shard {} is not finished: expected {name}, as {} lists it, found none; probe it again (option \
                 `overwrite` replaces what it left)",
                part.folder.join(file::RUN).display(),
                part.shard,
                by.unwrap_or_default()
            )));
        }
        // Fire bits of all shards are more than memory should hold.
        let file = TensorFile::open(&path)?;
        // A copy under another number would be counted twice.
        let (expected, found) = (part.shard.to_string(), file.metadata().get(key::SHARD));
        if found != Some(&expected) {
            let found = found.map_or("nothing", String::as_str);
            return Err(SessionError::input(format!(
                "{}: metadata {}: expected {expected}, found {found}",
                path.display(),
                key::SHARD
            )));
        }
        Ok(file)
    };
    let files = shards.iter().map(read).collect::<Result<Vec<_>>>()?;
    let metadata = common_metadata(&files)?;
    let mut whole = kinds.read(&files[0])?;
    for file in &files[1..] {
        let part = kinds.read(file)?;
        whole.merge(part.as_ref()).map_err(|error| {
            SessionError::input(format!(
                "{}: can't be added to those before it: {error}",
                file.path().display()
            ))
        })?;
    }
    whole.to_bundle(&metadata).map_err(|error| too_many(&files, &error))
}

/// What files can't hold of all shards together, the last of which made it too much.
fn too_many(files: &[TensorFile], error: &impl std::fmt::Display) -> SessionError {
    let last = files.last().map(|file| file.path().display().to_string()).unwrap_or_default();
    SessionError::input(format!("{last}: with the shards before it: {error}"))
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
