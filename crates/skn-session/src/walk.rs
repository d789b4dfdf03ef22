use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// No reader looks for files deeper in a place, and rather less deep: `<configuration>/<split>/0000.parquet`.
const DEPTH: usize = 4;

/// Visits a place and all that is in it, as deep as readers look, also behind links to folders; each folder once, under
/// whatever names, or links to a folder above would lead round.
pub(crate) fn walk(place: &Path, each: &mut impl FnMut(&Path)) {
    let mut seen = BTreeSet::new();
    // The nearest first: what is seen deep down would not be looked into.
    let mut ahead = VecDeque::from([(place.to_path_buf(), 0)]);
    while let Some((path, depth)) = ahead.pop_front() {
        each(&path);
        if depth == DEPTH || !is_new_folder(&path, &mut seen) {
            continue;
        }
        let mut within: Vec<PathBuf> =
            path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        within.sort();
        ahead.extend(within.into_iter().map(|path| (path, depth + 1)));
    }
}

fn is_new_folder(path: &Path, seen: &mut BTreeSet<PathBuf>) -> bool {
    path.is_dir() && path.canonicalize().is_ok_and(|real| seen.insert(real))
}

#[cfg(test)]
mod tests;
