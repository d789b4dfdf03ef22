//! What is in a folder, and whether what is read there is inside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{DataError, Result};

/// The names in a folder, sorted.
pub(super) fn entries(folder: &Path) -> Result<BTreeSet<String>> {
    let wrong = |source| DataError::Io { file: shown(folder), source };
    let entries = fs::read_dir(folder).map_err(wrong)?;
    entries.map(|entry| Ok(entry.map_err(wrong)?.file_name().to_string_lossy().into_owned())).collect()
}

/// `path` itself, if it lies inside `root` also when symbolic links are followed.
pub(super) fn inside(root: &Path, path: &Path) -> Result<PathBuf> {
    let real =
        |path: &Path| fs::canonicalize(path).map_err(|source| DataError::Io { file: shown(path), source });
    if real(path)?.starts_with(fence(&real(root)?)) {
        return Ok(path.to_owned());
    }
    Err(DataError::Outside { file: shown(root), name: shown(path) })
}

/// The folder that links may not lead out of: `root`, or where that is part of a snapshot in the Hugging Face cache,
/// whose files are links to `<repository>/blobs`, the repository's folder.
fn fence(root: &Path) -> &Path {
    let is_repository = |folder: &Path| {
        let name = folder.file_name().map(|name| name.to_string_lossy());
        name.is_some_and(|name| name.starts_with("datasets--")) && folder.join("blobs").is_dir()
    };
    // <repository>/snapshots/<commit> and below.
    let snapshots = root.ancestors().skip(1).find(|folder| folder.ends_with("snapshots"));
    snapshots.and_then(Path::parent).filter(|folder| is_repository(folder)).unwrap_or(root)
}

/// A path as errors show it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
