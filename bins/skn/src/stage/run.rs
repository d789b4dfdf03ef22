//! `skn-run`: the whole chain.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skn_artifact::{
    BestNeuron, FullAndPruned, InferencePerformance, InferenceTime, PerturbationResult, PerturbationSetting,
    Points, RunRecord, StageRecord, Summary, TensorFile, hash_file, read_json,
};
use skn_perturb::EditKind;
use skn_select::{Performance, Rule, Share};

use crate::cli::{Common, Compute, DeviceName, Dtype, Subject};
use crate::console::{Console, print};
use crate::exit::Failure;
use crate::program::{Call, Stage, run_stage};
use crate::run::{Sink, unix_seconds};
use crate::score::with_interval;
use crate::source::{self, DEMO};
use crate::stage::{mask, probe, prune, report, select, train};

/// Run the whole chain: tune a prompt, probe every neuron, select the skill neurons, perturb them, prune the rest, tune
/// the pruned model, measure, report.
///
/// Each step is a program of its own; the command line that does the same is printed. Without flags it runs on the
/// embedded demo model and its sentiment task.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-run", version)]
pub struct Run {
    #[command(flatten)]
    subject: Subject,

    /// Folder to write to [default: runs/<model>-<task>]
    #[arg(long = "out", visible_alias = "save_to", value_name = "RUN")]
    out: Option<PathBuf>,

    /// Replace what earlier runs left there
    #[arg(long, conflicts_with = "resume")]
    force: bool,

    /// Go on where an earlier run stopped
    #[arg(long)]
    resume: bool,

    /// Prompt positions, the <mask> row counted
    #[arg(long = "prompt_size", value_name = "P", default_value = "16")]
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
    #[arg(long, value_name = "NUMBER", value_parser = mask::deviation)]
    alpha: Option<f64>,

    /// Shares of each layer's neurons to perturb, comma-separated
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_value = "0.02,0.05,0.1,0.2,0.3,0.4")]
    shares: Vec<Share>,

    /// The share that the summary tells of, one of --shares [default: 0.1, or 0.3 for the demo, else the largest]
    #[arg(long, value_name = "SHARE")]
    share: Option<Share>,

    /// Draws of random neurons to perturb
    #[arg(long, value_name = "N", default_value = "10")]
    draws: NonZeroU64,

    /// Share of each layer's neurons that pruning keeps
    #[arg(long, value_name = "SHARE", default_value = "0.02")]
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
    summary: Summary,
    #[serde(skip)]
    run: PathBuf,
}

