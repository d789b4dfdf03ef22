//! Parquet files of a split, which may be many.

use std::path::{Path, PathBuf};

use super::locate::{entries, shown};
use super::row::names;
use crate::error::{DataError, Result};

const EXTENSION: &str = ".parquet";

/// The Parquet files of a split in a folder, in the order of their rows: `<split>.parquet` or `<split>-*.parquet`.
///
/// Shards that say how many they are must all be there.
pub(super) fn of(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let is_of_split = |name: &String| {
        let rest = name.strip_suffix(EXTENSION).and_then(|stem| stem.strip_prefix(split));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut files: Vec<String> = entries(folder)?.into_iter().filter(is_of_split).collect();
    // 10 comes after 2.
    files.sort_by_key(|name| (name.len(), name.clone()));
    if let Some(expected) = lacks(&files, split) {
        let found: Vec<&str> = files.iter().map(String::as_str).collect();
        return Err(DataError::NotFound {
            place: shown(folder),
            expected: format!("{expected} of split {split:?}"),
            found: names(&found),
        });
    }
    Ok(files.into_iter().map(|name| folder.join(name)).collect())
}

/// The names of the folders below `root` that hold Parquet files.
pub(super) fn folders(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in entries(root)? {
        let folder = root.join(&name);
        if folder.is_dir() && entries(&folder)?.iter().any(|name| name.ends_with(EXTENSION)) {
            found.push(name);
        }
    }
    Ok(found)
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
