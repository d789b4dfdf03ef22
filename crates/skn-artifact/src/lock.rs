use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{ArtifactError, Result};
use crate::file::make_folder;

/// The right to write into a run's folder. It ends when this is dropped, or with the process, however that ends.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

impl RunLock {
    /// Takes the lock of a folder, which is made if need be. `program` is what another one is told.
    ///
    /// # Errors
    /// [`ArtifactError::Locked`] if another program holds it; its name and process number are in the message.
    pub fn acquire(folder: &Path, program: &str) -> Result<Self> {
        make_folder(folder)?;
        let path = folder.join(".lock");
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(ArtifactError::io(&path, "create"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // What the holder wrote is for the message only.
                file.read_to_string(&mut holder).ok();
                return Err(ArtifactError::Locked { folder: folder.into(), holder: holder.trim().into() });
            }
            Err(TryLockError::Error(error)) => return Err(ArtifactError::io(&path, "lock")(error)),
        }
        let holder = format!("{program} (process {})\n", std::process::id());
        file.set_len(0).map_err(ArtifactError::io(&path, "write"))?;
        file.seek(SeekFrom::Start(0)).map_err(ArtifactError::io(&path, "write"))?;
        file.write_all(holder.as_bytes()).map_err(ArtifactError::io(&path, "write"))?;
        Ok(Self { file })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // The kernel does the same when the file is closed.
        self.file.unlock().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunLock::acquire(folder.path(), "skn-train").unwrap();
        let error = RunLock::acquire(folder.path(), "skn-probe").unwrap_err();
        assert!(error.to_string().contains("skn-train") && error.exit_code() == 6, "{error}");
        drop(first);
        RunLock::acquire(folder.path(), "skn-probe").unwrap();
    }
}
