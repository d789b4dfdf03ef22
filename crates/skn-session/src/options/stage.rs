use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skn_artifact::names::stage;

use super::chain::Chain;
use super::evaluate::Evaluate;
use super::experiment::Experiment;
use super::merge::Merge;
use super::perturb::Perturb;
use super::probe::Probe;
use super::prune::Prune;
use super::report::DrawReport;
use super::select::Select;
use super::train::Train;
use super::untuned::Untuned;

/// What a stage that writes into a run is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Tune.
    Train(Train),
    /// Probe.
    Probe(Probe),
    /// Put shards of a probe together.
    Merge(Merge),
    /// Select neurons.
    Select(Select),
    /// Perturb neurons.
    Perturb(Perturb),
    /// Prune.
    Prune(Prune),
    /// Score on a part of the data.
    Evaluate(Evaluate),
    /// Draw the report.
    Report(DrawReport),
    /// All of these.
    Chain(Box<Chain>),
    /// Probe, select and draw, of a model as it is.
    Untuned(Untuned),
    /// Experiments over several runs.
    Experiment(Box<Experiment>),
}

impl Stage {
    /// The run that it writes into.
    pub fn out(&self) -> PathBuf {
        match self {
            Self::Train(options) => options.out.clone(),
            Self::Probe(options) => options.out.clone(),
            Self::Merge(options) => options.out.clone(),
            Self::Select(options) => options.out.clone(),
            Self::Perturb(options) => options.out.clone(),
            Self::Prune(options) => options.out.clone(),
            Self::Evaluate(options) => {
                options.out.clone().or_else(|| options.tuned.resume_from.clone()).unwrap_or_default()
            }
            Self::Report(options) => options.run.clone(),
            Self::Chain(options) => options.folder(),
            Self::Untuned(options) => options.folder(),
            Self::Experiment(options) => options.folder(),
        }
    }

    /// Whether it may replace what is there.
    pub fn set_overwrite(&mut self, overwrite: bool) {
        *self.overwrite() = overwrite;
    }

    /// Whether it may.
    pub fn overwrites(&self) -> bool {
        *self.clone().overwrite()
    }

    fn overwrite(&mut self) -> &mut bool {
        match self {
            Self::Train(options) => &mut options.overwrite,
            Self::Probe(options) => &mut options.overwrite,
            Self::Merge(options) => &mut options.overwrite,
            Self::Select(options) => &mut options.overwrite,
            Self::Perturb(options) => &mut options.overwrite,
            Self::Prune(options) => &mut options.overwrite,
            Self::Evaluate(options) => &mut options.overwrite,
            Self::Report(options) => &mut options.overwrite,
            Self::Chain(options) => &mut options.overwrite,
            Self::Untuned(options) => &mut options.overwrite,
            Self::Experiment(options) => &mut options.overwrite,
        }
    }

    /// Whether a group of processes can do it together.
    pub(crate) fn takes_a_group(&self) -> bool {
        matches!(self, Self::Train(_) | Self::Probe(_) | Self::Perturb(_) | Self::Evaluate(_))
    }

    /// Its entry in the run's record, where its options alone say it.
    pub(crate) fn entry(&self, task: &str) -> String {
        match self {
            Self::Train(_) => stage::TRAIN.into(),
            Self::Probe(options) => options.entry(),
            Self::Merge(_) => stage::MERGE.into(),
            Self::Select(options) => stage::select(options.task.as_deref().unwrap_or(task)),
            Self::Perturb(options) => stage::mask(options.name.as_deref()),
            Self::Prune(_) => stage::PRUNE.into(),
            Self::Evaluate(options) if options.calibrate => stage::CALIBRATE.into(),
            Self::Evaluate(options) => stage::evaluate(options.split.name()),
            Self::Report(_) => stage::REPORT.into(),
            Self::Chain(_) | Self::Untuned(_) => stage::RUN.into(),
            Self::Experiment(_) => stage::EXPERIMENT.into(),
        }
    }

    /// The same without what changes no result: whether files may be replaced, whether it is resumed, texts at once, and of
    /// what method loaded parameters are said to be, for they are of one.
    pub(crate) fn essence(&self) -> Self {
        let mut essence = self.clone();
        *essence.overwrite() = false;
        match &mut essence {
            Self::Train(options) => options.resume = false,
            Self::Probe(options) => options.batch = None,
            Self::Perturb(options) => options.batch = None,
            Self::Evaluate(options) => options.batch = None,
            Self::Chain(options) => options.resume = false,
            Self::Untuned(options) => options.resume = false,
            Self::Experiment(options) => options.resume = false,
            Self::Merge(_) | Self::Select(_) | Self::Prune(_) | Self::Report(_) => {}
        }
        if let Self::Train(Train { tuned, .. })
        | Self::Probe(Probe { tuned, .. })
        | Self::Perturb(Perturb { tuned, .. }) = &mut essence
        {
            tuned.method = (!tuned.load).then(|| tuned.new_method());
        }
        essence
    }
}

/// From what a stage is asked to a stage.
macro_rules! stage_of {
    ($($options:ident => $stage:ident),*) => {
        $(impl From<$options> for Stage {
            fn from(options: $options) -> Self {
                Self::$stage(options)
            }
        })*
    };
}

stage_of!(
    Train => Train, Probe => Probe, Merge => Merge, Select => Select, Perturb => Perturb, Prune => Prune,
    Evaluate => Evaluate, DrawReport => Report, Untuned => Untuned
);

impl From<Chain> for Stage {
    fn from(options: Chain) -> Self {
        Self::Chain(Box::new(options))
    }
}

impl From<Experiment> for Stage {
    fn from(options: Experiment) -> Self {
        Self::Experiment(Box::new(options))
    }
}
