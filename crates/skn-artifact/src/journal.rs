use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{ArtifactError, Result};
use crate::file::{make_folder, sync_folder};
use crate::hash::to_hex;

/// A file of JSON lines that only grows. A checkpoint remembers its length; a resumed run cuts it back to that.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    hash: Sha256,
}

impl Journal {
    /// Opens a journal and cuts it back to its first `keep` bytes; 0 begins a new one.
    ///
    /// # Errors
    /// If the file is shorter than `keep`, or can't be opened or cut.
    pub fn open(path: &Path, keep: u64) -> Result<Self> {
        Self::open_checked(path, keep, None)
    }

    /// Begins a journal. One that is there is opened first and cut last: what is done `between`, such as removing what belongs to
    /// it, is done only if this one can be written.
    ///
    /// # Errors
    /// If it can't be opened or cut, or what is done between fails.
    pub fn begin<E: From<ArtifactError>>(
        path: &Path,
        between: impl FnOnce() -> Result<(), E>,
    ) -> Result<Self, E> {
        let file = open_or_make(path)?;
        between()?;
        file.set_len(0).map_err(ArtifactError::io(path, "cut"))?;
        sync_folder(folder_of(path))?;
        Ok(Self { path: path.into(), file, length: 0, hash: Sha256::new() })
    }

    /// Opens a journal whose first `keep` bytes must have a SHA-256, and cuts it back to them.
    ///
    /// # Errors
    /// As [`Self::open`], or if they have another; the file is as it was then.
    pub fn resume(path: &Path, keep: u64, sha256: &str) -> Result<Self> {
        Self::open_checked(path, keep, Some(sha256))
    }

    fn open_checked(path: &Path, keep: u64, sha256: Option<&str>) -> Result<Self> {
        let mut file = open_or_make(path)?;
        let length = file.metadata().map_err(ArtifactError::io(path, "read"))?.len();
        if length < keep {
            let expected = format!("at least the {keep} bytes of the checkpoint");
            return Err(ArtifactError::format(path, "length", expected, format!("{length} bytes")));
        }
        let mut hash = Sha256::new();
        let read =
            io::copy(&mut (&mut file).take(keep), &mut hash).map_err(ArtifactError::io(path, "read"))?;
        let found = to_hex(&hash.clone().finalize());
        if let Some(expected) = sha256.filter(|expected| *expected != found) {
            let place = format!("the first {read} bytes");
            let expected = format!("SHA-256 {expected}, as they were written");
            return Err(ArtifactError::format(path, place, expected, found));
        }
        file.set_len(keep).map_err(ArtifactError::io(path, "cut"))?;
        file.seek(SeekFrom::Start(keep)).map_err(ArtifactError::io(path, "seek in"))?;
        sync_folder(folder_of(path))?;
        Ok(Self { path: path.into(), file, length: keep, hash })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn append(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|error| {
            ArtifactError::format(&self.path, "record", "something that JSON can say", error)
        })?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(ArtifactError::io(&self.path, "write"))?;
        self.length += line.len() as u64;
        self.hash.update(&line);
        Ok(())
    }

    /// SHA-256 of all lines so far.
    pub fn sha256(&self) -> String {
        to_hex(&self.hash.clone().finalize())
    }

    /// Makes sure that all lines so far survive a power cut, and returns how many bytes they are.
    ///
    /// # Errors
    /// If the system can't promise it.
    pub fn sync(&mut self) -> Result<u64> {
        self.file.sync_all().map_err(ArtifactError::io(&self.path, "sync"))?;
        Ok(self.length)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn open_or_make(path: &Path) -> Result<File> {
    make_folder(folder_of(path))?;
    let mut options = OpenOptions::new();
    let opened = options.create(true).truncate(false).read(true).write(true).open(path);
    opened.map_err(ArtifactError::io(path, "open"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256_hex;

    #[test]
    fn a_journal_is_begun_when_all_before_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "1\n").unwrap();
        let wrong = || Err(ArtifactError::format(&path, "x", "y", "z"));
        Journal::begin(&path, wrong).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n");
        let mut journal = Journal::begin(&path, || Ok::<_, ArtifactError>(())).unwrap();
        journal.append(&2).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"2\n");
        // Where it can't be written nothing else happens.
        let never = || -> Result<()> { panic!("it can't be opened") };
        Journal::begin(folder.path(), never).unwrap_err();
    }

    #[test]
    fn a_journal_is_cut_back_to_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut journal = Journal::open(&path, 0).unwrap();
        journal.append(&1).unwrap();
        let kept = journal.sync().unwrap();
        journal.append(&2).unwrap();
        drop(journal);
        let mut journal = Journal::open(&path, kept).unwrap();
        journal.append(&3).unwrap();
        journal.sync().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n3\n");
        assert!(Journal::open(&path, 100).unwrap_err().to_string().contains("4 bytes"));
        let sha256 = journal.sha256();
        assert_eq!(sha256, sha256_hex(b"1\n3\n"));
        journal.append(&4).unwrap();
        drop(journal);
        let mut journal = Journal::resume(&path, 4, &sha256).unwrap();
        journal.append(&5).unwrap();
        drop(journal);
        std::fs::write(&path, "1\n2\n5\n").unwrap();
        let message = Journal::resume(&path, 4, &sha256).unwrap_err().to_string();
        assert!(message.contains("metrics.jsonl") && message.contains(&sha256), "{message}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n5\n", "it is as it was");
    }
}
