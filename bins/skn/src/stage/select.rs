//! `skn-select`: rank neurons by predictivity, and mark the best of each layer.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use skn_artifact::NeuronRecord;
use skn_session::options;
use skn_session::{Aggregate, DryRun, ScoreRule, Selected as Found, Share};

use crate::cli::{Common, Compat, Destination, Dry, Seed, Shares};
use crate::next;
use crate::program::{Call, Stage};

/// Select skill neurons: rank the neurons of each layer by how well they predict the label.
///
/// A neuron's score is its largest |accuracy - 0.5| over prompt positions, over several files (seeds) the mean or the
/// smallest; the accuracy is the balanced one where classes are not of nearly one size. For each share the best neurons of each layer are marked in RUN/info/<task>/<share>.safetensors, which also
/// holds all scores and ranks. With sub-tasks (-aa), or more than two classes, each gives its next best neuron in turn.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-select", version)]
#[command(mut_arg("dry_run", |flag| flag.help(Dry::WITHOUT_TEXTS)))]
pub struct Select {
    /// Files of counts (RUN/<task>/dev_perf), comma-separated: one for each seed
    #[arg(
        short = 'a',
        long = "acc_path",
        value_name = "FILES",
        value_delimiter = ',',
        required_unless_present = "ranking"
    )]
    acc_path: Vec<PathBuf>,

    /// -aa FILES: likewise, of another sub-task (may be repeated)
    #[arg(long = "acc_aux_path", value_name = "FILES", conflicts_with = "ranking")]
    acc_aux_path: Vec<String>,

    /// Rank by this file that was made elsewhere: safetensors with score or mask [layers, neurons], .npy of a mask, CSV or JSON of
    /// layer,index[,score]; a list and .npy need -a for the shape of the model
    #[arg(long, value_name = "FILE")]
    ranking: Option<PathBuf>,

    /// What the files of a sub-task come to: mean, min
    #[arg(
        long = "type",
        value_name = "HOW",
        default_value_t = options::Select::default().aggregate,
        conflicts_with = "ranking"
    )]
    aggregate: Aggregate,

    /// What neurons are scored by: accuracy, balanced, or auc, the area under the ROC curve, which needs RUN/<task>/rank/auc
    /// (skn-probe --rank auc) [default: accuracy of two classes of which the larger has at most 55 % of the texts, else balanced]
    #[arg(long, value_name = "SCORE")]
    score: Option<ScoreRule>,

    /// paper: score two classes as in the published implementation, by accuracy whatever their shares
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with_all = ["score", "ranking"])]
    compat: Option<Compat>,

    /// Of more than two classes: this one alone, from 0 [default: each is a sub-task]
    #[arg(long, value_name = "CLASS")]
    class: Option<usize>,

    /// Mark the worst neurons of each layer instead of the best: a control
    #[arg(long, conflicts_with = "ranking")]
    lowest: bool,

    /// Shares of each layer's neurons: a list 0.01,0.05 or FROM..TO..STEP
    #[arg(long, value_name = "SHARES", default_value = "0..0.2..0.01")]
    shares: Shares,

    /// Shuffle labels N times to see what the best neuron has by chance; needs fire bits beside one file of counts
    /// [default: 1000 where there are some; 0: none]
    #[arg(long, value_name = "N")]
    permutations: Option<usize>,

    /// Also mark all neurons whose false discovery rate is at most Q, in info/<task>/fdr-Q.safetensors
    #[arg(long, value_name = "Q")]
    fdr: Option<Share>,

    #[command(flatten)]
    seed: Seed,

    /// Name of the masks' folder [default: the task that the files tell]
    #[arg(long = "task", visible_alias = "task_type", value_name = "NAME")]
    task: Option<String>,

    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    dry: Dry,
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
        select.counts.retain(|files| !files.is_empty());
        select.ranking = self.ranking.clone();
        (select.aggregate, select.class) = (self.aggregate, self.class);
        (select.score, select.paper) = (self.score, self.compat == Some(Compat::Paper));
        select.lowest = self.lowest;
        (select.permutations, select.fdr, select.seed) = (self.permutations, self.fdr, self.seed.seed);
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
        if *score == "ranking" {
            write!(f, ", a ranking that was made elsewhere")?;
        }
        if *score == ScoreRule::Balanced.name() {
            write!(f, ", by balanced accuracy")?;
        }
        if *score == ScoreRule::Auc.name() {
            write!(f, ", by the area under the ROC curve (auc; p of the rank-sum test, no p_max)")?;
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
        let lowest = self.0.lowest;
        if let Some((layer, index, distance)) = self.0.best.first().filter(|_| !lowest) {
            write!(f, "; best: layer {layer}, index {index} at {:.4}", 0.5 + distance)?;
        }
        let (low, high) = (self.0.neurons.iter().next(), self.0.neurons.iter().next_back());
        if let (Some((low, few)), Some((high, many))) = (low, high) {
            let most = |of: &[usize]| of.iter().max().copied().unwrap_or(0);
            write!(
                f,
                "; {} masks{}, {low} ({} a layer) to {high} ({}), in {}",
                self.0.neurons.len(),
                if lowest { " of the worst neurons" } else { "" },
                most(few),
                most(many),
                self.0.folder.display()
            )?;
        }
        if let Some(found) = self.0.discoveries {
            write!(f, "; {found} neurons within the rate of false discoveries")?;
        }
        // Of several files nothing is known of a neuron but its score. What the best are is not asked with the worst.
        if !lowest && self.0.table.iter().any(|neuron| neuron.dev.is_some()) {
            write!(f, "\n{}", table(&self.0.table, score, self.0.split.as_deref()))?;
        }
        Ok(())
    }
}

