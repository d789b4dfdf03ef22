//! The texts that excite the best neurons most: which neurons these are, and what is kept of a text.

use std::path::Path;

use skn_artifact::names::{file, top};
use skn_artifact::{RunRecord, is_file};
use skn_counts::{NeuronPlace, Performance, Pool, TopTexts};
use skn_data::Example;

use crate::error::Result;
use crate::options::{Probe, Split};

/// What is read of texts: that of the counts that a run's task has, those of prompt positions before those of the last token, of the
/// mean, of the maximum.
pub(super) fn counted(folder: &Path) -> Result<Pool> {
    for pool in [Pool::Position, Pool::Last, Pool::Mean, Pool::Max] {
        if is_file(&folder.join(file::tensors(&pool.performance_file("dev"))))? {
            return Ok(pool);
        }
    }
    // Whose counts are then missed by name.
    Ok(Pool::Position)
}

/// The best neurons of counts on dev, each where its rule reads it.
pub(super) fn best_of(dev: &Performance, paper: bool) -> Result<Vec<NeuronPlace>> {
    let ranked = dev.ranked(dev.score_of(paper))?;
    let best = ranked.iter().take(Probe::TOP_NEURONS).map(|neuron| neuron.rule);
    let place = |rule: skn_counts::Rule| NeuronPlace {
        layer: rule.layer,
        index: rule.index,
        position: rule.position,
    };
    Ok(best.map(place).collect())
}

/// Says how the texts begin, columns with a bar between.
pub(super) fn describe(top: &mut TopTexts, rows: &[Example]) {
    top.describe(|row| {
        let row = usize::try_from(row).ok().and_then(|row| rows.get(row));
        let texts = row.into_iter().flat_map(Example::texts);
        texts.map(|text| text.as_str()).collect::<Vec<_>>().join(" | ")
    });
}

/// The name of the file.
pub(super) fn top_file(pool: Pool) -> String {
    file::tensors(&top::file(pool.name(), Split::Dev.name()))
}

/// The texts of the best neurons of earlier counts, which would be taken for those of counts that this probe replaces.
pub(super) fn outdated(options: &Probe, task: &str, record: &RunRecord) -> Vec<String> {
    if !options.passes(Split::Dev) {
        return Vec::new();
    }
    let names = options.pools().map(|pool| format!("{task}/{}", top_file(pool)));
    names.filter(|name| record.stages.values().any(|stage| stage.outputs.contains_key(name))).collect()
}
