//! Where links lead.

use std::path::{Path, PathBuf};

use skn_artifact::{is_absence, is_folder, is_link};

use crate::error::{HubError, Result};
use crate::snapshot::Snapshot;

/// Where `path`, which is `root` or below it, really is; nothing if there is nothing.
///
/// `root` is the folder that the user named. Links are followed wherever they lead, unless `root` is a snapshot of a cache
/// or in one: then they stay inside its repository's folder.
///
/// # Errors
/// If it is a link to nothing, a link that leads out of its repository's folder, or can't be read.
pub fn follow(root: &Path, path: &Path) -> Result<Option<PathBuf>> {
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(source) => return missing(path, source),
    };
    let unreadable = |source| HubError::Unreadable { path: root.into(), source };
    // Of a file that the user named its folder says whether it is one of a snapshot.
    let named = if is_folder(root)? {
        root
    } else {
        root.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
    };
    let root = named.canonicalize().map_err(unreadable)?;
    match Snapshot::around(&root) {
        Some(snapshot) if !snapshot.holds(&real)? => {
            Err(HubError::LeadsOut { path: path.into(), repository: snapshot.repository_folder().into() })
        }
        _ => Ok(Some(real)),
    }
}

/// What lacks at a path that leads to nothing.
fn missing(path: &Path, source: std::io::Error) -> Result<Option<PathBuf>> {
    let broken = match broken_link(path) {
        // A link to nothing that can't be looked at would pass for nothing.
        Err(error) if is_absence(&source) => return Err(error),
        found => found.ok().flatten(),
    };
    if let Some((place, target)) = broken {
        // For a hint, which may be another.
        let snapshot = place.parent().and_then(|folder| Snapshot::around(&folder.canonicalize().ok()?));
        let hint = snapshot
            .map_or_else(|| "mend the link, or put the file there".to_string(), |snapshot| snapshot.remedy());
        return Err(HubError::Broken { path: place.into(), target, source, hint });
    }
    if is_absence(&source) { Ok(None) } else { Err(HubError::Unreadable { path: path.into(), source }) }
}

/// The link in a path that leads to nothing that can be read, wherever it stands, and where it leads.
///
/// # Errors
/// If there is none, and something on the way can't be looked at.
fn broken_link(path: &Path) -> Result<Option<(&Path, PathBuf)>> {
    let mut failed = None;
    for place in path.ancestors() {
        match is_link(place) {
            Ok(true) if place.metadata().is_err() => {
                let unreadable = |source| HubError::Unreadable { path: place.into(), source };
                return Ok(Some((place, place.read_link().map_err(unreadable)?)));
            }
            Ok(_) => {}
            // What is below a link to itself can't be looked at, and the link says why.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), |error| Err(error.into()))
}
