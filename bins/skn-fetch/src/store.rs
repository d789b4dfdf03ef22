//! A repository's folder in the cache: contents, and the links that give them names.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use skn_artifact::{ArtifactError, Overwrite, rename_file, write_file};
use skn_hub::{Cache, Repository};
use skn_program::Failure;

use crate::content::{Expected, Hash};

/// Where a repository's files go.
pub(crate) struct Store {
    folder: PathBuf,
    locks: PathBuf,
}

/// A content on its way: what is here of it, which no name leads to.
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    /// The bytes that are here.
    pub(crate) length: u64,
    _lock: File,
}

impl Store {
    /// The place of a repository in a cache. Nothing is made yet.
    pub(crate) fn new(cache: &Cache, repository: &Repository) -> Self {
        let locks = cache.folder().join(".locks").join(repository.folder_name());
        Self { folder: cache.repository(repository), locks }
    }

    /// Where a content is, or will be.
    pub(crate) fn blob(&self, hash: &Hash) -> PathBuf {
        self.folder.join("blobs").join(hash.digits())
    }

    /// The folder of a commit's files.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Whether a content is here, whole and right. One that is not is taken away, so that it is fetched anew.
    ///
    /// # Errors
    /// If it can't be read or taken away.
    pub(crate) fn has(&self, expected: &Expected) -> Result<bool> {
        let blob = self.blob(&expected.hash);
        if !blob.is_file() {
            return Ok(false);
        }
        let Some(wrong) = expected.wrong_of(&blob)? else { return Ok(true) };
        tracing::warn!("{}: {wrong}; it is fetched anew", blob.display());
        fs::remove_file(&blob).map_err(io(&blob, "remove"))?;
        Ok(false)
    }

    /// Begins a content, or goes on with what an earlier run left of it. The lock is the one that `huggingface_hub`
    /// takes, so that it does not write the same content at the same time; old versions of it leave a part of this name
    /// too.
    ///
    /// # Errors
    /// If another program is at it, or the file can't be made.
    pub(crate) fn partial(&self, hash: &Hash) -> Result<Partial> {
        let path = self.folder.join("blobs").join(format!("{}.incomplete", hash.digits()));
        make(&self.locks)?;
        make(&self.folder.join("blobs"))?;
        let lock_path = self.locks.join(format!("{}.lock", hash.digits()));
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let lock = options.open(&lock_path).map_err(io(&lock_path, "create"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::locked(format!("{}: another program fetches this", path.display())));
            }
            Err(TryLockError::Error(error)) => return Err(io(&lock_path, "lock")(error).into()),
        }
        let file = options.open(&path).map_err(io(&path, "create"))?;
        let length = file.metadata().map_err(io(&path, "read"))?.len();
        Ok(Partial { path, file, length, _lock: lock })
    }

    /// Gives a content its name: all of it is on disk and right.
    ///
    /// # Errors
    /// If it is not what it should be, or the system refuses.
    pub(crate) fn complete(&self, partial: &Partial, expected: &Expected) -> Result<Option<String>> {
        let Partial { path, file, .. } = partial;
        file.sync_all().map_err(io(path, "sync"))?;
        let wrong = expected.wrong_of(path)?;
        if wrong.is_none() {
            rename_file(path, &self.blob(&expected.hash))?;
        }
        Ok(wrong)
    }

    /// Lets a name in a commit's folder lead to a content.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn link(&self, commit: &str, name: &str, hash: &Hash) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        let folder = path.parent().unwrap_or(&self.folder);
        make(folder)?;
        // From snapshots/<commit>/<folders of the name> up to the repository's folder.
        let up = "../".repeat(2 + name.matches('/').count());
        let target = format!("{up}blobs/{}", hash.digits());
        if fs::read_link(&path).is_ok_and(|found| found == Path::new(&target)) {
            return Ok(());
        }
        let temporary = folder.join(format!(".{}.{}.tmp", hash.digits(), std::process::id()));
        point(&target, &self.blob(hash), &temporary).map_err(io(&path, "link"))?;
        Ok(rename_file(&temporary, &path)?)
    }

    /// Lets a revision mean a commit.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn refer(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        Ok(write_file(&path, Overwrite::Replace, commit.as_bytes())?)
    }
}

impl Partial {
    /// Adds a piece at the end.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn append(&mut self, piece: &[u8]) -> Result<()> {
        self.file.seek(SeekFrom::Start(self.length)).map_err(io(&self.path, "seek"))?;
        self.file.write_all(piece).map_err(io(&self.path, "write"))?;
        self.length += piece.len() as u64;
        Ok(())
    }

    /// Forgets what is here.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(io(&self.path, "truncate"))?;
        self.length = 0;
        Ok(())
    }

    /// Takes it away.
    pub(crate) fn discard(self) {
        // It has no name that anybody reads; the next run would check it again.
        fs::remove_file(&self.path).ok();
    }
}

#[cfg(unix)]
fn point(target: &str, _: &Path, link: &Path) -> std::io::Result<()> {
    fs::remove_file(link).ok();
    std::os::unix::fs::symlink(target, link)
}

/// Links need rights that users of other systems may not have: a copy does too, as in `huggingface_hub`.
#[cfg(not(unix))]
fn point(_: &str, blob: &Path, link: &Path) -> std::io::Result<()> {
    fs::copy(blob, link).map(|_| ())
}

fn make(folder: &Path) -> Result<()> {
    Ok(fs::create_dir_all(folder).map_err(io(folder, "make the folder"))?)
}

fn io(path: &Path, operation: &'static str) -> impl FnOnce(std::io::Error) -> ArtifactError {
    let file = path.to_path_buf();
    move |source| ArtifactError::Io { file, operation, source }
}
