//! What ranked the neurons of masks, and where masks of several rankings would be taken for those of one.

use std::collections::BTreeMap;
use std::path::Path;

use skn_artifact::names::file;
use skn_artifact::{RunRecord, TensorFile, is_file};

use crate::error::Result;
use crate::run_writer::RunWriter;
use crate::stages::mask_file::MaskFile;
use crate::stages::selected::ranked_by;

/// Says of masks of one task that are perturbed together which was ranked otherwise than the first. Those of another task are others
/// anyway.
pub(super) fn tell_mixed(masks: &[MaskFile]) {
    let ranked: Vec<(&MaskFile, &String)> =
        masks.iter().filter_map(|mask| Some((mask, mask.ranked.as_ref()?))).collect();
    for (mask, by) in &ranked {
        let of_task = ranked.iter().find(|(first, _)| first.task == mask.task);
        if let Some((first, expected)) = of_task.filter(|(_, expected)| expected != by) {
            tracing::warn!(
                "{}: ranked by {by}, and {} by {expected}: their results stand in one list; option `name` keeps them apart",
                mask.path.display(),
                first.path.display()
            );
        }
    }
}

/// Says which masks that stages of the run made for a task stay beside those that are `made` now, and were ranked otherwise: they
/// would be taken for masks of one ranking.
///
/// # Errors
/// If the run's record can't be read.
pub(super) fn tell_others(
    writer: &RunWriter,
    task: &str,
    made: &[String],
    ranked: Option<String>,
) -> Result<()> {
    let Some(now) = ranked else { return Ok(()) };
    let record = RunRecord::read(writer.folder())?;
    let any = file::mask(task, "");
    let folder = Path::new(&any).parent().unwrap_or(Path::new(""));
    let mut others = BTreeMap::<String, Vec<&str>>::new();
    for name in record.stages.values().flat_map(|stage| stage.outputs.keys()) {
        let path = writer.folder().join(name);
        let is_mask = Path::new(name).parent() == Some(folder) && file::is_tensors(name);
        // One that can't be read is refused where it is used.
        if is_mask
            && !made.contains(name)
            && is_file(&path)?
            && let Ok(mask) = TensorFile::open(&path)
            && let Some(by) = ranked_by(mask.metadata()).filter(|by| *by != now)
        {
            others.entry(by).or_default().push(name);
        }
    }
    for (by, names) in others {
        tracing::warn!(
            "{}: of an earlier call and ranked by {by}, beside masks that are ranked by {now}; option `out` RUN keeps rankings apart",
            names.join(", ")
        );
    }
    Ok(())
}
