//! Where the Hugging Face cache keeps a repository: one folder with `blobs` (contents, named by their hashes),
//! `snapshots/<commit>` (links to them, by file name) and `refs/<revision>` (which commit that is), as
//! `huggingface_hub` writes it.
//!
//! ```
//! use skn_hub::{Kind, Repository};
//!
//! let repository = Repository::parse(Kind::Dataset, "stanfordnlp/sst2@refs/convert/parquet").unwrap();
//! assert_eq!(repository.folder_name(), "datasets--stanfordnlp--sst2");
//! assert_eq!(repository.fetch_command(), "skn-fetch --dataset stanfordnlp/sst2 --revision refs/convert/parquet");
//! ```

use std::path::{Path, PathBuf};

use skn_artifact::ErrorKind;

/// The revision of a name that says none.
pub const MAIN: &str = "main";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model
    Model,
    /// A data set
    Dataset,
}

impl Kind {
    fn folder_prefix(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// As messages call it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "data set",
        }
    }
}

/// A repository of the Hub at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// What it holds.
    pub kind: Kind,
    /// `owner/name`; old ones have no owner.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Repository {
    /// Reads `owner/name[@revision]`; nothing if that can't be the name of a repository.
    pub fn parse(kind: Kind, text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let fits = |text: &str, parts: usize| text.split('/').count() <= parts && is_plain(text);
        (fits(name, 2) && fits(revision, usize::MAX)).then(|| Self {
            kind,
            name: name.to_string(),
            revision: revision.to_string(),
        })
    }

    /// The name of its folder in the cache.
    pub fn folder_name(&self) -> String {
        format!("{}--{}", self.kind.folder_prefix(), self.name.replace('/', "--"))
    }

    /// The command line that fetches it.
    pub fn fetch_command(&self) -> String {
        let kind = if self.kind == Kind::Dataset { "--dataset " } else { "" };
        let revision =
            if self.revision == MAIN { String::new() } else { format!(" --revision {}", self.revision) };
        format!("skn-fetch {kind}{}{revision}", self.name)
    }
}

/// Whether a name with slashes stays below where it begins, in a file system and in a URL.
fn is_plain(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
    };
    text.split('/').all(plain)
}

/// Whether a text can be a commit: hexadecimal digits, and so no path that leads elsewhere.
pub fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

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

    /// The one that the environment names: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    /// Nothing if not even a home folder is known.
    pub fn of_environment() -> Option<Self> {
        variable("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home()?.join("hub"))).map(Self::at)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a repository.
    pub fn repository(&self, repository: &Repository) -> PathBuf {
        self.folder.join(repository.folder_name())
    }

    /// The commit of a repository's revision, if it is here or the revision is one itself.
    pub fn commit(&self, repository: &Repository) -> Option<String> {
        let reference = self.repository(repository).join("refs").join(&repository.revision);
        let commit = std::fs::read_to_string(reference).map(|text| text.trim().to_string());
        Some(commit.unwrap_or_else(|_| repository.revision.clone())).filter(|commit| is_commit(commit))
    }

    /// The folder with a repository's files at its revision, if it is here.
    ///
    /// # Errors
    /// If a link in it leads out of the repository's folder, where all contents are.
    pub fn snapshot(&self, repository: &Repository) -> Result<Option<PathBuf>> {
        let folder = self.repository(repository);
        let Some(commit) = self.commit(repository) else { return Ok(None) };
        let snapshot = folder.join("snapshots").join(commit);
        if !snapshot.is_dir() {
            return Ok(None);
        }
        if let Ok(folder) = folder.canonicalize() {
            check_links(&snapshot, &folder)?;
        }
        Ok(Some(snapshot))
    }
}

/// Why a repository in the cache can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A folder of the cache can't be read.
    #[error("{folder}: can't be read: {source}")]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// A link in a snapshot leads elsewhere.
    #[error("{path}: leads out of its repository's folder {repository}; only files inside it are read")]
    LeadsOut {
        /// The link.
        path: PathBuf,
        /// The folder of the repository.
        repository: PathBuf,
    },
}

impl HubError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Input
    }
}

/// The result of this crate's functions.
pub type Result<T, E = HubError> = std::result::Result<T, E>;

/// Refuses a folder with an entry that is elsewhere than it seems, except inside `fence`. Links to nothing are left:
/// nobody can read them.
fn check_links(folder: &Path, fence: &Path) -> Result<()> {
    let wrong = |source| HubError::Unreadable { folder: folder.into(), source };
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let Ok(real) = path.canonicalize() else { continue };
        if !real.starts_with(fence) {
            return Err(HubError::LeadsOut { path, repository: fence.into() });
        }
        // A link to a folder could lead round in a circle; the cache has none.
        if path.is_dir() && !path.is_symlink() {
            check_links(&path, fence)?;
        }
    }
    Ok(())
}

/// Where Hugging Face's programs keep their things: `HF_HOME`, else `~/.cache/huggingface`.
pub fn home() -> Option<PathBuf> {
    let below = |folder: PathBuf| folder.join("huggingface");
    variable("HF_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("XDG_CACHE_HOME").map(PathBuf::from).map(below))
        .or_else(|| std::env::home_dir().map(|home| below(home.join(".cache"))))
}

/// Whether the environment forbids connections: `HF_HUB_OFFLINE` is 1, true, yes or on.
pub fn is_offline() -> bool {
    let yes = |value: String| ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str());
    variable("HF_HUB_OFFLINE").and_then(|value| value.into_string().ok()).is_some_and(yes)
}

/// A variable of the environment, unless it is empty.
pub fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests;
