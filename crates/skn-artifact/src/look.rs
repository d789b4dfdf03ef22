//! Whether something is there. What can't be looked at (a folder that may not be searched, a disk that fails, a network file
//! system that has gone) is not absent: whoever took it for that would use something else in its place.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::{ArtifactError, Result};

/// Whether a regular file, or a link to one, is there.
///
/// # Errors
/// If the system can't say.
pub fn is_file(path: &Path) -> Result<bool> {
    Ok(look(path)?.is_some_and(|found| found.is_file()))
}

/// Whether a folder, or a link to one, is there.
///
/// # Errors
/// If the system can't say.
pub fn is_folder(path: &Path) -> Result<bool> {
    Ok(look(path)?.is_some_and(|found| found.is_dir()))
}

/// Whether anything is there; a link to nothing is nothing.
///
/// # Errors
/// If the system can't say.
pub fn is_there(path: &Path) -> Result<bool> {
    Ok(look(path)?.is_some())
}

/// Where a path really leads; nothing if nothing is there.
///
/// # Errors
/// If the system can't say.
pub fn real_path(path: &Path) -> Result<Option<PathBuf>> {
    found(path, fs::canonicalize(path))
}

/// Whether a link is there, wherever it leads.
///
/// # Errors
/// If the system can't say.
pub fn is_link(path: &Path) -> Result<bool> {
    Ok(found(path, fs::symlink_metadata(path))?.is_some_and(|found| found.is_symlink()))
}

/// The paths of what is in a folder, sorted; none if there is no such folder.
///
/// # Errors
/// If it can't be read: then nobody knows what is in it.
pub fn within(folder: &Path) -> Result<Vec<PathBuf>> {
    let Some(entries) = found(folder, fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(ArtifactError::io(folder, "look at"))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Whether an error says that something is not there, rather than that it can't be looked at.
pub fn is_absence(error: &io::Error) -> bool {
    // The last two: what can't be the name of a file.
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput | ErrorKind::InvalidFilename
    )
}

fn look(path: &Path) -> Result<Option<Metadata>> {
    found(path, fs::metadata(path))
}

fn found<T>(path: &Path, looked: io::Result<T>) -> Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(ArtifactError::io(path, "look at")(error)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::write(place("file"), "").unwrap();
        fs::create_dir(place("folder")).unwrap();
        std::os::unix::fs::symlink("nothing", place("broken")).unwrap();
        let looked = |name: &str| [is_file, is_folder, is_there].map(|look| look(&place(name)).unwrap());
        assert_eq!(looked("file"), [true, false, true]);
        assert_eq!(looked("folder"), [false, true, true]);
        for name in ["none", "none/below", "file/below", "broken", "nul\0", &"long".repeat(100)] {
            assert_eq!(looked(name), [false; 3], "{name}");
            assert_eq!(is_link(&place(name)).unwrap(), name == "broken", "{name}");
            assert_eq!(within(&place(name)).unwrap(), [""; 0].map(PathBuf::from), "{name}");
            assert_eq!(real_path(&place(name)).unwrap(), None, "{name}");
        }
        std::os::unix::fs::symlink("loop", place("loop")).unwrap();
        let message = is_file(&place("loop")).unwrap_err().to_string();
        assert!(message.contains("loop: can't look at: "), "{message}");
        std::os::unix::fs::symlink("file", place("link")).unwrap();
        assert_eq!(real_path(&place("link")).unwrap(), real_path(&place("file")).unwrap());
        assert!(real_path(&place("loop")).is_err() && within(&place("loop")).is_err());
        assert!(is_link(&place("loop")).unwrap() && !is_link(&place("file")).unwrap());
        assert_eq!(within(folder.path()).unwrap(), ["broken", "file", "folder", "link", "loop"].map(place));
        assert_eq!(within(&place("file")).unwrap(), within(&place("folder")).unwrap());
    }
}
