//! The cache: which snapshot of a repository is here.

use std::path::{Path, PathBuf};

use skn_artifact::{is_absence, is_folder, read_regular};

use crate::environment::Environment;
use crate::error::{HubError, Result};
use crate::folder::{names, part_of_download};
use crate::repository::{MAIN, Repository, is_commit};

/// A Hugging Face cache.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// A cache in a folder, which need not exist.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The one that the environment names: `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `HF_HOME/hub`, else
    /// `~/.cache/huggingface/hub` (`XDG_CACHE_HOME` stands for `~/.cache`). `~`, `$NAME` and `${NAME}` in them are
    /// understood. Nothing if not even a home folder is known.
    ///
    /// # Errors
    /// If a variable names no path.
    pub fn of_environment() -> Result<Option<Self>> {
        Ok(Environment::real().cache()?.map(Self::at))
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a repository.
    pub fn repository(&self, repository: &Repository) -> PathBuf {
        self.folder.join(repository.folder_name())
    }

    /// The folder with a repository's files at its revision, if it is here. Links in it are [followed](crate::follow) one
    /// by one, by who reads them.
    ///
    /// The revision is a branch or a tag that `refs` knows, a commit, or the beginning of one. A copy of a cache may lack
    /// `refs`: then its only snapshot is what the name means, which is told.
    ///
    /// # Errors
    /// If several commits are here that it may mean, or what is here can't be looked at.
    pub fn snapshot(&self, repository: &Repository) -> Result<Option<PathBuf>> {
        let snapshots = self.repository(repository).join("snapshots");
        let commit = self.commit(repository, &snapshots)?;
        let Some(folder) = commit.map(|commit| snapshots.join(commit)) else { return Ok(None) };
        Ok(is_folder(&folder)?.then_some(folder))
    }

    fn commit(&self, repository: &Repository, snapshots: &Path) -> Result<Option<String>> {
        let Repository { name, revision, .. } = repository;
        let refs = self.repository(repository).join("refs");
        let path = refs.join(revision);
        match reference(&path) {
            Ok(text) => return Ok(Some(text.trim().to_string()).filter(|commit| is_commit(commit))),
            // A folder of references, such as `refs/pr`, is none itself.
            Err(error) if is_absence(&error) || is_folder(&path)? => {}
            // It may say another commit than what is here.
            Err(source) => return Err(HubError::Unreadable { path, source }),
        }
        let mut commits = names(snapshots)?;
        commits.retain(|name| is_commit(name));
        match revision.as_str() {
            // What a reference names is what that means, and not `main`.
            MAIN if names(&refs)?.is_empty() => {}
            whole if commits.iter().any(|commit| commit == whole) => return Ok(Some(whole.to_string())),
            part if is_commit(part) => commits.retain(|commit| commit.starts_with(part)),
            _ => return Ok(None),
        }
        match commits.as_slice() {
            [] => Ok(None),
            [commit] if revision == MAIN => {
                let folder = self.repository(repository);
                tracing::info!("{}: no refs/{MAIN}: {name} is the only snapshot, {commit}", folder.display());
                Ok(Some(commit.clone()))
            }
            [commit] => Ok(Some(commit.clone())),
            [example, ..] => Err(HubError::Ambiguous {
                folder: self.repository(repository),
                name: name.clone(),
                revision: revision.clone(),
                found: commits.join(", "),
                example: example.clone(),
            }),
        }
    }

    /// What is here of a repository whose revision is not: other revisions, or a part of a download.
    pub fn remains(&self, repository: &Repository) -> Option<String> {
        let folder = self.repository(repository);
        let mut revisions = Vec::new();
        collect(&folder.join("refs"), "", &mut revisions);
        let snapshots = names(&folder.join("snapshots")).unwrap_or_default();
        revisions.extend(snapshots.into_iter().filter(|name| is_commit(name)));
        match (part_of_download(&folder), revisions.is_empty()) {
            (Some(part), _) => {
                Some(format!("its download was not finished: {}/blobs/{part}", folder.display()))
            }
            (None, false) => {
                let of = |revision| format!("{}@{revision}", repository.name);
                Some(format!("here are {}", revisions.into_iter().map(of).collect::<Vec<_>>().join(", ")))
            }
            (None, true) => None,
        }
    }
}

/// The names of references, which may have slashes: `refs/convert/parquet` is `refs/refs/convert/parquet`.
fn collect(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    // The Hub's names have three parts at most.
    if prefix.matches('/').count() > 3 {
        return;
    }
    // What can't be looked at is no help to who is told.
    for name in names(folder).unwrap_or_default() {
        let path = folder.join(&name);
        match is_folder(&path).unwrap_or(false) {
            true => collect(&path, &format!("{prefix}{name}/"), found),
            false => found.push(format!("{prefix}{name}")),
        }
    }
}

/// What a reference says: a commit, and nothing long.
fn reference(path: &Path) -> std::io::Result<String> {
    String::from_utf8(read_regular(path, 4096)?).map_err(std::io::Error::other)
}
