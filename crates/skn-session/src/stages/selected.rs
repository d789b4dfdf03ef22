//! What selecting gives, by counts or by a ranking that was made elsewhere, and what both ask of a task's name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use skn_artifact::names::{file, key, rank};
use skn_artifact::{NeuronRecord, RunRecord};

use crate::error::{Result, SessionError};
use crate::options::Split;
use crate::run_writer::RunWriter;

/// What was selected.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Selected {
    /// The folder of the masks.
    pub folder: PathBuf,
    /// The task's name.
    pub task: String,
    /// How many files of counts were read.
    pub files: usize,
    /// The most files that one sub-task has.
    pub seeds: usize,
    /// How many sub-tasks there are, classes against the rest counted.
    pub subtasks: usize,
    /// The classes of the one task, without sub-tasks beside it.
    pub classes: Option<usize>,
    /// What the files of a sub-task came to.
    pub aggregate: &'static str,
    /// What neurons were scored by: accuracy, balanced (accuracy) or auc; ranking, of one that was made elsewhere.
    pub score: &'static str,
    /// The split that the neurons were chosen on, where it is another than dev.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Whether the masks mark the worst neurons of each layer instead of the best.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lowest: bool,
    /// Neurons marked in each layer, by share.
    pub neurons: BTreeMap<String, Vec<usize>>,
    /// The best neurons of the model: layer, index, score.
    pub best: Vec<(usize, u32, f32)>,
    /// The same with what is known of them.
    pub table: Vec<NeuronRecord>,
    /// How many neurons have a q of at most the rate of false discoveries that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discoveries: Option<usize>,
}

/// What neurons must have alike to be the same ones: neurons of different models are not, whatever their shape, nor are texts in
/// different templates, or other numbers of a neuron.
pub(super) const SAME_NEURON: [&str; 3] = [key::MODEL, key::TEMPLATE, key::SITE];

/// A file and its metadata.
pub(super) type Said<'a> = (&'a Path, &'a BTreeMap<String, String>);

/// What a file says otherwise than the first one does, by one of the `keys`; nothing where they agree. What neither says is
/// alike.
pub(super) fn difference(keys: &[&str], first: Said<'_>, other: Said<'_>) -> Option<String> {
    keys.iter().find_map(|&key| {
        let (expected, found) = (first.1.get(key), other.1.get(key));
        let said = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
        (expected != found).then(|| {
            format!(
                "{}: metadata {key}: expected {} as in {}, found {}",
                other.0.display(),
                said(expected),
                first.0.display(),
                said(found)
            )
        })
    })
}

/// The split that a file's numbers are of, if it says another than dev. That is warned of: what neurons were chosen on says nothing
/// of other texts.
pub(super) fn other_split(said: Said<'_>) -> Option<&str> {
    let split = said.1.get(key::SPLIT).map(String::as_str).filter(|split| *split != Split::Dev.name())?;
    tracing::warn!(
        "{}: of {split}: neurons that are chosen on {split} can't be judged by it; take the file of dev to choose",
        said.0.display()
    );
    Some(split)
}

/// What ranked the neurons of a mask of a share, in words; nothing of marks, of a rate of false discoveries, and of an older version's,
/// which don't say.
pub(super) fn ranked_by(metadata: &BTreeMap<String, String>) -> Option<String> {
    metadata.get(key::SHARE)?;
    let by = metadata.get(rank::RANKING).or_else(|| metadata.get(key::SCORE))?;
    let order = metadata.get(key::ORDER).map_or_else(String::new, |order| format!(", {order} first"));
    let class = metadata.get(key::CLASS).map_or_else(String::new, |class| format!(", for class {class}"));
    Some(format!("{by}{order}{class}"))
}

/// Takes away the masks of rates of false discoveries that stages of the run made for a task, but for the one that is `made`
/// now: they are of other neurons than the table beside them.
///
/// # Errors
/// If the run's record can't be read.
pub(super) fn remove_discoveries(writer: &mut RunWriter, task: &str, made: Option<&str>) -> Result<()> {
    let any = file::discoveries(task, "");
    let beginning = file::stem(&any);
    let is_outdated =
        |name: &&String| name.starts_with(beginning) && file::is_tensors(name) && made != Some(name.as_str());
    let record = RunRecord::read(writer.folder())?;
    let outputs = record.stages.values().flat_map(|stage| stage.outputs.keys());
    outputs.filter(is_outdated).for_each(|name| writer.remove(name));
    Ok(())
}

/// Refuses a task whose name can't be a folder's: it is given, or a file says it.
pub(super) fn check_task(task: &str, given: bool, said_by: &Path) -> Result<()> {
    // It becomes a folder of the run.
    let is_path = task.is_empty() || task.starts_with('.') || task.contains(['/', '\\', '\0']);
    if !is_path && task.len() <= file::LONGEST_TASK {
        return Ok(());
    }
    let beginning: String = task.chars().take(20).collect();
    let expected = if is_path {
        format!(
            "expected a name without / and not beginning with a point, as it names a folder, found {beginning:?}"
        )
    } else {
        let (most, found) = (file::LONGEST_TASK, task.len());
        format!(
            "expected at most {most} bytes, as it names a folder, found {found} that begin with {beginning:?}"
        )
    };
    Err(match given {
        true => SessionError::usage(format!("option `task`: {expected}")),
        false => SessionError::input(format!("{}: {}: {expected}", said_by.display(), key::TASK)),
    })
}
