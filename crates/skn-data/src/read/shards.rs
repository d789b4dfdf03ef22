//! The files of a split in a folder, which may be many: shards, or all that is in a folder of its own.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::{entries, is_folder, shown};
use crate::error::{DataError, Result, names};
use crate::format::Format;
use crate::task::Task;

/// Files beside the data that have one of their extensions.
const BESIDE: [&str; 4] = ["dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json"];

/// What may stand behind a split's name in that of its folder.
const FOLDERS: [&str; 5] = ["", ".parquet", ".csv", ".json", ".jsonl"];

/// The files of a split in a folder, in the order of their rows, for each extension that is there: `<split>.csv`, shards
/// `<split>-00000-of-00002.csv` or, of Parquet, `<split>-*.parquet`; or else what is in the folder `<split>`.
///
/// Shards that say how many they are must all be there, and numbered ones without a gap.
pub(super) fn of(folder: &Path, split: &str, task: &Task) -> Result<Vec<(Format, Vec<PathBuf>)>> {
    let mut found = data_files(folder, task)?;
    for (extension, files) in &mut found {
        files.retain(|name| is_of_split(name, split, extension));
    }
    found.retain(|_, files| !files.is_empty());
    // Spark and Dask name a split's folder as others name its file: `train.parquet`.
    let mut below = None;
    for path in FOLDERS.map(|extension| folder.join(format!("{split}{extension}"))) {
        if below.is_none() && is_folder(&path)? {
            below = Some(path);
        }
    }
    let (folder, found) = match &below {
        Some(below) if found.is_empty() => (below.as_path(), of_folder(below, split, task)?),
        _ => {
            found.values_mut().for_each(|files| sort(files));
            for files in found.values() {
                let expected = lacks(files, split);
                expected.map_or(Ok(()), |expected| Err(missing(folder, split, &expected, files)))?;
            }
            (folder, found)
        }
    };
    let paths = |files: Vec<String>| files.into_iter().map(|name| folder.join(name)).collect();
    Ok(found
        .into_iter()
        .filter_map(|(extension, files)| Some((Format::of_extension(&extension)?, paths(files))))
        .collect())
}

/// The names of the files in a folder that may be read for a task, by their extension. Such as begin with `.` or `_` are
/// others: Spark's `_SUCCESS`, checksums, what editors leave.
fn data_files(folder: &Path, task: &Task) -> Result<BTreeMap<String, Vec<String>>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in entries(folder)? {
        let Some((_, extension)) = name.rsplit_once('.') else { continue };
        let format = Format::of_extension(extension).filter(|format| *format != Format::Arrow);
        let wanted = format.is_some_and(|format| task.format.is_none_or(|only| only == format));
        if wanted
            && !name.starts_with(['.', '_'])
            && !BESIDE.contains(&name.as_str())
            // A link to nothing is a file that is missing.
            && !is_folder(&folder.join(&name))?
        {
            found.entry(extension.to_ascii_lowercase()).or_default().push(name);
        }
    }
    Ok(found)
}

/// A name without its extension.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn is_of_split(name: &str, split: &str, extension: &str) -> bool {
    match stem(name).strip_prefix(split) {
        Some("") => true,
        // Other forms have files beside them, such as train-notes.json.
        Some(rest) => rest.starts_with('-') && (extension == "parquet" || Shard::of(name, split).is_some()),
        None => false,
    }
}

/// The files of a folder that is a split: `0000.parquet`, `0001.parquet` and so on as the Hub converts data sets,
/// `part-00000-..` as Spark and others write, `<split>.parquet` or shards, or one file of whatever name. None if the folder
/// is none: another layout, which just has a folder of this name.
fn of_folder(folder: &Path, split: &str, task: &Task) -> Result<BTreeMap<String, Vec<String>>> {
    let mut found = data_files(folder, task)?;
    let is_of_other = |name: &String| {
        let mut others = task.split_names().into_iter().filter(|other| *other != split);
        others.any(|other| is_of_split(name, other, "parquet"))
    };
    if found.values().flatten().any(is_of_other) {
        return Ok(BTreeMap::new());
    }
    if !found.is_empty() && entries(folder)?.contains("_temporary") {
        let names: Vec<String> = found.into_values().flatten().collect();
        return Err(missing(folder, split, "the files of a job that has ended, without _temporary,", &names));
    }
    for (extension, files) in &mut found {
        sort(files);
        let expected = strays(files, split, extension);
        expected.map_or(Ok(()), |expected| Err(missing(folder, split, &expected, files)))?;
    }
    Ok(found)
}