impl Stage for Run {
    const PROGRAM: &'static str = "skn-run";
    type Output = Ran;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, call: &Call<'_>) -> Result<Ran> {
        let recipe = self.recipe()?;
        let out = self.out();
        self.check_free(&out)?;
        let began = unix_seconds();
        let chain = Chain { run: self, recipe, out: &out, console: call.console };
        chain.steps().map_err(|error| match call.console.signal() {
            Some(_) if !error.root_cause().to_string().contains("--resume") => {
                anyhow::anyhow!(
                    "{}; the same command with --resume, and without --force, goes on",
                    error.root_cause()
                )
            }
            _ => error,
        })?;
        if self.force {
            chain.remove_older(began)?;
        }
        let summary = chain.summary()?;
        let mut sink = Sink::open(call, &out, "run", true)?;
        sink.json("summary.json", &summary)?;
        sink.finish()?;
        chain.step::<report::Report>(9, &out, "report", &[&text(&out), "--force"])?;
        Ok(Ran { summary, run: out })
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Run {
    fn model(&self) -> &str {
        self.subject.model.as_deref().unwrap_or(DEMO)
    }

    fn task(&self) -> &str {
        match (&self.subject.task, &self.subject.task_file) {
            (Some(task), _) => task,
            (None, Some(file)) => file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("task"),
            (None, None) if self.model() == DEMO => skn_demo::TASKS[0],
            (None, None) => "sst2",
        }
    }

    fn out(&self) -> PathBuf {
        let model = self.model().trim_end_matches('/').rsplit('/').next().unwrap_or("model");
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{model}-{}", self.task())))
    }

    fn check_free(&self, out: &Path) -> Result<()> {
        // An untuned model's numbers are all there is of a run that was stopped early.
        let empty = out.read_dir().map_or(true, |mut entries| entries.next().is_none());
        if empty || self.force || self.resume {
            return Ok(());
        }
        Err(Failure::input(format!(
            "{}: a run is there; --resume goes on with it, --force replaces it, --out RUN writes elsewhere",
            out.display()
        )))
    }

    /// The flags that say which model, task and data.
    fn subject(&self) -> Vec<String> {
        let Subject { task_file, data, max_data, verb, max_length, compat, .. } = &self.subject;
        let mut words = vec!["--model".to_string(), self.model().into()];
        let mut flag = |name: &str, value: Option<String>| {
            words.extend(value.into_iter().flat_map(|value| [name.to_string(), value]));
        };
        flag("--task", task_file.is_none().then(|| self.task().into()));
        flag("--task-file", task_file.as_deref().map(text));
        flag("--data", data.as_deref().map(text));
        flag("--max-data", max_data.map(|size| size.to_string()));
        flag("--verb", verb.as_ref().map(|words| words.join(",")));
        flag("--max-length", max_length.map(|length| length.to_string()));
        flag("--compat", compat.map(|_| "paper".into()));
        words
    }

    /// The flags that say how to compute.
    fn compute(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.compute.seed != 0 {
            words.extend(["--seed".to_string(), self.compute.seed.to_string()]);
        }
        if let Some(threads) = self.compute.threads {
            words.extend(["--threads".to_string(), threads.to_string()]);
        }
        if self.compute.dtype == Dtype::Bf16 {
            words.extend(["--dtype", "bf16"].map(String::from));
        }
        match self.compute.device {
            DeviceName::Auto => {}
            DeviceName::Cpu => words.extend(["--device", "cpu"].map(String::from)),
            DeviceName::Cuda(number) => words.extend(["--device".to_string(), format!("cuda:{number}")]),
        }
        words
    }
}

/// What a run decides where its flags don't: the published settings, or those that suit the demo.
struct Recipe {
    epoch: NonZeroU64,
    retune_epoch: NonZeroU64,
    batch: NonZeroUsize,
    learning_rate: f64,
    edit: EditKind,
    share: Share,
    prune_layer: Option<usize>,
}

impl Run {
    fn recipe(&self) -> Result<Recipe> {
        let demo = self.model() == DEMO;
        let half: Share = "0.5".parse()?;
        if let Some(share) = self.shares.iter().find(|share| **share > half) {
            return Err(Failure::usage(format!(
                "--shares {share}: as many random neurons are perturbed, none of them selected: at most 0.5"
            )));
        }
        let edit = self.edit.unwrap_or(if demo { EditKind::Mean } else { EditKind::Gaussian });
        if self.alpha.is_some() && edit != EditKind::Gaussian {
            return Err(Failure::usage(format!(
                "--alpha: the standard deviation of --type gaussian; the edit is {edit}"
            )));
        }
        let layers = source::find(self.model())?.config()?.layers();
        if let Some(layer) = self.prune_layer.filter(|&layer| layer >= layers) {
            return Err(Failure::usage(format!(
                "--prune-layer {layer}: expected 0 to {}, the model's layers",
                layers.saturating_sub(1)
            )));
        }
        let or = |flag: Option<NonZeroU64>, published: u64, of_demo: u64| {
            flag.or_else(|| NonZeroU64::new(if demo { of_demo } else { published }))
                .unwrap_or(NonZeroU64::MIN)
        };
        let share = match self.share {
            Some(share) if !self.shares.contains(&share) => {
                return Err(Failure::usage(format!("--share {share}: expected one of --shares")));
            }
            Some(share) => share,
            None => {
                let usual = if demo { "0.3" } else { "0.1" }.parse()?;
                let largest = self.shares.iter().copied().max().unwrap_or(usual);
                if self.shares.contains(&usual) { usual } else { largest }
            }
        };
        let batch = self.batch.map(|batch| NonZeroU64::try_from(batch).unwrap_or(NonZeroU64::MIN));
        Ok(Recipe {
            epoch: or(self.epoch, 4, 12),
            retune_epoch: or(self.retune_epoch, 4, 6),
            batch: NonZeroUsize::try_from(or(batch, 8, 16)).unwrap_or(NonZeroUsize::MIN),
            learning_rate: self.learning_rate.unwrap_or(if demo { 5e-3 } else { 1e-3 }),
            edit,
            share,
            // What the demo understands of negation and contrast lies in its layers 1 and 2.
            prune_layer: self.prune_layer.or(demo.then_some(3)),
        })
    }
}

/// The chain under way.
struct Chain<'a> {
    run: &'a Run,
    recipe: Recipe,
    out: &'a Path,
    console: &'a Console,
}

/// Timed passes over test: a machine with other work needs many for a median that says something.
const SPEED_REPEATS: &str = "15";

/// How many steps there are.
const STEPS: usize = 9;

