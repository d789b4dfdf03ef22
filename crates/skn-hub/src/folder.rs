//! What is in a folder.

use std::path::Path;

/// The names in a folder, sorted; none if there is no such folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The name of what a download that was interrupted left in a repository's folder.
pub(crate) fn part_of_download(repository: &Path) -> Option<String> {
    names(&repository.join("blobs")).into_iter().find(|name| name.ends_with(".incomplete"))
}