/// What the files of a split's folder ought to be, if they are not.
fn strays(files: &[String], split: &str, extension: &str) -> Option<String> {
    let number = |name: &String| stem(name).parse::<usize>().ok();
    if files.iter().any(|name| number(name).is_some()) {
        let whole = files.iter().map(number).eq((0..files.len()).map(Some));
        return (!whole).then(|| format!("0000.{extension}, 0001.{extension} and so on, without a gap,"));
    }
    if files.iter().any(|name| is_of_split(name, split, extension)) {
        let all = files.iter().all(|name| is_of_split(name, split, extension));
        let other = || Some(format!("{split}.{extension} or its shards alone"));
        return if all { lacks(files, split) } else { other() };
    }
    let parts = files.iter().filter(|name| name.starts_with("part-") || name.starts_with("part.")).count();
    let fits = parts == files.len() || files.len() == 1;
    (!fits).then(|| format!("one file, or files named part-*.{extension} alone,"))
}

/// 10 comes after 2.
fn sort(files: &mut [String]) {
    files.sort_by_key(|name| (name.len(), name.clone()));
}

fn missing(folder: &Path, split: &str, expected: &str, found: &[String]) -> DataError {
    DataError::NotFound {
        place: shown(folder),
        expected: format!("{expected} of split {split:?}"),
        found: names(&found.iter().map(String::as_str).collect::<Vec<_>>()),
    }
}

/// The names of the folders below `root` that hold files of the task's splits; if none does, of those that hold data at
/// all.
///
/// # Errors
/// If one can't be looked at, and another might be taken in place of it. The one with the task's name is taken whatever others
/// hold.
pub(super) fn folders(root: &Path, task: &Task) -> Result<Vec<String>> {
    let mut all = entries(root)?;
    all.retain(|name| !name.starts_with(['.', '_']));
    let (mut found, mut failed) = (Vec::new(), None);
    for name in &all {
        let folder = root.join(name);
        match is_folder(&folder).and_then(|is_one| Ok(is_one && has_split(&folder, task)?)) {
            Ok(true) => found.push(name.clone()),
            Ok(false) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        Some(error) if !found.contains(&task.name) => Err(with_advice(error)),
        _ if found.is_empty() => {
            Ok(all.into_iter().filter(|name| has_data(&root.join(name), task)).collect())
        }
        _ => Ok(found),
    }
}

/// What is wrong with a folder that nobody may have asked for, and how to do without it.
fn with_advice(error: DataError) -> DataError {
    match error {
        DataError::Io { file, source } => {
            let said = format!("{source}; give the path of one configuration");
            DataError::Io { file, source: io::Error::new(source.kind(), said) }
        }
        other => other,
    }
}

/// Whether a folder has files of one of the task's splits, also such as are refused.
fn has_split(folder: &Path, task: &Task) -> Result<bool> {
    for split in task.split_names() {
        match of(folder, split, task) {
            Ok(files) if files.is_empty() => {}
            Ok(_) | Err(DataError::NotFound { .. }) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether a folder, or one in it, has files of data. It only decides which folder a message names, so one that can't be looked
/// at counts as one that has none.
fn has_data(folder: &Path, task: &Task) -> bool {
    let has = |folder: &Path| data_files(folder, task).is_ok_and(|files| !files.is_empty());
    has(folder) || entries(folder).unwrap_or_default().iter().any(|name| has(&folder.join(name)))
}

/// What files of a split ought to be, if they are not.
fn lacks(files: &[String], split: &str) -> Option<String> {
    let shards: Vec<Option<Shard>> = files.iter().map(|name| Shard::of(name, split)).collect();
    match shards.iter().flatten().next() {
        Some(Shard { count, .. }) => {
            // A count may be absurd; more than one beyond what is there need not be looked at.
            let all = (0..*count).map(|index| Some(Shard { index, count: *count })).take(files.len() + 1);
            (!all.eq(shards.iter().copied())).then(|| format!("all {count} shards and no other file"))
        }
        None => {
            let whole = files.iter().any(|name| stem(name) == split);
            (whole && files.len() > 1).then(|| "one file, or shards,".to_owned())
        }
    }
}

/// Which shard of how many a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// What a name such as `<split>-00000-of-00002.parquet` says; a hash may stand at its end.
    fn of(name: &str, split: &str) -> Option<Self> {
        let stem = stem(name).strip_prefix(split)?.strip_prefix('-')?;
        let (index, rest) = stem.split_once("-of-")?;
        let count = rest.split_once('-').map_or(rest, |(count, _)| count);
        Some(Self { index: index.parse().ok()?, count: count.parse().ok()? })
    }
}
