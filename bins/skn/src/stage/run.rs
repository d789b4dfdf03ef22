//! `skn-run`: the whole chain.

use std::fmt;
use std::iter::once;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;
use skn_artifact::names::file;
use skn_artifact::{BestNeuron, BestOfText, DamageEvidence, PerturbationSetting, UntunedSummary};
use skn_program::{Failure, typed_again};
use skn_session::options::{self, Made};
use skn_session::{ChainEvent, DryRun, EditKind, Outcome, Session, SessionError, Share, Step, Summary};

use crate::cli::{Common, Compute, Dry, Shares, Subject};
use crate::console::print;
use crate::number::{Count, deviation, probability, with_interval};
use crate::program::{Call, Stage};
use crate::stage::{mask, merge, probe, prune, report, select, train};
use crate::words::{command_line, made_by, untuned};

/// Run the whole chain: tune a prompt, probe every neuron, select the skill neurons, perturb them, prune the rest, tune
/// the pruned model, measure, report.
///
/// Each step is a program of its own; the command line that does the same is printed. Without flags it runs on the
/// embedded demo model and its sentiment task.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-run", version)]
#[command(mut_arg("model", |model| model.help(
    "Folder, GGUF file, owner/name[@revision] from the local Hugging Face cache, or demo [default: demo]")))]
#[command(mut_arg("task", |task| task.help("Task by name [default: sentiment for the demo, else sst2]")))]
#[command(mut_arg("max_data", |size| size.help("Most bytes of text to read, 64 more counted for each row: 500M, 16G [default: 4G]")))]
pub struct Run {
    #[command(flatten)]
    subject: Subject,

    /// Folder to write to [default: runs/<model>-<task>]
    #[arg(long = "out", visible_alias = "save_to", value_name = "RUN")]
    out: Option<PathBuf>,

    /// Tune nothing: what the model's neurons tell as it is, at the last token of each text, and how well its own words answer
    #[arg(long, conflicts_with_all = ["dry_run", "prompt_size", "epoch", "retune_epoch", "batch", "learning_rate", "eval_every_step", "edit",
        "alpha", "shares", "share", "draws", "prune_share", "prune_layer"])]
    untuned: bool,

    /// Replace what earlier runs left there
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    #[command(flatten)]
    dry: Dry,

    /// Go on where an earlier run stopped
    #[arg(long, conflicts_with = "dry_run")]
    resume: bool,

    /// Prompt positions, the <mask> row counted
    #[arg(long = "prompt_size", value_name = "P", default_value_t = options::Chain::default().prompt_size)]
    prompt_size: NonZeroUsize,

    /// Epochs of tuning [default: 4; 12 for the demo]
    #[arg(long, alias = "epochs", value_name = "N")]
    epoch: Option<NonZeroU64>,

    /// Epochs of tuning the pruned model [default: 4; 6 for the demo]
    #[arg(long, value_name = "N")]
    retune_epoch: Option<NonZeroU64>,

    /// Rows of a training step [default: 8; 16 for the demo]
    #[arg(long = "batch", visible_alias = "bz", value_name = "N")]
    batch: Option<NonZeroUsize>,

    /// Peak learning rate [default: 0.001; 0.005 for the demo]
    #[arg(long = "learning_rate", visible_alias = "lr", value_name = "RATE")]
    learning_rate: Option<f64>,

    /// Evaluate on dev every so many steps, besides at the end of each epoch
    #[arg(long = "eval_every_step", value_name = "N")]
    eval_every_step: Option<u64>,

    /// What happens to perturbed neurons: gaussian, zero, mean [default: gaussian; mean for the demo]
    #[arg(long = "type", value_name = "EDIT")]
    edit: Option<EditKind>,

    /// Standard deviation of gaussian noise [default: 0.1]
    #[arg(long, value_name = "NUMBER", value_parser = deviation)]
    alpha: Option<f64>,

    /// Shares of each layer's neurons to perturb, comma-separated
    #[arg(long, value_name = "SHARES", default_value_t = Shares(options::Chain::default().shares))]
    shares: Shares,

    /// The share that the summary tells of, one of --shares [default: 0.1, or 0.3 for the demo, else the largest]
    #[arg(long, value_name = "SHARE")]
    share: Option<Share>,

    /// Draws of random neurons to perturb
    #[arg(long, value_name = "N", default_value_t = options::Chain::default().draws)]
    draws: NonZeroUsize,

    /// Share of each layer's neurons that pruning keeps
    #[arg(long, value_name = "SHARE", default_value_t = options::Chain::default().prune_share)]
    prune_share: Share,

    /// First layer to prune [default: a quarter of the layers stays whole; for the demo all but the last]
    #[arg(long, value_name = "LAYER")]
    prune_layer: Option<usize>,

    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    common: Common,
}

/// What the chain found.
#[derive(Clone, Debug, Serialize)]
pub struct Ran {
    #[serde(flatten)]
    summary: Found,
    #[serde(skip)]
    run: PathBuf,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Chain(Box<Summary>),
    Untuned(Box<UntunedSummary>),
}

