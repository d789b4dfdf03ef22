use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layers::LayerRange;
use super::subject::Subject;
use super::tuned::Tuned;

/// Keep the skill neurons of a tuned model, and fold the others into biases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Prune {
    /// Model, task and data.
    pub subject: Subject,
    /// The run or folder with the tuned parameters.
    pub resume_from: PathBuf,
    /// The mask file: the neurons that stay (`RUN/info/<task>/0.02`).
    pub mask: PathBuf,
    /// Averages (`RUN/<task>/train_avg`), `[L, F]` or `[L, P, F]`: what the others are held at.
    pub averages: PathBuf,
    /// Where an average is taken that is folded into a bias.
    pub fold: Fold,
    /// For [`Fold::PerPositionGroup`]: averages over texts; default `train_mean_avg` beside the averages.
    pub text_averages: Option<PathBuf>,
    /// The layers that are pruned; by default a quarter of the layers, the lowest, stays whole, and none with `uniform`.
    pub layers: LayerRange,
    /// The neurons that stay are rounded up to a multiple of this, filling up by rank; default 1.
    pub round_width: NonZeroUsize,
    /// Whether to write the same function at full width, for programs that know no pruned models.
    pub dense: bool,
    /// Whether every layer keeps as many neurons as the one with the most, filling up by rank, so that transformers loads the
    /// model without code of ours. No layer stays whole.
    pub uniform: bool,
    /// Whether the `<mask>` row is put before a loaded prompt that does not start with it.
    pub prepend_mask: bool,
    /// Whether the label words answer although a classifier was saved with the tuned parameters.
    pub verbalizer: bool,
    /// The folder of the pruned run.
    pub out: PathBuf,
    /// Whether a pruned model that is there is replaced.
    pub overwrite: bool,
}

impl Default for Prune {
    fn default() -> Self {
        Self {
            subject: Subject::default(),
            resume_from: PathBuf::new(),
            mask: PathBuf::new(),
            averages: PathBuf::new(),
            fold: Fold::Prompt,
            text_averages: None,
            layers: LayerRange::default(),
            round_width: NonZeroUsize::MIN,
            dense: false,
            uniform: false,
            prepend_mask: false,
            verbalizer: false,
            out: PathBuf::new(),
            overwrite: false,
        }
    }
}

impl Prune {
    /// Prunes a tuned run to the neurons of a mask.
    pub fn of(
        run: impl Into<PathBuf>,
        mask: impl Into<PathBuf>,
        averages: impl Into<PathBuf>,
        out: impl Into<PathBuf>,
    ) -> Self {
        let (resume_from, mask, averages) = (run.into(), mask.into(), averages.into());
        Self { resume_from, mask, averages, out: out.into(), ..Self::default() }
    }

    pub(crate) fn tuned(&self) -> Tuned {
        let (prepend_mask, verbalizer) = (self.prepend_mask, self.verbalizer);
        Tuned { prepend_mask, verbalizer, ..Tuned::of(&self.resume_from) }
    }
}

/// Which average activation stands for a removed neuron.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fold {
    /// The mean over prompt positions
    #[default]
    Prompt,
    /// In the last layer, which computes the answer's row alone, the mean at that row; elsewhere the mean over prompt and
    /// text rows, each as often as a text of train has it
    PerPositionGroup,
}
