//! What a run has of one task.

use std::fs;
use std::path::{Path, PathBuf};

use skn_artifact::names::{file, key, kind, rank};
use skn_artifact::{
    ArtifactError, InferencePerformance, InferenceTime, RankingComparison, RunRecord, TensorFile, is_file,
    is_there,
};
use skn_counts::{Performance, Pool, Predictor, TopTexts};

use crate::error::{ReportError, Result};
use crate::evidence::Weighed;
use crate::probe::{Activations, Probe, top_texts};
use crate::reading::{comparison, optional};
use crate::scoring::Scoring;

/// What a probe of one task left.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) probe: Option<Probe>,
    /// What speaks for its neurons.
    pub(crate) weighed: Option<Weighed>,
    /// Counts of a text's mean, maximum and last token.
    pub(crate) pooled: Vec<Probe>,
    /// Activations of the best neuron on dev.
    pub(crate) activations: Option<Activations>,
    /// Those of neurons that were asked for.
    pub(crate) asked: Vec<Asked>,
    /// Which neurons were selected: those of the share that perturbing tells of.
    pub(crate) selected: Option<Selected>,
    /// The texts that excite the best neurons most, of the counts that are shown at length.
    pub(crate) top: Option<TopTexts>,
    pub(crate) performance: Option<InferencePerformance>,
    pub(crate) time: Option<InferenceTime>,
    /// Rankings of neurons compared.
    pub(crate) rankings: Option<RankingComparison>,
    /// Whether there is a comparison of other tuned parameters than the counts are of, which is not shown.
    pub(crate) has_other_rankings: bool,
}

/// A neuron that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) layer: usize,
    pub(crate) index: usize,
    /// Whether it hardly varies over train, so that it has no rule.
    pub(crate) dead: bool,
    /// Nothing where the run does not have them.
    pub(crate) found: Option<Activations>,
}

/// A mask of a task.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    /// Its name.
    pub(crate) mask: String,
    pub(crate) file: PathBuf,
    /// `[L, F]`.
    pub(crate) neurons: Vec<bool>,
}

/// What is read of a task besides what every one has.
pub(crate) struct Wanted<'a> {
    /// What the run says of its stages.
    pub(crate) record: &'a RunRecord,
    /// Neurons whose activations are asked for: layer and index.
    pub(crate) neurons: &'a [(usize, usize)],
    /// The share whose mask is shown.
    pub(crate) share: Option<&'a str>,
}

/// What a task's folder may hold, one of which makes it one.
fn task_files() -> Vec<String> {
    let average = file::tensors(kind::AVERAGE);
    let counts = Pool::ALL.map(|pool| file::tensors(&pool.performance_file("dev")));
    let of_test = file::tensors(&Pool::Position.performance_file("test"));
    let positions = ["dev", "test"].map(file::positions_folder);
    let inference = [file::INFERENCE_PERFORMANCE, file::INFERENCE_TIME].map(String::from);
    [average, of_test].into_iter().chain(counts).chain(positions).chain(inference).collect()
}

pub(crate) fn tasks(run: &Path, wanted: &Wanted<'_>) -> Result<Vec<Task>> {
    let io = |source| ArtifactError::Io { file: run.into(), operation: "read", source };
    let (mut names, task_files) = (Vec::new(), task_files());
    for entry in fs::read_dir(run).map_err(io)? {
        let entry = entry.map_err(io)?;
        let folder = entry.path();
        for file in &task_files {
            if is_there(&folder.join(file))? {
                // A name that is no Unicode can't be a task's.
                names.extend(entry.file_name().into_string());
                break;
            }
        }
    }
    names.sort();
    names.into_iter().map(|name| Task::read(run, name, wanted)).collect()
}

impl Task {
    fn read(run: &Path, name: String, wanted: &Wanted<'_>) -> Result<Self> {
        let (folder, scoring) = (run.join(&name), Scoring::read(run, &name, wanted.record)?);
        let folder = folder.as_path();
        let probe = Probe::read(folder, Pool::Position, scoring)?;
        let mut pooled = Vec::new();
        for pool in [Pool::Mean, Pool::Max, Pool::Last] {
            pooled.extend(Probe::read(folder, pool, scoring)?);
        }
        let activations = match &probe {
            Some(probe) => Activations::read(folder, probe, probe.best())?,
            None => None,
        };
        let mut asked = Vec::new();
        if let Some(probe) = &probe {
            for &(layer, index) in wanted.neurons {
                let known = |of: &&Predictor| (of.rule.layer, of.rule.index) == (layer, index);
                if probe.dev.widths().get(layer).is_none_or(|&width| index >= width) {
                    return Err(ReportError::NoNeuron { layer, index, file: probe.dev.file().into() });
                }
                let predictor = probe.ranked.iter().find(known);
                let read = predictor.map(|predictor| Activations::read(folder, probe, predictor));
                asked.push(Asked {
                    layer,
                    index,
                    dead: predictor.is_none(),
                    found: read.transpose()?.flatten(),
                });
            }
        }
        let selected = match (&probe, wanted.share) {
            (Some(probe), Some(share)) => Selected::read(run, &name, share, &probe.dev)?,
            _ => None,
        };
        let performance = optional(&folder.join(file::INFERENCE_PERFORMANCE))?;
        let time = optional(&folder.join(file::INFERENCE_TIME))?;
        let rankings = comparison(&folder.join(rank::COMPARISON))?;
        let of_counts = probe.as_ref().and_then(|probe| probe.metadata.get(key::TUNING));
        let is_other = |found: &RankingComparison| {
            of_counts.zip(found.tuning_sha256.as_ref()).is_some_and(|(counts, found)| counts != found)
        };
        let has_other_rankings = rankings.as_ref().is_some_and(is_other);
        let rankings = rankings.filter(|_| !has_other_rankings);
        let weighed = Weighed::read(run, &name)?;
        let mut task = Self {
            name,
            probe,
            weighed,
            pooled,
            activations,
            asked,
            selected,
            performance,
            time,
            rankings,
            has_other_rankings,
            top: None,
        };
        task.top = match task.lead() {
            Some(probe) => top_texts(folder, probe)?,
            None => None,
        };
        Ok(task)
    }

    /// All that was probed.
    pub(crate) fn kinds(&self) -> Vec<&Probe> {
        self.probe.iter().chain(&self.pooled).collect()
    }

    /// The counts that are shown at length: of prompt positions; without a prompt those that neurons were selected by, else of the
    /// last token, the mean, the maximum.
    pub(crate) fn lead(&self) -> Option<&Probe> {
        let selected = self.weighed.as_ref().and_then(Weighed::pool);
        let order = [Some(Pool::Position), selected, Some(Pool::Last), Some(Pool::Mean)];
        let kinds = self.kinds();
        let of = |pool| kinds.iter().copied().find(|probe| probe.pool == pool);
        order.into_iter().flatten().find_map(of).or_else(|| kinds.first().copied())
    }
}

impl Selected {
    /// A task's mask of a share, if the run has it.
    fn read(run: &Path, task: &str, share: &str, counts: &Performance) -> Result<Option<Self>> {
        let file = run.join(file::mask(task, share));
        if !is_file(&file)? {
            return Ok(None);
        }
        let shape = [counts.layers(), counts.neurons()];
        let (_, neurons) = TensorFile::read(&file)?.bool("mask", Some(&shape))?;
        Ok(Some(Self { mask: share.into(), file, neurons }))
    }
}
