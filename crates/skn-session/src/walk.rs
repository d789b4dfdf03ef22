use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use skn_artifact::{is_folder, real_path, within};

/// No reader looks for files deeper in a place, and rather less deep: `<configuration>/<split>/0000.parquet`.
const DEPTH: usize = 4;

/// Visits a place and all that is in it, as deep as readers look, also behind links to folders; each folder once, under
/// whatever names, or links to a folder above would lead round. What can't be looked at is passed over: nobody chooses by this what
/// is read.
pub(crate) fn walk(place: &Path, each: &mut impl FnMut(&Path)) {
    let mut seen = BTreeSet::new();
    // The nearest first: what is seen deep down would not be looked into.
    let mut ahead = VecDeque::from([(place.to_path_buf(), 0)]);
    while let Some((path, depth)) = ahead.pop_front() {
        each(&path);
        if depth == DEPTH || !is_new_folder(&path, &mut seen) {
            continue;
        }
        let within = within(&path).unwrap_or_default();
        ahead.extend(within.into_iter().map(|path| (path, depth + 1)));
    }
}

fn is_new_folder(path: &Path, seen: &mut BTreeSet<PathBuf>) -> bool {
    let real = if is_folder(path).unwrap_or(false) { real_path(path).ok().flatten() } else { None };
    real.is_some_and(|real| seen.insert(real))
}

#[cfg(test)]
mod tests;
