//! Where a training puts its files: tuned parameters, and the backbone that a pruned run carries with them.

use std::collections::BTreeMap;
use std::path::Path;

use skn_artifact::names::file;
use skn_artifact::{hash_file, is_file, real_path};

use crate::error::Result;
use crate::provenance;
use crate::setup::Setup;

/// Whether two paths lead to one thing that is there.
pub(super) fn is_same(a: &Path, b: &Path) -> Result<bool> {
    let (a, b) = (real_path(a)?, real_path(b)?);
    Ok(a.is_some() && a == b)
}

/// Whether tuned parameters go into a folder of their own, beside a backbone that transformers would else load with them.
pub(super) fn is_apart(setup: &Setup<'_>) -> bool {
    let base = &setup.base;
    base.source.as_ref().is_some_and(|source| base.model_of_source && source.tuned != source.best)
}

pub(super) fn in_best(name: &str) -> String {
    format!("{}/{name}", file::BEST)
}

/// A pruned run carries its backbone beside its prompt: puts those files into `out`, and says which they are.
pub(super) fn copy_backbone(setup: &Setup<'_>, out: &Path) -> Result<BTreeMap<String, String>> {
    let Some(source) = setup.base.source.as_ref().filter(|_| setup.base.model_of_source) else {
        return Ok(BTreeMap::new());
    };
    let mut companions = BTreeMap::new();
    for name in file::MODEL {
        let target = out.join(file::BEST).join(name);
        let sha256 = if is_same(&target, &source.best.join(name))? {
            // Of a run that was perhaps torn nothing was checked yet, but these are none of the files that training writes.
            provenance::check(&target)?;
            Some(hash_file(&target)?)
        } else {
            setup.base.model.folder.copy(name, &target)?
        };
        companions.extend(sha256.map(|sha256| (name.to_string(), sha256)));
    }
    Ok(companions)
}

/// The files that [`copy_backbone`] would put into `out`, by their names there, with their lengths.
pub(super) fn copied(setup: &Setup<'_>, out: &Path) -> Result<Vec<(String, Option<u64>)>> {
    let Some(source) = setup.base.source.as_ref().filter(|_| setup.base.model_of_source) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for name in file::MODEL {
        let (name, path) = (in_best(name), source.best.join(name));
        if is_file(&path)? && !is_same(&out.join(&name), &path)? {
            found.push((name, path.metadata().ok().map(|file| file.len())));
        }
    }
    Ok(found)
}