impl Stage for Run {
    const PROGRAM: &'static str = "skn-run";
    type Output = Ran;

    fn common(&self) -> &Common {
        &self.common
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        call.dry_run(self.dry, self.compute.options(), || Ok(self.options().into()))
    }

    fn run(&self, call: &Call) -> Result<Ran> {
        let (compute, typed) = (self.compute.options(), call.arguments.clone());
        let described = move |stage: &options::Stage| match stage {
            options::Stage::Chain(_) | options::Stage::Untuned(_) => typed.clone(),
            stage => command_line(stage, compute).1,
        };
        let session = Session::new(compute)?
            .with_progress(call.console.clone())
            .with_description(described)
            .with_understanding(made_by);
        let told = |step: &Step, event: ChainEvent<'_>| tell(step, event, compute, self.common.json);
        if self.untuned {
            let options = self.untuned_options();
            let summary = session.untuned(&options, told).map_err(|error| with_remedy(error, call))?;
            return Ok(Ran { summary: Found::Untuned(Box::new(summary)), run: options.folder() });
        }
        let chain = self.options();
        let summary =
            session.chain(&chain, told).map_err(|error| with_remedy(self.without_head(error), call))?;
        Ok(Ran { summary: Found::Chain(Box::new(summary)), run: chain.folder() })
    }
}

impl Run {
    /// What the flags ask for.
    fn options(&self) -> options::Chain {
        let mut chain = options::Chain::default();
        chain.subject = self.subject.options();
        (chain.out, chain.overwrite, chain.resume) = (self.out.clone(), self.force, self.resume);
        (chain.prompt_size, chain.epochs) = (self.prompt_size, self.epoch);
        (chain.retune_epochs, chain.batch) = (self.retune_epoch, self.batch);
        (chain.learning_rate, chain.eval_every) = (self.learning_rate, self.eval_every_step);
        (chain.edit, chain.alpha) = (self.edit, self.alpha);
        (chain.shares, chain.share, chain.draws) = (self.shares.0.clone(), self.share, self.draws);
        (chain.prune_share, chain.prune_layer) = (self.prune_share, self.prune_layer);
        chain
    }

    /// Of a model that nothing can be tuned in, the command line that reads its neurons.
    fn without_head(&self, error: anyhow::Error) -> anyhow::Error {
        if !error.downcast_ref().is_some_and(SessionError::lacks_head) {
            return error;
        }
        let words = untuned(&self.untuned_options(), self.compute.options());
        let line = typed_again(once(Self::PROGRAM).chain(words.iter().map(String::as_str)));
        Failure::input(format!("{error}; this reads the neurons of the same model: `{line}`"))
    }

    fn untuned_options(&self) -> options::Untuned {
        let mut untuned = options::Untuned::default();
        untuned.subject = self.subject.options();
        (untuned.out, untuned.overwrite, untuned.resume) = (self.out.clone(), self.force, self.resume);
        untuned
    }
}

/// Says a step's command line, then what came of it; with `json` on standard error, as the output is for a program.
pub(crate) fn tell(step: &Step, event: ChainEvent<'_>, compute: options::Compute, json: bool) -> Result<()> {
    let at = format!("[{}/{}]", step.number, step.count);
    match event {
        ChainEvent::Begins(stage) => {
            let (program, words) = command_line(stage, compute);
            tracing::info!("{at} {}", typed_again(once(program).chain(words.iter().map(String::as_str))));
        }
        ChainEvent::DoneBefore(stage) => {
            tracing::info!("{at} {}: done before", command_line(stage, compute).0);
        }
        ChainEvent::Done(outcome) if json => tracing::info!("{}", said(outcome)),
        ChainEvent::Done(outcome) => print(&format!("{at} {}", said(outcome)))?,
        _ => {}
    }
    Ok(())
}

/// What a stage's own program says of its outcome.
fn said(outcome: &Outcome) -> String {
    match outcome.clone() {
        Outcome::Trained(found) => train::Trained::from(found).to_string(),
        Outcome::Probed(found) => probe::Probed::from(*found).to_string(),
        Outcome::Merged(found) => merge::Merged::from(found).to_string(),
        Outcome::Selected(found) => select::Selected::from(found).to_string(),
        Outcome::Perturbed(found) => mask::Masked::from(found).to_string(),
        Outcome::Pruned(found) => prune::Pruned::from(found).to_string(),
        Outcome::Reported(found) => report::Reported::from(found).to_string(),
        other => format!("{other:?}"),
    }
}

