//! What is in a folder, and whether what is read there may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::error::{DataError, Result};

/// The names in a folder, sorted.
pub(super) fn entries(folder: &Path) -> Result<BTreeSet<String>> {
    let wrong = |source| DataError::Io { file: shown(folder), source };
    let entries = fs::read_dir(folder).map_err(wrong)?;
    entries.map(|entry| Ok(entry.map_err(wrong)?.file_name().to_string_lossy().into_owned())).collect()
}

/// `path` itself, if it is there and may be read: in a snapshot of the Hugging Face cache links stay inside its
/// repository's folder, in any other `root` they lead where the user lets them.
pub(super) fn inside(root: &Path, path: &Path) -> Result<PathBuf> {
    match skn_hub::follow(root, path)? {
        Some(_) => Ok(path.to_owned()),
        None => Err(DataError::Io { file: shown(path), source: io::ErrorKind::NotFound.into() }),
    }
}

/// Whether a file is there, or a link that ought to lead to one: what that lacks is for [`inside`] to say.
pub(super) fn is_there(path: &Path) -> bool {
    path.is_file() || (path.is_symlink() && !path.exists())
}

/// A path as errors show it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
