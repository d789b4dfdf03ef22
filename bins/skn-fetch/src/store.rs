//! A repository's folder in the cache: contents, and the links that give them names.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use skn_artifact::{
    Overwrite, is_file, is_there, make_folder, read_regular, rename_file, within, write_file,
};
use skn_hub::{Cache, Repository};
use skn_program::Failure;

use crate::content::{Expected, Hash};
use crate::disk::{error, kind};
use crate::patience::{HEARTBEAT, Watch};
use crate::publish::{ASIDE, Publication};

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

    /// Whether a content is here, whole and right.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn has(&self, expected: &Expected) -> Result<bool> {
        let blob = self.blob(&expected.hash);
        Ok(is_file(&blob)? && expected.wrong_of(&blob)?.is_none())
    }

    /// The same, of a content that nobody else is at. One that is wrong is taken away, so that nobody reads it while it is
    /// fetched anew.
    ///
    /// # Errors
    /// If it can't be read or taken away.
    pub(crate) fn has_still(&self, expected: &Expected, _held: &Partial) -> Result<bool> {
        let blob = self.blob(&expected.hash);
        if !is_file(&blob)? {
            return Ok(false);
        }
        let Some(wrong) = expected.wrong_of(&blob)? else { return Ok(true) };
        tracing::warn!("{}: {wrong}; it is fetched anew", blob.display());
        fs::remove_file(&blob).map_err(error(&blob, "remove"))?;
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
        make_folder(&self.folder.join("blobs"))?;
        let Some(lock) = self.lock(&self.locks.join(format!("{}.lock", hash.digits())))? else {
            return Err(Failure::locked(format!("{}: another program fetches this", path.display())));
        };
        if kind(&path)?.is_some_and(|kind| !kind.is_file()) {
            return Err(Failure::input(format!("{}: expected a file, found something else", path.display())));
        }
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(error(&path, "create"))?;
        let length = file.metadata().map_err(error(&path, "read"))?.len();
        Ok(Partial { path, file, length, _lock: lock })
    }

    /// Gives a content its name: all of it is on disk and right.
    ///
    /// # Errors
    /// If it is not what it should be, or the system refuses.
    pub(crate) fn complete(&self, partial: &Partial, expected: &Expected) -> Result<Option<String>> {
        let Partial { path, file, .. } = partial;
        file.sync_all().map_err(error(path, "sync"))?;
        let wrong = expected.wrong_of(path)?;
        if wrong.is_none() {
            rename_file(path, &self.blob(&expected.hash))?;
        }
        Ok(wrong)
    }

    /// The folder in which a commit's snapshot is built.
    pub(crate) fn aside(&self, commit: &str) -> PathBuf {
        self.folder.join(ASIDE).join(format!("{commit}.new"))
    }

    /// Gives contents that are all here their names, and lets a revision mean the commit. What is read by commit or by
    /// revision is what was there before or all of it, or nothing where nothing was.
    ///
    /// # Errors
    /// If the system refuses, or another program does the same for too long.
    pub(crate) fn publish(
        &self,
        watch: &Watch<'_>,
        revision: &str,
        commit: &str,
        files: &[(&str, &Hash)],
    ) -> Result<()> {
        let _lock = self.only_one(watch, commit)?;
        // A snapshot without a reference counts as `main`, a reference without a snapshot as nothing. Where there are
        // others, they must stay what the revision means until this one is there.
        let others = !within(&self.folder.join("snapshots"))?.is_empty();
        let first = !others && !is_there(&self.reference(revision))?;
        if first {
            self.refer(revision, commit)?;
        }
        Publication { repository: &self.folder, commit, files }.publish()?;
        self.refer(revision, commit)
    }

    /// Waits until nobody else publishes the commit, which takes moments.
    fn only_one(&self, watch: &Watch<'_>, commit: &str) -> Result<File> {
        let path = self.locks.join(format!("{commit}.lock"));
        let began = Instant::now();
        loop {
            match self.lock(&path)? {
                Some(lock) => return Ok(lock),
                None if began.elapsed() > watch.limits.silence => {
                    return Err(Failure::locked(format!("{}: another program has it", path.display())));
                }
                None => std::thread::sleep(HEARTBEAT),
            }
            watch.check(commit)?;
        }
    }

    fn lock(&self, path: &Path) -> Result<Option<File>> {
        make_folder(&self.locks)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(path);
        let lock = lock.map_err(error(path, "create"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(found)) => Err(error(path, "lock")(found).into()),
        }
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    fn refer(&self, revision: &str, commit: &str) -> Result<()> {
        let path = self.reference(revision);
        // One that can't be read is written anew.
        let says = |found: Vec<u8>| found == commit.as_bytes();
        if revision == commit || read_regular(&path, 4096).is_ok_and(says) {
            return Ok(());
        }
        make_folder(path.parent().unwrap_or(&self.folder))?;
        Ok(write_file(&path, Overwrite::Replace, commit.as_bytes())?)
    }
}

impl Partial {
    /// Adds a piece at the end.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn append(&mut self, piece: &[u8]) -> Result<()> {
        self.file.seek(SeekFrom::Start(self.length)).map_err(error(&self.path, "seek"))?;
        self.file.write_all(piece).map_err(error(&self.path, "write"))?;
        self.length += piece.len() as u64;
        Ok(())
    }

    /// Forgets what is here.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(error(&self.path, "truncate"))?;
        self.length = 0;
        Ok(())
    }

    /// Takes it away.
    pub(crate) fn discard(self) {
        // It has no name that anybody reads; the next run would check it again.
        fs::remove_file(&self.path).ok();
    }
}
