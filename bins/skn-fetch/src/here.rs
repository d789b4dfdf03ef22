//! What is here already, for those who may not ask the Hub.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use skn_artifact::is_folder;
use skn_hub::{self as hub, Cache, HubError, Repository};
use skn_program::Failure;

use crate::choice::{INDEX, choose};
use crate::content::{Expected, Hash};
use crate::fetched::{Fetched, FetchedFile, fetched};
use crate::listing::Listed;
use crate::shards::shards;

/// A repository as it is in the cache, for those who may not ask the Hub.
pub(crate) struct Here<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) cache: &'a Cache,
    pub(crate) patterns: &'a [String],
    /// The flag or the variable that forbids connections.
    pub(crate) said_by: &'static str,
}

impl Here<'_> {
    /// Checks that what would be fetched is there, and that what is there is right.
    pub(crate) fn check(&self) -> Result<Fetched> {
        let Self { repository, cache, patterns, said_by } = self;
        let absent = |what: String| {
            let command = repository.fetch_command();
            Failure::offline(format!(
                "{what}; offline ({said_by}) nothing is fetched: run `{command}` with a connection"
            ))
        };
        let Some(folder) = cache.snapshot(repository)? else {
            let Repository { name, revision, .. } = repository;
            let remains = cache.remains(repository).map_or(String::new(), |remains| format!(" ({remains})"));
            let cache = cache.folder().display();
            return Err(absent(format!("{name}, revision {revision}: not in the cache {cache}{remains}")));
        };
        let commit = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut listed = BTreeMap::new();
        list_folder(&folder, "", &mut listed)?;
        let names = choose(repository, listed.keys().map(String::as_str), patterns)
            .map_err(|error| absent(error.to_string()))?;
        let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.iter().any(|name| name == INDEX) {
            let shards = shards(&folder.join(INDEX), &listed).map_err(|error| absent(error.to_string()))?;
            names.extend(shards.into_iter().map(|shard| shard.name));
        }
        let file = |name: String| {
            let wrong = |what: String| absent(format!("{}: {what}", folder.join(&name).display()));
            let path = folder.join(&name);
            match hub::follow(&folder, &path) {
                Ok(Some(real)) => {
                    check_here(&path, &real, &name).map_err(|error| wrong(error.to_string()))?.map_err(wrong)
                }
                Ok(None) => Err(wrong("is not there".into())),
                // That a content was taken away says itself what to do.
                Err(error @ HubError::Broken { .. }) => Err(Failure::offline(error.to_string())),
                Err(error) => Err(error.into()),
            }
        };
        let files = names.into_iter().map(file).collect::<Result<_>>()?;
        Ok(fetched(repository, &commit, folder.clone(), files))
    }
}

/// A file of a snapshot, with the path of its content: checked by the hash that it leads to. That may be a link itself, to a
/// content that several repositories share and that has another name. The inner error is what is wrong.
fn check_here(path: &Path, real: &Path, name: &str) -> Result<Result<FetchedFile, String>> {
    let size = std::fs::metadata(real)?.len();
    // Of a file itself the name says no hash; of a link that can't be read nobody knows.
    let found = path.symlink_metadata()?;
    let target = found.is_symlink().then(|| path.read_link()).transpose()?;
    let hash =
        target.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).and_then(Hash::parse);
    if let Some(hash) = &hash
        && let Some(wrong) = (Expected { size, hash: hash.clone() }).wrong_of(real)?
    {
        return Ok(Err(wrong));
    }
    let hash = hash.map(|hash| hash.digits().into());
    Ok(Ok(FetchedFile { name: name.into(), size, hash, fetched: false }))
}

/// The files below a folder, by their names with slashes.
fn list_folder(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Listed>) -> Result<()> {
    let wrong = |error| Failure::input(format!("{}: can't be read: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(wrong)?;
        if kind.is_dir() {
            list_folder(&entry.path(), &format!("{name}/"), found)?;
        } else if !is_folder(&entry.path()).unwrap_or(false) {
            // Links to nothing too: what they led to was here. What can't be looked at counts as no folder: where it is chosen,
            // it is told.
            found.insert(name.clone(), Listed { name, expected: None });
        }
    }
    Ok(())
}
