//! The files of weights that an index names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;
use skn_program::Failure;

use crate::choice::INDEX;
use crate::listing::Listed;

/// The files that an index of shards names.
pub(crate) fn shards(index: &Path, listed: &BTreeMap<String, Listed>) -> Result<Vec<Listed>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = skn_artifact::read_json(index)?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    let of = |name: String| {
        listed.get(&name).cloned().ok_or_else(|| {
            Failure::input(format!("{INDEX}: weight_map: expected a file of the repository, found {name:?}"))
        })
    };
    names.into_iter().map(of).collect()
}
