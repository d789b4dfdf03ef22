//! Folders and links on disk.

use std::fs::{self, File, FileType};
use std::io;
use std::path::Path;

use skn_artifact::{ArtifactError, is_absence};

/// Lets what was made and renamed in a folder survive a power cut.
///
/// # Errors
/// If the system refuses.
pub(crate) fn sync(folder: &Path) -> Result<(), ArtifactError> {
    if cfg!(unix) {
        let handle = File::open(folder).map_err(error(folder, "open the folder"))?;
        handle.sync_all().map_err(error(folder, "sync the folder"))?;
    }
    Ok(())
}

/// What has this name, be it a link to nothing, if anything has.
///
/// # Errors
/// If the system can't say: what can't be looked at would be replaced as if it were not there.
pub(crate) fn kind(path: &Path) -> Result<Option<FileType>, ArtifactError> {
    match path.symlink_metadata() {
        Ok(found) => Ok(Some(found.file_type())),
        Err(found) if is_absence(&found) => Ok(None),
        Err(found) => Err(error(path, "look at")(found)),
    }
}

/// Whether something has this name, be it a link to nothing.
///
/// # Errors
/// As [`kind`].
pub(crate) fn is_there(path: &Path) -> Result<bool, ArtifactError> {
    Ok(kind(path)?.is_some())
}

/// Removes a folder and what is in it, if it is there.
///
/// # Errors
/// If the system refuses.
pub(crate) fn remove(folder: &Path) -> Result<(), ArtifactError> {
    match fs::remove_dir_all(folder) {
        Err(found) if found.kind() != io::ErrorKind::NotFound => Err(error(folder, "remove")(found)),
        _ => Ok(()),
    }
}

/// Lets two folders change places, at one moment. Not every system can.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(crate) fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A link to a content.
#[cfg(unix)]
pub(crate) fn point(target: &Path, _: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Links need rights that users of other systems may not have: a copy does too, as in `huggingface_hub`.
#[cfg(not(unix))]
pub(crate) fn point(_: &Path, content: &Path, link: &Path) -> io::Result<()> {
    fs::copy(content, link).map(|_| ())
}

/// What the system said, with the file and what was tried.
pub(crate) fn error(path: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> ArtifactError {
    let file = path.to_path_buf();
    move |source| ArtifactError::Io { file, operation, source }
}
