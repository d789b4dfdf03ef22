//! What is in a folder, and whether what is read there may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use skn_artifact::is_absence;

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

/// Whether anything has this name, be it a link to nothing: what that lacks is for who reads it to say.
///
/// # Errors
/// If the system can't say. What is there may change what labels mean, so it must not be passed over.
pub(super) fn is_there(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if is_absence(&error) => Ok(false),
        Err(source) => Err(DataError::Io { file: shown(path), source }),
    }
}

/// Whether a folder, or a link to one, is there.
///
/// # Errors
/// If the system can't say.
pub(super) fn is_folder(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if is_absence(&error) => Ok(false),
        Err(source) => Err(DataError::Io { file: shown(path), source }),
    }
}

/// A path as errors show it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
