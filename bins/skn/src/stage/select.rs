//! `skn-select`: rank neurons by predictivity, and mark the best of each layer.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_artifact::{TensorFile, resolve};
use skn_select::{Aggregate, Performance, Ranking, Scores, Share};

use crate::cli::{Common, Destination};
use crate::exit::Failure;
use crate::program::{Call, Stage};
use crate::run::Sink;

/// Select skill neurons: rank the neurons of each layer by how well they predict the label.
///
/// A neuron's score is its largest |accuracy - 0.5| over prompt positions, over several files (seeds) the mean or the
/// smallest. For each share the best neurons of each layer are marked in RUN/info/<task>/<share>.safetensors, which also
/// holds all scores and ranks. With sub-tasks (-aa), or more than two classes, each gives its next best neuron in turn.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-select", version)]
pub struct Select {
    /// Files of counts (RUN/<task>/dev_perf), comma-separated: one for each seed
    #[arg(short = 'a', long = "acc_path", value_name = "FILES", value_delimiter = ',', required = true)]
    acc_path: Vec<PathBuf>,

    /// -aa FILES: likewise, of another sub-task (may be repeated)
    #[arg(long = "acc_aux_path", value_name = "FILES")]
    acc_aux_path: Vec<String>,

    /// What the files of a sub-task come to: mean, min
    #[arg(long = "type", value_name = "HOW", default_value_t = Aggregate::Mean)]
    aggregate: Aggregate,

    /// Of more than two classes: this one alone, from 0 [default: each is a sub-task]
    #[arg(long, value_name = "CLASS")]
    class: Option<usize>,

    /// Shares of each layer's neurons: a list 0.01,0.05 or FROM..TO..STEP
    #[arg(long, value_name = "SHARES", default_value = "0..0.2..0.01")]
    shares: String,

    /// Name of the masks' folder [default: the task that the files tell]
    #[arg(long = "task", visible_alias = "task_type", value_name = "NAME")]
    task: Option<String>,

    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    common: Common,
}

/// What was selected.
#[derive(Clone, Debug, Serialize)]
pub struct Selected {
    folder: PathBuf,
    task: String,
    files: usize,
    /// The most files that one sub-task has.
    seeds: usize,
    subtasks: usize,
    /// Of the one task, without sub-tasks beside it.
    classes: Option<usize>,
    aggregate: &'static str,
    /// Neurons marked in each layer, by share.
    neurons: BTreeMap<String, Vec<usize>>,
    /// The best neurons of the model: layer, index, score.
    best: Vec<(usize, u32, f32)>,
}

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, files, seeds, subtasks, classes, aggregate, .. } = self;
        write!(f, "ranked the neurons of {task} by {files} file{}", if *files == 1 { "" } else { "s" })?;
        if *seeds > 1 {
            write!(f, " (the {aggregate} over {seeds} of a sub-task)")?;
        }
        match (subtasks, classes) {
            (1, _) => {}
            (all, Some(classes)) if all == classes => {
                write!(f, ", as the union of {all} classes against the rest")?;
            }
            (all, _) => write!(f, ", as the union of {all} sub-tasks")?,
        }
        if let Some((layer, index, score)) = self.best.first() {
            write!(f, "; best: layer {layer}, index {index} at {:.4}", 0.5 + score)?;
        }
        let (low, high) = (self.neurons.iter().next(), self.neurons.iter().next_back());
        if let (Some((low, few)), Some((high, many))) = (low, high) {
            let most = |of: &[usize]| of.iter().max().copied().unwrap_or(0);
            write!(
                f,
                "; {} masks, {low} ({} a layer) to {high} ({}), in {}",
                self.neurons.len(),
                most(few),
                most(many),
                self.folder.display()
            )?;
        }
        Ok(())
    }
}

impl Stage for Select {
    const PROGRAM: &'static str = "skn-select";
    type Output = Selected;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, call: &Call<'_>) -> Result<Selected> {
        let out = self.destination.out.as_path();
        let shares = shares(&self.shares)?;
        let groups: Vec<Vec<TensorFile>> =
            self.groups().iter().map(|files| read(files)).collect::<Result<_>>()?;
        let task = self.task(&groups)?;
        let scores = self.scores(&groups)?;
        let ranking = Ranking::new(&scores)?;
        let folder = format!("info/{task}");
        let name = |share: &Share| format!("{folder}/{share}.safetensors");
        let mut sink = Sink::open(call, out, &format!("select {task}"), self.destination.force)?;
        sink.check_free(&shares.iter().map(name).collect::<Vec<_>>())?;
        let metadata = metadata(&groups, &task);
        let mut neurons = BTreeMap::new();
        for share in &shares {
            let mask = ranking.mask(*share);
            let mut metadata = metadata.clone();
            metadata.insert("skn.share".into(), share.to_string());
            sink.tensors(&name(share), &mask.to_bundle(&metadata)?)?;
            neurons.insert(share.to_string(), mask.neurons().iter().map(Vec::len).collect());
        }
        for file in groups.iter().flatten() {
            sink.read(file.path())?;
        }
        sink.finish()?;
        let first = Performance::read(&groups[0][0])?;
        let alone = groups.len() == 1;
        Ok(Selected {
            folder: out.join(folder),
            task,
            files: groups.iter().map(Vec::len).sum(),
            seeds: groups.iter().map(Vec::len).max().unwrap_or(0),
            subtasks: scores.len(),
            classes: alone.then(|| first.classes()),
            aggregate: self.aggregate.name(),
            neurons,
            best: best(&ranking, 10),
        })
    }
}

