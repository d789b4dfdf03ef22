//! What is in a folder.

use std::path::Path;

use skn_artifact::is_absence;

use crate::error::{HubError, Result};

/// The names in a folder, sorted; none if there is no such folder.
///
/// # Errors
/// If it can't be read: then nobody knows what is in it.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let unreadable = |source| HubError::Unreadable { path: folder.into(), source };
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is no text is none of the Hub's.
        names.extend(entry.map_err(unreadable)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// The name of what a download that was interrupted left in a repository's folder. It is only told, so what can't be looked
/// at is passed over.
pub(crate) fn part_of_download(repository: &Path) -> Option<String> {
    let blobs = names(&repository.join("blobs")).unwrap_or_default();
    blobs.into_iter().find(|name| name.ends_with(".incomplete"))
}
