//! What right answers of neurons come to in a run, and what a guess has by it.

use std::path::Path;

use skn_artifact::names::{file, fire, key, rank, setting, stage};
use skn_artifact::{Evidence, RunRecord, TensorFile, hash_file, is_file, read_json};
use skn_counts::{Performance, Pool, ScoreRule};

use crate::error::Result;

/// What a run says of the score of a task's neurons.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scoring {
    /// What they were selected by, where the last selection says so.
    selected: Option<ScoreRule>,
    /// Whether a stage followed the published implementation.
    paper: bool,
}

impl Scoring {
    pub(crate) fn read(run: &Path, task: &str, record: &RunRecord) -> Result<Self> {
        let of_paper = |settings: &std::collections::BTreeMap<String, String>| {
            settings.get(setting::COMPAT).is_some_and(|compat| compat == "paper")
        };
        let paper = record.stages.values().any(|stage| of_paper(&stage.settings));
        let weighed = Weighing::read(run, task)?.filter(|found| found.current);
        let selected = match weighed.and_then(|found| found.record.score.parse().ok()) {
            Some(score) => Some(score),
            None => of_masks(run, task, record)?,
        };
        Ok(Self { selected, paper })
    }

    /// The score that counts of the task are told by.
    pub(crate) fn of(self, counts: &Performance) -> ScoreRule {
        // What was selected by other counts can stand beside these: of two classes beside more, of counts by class beside older
        // ones.
        let fits = |score: &ScoreRule| match score {
            ScoreRule::Accuracy => counts.classes() == 2,
            ScoreRule::Balanced => counts.by_class().is_some(),
            ScoreRule::Auc => counts.areas().is_ok(),
        };
        self.selected.filter(fits).unwrap_or_else(|| counts.score_of(self.paper))
    }
}

/// Takes the areas under ROC curves that lie beside counts of a split, where they are of the same texts, parameters and neurons. A report
/// can do without them.
pub(crate) fn with_areas(counts: Performance, of: &TensorFile, split: &str) -> Result<Performance> {
    let folder = counts.file().parent().unwrap_or(Path::new(""));
    let path = folder.join(file::tensors(&rank::areas(split)));
    if !is_file(&path)? {
        return Ok(counts);
    }
    let areas = TensorFile::open(&path)?;
    let same = [key::MODEL, key::TUNING, key::DATA, key::TEMPLATE, key::SITE, key::DTYPE];
    let (found, expected) = (areas.metadata(), of.metadata());
    match same.into_iter().all(|key| found.get(key) == expected.get(key)) {
        true => Ok(counts.clone().with_areas(&areas).unwrap_or(counts)),
        false => Ok(counts),
    }
}

/// The evidence that a run has of a task.
pub(crate) struct Weighing {
    pub(crate) record: Evidence,
    /// Whether all that it was made of is what is there now.
    pub(crate) current: bool,
}

impl Weighing {
    /// Nothing if there is none.
    pub(crate) fn read(run: &Path, task: &str) -> Result<Option<Self>> {
        let path = run.join(file::evidence(task));
        if !is_file(&path)? {
            return Ok(None);
        }
        let record: Evidence = read_json(&path)?;
        let current = is_current(&record, &run.join(task))?;
        Ok(Some(Self { record, current }))
    }
}

/// Whether the counts are there that the evidence is of, and beside them no other counts of test and no other fire bits than
/// were read with them.
fn is_current(record: &Evidence, folder: &Path) -> Result<bool> {
    let counts = folder.join(file::tensors(&record.counts));
    if !is_file(&counts)? || hash_file(&counts)? != record.counts_sha256 {
        return Ok(false);
    }
    // Older evidence does not say what else was read.
    if record.inputs.is_empty() {
        return Ok(true);
    }
    let Some(pool) = Pool::ALL.into_iter().find(|pool| pool.performance_file("dev") == record.counts) else {
        return Ok(true);
    };
    if record.score == ScoreRule::Auc.name() {
        for name in ["dev", "test"].map(|split| file::tensors(&rank::areas(split))) {
            let path = folder.join(&name);
            let known = record.inputs.get(name.rsplit('/').next().unwrap_or_default());
            if is_file(&path)? && known != Some(&hash_file(&path)?) {
                return Ok(false);
            }
        }
    }
    for name in [pool.performance_file("test"), fire::file(pool.name(), "dev")] {
        let name = file::tensors(&name);
        let path = folder.join(&name);
        if is_file(&path)? && record.inputs.get(&name) != Some(&hash_file(&path)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the masks of a task were ranked by: those of the last selection, which one of them says. Masks of earlier calls may
/// lie beside them.
fn of_masks(run: &Path, task: &str, record: &RunRecord) -> Result<Option<ScoreRule>> {
    let Some(selection) = record.stages.get(&stage::select(task)) else { return Ok(None) };
    for name in selection.outputs.keys().filter(|name| file::is_tensors(name)) {
        let path = run.join(name);
        if is_file(&path)?
            && let Some(score) = TensorFile::open(&path)?.metadata().get(key::SCORE)
        {
            return Ok(Some(score.parse()?));
        }
    }
    Ok(None)
}

/// The predictivity of always saying the same class: 0.5, but for the accuracy of classes that are not of one size.
pub(crate) fn guess(dev: &Performance, score: ScoreRule) -> f64 {
    match score {
        ScoreRule::Balanced | ScoreRule::Auc => 0.5,
        ScoreRule::Accuracy => dev.larger_class().unwrap_or(0.5),
    }
}

/// What the predictivity of a task's neurons is, and what a guess has.
pub(crate) fn explained(dev: &Performance, score: ScoreRule) -> String {
    match score {
        ScoreRule::Auc => format!(
            "Neurons were selected by auc: a predictivity is the area under the ROC curve of the activation for {}, or 1 less it, \
             whichever is more: the share of pairs of a text of the class and another that the activations put in order. A guess has \
             0.5. Areas are of 32 bins of activations, so each is off the exact one by a half of the pairs that share a bin at most.",
            if dev.classes() > 2 { "each class against the rest" } else { "label 1" }
        ),
        ScoreRule::Balanced if dev.classes() > 2 => format!(
            "There are {} classes, and a rule for each against the rest. Its predictivity is the mean of the share right in \
             the class and the share right in the rest, of the rule or of its reverse, whichever is more. A guess has 0.5, and \
             so has a neuron that never fires.",
            dev.classes()
        ),
        ScoreRule::Balanced => {
            let larger = dev.larger_class().map(|share| {
                format!(
                    " As one class has {:.0} % of the texts, saying it always would be right that often.",
                    share * 100.0
                )
            });
            format!(
                "Its predictivity is the mean of the share right in each class, of the rule or of its reverse, whichever is \
                 more (balanced accuracy). A guess has 0.5, and so has a neuron that never fires.{}",
                larger.unwrap_or_default()
            )
        }
        ScoreRule::Accuracy => {
            let text = "Its predictivity is the share of texts for which the rule, or the reverse of it, is right, whichever \
                        is more";
            match dev.larger_class() {
                Some(larger) if larger > 0.5 => {
                    format!("{text}. Saying the larger class always is right for a share of {larger:.3}.")
                }
                Some(_) => format!("{text}; 0.5 is a guess."),
                None => format!("{text}. How large the classes are, the file does not say."),
            }
        }
    }
}