impl Chain<'_> {
    fn untuned(&self) -> PathBuf {
        self.out.join("untuned")
    }

    fn pruned(&self) -> PathBuf {
        self.out.join("prune")
    }

    fn pruned_tuned(&self) -> PathBuf {
        self.out.join("prune-tuned")
    }

    fn steps(&self) -> Result<()> {
        let run = self.run;
        let (out, subject) = (text(self.out), run.subject());
        let subject: Vec<&str> = subject.iter().map(String::as_str).collect();
        let prompt_size = run.prompt_size.to_string();
        let untuned = self.untuned();
        let words = [
            "--prompt_size",
            &prompt_size,
            "--probe_type",
            "speed",
            "--repeats",
            "1",
            "--out",
            &text(&untuned),
        ];
        self.step::<probe::Probe>(1, &untuned, "probe speed", &[&subject[..], &words].concat())?;

        let training = self.training(self.recipe.epoch);
        let training: Vec<&str> = training.iter().map(String::as_str).collect();
        let resume: &[&str] = if run.resume { &["--resume"] } else { &[] };
        let words =
            [&subject[..], &["--prompt_size", &prompt_size, "--out", &out], &training, resume].concat();
        self.step::<train::Train>(2, self.out, "train", &words)?;

        let from = ["-p", "--resume_from", &out, "--out", &out];
        let words = [&from[..], &["--probe_type", "acc,acc_mean,acc_max,prompt_act"]].concat();
        self.step::<probe::Probe>(3, self.out, "probe acc,acc_max,acc_mean,prompt_act", &words)?;
        let words = [&from[..], &["--probe_type", "pos", "--pos", "best", "--splits", "dev,test"]].concat();
        self.step::<probe::Probe>(3, self.out, "probe pos on dev,test", &words)?;

        let task = run.task_name(self.out)?;
        let counts = text(&self.out.join(&task).join("dev_perf"));
        self.step::<select::Select>(
            4,
            self.out,
            &format!("select {task}"),
            &["-a", &counts, "--shares", &self.shares(), "--out", &out],
        )?;

        let (draws, edit) = (run.draws.to_string(), self.recipe.edit.to_string());
        let averages = text(&self.out.join(&task).join("train_avg"));
        let infos = run.shares.iter().map(|share| self.mask(&task, *share)).collect::<Vec<_>>().join(",");
        let words = ["--info_path", &infos, "--type", &edit, "--cmp", "--draws", &draws];
        let alpha = run.alpha.unwrap_or(mask::ALPHA).to_string();
        let setting: &[&str] = match self.recipe.edit {
            EditKind::Mean => &["--ths_path", &averages],
            EditKind::Gaussian => &["--alpha", &alpha],
            EditKind::Zero => &[],
        };
        self.step::<mask::Mask>(5, self.out, "mask", &[&from[..], &words, setting].concat())?;

        let pruned = self.pruned();
        let layer = self.recipe.prune_layer.map(|layer| layer.to_string());
        let layer: Vec<&str> = layer.iter().flat_map(|layer| ["--low_layer", layer]).collect();
        let kept = self.mask(&task, run.prune_share);
        let words =
            ["--resume_from", &out, "--info_path", &kept, "--ths_path", &averages, "--out", &text(&pruned)];
        self.step::<prune::Prune>(6, &pruned, "prune", &[&words[..], &layer].concat())?;

        let tuned = self.pruned_tuned();
        let training = self.training(self.recipe.retune_epoch);
        let training: Vec<&str> = training.iter().map(String::as_str).collect();
        let source = text(&pruned);
        let words =
            ["-p", "--resume_from", &source, "--model_type", "RobertaPrunePrompt", "--out", &text(&tuned)];
        self.step::<train::Train>(7, &tuned, "train", &[&words[..], &training, resume].concat())?;

        // One after another, so that they run on the machine at one speed.
        for (folder, method) in
            [(self.out, "RobertaPrompt"), (&pruned, "RobertaPrunePrompt"), (&tuned, "RobertaPrunePrompt")]
        {
            let place = text(folder);
            let words = [
                "-p",
                "--resume_from",
                &place,
                "--model_type",
                method,
                "--probe_type",
                "speed",
                "--repeats",
                SPEED_REPEATS,
                "--out",
                &place,
            ];
            self.step::<probe::Probe>(8, folder, "probe speed", &words)?;
        }
        Ok(())
    }

    /// Removes what stages of earlier runs left, of another task say: with --force this run has the folder to itself.
    fn remove_older(&self, began: u64) -> Result<()> {
        for folder in [self.untuned(), self.out.to_path_buf(), self.pruned(), self.pruned_tuned()] {
            for file in RunRecord::forget_before(&folder, began)? {
                tracing::info!("{}: removed; an earlier run's", folder.join(file).display());
            }
        }
        Ok(())
    }

    fn training(&self, epochs: NonZeroU64) -> Vec<String> {
        let Recipe { batch, learning_rate, .. } = self.recipe;
        let eval_every_step = self.run.eval_every_step;
        let mut words = vec!["--epoch".to_string(), epochs.to_string(), "--batch".into(), batch.to_string()];
        words.extend(["--learning_rate".to_string(), learning_rate.to_string()]);
        words.extend(
            eval_every_step.iter().flat_map(|steps| ["--eval_every_step".to_string(), steps.to_string()]),
        );
        words
    }

    /// The shares that later steps need masks of.
    fn shares(&self) -> String {
        let mut shares = self.run.shares.clone();
        shares.push(self.run.prune_share);
        shares.sort_unstable();
        shares.dedup();
        shares.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    fn mask(&self, task: &str, share: Share) -> String {
        text(&self.out.join("info").join(task).join(share.to_string()))
    }

    /// Does a step, unless `--resume` finds it done: says its command line, then what came of it.
    fn step<S: Stage>(&self, number: usize, folder: &Path, stage: &str, arguments: &[&str]) -> Result<()> {
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        if S::PROGRAM != "skn-select" && S::PROGRAM != "skn-report" {
            arguments.extend(self.run.compute());
        }
        if self.run.resume
            && stage != "report"
            && let Some(done) = RunRecord::read(folder)?.stages.get(stage)
            && is_as_it_was(folder, done)?
        {
            let [earlier, now] = [&done.arguments, &arguments].map(|arguments| what_matters(arguments));
            if earlier != now {
                let (run, program) = (folder.join("run.json").display().to_string(), S::PROGRAM);
                return Err(Failure::input(format!(
                    "{run}: stage {stage}: --resume goes on with the same run only; it was made by `{program} {earlier}`, \
                     this is `{program} {now}`; --force begins anew, --out RUN writes elsewhere"
                )));
            }
            tracing::info!("[{number}/{STEPS}] {}: done before", S::PROGRAM);
            return Ok(());
        }
        let replaces = self.run.force || (self.run.resume && S::PROGRAM != "skn-train");
        if replaces && S::PROGRAM != "skn-report" {
            arguments.push("--force".into());
        }
        tracing::info!("[{number}/{STEPS}] {} {}", S::PROGRAM, arguments.join(" "));
        let output = run_stage::<S>(self.console, &arguments)?;
        if self.run.common.json {
            tracing::info!("{output}")
        } else {
            print(&format!("[{number}/{STEPS}] {output}"))?
        }
        Ok(())
    }

    /// The summary, from the files that the steps left.
    fn summary(&self) -> Result<Summary> {
        let task = self.run.task_name(self.out)?;
        let performance =
            |folder: &Path| json::<InferencePerformance>(&folder.join(&task).join("inference_perf.json"));
        let time = |folder: &Path| json::<InferenceTime>(&folder.join(&task).join("inference_time.json"));
        let [untuned, tuned] = [performance(&self.untuned())?, performance(self.out)?];
        let [pruned, pruned_tuned] = [performance(&self.pruned())?, performance(&self.pruned_tuned())?];
        let [skill, random] = ["mask_perf.json", "cmp_perf.json"].map(|name| self.perturbed(name));
        let (skill, random) = (skill?, random?);
        let model: skn_artifact::SkillConfig = json(&self.out.join("best").join("skn.json"))?;
        Ok(Summary {
            best_neuron: self.best_neuron(&task)?,
            perturbation: PerturbationSetting {
                edit: skill.edit.clone(),
                alpha: skill.alpha,
                share: skill.mask.clone(),
                draws: random.draws.len(),
            },
            model: model.model.id,
            test_rows: tuned.rows,
            parameters: FullAndPruned { full: tuned.parameters, pruned: pruned.parameters },
            ms_per_text: FullAndPruned {
                full: time(self.out)?.ms_per_text,
                pruned: time(&self.pruned_tuned())?.ms_per_text,
            },
            accuracy: Points {
                untuned: untuned.test_score,
                tuned: tuned.test_score,
                skill_perturbed: skill.mean,
                random_perturbed: random.mean,
                pruned: pruned.test_score,
                pruned_tuned: pruned_tuned.test_score,
            },
            interval: Points {
                untuned: untuned.interval,
                tuned: tuned.interval,
                skill_perturbed: skill.interval,
                random_perturbed: random.interval,
                pruned: pruned.interval,
                pruned_tuned: pruned_tuned.interval,
            },
            task,
        })
    }

    /// The result at the share that the summary tells of.
    fn perturbed(&self, name: &str) -> Result<PerturbationResult> {
        let path = self.out.join(name);
        let value: serde_json::Value = json(&path)?;
        let all = if value.is_array() { value } else { serde_json::Value::Array(vec![value]) };
        let all: Vec<PerturbationResult> = serde_json::from_value(all).with_context(|| text(&path))?;
        let share = self.recipe.share.to_string();
        let missing = || Failure::input(format!("{}: no result for share {share}", path.display()));
        all.into_iter().find(|result| result.mask == share).ok_or_else(missing)
    }

    fn best_neuron(&self, task: &str) -> Result<BestNeuron> {
        let read = |name: &str| {
            Ok::<_, anyhow::Error>(Performance::read(&TensorFile::read(&self.out.join(task).join(name))?)?)
        };
        let [dev, test] = ["dev_perf.safetensors", "test_perf.safetensors"].map(read);
        let (dev, test) = (dev?, test?);
        let rule = dev.best_rule()?;
        let Rule { layer, index, position, class, .. } = rule;
        Ok(BestNeuron {
            layer,
            index,
            position,
            class,
            dev: dev.accuracy_of(&rule)?,
            test: test.accuracy_of(&rule)?,
        })
    }
}

