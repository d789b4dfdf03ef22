//! What a fetch gives.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use skn_hub::Repository;

/// What is in the cache now.
#[derive(Clone, Debug, Serialize)]
pub struct Fetched {
    /// `owner/name`.
    pub repository: String,
    /// `model` or `data set`.
    pub kind: &'static str,
    /// The revision that was asked for.
    pub revision: String,
    /// Its commit.
    pub commit: String,
    /// The folder with the files.
    pub folder: PathBuf,
    /// The files.
    pub files: Vec<FetchedFile>,
}

/// One file of it.
#[derive(Clone, Debug, Serialize)]
pub struct FetchedFile {
    /// Its name in the repository.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its hash: SHA-256 or, of small files, git's SHA-1. Nothing of a file that is no link into the cache.
    pub hash: Option<String>,
    /// Whether it came now; else it was here.
    pub fetched: bool,
}

impl fmt::Display for Fetched {
    /// The folder alone, so that a shell can use it: `--resume_from "$(skn-fetch owner/name)"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.folder.display())
    }
}

/// Of a repository, with its files by name.
pub(crate) fn fetched(
    repository: &Repository,
    commit: &str,
    folder: PathBuf,
    mut files: Vec<FetchedFile>,
) -> Fetched {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let Repository { kind, name, revision } = repository.clone();
    Fetched { repository: name, kind: kind.noun(), revision, commit: commit.into(), folder, files }
}
