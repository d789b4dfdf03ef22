//! What a session has read and keeps.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use skn_artifact::real_path;
use skn_data::{Dataset, Task, TextEncoder};

use crate::error::Result;
use crate::loaded::LoadedModel;
use crate::options::Size;
use crate::walk::walk;

/// The most models that are kept ..
const MODELS: usize = 4;
/// .. and the most data sets: one may take most of the memory.
const DATA_SETS: usize = 1;

/// A model with its tokenizer.
pub(crate) type WithTokenizer = (Arc<LoadedModel>, Arc<TextEncoder>);

/// What was read last, each with the state that its files had.
pub(crate) struct Cache {
    models: Option<Shelf<(PathBuf, String), WithTokenizer>>,
    data: Option<Shelf<(PathBuf, Task, Size), Arc<Dataset>>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { models: Some(Shelf::of(MODELS)), data: Some(Shelf::of(DATA_SETS)) }
    }
}

impl Cache {
    /// One that keeps nothing.
    pub(crate) fn nothing() -> Self {
        Self { models: None, data: None }
    }

    /// Whether the rows of a data set are kept for who asks again.
    pub(crate) fn keeps_data(&self) -> bool {
        self.data.is_some()
    }

    /// The model in some places under an id, of which the first names it, or in the program itself.
    pub(crate) fn model(
        &self,
        places: &[PathBuf],
        id: &str,
        read: impl FnOnce() -> Result<WithTokenizer>,
    ) -> Result<WithTokenizer> {
        let key = || (places.first().cloned().unwrap_or_default(), id.to_owned());
        match &self.models {
            Some(shelf) => shelf.get(key(), places, read),
            None => read(),
        }
    }

    /// The rows of a task in a file or folder, or those that a task of the demo brings.
    pub(crate) fn data(
        &self,
        place: &Path,
        task: &Task,
        most: Size,
        read: impl FnOnce() -> Result<Dataset>,
    ) -> Result<Arc<Dataset>> {
        let read = || read().map(Arc::new);
        match &self.data {
            Some(shelf) => shelf.get((place.into(), task.clone(), most), &[place.into()], read),
            None => read(),
        }
    }
}

/// The last few things that were used, the newest last.
struct Shelf<K, V> {
    most: usize,
    kept: Mutex<Vec<Kept<K, V>>>,
}

struct Kept<K, V> {
    key: K,
    files: Vec<State>,
    value: V,
}

impl<K: PartialEq, V: Clone> Shelf<K, V> {
    fn of(most: usize) -> Self {
        Self { most, kept: Mutex::new(Vec::new()) }
    }

    /// What was read under a key, or is read now: the first time, and when the files have changed since.
    fn get(&self, key: K, places: &[PathBuf], read: impl FnOnce() -> Result<V>) -> Result<V> {
        let files = state(places);
        if let Ok(mut shelf) = self.kept.lock()
            && let Some(place) = shelf.iter().position(|kept| kept.key == key && kept.files == files)
        {
            let kept = shelf.remove(place);
            let value = kept.value.clone();
            shelf.push(kept);
            return Ok(value);
        }
        let value = read()?;
        // What changed while it was read is not kept.
        if let Ok(mut shelf) = self.kept.lock()
            && state(places) == files
        {
            shelf.retain(|kept| kept.key != key);
            shelf.push(Kept { key, files, value: value.clone() });
            let over = shelf.len().saturating_sub(self.most);
            shelf.drain(..over);
        }
        Ok(value)
    }
}

/// A place under the one name that it has from any folder and through any link, if it is there.
///
/// # Errors
/// If the system can't say: one that can't be looked at just now must not pass for another.
pub(crate) fn real(place: &Path) -> Result<PathBuf> {
    Ok(real_path(place)?.unwrap_or_else(|| place.to_path_buf()))
}

/// A file's name, length and time of change, and on Unix which file it is and when that was touched.
type State = (PathBuf, u64, Option<SystemTime>, [i64; 3]);

#[cfg(unix)]
fn identity(meta: &Metadata) -> [i64; 3] {
    use std::os::unix::fs::MetadataExt;
    [meta.ino() as i64, meta.ctime(), meta.ctime_nsec()]
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> [i64; 3] {
    [0; 3]
}

/// The files of some places, as deep as readers look, also where links lead; none of a place that is in no file system. One that
/// can't be looked at is passed over: nobody can have read it, and once it can be it is new.
fn state(places: &[PathBuf]) -> Vec<State> {
    let mut found = Vec::new();
    for place in places {
        walk(place, &mut |place| {
            if let Ok(meta) = std::fs::metadata(place)
                && !meta.is_dir()
            {
                found.push((place.into(), meta.len(), meta.modified().ok(), identity(&meta)));
            }
        });
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests;