impl Run {
    /// The name of the task as its folder in the run has it.
    fn task_name(&self, out: &Path) -> Result<String> {
        let config: skn_artifact::SkillConfig = json(&out.join("best").join("skn.json"))?;
        Ok(config.task)
    }
}

/// Whether a stage's files are what it wrote, and those of the chain that it read are what it read: a run that was being
/// replaced when it was stopped has some of each.
fn is_as_it_was(folder: &Path, stage: &StageRecord) -> Result<bool> {
    for (name, expected) in &stage.outputs {
        let file = folder.join(name);
        if !file.is_file() || hash_file(&file)? != *expected {
            return Ok(false);
        }
    }
    for (name, expected) in &stage.inputs {
        let mut places = [folder.join(name), PathBuf::from(name)].into_iter();
        if let Some(file) = places.find(|file| file.is_file())
            && hash_file(&file)? != *expected
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A command line without what changes no result.
fn what_matters(arguments: &[String]) -> String {
    let mut kept = Vec::new();
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--force" | "--resume" => {}
            "--threads" => drop(words.next()),
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    Ok(read_json(path)?)
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        } = &self.summary;
        let PerturbationSetting { edit, share, draws, alpha } = perturbation;
        let alpha = alpha.map_or_else(String::new, |alpha| format!(" {alpha}"));
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_MARKDOWN)
            .set_header([format!("{model} on {task}"), format!("{test_rows} rows of test")]);
        let mut row = |name: String, value: String| {
            table.add_row([Cell::new(name), Cell::new(value).set_alignment(CellAlignment::Right)]);
        };
        row("untuned".into(), with_interval(accuracy.untuned, interval.untuned));
        row("tuned".into(), with_interval(accuracy.tuned, interval.tuned));
        let skill = with_interval(accuracy.skill_perturbed, interval.skill_perturbed);
        row(format!("skill neurons perturbed ({edit}{alpha}, share {share})"), skill);
        let random = with_interval(accuracy.random_perturbed, interval.random_perturbed);
        row(format!("as many random neurons perturbed ({draws} draws)"), random);
        row("pruned".into(), with_interval(accuracy.pruned, interval.pruned));
        row("pruned and tuned".into(), with_interval(accuracy.pruned_tuned, interval.pruned_tuned));
        let BestNeuron { layer, index, position, class, dev, test } = best_neuron;
        let class = class.map_or_else(String::new, |class| format!(", class {class} against the rest"));
        row(
            format!("best neuron: layer {layer}, index {index}, position {position}{class}"),
            format!("{dev:.4} dev, {test:.4} test"),
        );
        let share = 100.0 * parameters.pruned as f64 / parameters.full.max(1) as f64;
        let counts = format!("{} -> {} ({share:.1} %)", parameters.full, parameters.pruned);
        row("parameters, full -> pruned".into(), counts);
        let ratio = ms_per_text.full / ms_per_text.pruned.max(f64::MIN_POSITIVE);
        let times = format!("{:.3} -> {:.3} ({ratio:.2}x)", ms_per_text.full, ms_per_text.pruned);
        row("ms a text, full -> pruned".into(), times);
        write!(f, "\n{table}\n\nreport: {}", self.run.join("report.html").display())
    }
}
