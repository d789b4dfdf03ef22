use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{ArtifactError, Result};
use crate::file::make_folder;

/// A file without a name that is written and read at any place: for what is larger than memory should be while a stage is under way.
/// It goes with the value, or with the process, however that ends.
///
/// ```
/// use skn_artifact::Spool;
///
/// let folder = std::env::temp_dir();
/// let spool = Spool::new(&folder)?;
/// spool.write(1000, b"abc")?;
/// let mut bytes = [0; 4];
/// spool.read(999, &mut bytes)?;
/// assert_eq!(&bytes, b"\0abc");
/// # Ok::<(), skn_artifact::ArtifactError>(())
/// ```
#[derive(Debug)]
pub struct Spool {
    file: File,
    folder: PathBuf,
}

impl Spool {
    /// An empty one, which takes room in this folder; a missing one is made.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new(folder: &Path) -> Result<Self> {
        make_folder(folder)?;
        let file = tempfile::tempfile_in(folder)
            .map_err(ArtifactError::io(folder, "create a temporary file there"))?;
        Ok(Self { file, folder: folder.into() })
    }

    /// Puts bytes at a place. What lies between what was written is 0.
    ///
    /// # Errors
    /// If the system refuses: the disk is full, say.
    pub fn write(&self, place: u64, bytes: &[u8]) -> Result<()> {
        write_at(&self.file, place, bytes)
            .map_err(ArtifactError::io(&self.folder, "write a temporary file there"))
    }

    /// Fills `bytes` with what stands at a place.
    ///
    /// # Errors
    /// If less was written, or the system refuses.
    pub fn read(&self, place: u64, bytes: &mut [u8]) -> Result<()> {
        read_at(&self.file, place, bytes)
            .map_err(ArtifactError::io(&self.folder, "read a temporary file there"))
    }
}

#[cfg(unix)]
fn write_at(file: &File, place: u64, bytes: &[u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, place)
}

#[cfg(unix)]
fn read_at(file: &File, place: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, place)
}

#[cfg(windows)]
fn write_at(file: &File, mut place: u64, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, place)?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        (place, bytes) = (place + written as u64, bytes.split_at(written.min(bytes.len())).1);
    }
    Ok(())
}

#[cfg(windows)]
fn read_at(file: &File, mut place: u64, mut bytes: &mut [u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, place)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let rest = std::mem::take(&mut bytes);
        let most = read.min(rest.len());
        (place, bytes) = (place + read as u64, rest.split_at_mut(most).1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(&folder.path().join("run")).unwrap();
        spool.write(1 << 20, b"behind").unwrap();
        spool.write(2, b"front").unwrap();
        let mut bytes = [9; 8];
        spool.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0front\0");
        spool.read((1 << 20) + 1, &mut bytes[..5]).unwrap();
        assert_eq!(&bytes[..5], b"ehind");
        let message = spool.read(1 << 20, &mut bytes).unwrap_err().to_string();
        assert!(message.contains("run") && message.contains("read a temporary file"), "{message}");
        assert_eq!(std::fs::read_dir(folder.path().join("run")).unwrap().count(), 0, "it has no name");
    }
}
