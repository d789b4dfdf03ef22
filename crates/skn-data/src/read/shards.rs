//! Parquet files of a split, which may be many.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::folder::{entries, shown};
use crate::error::{DataError, Result, names};

const EXTENSION: &str = ".parquet";

/// The Parquet files of a split in a folder, in the order of their rows: `<split>.parquet`, `<split>-*.parquet`, or
/// `<split>/0000.parquet` and so on, as the Hub converts data sets.
///
/// Shards that say how many they are must all be there, and numbered ones without a gap.
pub(super) fn of(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let is_of_split = |name: &String| {
        let rest = name.strip_suffix(EXTENSION).and_then(|stem| stem.strip_prefix(split));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut files: Vec<String> = entries(folder)?.into_iter().filter(is_of_split).collect();
    let below = folder.join(split);
    if files.is_empty() && below.is_dir() {
        return numbered(&below, split);
    }
    sort(&mut files);
    match lacks(&files, split) {
        Some(expected) => Err(missing(folder, split, &expected, &files)),
        None => Ok(files.into_iter().map(|name| folder.join(name)).collect()),
    }
}

/// The Parquet files of a folder that is a split: `0000.parquet`, `0001.parquet` and so on; none if none is a number.
fn numbered(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<String> =
        entries(folder)?.into_iter().filter(|name| name.ends_with(EXTENSION)).collect();
    sort(&mut files);
    let number = |name: &String| name.strip_suffix(EXTENSION)?.parse::<usize>().ok();
    // Another layout, which just has a folder of this name.
    if !files.iter().any(|name| number(name).is_some()) {
        return Ok(Vec::new());
    }
    match files.iter().map(number).eq((0..files.len()).map(Some)) {
        true => Ok(files.into_iter().map(|name| folder.join(name)).collect()),
        false => Err(missing(folder, split, "0000.parquet, 0001.parquet and so on, without a gap,", &files)),
    }
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

/// The names of the folders below `root` that hold Parquet files, or whose folders do.
pub(super) fn folders(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in entries(root)? {
        let folder = root.join(&name);
        if !folder.is_dir() {
            continue;
        }
        let below = entries(&folder)?;
        let is_split = |name: &String| {
            let folder = folder.join(name);
            folder.is_dir() && entries(&folder).is_ok_and(|names| has_files(&names))
        };
        if has_files(&below) || below.iter().any(is_split) {
            found.push(name);
        }
    }
    Ok(found)
}

fn has_files(names: &BTreeSet<String>) -> bool {
    names.iter().any(|name| name.ends_with(EXTENSION))
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
            let whole = files.contains(&format!("{split}{EXTENSION}"));
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
        let stem = name.strip_prefix(split)?.strip_prefix('-')?.strip_suffix(EXTENSION)?;
        let (index, rest) = stem.split_once("-of-")?;
        let count = rest.split_once('-').map_or(rest, |(count, _)| count);
        Some(Self { index: index.parse().ok()?, count: count.parse().ok()? })
    }
}