/// The best neurons, one a line, with the measure that they are scored by, and the split that they were chosen on if it is not dev.
fn table(neurons: &[NeuronRecord], measure: &str, split: Option<&str>) -> Table {
    let chosen = split.map_or_else(|| "dev".into(), |split| format!("{split}, chosen on"));
    let heads = [
        "layer",
        "index",
        "position",
        "class",
        "measure",
        &chosen,
        "test",
        "95 % interval",
        "p",
        "q",
        "p_max",
    ];
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(heads);
    for neuron in neurons {
        let number = |value: Option<usize>| value.map_or_else(|| "-".into(), |value| value.to_string());
        let share = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
        let chance = |value: Option<f64>| match value {
            None => "-".into(),
            Some(p) if p > 0.0 && p < 1e-3 => format!("{p:.1e}"),
            Some(p) => format!("{p:.4}"),
        };
        let interval = neuron.test_low.zip(neuron.test_high);
        let mut row = vec![neuron.layer.to_string(), neuron.index.to_string(), number(neuron.position)];
        row.extend([number(neuron.class), measure.to_owned()]);
        row.extend([share(neuron.dev), share(neuron.test)]);
        row.push(interval.map_or_else(|| "-".into(), |(low, high)| format!("{low:.4} to {high:.4}")));
        row.extend([chance(neuron.p), chance(neuron.q), chance(neuron.p_max)]);
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl Stage for Select {
    const PROGRAM: &'static str = "skn-select";
    type Output = Selected;

    fn common(&self) -> &Common {
        &self.common
    }

    fn next(&self, found: &Selected) -> Option<Vec<String>> {
        next::after_select(&self.destination.out, &found.0.folder, found.0.neurons.keys())
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        call.dry_run(self.dry, compute(), || Ok(self.options().into()))
    }

    fn run(&self, call: &Call) -> Result<Selected> {
        Ok(Selected(call.session(compute())?.select(&self.options())?))
    }
}

/// How it computes: labels are shuffled on all cores.
fn compute() -> options::Compute {
    let mut compute = options::Compute::default();
    compute.device = options::DeviceChoice::Cpu;
    compute
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_best_neurons_are_a_table() {
        let neuron = |class, test| NeuronRecord {
            layer: 1,
            index: 300,
            position: Some(4),
            class,
            dev: Some(0.90625),
            test,
            test_low: test.map(|_| 0.8),
            test_high: test.map(|_| 0.95),
            p: Some(2e-9),
            q: Some(0.25),
            p_max: None,
        };
        let neurons = [neuron(Some(2), Some(0.875)), neuron(None, None)];
        let of_test = table(&neurons, "auc", Some("test")).to_string();
        assert!(of_test.contains("| test, chosen on |") && !of_test.contains("dev"), "{of_test}");
        let table = table(&neurons, "auc", None).to_string();
        let lines: Vec<Vec<&str>> =
            table.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
        let of = |name: &str| lines[0].iter().position(|head| *head == name).unwrap();
        let cells = |line: usize, names: [&str; 7]| names.map(|name| lines[line][of(name)]);
        let names = ["layer", "index", "position", "class", "measure", "dev", "test"];
        // The second line is below the heads.
        assert_eq!(cells(2, names), ["1", "300", "4", "2", "auc", "0.9062", "0.8750"]);
        assert_eq!(cells(3, names), ["1", "300", "4", "-", "auc", "0.9062", "-"]);
        let rest = ["95 % interval", "p", "q", "p_max"].map(|name| lines[2][of(name)]);
        assert_eq!(rest, ["0.8000 to 0.9500", "2.0e-9", "0.2500", "-"]);
    }

    #[test]
    fn what_ranks_counts_does_not_go_with_a_ranking() {
        let parse = |more: &[&str]| {
            let line = ["skn-select", "--ranking", "made", "-a", "dev_perf", "--out", "run"];
            Select::try_parse_from([&line[..], more].concat()).map(drop).map_err(|error| error.kind())
        };
        assert_eq!(parse(&[]), Ok(()), "defaults are nobody's wish");
        assert_eq!(parse(&["--shares", "0.1"]), Ok(()));
        for more in
            [&["--lowest"][..], &["--compat", "paper"], &["--type", "min"], &["--acc_aux_path", "other"]]
        {
            assert_eq!(parse(more), Err(ErrorKind::ArgumentConflict), "{more:?}");
        }
    }
}