/// How a chain that was stopped, or was begun otherwise, goes on.
pub(crate) fn with_remedy(error: anyhow::Error, call: &Call) -> anyhow::Error {
    match error.downcast_ref::<SessionError>() {
        Some(SessionError::OtherOptions { file, entry, earlier, now }) => {
            let line = |made: &Made| {
                let Made { stage, compute, .. } = made.essence();
                let (program, words) = command_line(&stage, compute);
                format!("`{}`", typed_again(once(program).chain(words.iter().map(String::as_str))))
            };
            let (earlier, now) = (line(earlier), line(now));
            Failure::input(format!(
                "{file}: stage {entry}: --resume goes on with the same run only; it was made by {earlier}, \
                 this is {now}; --force begins anew, --out RUN writes elsewhere"
            ))
        }
        Some(SessionError::Stopped { .. }) => error,
        _ if call.console.signal().is_some() => {
            anyhow::anyhow!("{}; this goes on: {}", error.root_cause(), call.resumed())
        }
        _ => error,
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = match &self.summary {
            Found::Chain(summary) => table(summary),
            Found::Untuned(summary) => untuned_table(summary),
        };
        write!(f, "\n{table}\n\nreport: {}", self.run.join(file::REPORT).display())
    }
}

/// A table whose second column is of numbers.
fn two_columns(header: [String; 2], rows: Vec<(String, String)>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for (name, value) in rows {
        table.add_row([Cell::new(name), Cell::new(value).set_alignment(CellAlignment::Right)]);
    }
    table
}

fn untuned_table(summary: &UntunedSummary) -> Table {
    let BestOfText { layer, index, class, dev, test, interval, .. } = &summary.best_neuron;
    let class = class.map_or_else(String::new, |class| format!(", class {class} against the rest"));
    let best = format!("best neuron at the last token: layer {layer}, index {index}{class}");
    let answers = match &summary.answers {
        Some(found) => (format!("untuned, {}", found.metric), with_interval(found.accuracy, found.interval)),
        None => ("untuned".to_owned(), "no answers: the model has no head".to_owned()),
    };
    let mut rows = vec![
        answers,
        ("always the most frequent class".to_owned(), format!("{:.4}", summary.majority)),
        (best, format!("{}, chosen on dev with {dev:.4}", with_interval(*test, *interval))),
    ];
    if let Some(found) = &summary.answers {
        rows.push(("parameters".to_owned(), found.parameters.to_string()));
        rows.push(("ms a text".to_owned(), format!("{:.3}", found.ms_per_text)));
    }
    two_columns(
        [format!("{} on {}", summary.model, summary.task), format!("{} rows of test", summary.test_rows)],
        rows,
    )
}

fn table(summary: &Summary) -> Table {
    let Summary {
        task,
        model,
        test_rows,
        accuracy,
        interval,
        perturbation,
        parameters,
        ms_per_text,
        best_neuron,
    } = summary;
    let PerturbationSetting { edit, share, draws, alpha, evidence } = perturbation;
    let alpha = alpha.map_or_else(String::new, |alpha| format!(" {alpha}"));
    let mut rows = Vec::new();
    let mut row = |name: String, value: String| rows.push((name, value));
    row("untuned".into(), with_interval(accuracy.untuned, interval.untuned));
    row("tuned".into(), with_interval(accuracy.tuned, interval.tuned));
    let skill = with_interval(accuracy.skill_perturbed, interval.skill_perturbed);
    row(format!("skill neurons perturbed ({edit}{alpha}, share {share})"), skill);
    let random = with_interval(accuracy.random_perturbed, interval.random_perturbed);
    let draws = Count(*draws, "draw");
    row(format!("as many random neurons perturbed ({draws})"), random);
    if let Some(DamageEvidence { difference, difference_interval, sign_flip_p, rank_p, .. }) = evidence {
        let name =
            format!("skill less random, right answers (sign flips p {sign_flip_p:.4}, rank p {rank_p:.3})");
        row(name, with_interval(*difference, *difference_interval));
    }
    row("pruned".into(), with_interval(accuracy.pruned, interval.pruned));
    row("pruned and tuned".into(), with_interval(accuracy.pruned_tuned, interval.pruned_tuned));
    let BestNeuron { layer, index, position, class, dev, test, test_low, test_high, p_max, .. } = best_neuron;
    let class = class.map_or_else(String::new, |class| format!(", class {class} against the rest"));
    row(
        format!("best neuron: layer {layer}, index {index}, position {position}{class}"),
        format!("{dev:.4} dev, {test:.4} test"),
    );
    if let (Some(low), Some(high)) = (test_low, test_high) {
        row("  the same on test, which did not choose it".into(), with_interval(*test, [*low, *high]));
    }
    if let Some(p) = p_max {
        row("  chance that the best of all does as well on shuffled labels".into(), probability(*p));
    }
    let share = 100.0 * parameters.pruned as f64 / parameters.full.max(1) as f64;
    let counts = format!("{} -> {} ({share:.1} %)", parameters.full, parameters.pruned);
    row("parameters, full -> pruned".into(), counts);
    let ratio = ms_per_text.full / ms_per_text.pruned.max(f64::MIN_POSITIVE);
    let times = format!("{:.3} -> {:.3} ({ratio:.2}x)", ms_per_text.full, ms_per_text.pruned);
    row("ms a text, full -> pruned".into(), times);
    two_columns([format!("{model} on {task}"), format!("{test_rows} rows of test")], rows)
}