impl Select {
    /// The files of each sub-task.
    fn groups(&self) -> Vec<Vec<PathBuf>> {
        let split = |files: &String| files.split(',').map(PathBuf::from).collect();
        std::iter::once(self.acc_path.clone()).chain(self.acc_aux_path.iter().map(split)).collect()
    }

    fn scores(&self, groups: &[Vec<TensorFile>]) -> Result<Vec<Scores>> {
        let mut scores = Vec::new();
        for files in groups {
            let files = files.iter().map(Performance::read).collect::<Result<Vec<_>, _>>()?;
            if let (Some(class), true) = (self.class, files.iter().all(|file| file.classes() == 2)) {
                return Err(Failure::usage(format!(
                    "--class {class}: of two classes one score tells both apart; leave the flag out"
                )));
            }
            for class in (0..files[0].classes()).filter(|_| self.class.is_none() && files[0].classes() > 2) {
                if let Some(file) = files.iter().find(|file| !file.tells(class)) {
                    let file = file.file().display();
                    tracing::warn!("{file}: class {class}: no text of it, so it selects no neurons");
                }
            }
            scores.extend(Scores::of_group(&files, self.aggregate, self.class)?);
        }
        Ok(scores)
    }

    fn task(&self, groups: &[Vec<TensorFile>]) -> Result<String> {
        let told = || groups[0][0].metadata().get("skn.task").cloned();
        let task = self.task.clone().or_else(told).unwrap_or_else(|| "sst2".into());
        // It becomes a folder of the run.
        if task.is_empty() || task.starts_with('.') || task.contains(['/', '\\', '\0']) {
            return Err(Failure::usage(format!(
                "task {task:?}: expected a name without / and not beginning with a point"
            )));
        }
        Ok(task)
    }
}

fn read(files: &[PathBuf]) -> Result<Vec<TensorFile>> {
    files
        .iter()
        .map(|path: &PathBuf| Ok(TensorFile::read(&resolve(Path::new(path), "safetensors")?)?))
        .collect()
}

/// What all files say alike.
fn metadata(groups: &[Vec<TensorFile>], task: &str) -> BTreeMap<String, String> {
    let mut files = groups.iter().flatten();
    let mut metadata = files.next().map(|file| file.metadata().clone()).unwrap_or_default();
    for other in files {
        metadata.retain(|key, value| other.metadata().get(key) == Some(value));
    }
    metadata.retain(|key, _| key.starts_with("skn."));
    metadata.insert("skn.task".into(), task.into());
    metadata
}

/// The best neurons of all layers.
fn best(ranking: &Ranking, count: usize) -> Vec<(usize, u32, f32)> {
    let all = ranking
        .order()
        .iter()
        .enumerate()
        .flat_map(|(layer, order)| order.iter().map(move |&index| (layer, index)));
    let score = |layer: usize, index: u32| ranking.score()[layer * ranking.neurons() + index as usize];
    let mut all: Vec<_> = all.map(|(layer, index)| (layer, index, score(layer, index))).collect();
    all.sort_by(|a, b| b.2.total_cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1))));
    all.truncate(count);
    all
}

/// A list of shares, or `FROM..TO..STEP`.
fn shares(text: &str) -> Result<Vec<Share>> {
    let mut shares = match text.split("..").collect::<Vec<_>>()[..] {
        [from, to, step] => Share::steps(from.parse()?, to.parse()?, step.parse()?)?,
        [list] => list.split(',').map(str::parse).collect::<Result<_, _>>()?,
        _ => return Err(Failure::usage(format!("--shares {text}: expected a list or FROM..TO..STEP"))),
    };
    shares.sort_unstable();
    shares.dedup();
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_a_list_or_a_series() {
        let names = |text: &str| shares(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("0.05,0.010,.05"), ["0.01", "0.05"]);
        assert_eq!(names("0..0.2..0.01").len(), 21);
        for wrong in ["", "0..1", "0.1..0.2..0", "a", "2"] {
            assert!(shares(wrong).is_err(), "{wrong}");
        }
    }
}
