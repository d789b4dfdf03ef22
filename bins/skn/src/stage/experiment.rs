//! `skn-experiment`: experiments over several runs of one model.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_session::options::{self, ExperimentName, TaskChoice};
use skn_session::{ChainEvent, DryRun, EditKind, Experimented as Found, Session, Share, Step};

use crate::cli::{Common, Compute, Dry, Seed, Shares};
use crate::number::deviation;
use crate::program::{Call, Stage};
use crate::stage::run::{tell, with_remedy};
use crate::words::{command_line, made_by};

/// Compare seeds, tasks, prompts, ways of tuning and a random model: experiments over several runs, which share what they have
/// in common.
///
/// Each step is a program of its own; the command line that does the same is printed. Without flags all experiments run on the
/// embedded demo model and its three tasks. OUT/report.html has their figures, experiments.json and csv/ their numbers.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-experiment", version)]
pub struct Experiment {
    /// Which, comma-separated: seeds, tasks, overlap, curves, classes, prompts, random-model, methods, words, transfer [default: all]
    #[arg(value_name = "EXPERIMENTS", value_delimiter = ',')]
    experiments: Vec<ExperimentName>,

    /// A folder, a GGUF file, owner/name[@revision] from the local Hugging Face cache, or demo
    #[arg(long, value_name = "MODEL", default_value = options::Chain::MODEL)]
    model: String,

    /// Tasks, comma-separated: names as skn-tasks lists them, or files FILE.toml [default: the demo's]
    #[arg(long = "tasks", visible_alias = "task", value_name = "TASKS", value_delimiter = ',')]
    tasks: Vec<String>,

    /// The data of each task, comma-separated, in the order of --tasks; tasks of the demo bring theirs
    #[arg(long = "data", value_name = "PATHS", value_delimiter = ',')]
    data: Vec<PathBuf>,

    /// Seeds of each task: --seed and those after it
    #[arg(long, value_name = "N", default_value_t = options::Experiment::default().seeds)]
    seeds: NonZeroUsize,

    #[command(flatten)]
    seed: Seed,

    /// Folder to write to [default: runs/<model>-experiments]
    #[arg(long = "out", visible_alias = "save_to", value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// Replace what is there
    #[arg(long, conflicts_with = "resume")]
    force: bool,

    /// Go on where an earlier call stopped
    #[arg(long, conflicts_with = "dry_run")]
    resume: bool,

    /// Prompt positions, the <mask> row counted
    #[arg(long = "prompt_size", value_name = "P", default_value_t = options::Experiment::default().prompt_size)]
    prompt_size: NonZeroUsize,

    /// For prompts: a prompt that somebody wrote, for each task one, in the order of --tasks (may be repeated) [default: is it A or
    /// B ?, of the words of the task's classes]
    #[arg(long = "prompt_text", value_name = "TEXT", allow_hyphen_values = true)]
    prompt_texts: Vec<String>,

    /// Epochs of tuning [default: 4; 12 for the demo]
    #[arg(long, alias = "epochs", value_name = "N")]
    epoch: Option<NonZeroU64>,

    /// Rows of a training step [default: 8; 16 for the demo]
    #[arg(long = "batch", visible_alias = "bz", value_name = "N")]
    batch: Option<NonZeroUsize>,

    /// Peak learning rate [default: 0.001; 0.005 for the demo]
    #[arg(long = "learning_rate", visible_alias = "lr", value_name = "RATE")]
    learning_rate: Option<f64>,

    /// What happens to perturbed neurons: gaussian, zero, mean [default: gaussian; mean for the demo]
    #[arg(long = "type", value_name = "EDIT")]
    edit: Option<EditKind>,

    /// Standard deviations of gaussian noise to try, comma-separated [default: 0.1,0.3,1,3]
    #[arg(long = "alphas", visible_alias = "alpha", value_name = "NUMBERS", value_delimiter = ',', value_parser = deviation)]
    alphas: Option<Vec<f64>>,

    /// Shares of each layer's neurons to perturb, comma-separated
    #[arg(long, value_name = "SHARES", default_value_t = Shares(options::Experiment::default().shares))]
    shares: Shares,

    /// The share where one is compared, one of --shares [default: 0.1, or 0.3 for the demo, else the largest]
    #[arg(long, value_name = "SHARE")]
    share: Option<Share>,

    /// Draws of random neurons to perturb
    #[arg(long, value_name = "N", default_value_t = options::Experiment::default().draws)]
    draws: NonZeroUsize,

    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    common: Common,
}

/// What the experiments found.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Experimented(Found);

impl Experiment {
    /// What the flags ask for.
    fn options(&self) -> options::Experiment {
        let task = |name: &String| match name.ends_with(".toml") {
            true => TaskChoice::File(name.into()),
            false => TaskChoice::Named(name.clone()),
        };
        let mut asked = options::Experiment::default();
        asked.experiments = self.experiments.clone();
        (asked.subject.model, asked.subject.seed) = (Some(self.model.clone()), self.seed.seed);
        (asked.tasks, asked.data) = (self.tasks.iter().map(task).collect(), self.data.clone());
        (asked.seeds, asked.out) = (self.seeds, self.out.clone());
        (asked.overwrite, asked.resume, asked.prompt_size) = (self.force, self.resume, self.prompt_size);
        (asked.epochs, asked.batch, asked.learning_rate) = (self.epoch, self.batch, self.learning_rate);
        (asked.edit, asked.draws) = (self.edit, self.draws);
        asked.prompt_texts = self.prompt_texts.clone();
        asked.alphas = self.alphas.clone().unwrap_or(asked.alphas);
        (asked.shares, asked.share) = (self.shares.0.clone(), self.share);
        asked
    }
}

impl fmt::Display for Experimented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for experiment in &self.0.experiments {
            writeln!(f, "\n{}: {}", experiment.name, experiment.question)?;
            experiment.found.iter().try_for_each(|found| writeln!(f, "{found}"))?;
        }
        write!(f, "\nreport: {}", self.0.page.display())
    }
}

impl Stage for Experiment {
    const PROGRAM: &'static str = "skn-experiment";
    type Output = Experimented;

    fn common(&self) -> &Common {
        &self.common
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        call.dry_run(self.dry, self.compute.options(), || Ok(self.options().into()))
    }

    fn run(&self, call: &Call) -> Result<Experimented> {
        let (compute, typed) = (self.compute.options(), call.arguments.clone());
        let described = move |stage: &options::Stage| match stage {
            options::Stage::Experiment(_) => typed.clone(),
            stage => command_line(stage, compute).1,
        };
        let session = Session::new(compute)?
            .with_progress(call.console.clone())
            .with_description(described)
            .with_understanding(made_by);
        let told = |step: &Step, event: ChainEvent<'_>| tell(step, event, compute, self.common.json);
        let found = session.experiment(&self.options(), told).map_err(|error| with_remedy(error, call))?;
        Ok(Experimented(found))
    }
}
