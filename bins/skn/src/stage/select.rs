//! `skn-select`: rank neurons by predictivity, and mark the best of each layer.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_session::options;
use skn_session::{Aggregate, ScoreRule, Selected as Found};

use crate::cli::{Common, Compat, Destination, Shares};
use crate::program::{Call, Stage};

/// Select skill neurons: rank the neurons of each layer by how well they predict the label.
///
/// A neuron's score is its largest |accuracy - 0.5| over prompt positions, over several files (seeds) the mean or the
/// smallest; the accuracy is the balanced one where classes are not of nearly one size. For each share the best neurons of each layer are marked in RUN/info/<task>/<share>.safetensors, which also
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
    #[arg(long = "type", value_name = "HOW", default_value_t = options::Select::default().aggregate)]
    aggregate: Aggregate,

    /// What right answers come to: accuracy, balanced [default: accuracy of two classes of which the larger has at most 55 %
    /// of the texts, else balanced]
    #[arg(long, value_name = "SCORE")]
    score: Option<ScoreRule>,

    /// paper: score two classes as in the published implementation, by accuracy whatever their shares
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "score")]
    compat: Option<Compat>,

    /// Of more than two classes: this one alone, from 0 [default: each is a sub-task]
    #[arg(long, value_name = "CLASS")]
    class: Option<usize>,

    /// Mark the worst neurons of each layer instead of the best: a control
    #[arg(long)]
    lowest: bool,

    /// Shares of each layer's neurons: a list 0.01,0.05 or FROM..TO..STEP
    #[arg(long, value_name = "SHARES", default_value = "0..0.2..0.01")]
    shares: Shares,

    /// Name of the masks' folder [default: the task that the files tell]
    #[arg(long = "task", visible_alias = "task_type", value_name = "NAME")]
    task: Option<String>,

    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    common: Common,
}

impl Select {
    /// What the flags ask for.
    pub(crate) fn options(&self) -> options::Select {
        let split = |files: &String| files.split(',').map(PathBuf::from).collect();
        let mut select = options::Select::default();
        select.counts =
            std::iter::once(self.acc_path.clone()).chain(self.acc_aux_path.iter().map(split)).collect();
        (select.aggregate, select.class) = (self.aggregate, self.class);
        (select.score, select.paper) = (self.score, self.compat == Some(Compat::Paper));
        select.lowest = self.lowest;
        (select.shares, select.task) = (self.shares.0.clone(), self.task.clone());
        (select.out, select.overwrite) = (self.destination.out.clone(), self.destination.force);
        select
    }
}

/// What was selected.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Selected(Found);

impl From<Found> for Selected {
    fn from(found: Found) -> Self {
        Self(found)
    }
}

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { task, files, seeds, subtasks, classes, aggregate, score, .. } = &self.0;
        write!(f, "ranked the neurons of {task} by {files} file{}", if *files == 1 { "" } else { "s" })?;
        if *score == ScoreRule::Balanced.name() {
            write!(f, ", by balanced accuracy")?;
        }
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
        if let Some((layer, index, distance)) = self.0.best.first() {
            write!(f, "; best: layer {layer}, index {index} at {:.4}", 0.5 + distance)?;
        }
        let (low, high) = (self.0.neurons.iter().next(), self.0.neurons.iter().next_back());
        if let (Some((low, few)), Some((high, many))) = (low, high) {
            let most = |of: &[usize]| of.iter().max().copied().unwrap_or(0);
            write!(
                f,
                "; {} masks, {low} ({} a layer) to {high} ({}), in {}",
                self.0.neurons.len(),
                most(few),
                most(many),
                self.0.folder.display()
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

    fn run(&self, call: &Call) -> Result<Selected> {
        Ok(Selected(call.session_without_model()?.select(&self.options())?))
    }
}
