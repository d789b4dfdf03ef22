//! A snapshot of a cache: the files of a repository at a commit.

use std::path::{Path, PathBuf};

use skn_artifact::real_path;

use crate::cache::Cache;
use crate::error::Result;
use crate::folder::part_of_download;
use crate::repository::{Kind, Repository};

/// A snapshot, as the path of a folder says that it is one: `<cache>/models--owner--name/snapshots/<commit>`.
///
/// ```
/// use skn_hub::Snapshot;
///
/// let folder = std::path::Path::new("/cache/datasets--nyu-mll--glue/snapshots/0123abcd/sst2");
/// let snapshot = Snapshot::around(folder).unwrap();
/// assert_eq!(snapshot.repository().name, "nyu-mll/glue");
/// assert!(snapshot.fetch_command().starts_with("skn-fetch --dataset nyu-mll/glue --revision 0123abcd"));
/// assert!(Snapshot::around("my-data/glue/sst2".as_ref()).is_none());
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    repository: Repository,
    folder: PathBuf,
}

impl Snapshot {
    /// The snapshot that a folder is, or is in, by its path.
    pub fn around(folder: &Path) -> Option<Self> {
        folder.ancestors().find_map(|folder| {
            let repository = Repository::of_snapshot(folder)?;
            Some(Self { repository, folder: folder.to_path_buf() })
        })
    }

    /// The repository, at its commit.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The folder that all of the repository is in.
    pub(crate) fn repository_folder(&self) -> &Path {
        self.folder.parent().and_then(Path::parent).unwrap_or(&self.folder)
    }

    /// Whether a file, whose path has no links, is the repository's. Its `blobs` may be a link to a larger disk, and
    /// huggingface_hub 2 keeps large contents once for all repositories, in the `blobs` of the cache.
    ///
    /// # Errors
    /// If the system can't say where those are.
    pub(crate) fn holds(&self, file: &Path) -> Result<bool> {
        let folder = self.repository_folder();
        if file.starts_with(folder) {
            return Ok(true);
        }
        for folder in [Some(folder), folder.parent()].into_iter().flatten() {
            if real_path(&folder.join("blobs"))?.is_some_and(|blobs| file.starts_with(blobs)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The command line that fetches what is missing of it.
    pub fn fetch_command(&self) -> String {
        let command = self.repository.fetch_command();
        let Some(cache) = self.repository_folder().parent() else { return command };
        let usual = Cache::of_environment().ok().flatten();
        let usual = usual.and_then(|usual| usual.folder().canonicalize().ok());
        match usual.is_some_and(|usual| usual == cache) {
            true => command,
            false => format!("{command} --cache '{}'", cache.display()),
        }
    }

    /// What to do where a file of it is missing.
    pub fn remedy(&self) -> String {
        let command = self.fetch_command();
        let all = match self.repository.kind {
            Kind::Model => "",
            Kind::Dataset => ", of a part of it with `--include`",
        };
        match part_of_download(self.repository_folder()) {
            Some(part) => {
                format!(
                    "a download was not finished (blobs/{part}): `{command}` fetches what is missing{all}"
                )
            }
            None => format!("`{command}` fetches what is missing{all}"),
        }
    }
}
