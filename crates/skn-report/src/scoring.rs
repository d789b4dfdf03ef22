//! What right answers of neurons come to in a run, and what a guess has by it.

use std::path::Path;

use skn_artifact::names::{file, key, setting};
use skn_artifact::{ArtifactError, RunRecord, TensorFile, is_folder};
use skn_counts::{Performance, ScoreRule};

use crate::error::Result;

/// What a run says of the score of a task's neurons.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scoring {
    /// What its masks were ranked by, where there are some that say so.
    masks: Option<ScoreRule>,
    /// Whether a stage followed the published implementation.
    paper: bool,
}

impl Scoring {
    pub(crate) fn read(run: &Path, task: &str, record: &RunRecord) -> Result<Self> {
        let of_paper = |settings: &std::collections::BTreeMap<String, String>| {
            settings.get(setting::COMPAT).is_some_and(|compat| compat == "paper")
        };
        let paper = record.stages.values().any(|stage| of_paper(&stage.settings));
        Ok(Self { masks: of_masks(&run.join(file::INFO).join(task))?, paper })
    }

    /// The score that counts of the task are told by.
    pub(crate) fn of(self, counts: &Performance) -> ScoreRule {
        // Masks of two classes can stand beside counts of more.
        let fits = |score: &ScoreRule| *score == ScoreRule::Balanced || counts.classes() == 2;
        self.masks.filter(fits).unwrap_or_else(|| counts.score_of(self.paper))
    }
}

/// What the masks in a folder were ranked by: all of one call, which one says.
fn of_masks(folder: &Path) -> Result<Option<ScoreRule>> {
    if !is_folder(folder)? {
        return Ok(None);
    }
    let io = |source| ArtifactError::Io { file: folder.into(), operation: "read", source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        names.extend(entry.map_err(io)?.file_name().into_string().ok().filter(|name| file::is_tensors(name)));
    }
    names.sort();
    for name in names {
        let mask = TensorFile::open(&folder.join(name))?;
        if let Some(score) = mask.metadata().get(key::SCORE) {
            return Ok(Some(score.parse()?));
        }
    }
    Ok(None)
}

/// The predictivity of always saying the same class: 0.5, but for the accuracy of classes that are not of one size.
pub(crate) fn guess(dev: &Performance, score: ScoreRule) -> f64 {
    match score {
        ScoreRule::Balanced => 0.5,
        ScoreRule::Accuracy => dev.larger_class().unwrap_or(0.5),
    }
}

/// What the predictivity of a task's neurons is, and what a guess has.
pub(crate) fn explained(dev: &Performance, score: ScoreRule) -> String {
    match score {
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
