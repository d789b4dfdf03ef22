//! Experiments over several runs of one model. Each is a value of [`KINDS`]: what it asks, the stages it needs, and what it
//! makes of their files. Stages that several need are done once.

mod agreement;
mod classes;
mod damage;
mod files;
mod plan;
mod prompts;
mod random_model;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use skn_artifact::RunRecord;
use skn_artifact::names::{file, stage};
use skn_report::{Page, Section, Table};

pub(crate) use self::plan::{Plan, Planned, PlannedTask};
use crate::done::Now;
use crate::error::{Result, SessionError};
use crate::options::{Experiment, ExperimentName};
use crate::run_writer::RunWriter;
use crate::session::Session;
use crate::steps::{Again, ChainEvent, Step};

/// What experiments found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Experimented {
    /// The folder.
    pub folder: PathBuf,
    /// The page of all figures.
    pub page: PathBuf,
    /// Each experiment, in order.
    pub experiments: Vec<ExperimentFound>,
}

/// What one experiment found: an entry of `experiments.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExperimentFound {
    /// Its name.
    pub name: String,
    /// What it asks.
    pub question: String,
    /// What the numbers say.
    pub found: Vec<String>,
    /// The numbers: tidy tables by name, which are files of `csv/` too.
    pub tables: BTreeMap<String, Table>,
}

/// An experiment.
struct Kind {
    name: ExperimentName,
    /// What it asks, as the heading of its section.
    question: &'static str,
    /// The stages it needs, each after those whose files it reads.
    stages: fn(&Plan<'_>) -> Vec<Planned>,
    /// What it makes of them.
    section: fn(&Session, &Plan<'_>) -> Result<Section>,
}

/// All experiments.
const KINDS: [Kind; 10] = [
    Kind {
        name: ExperimentName::Seeds,
        question: "Do other seeds find the same neurons?",
        stages: agreement::all_seeds,
        section: agreement::seeds,
    },
    Kind {
        name: ExperimentName::Tasks,
        question: "Do the neurons that predict one task predict another?",
        stages: agreement::first_seeds,
        section: agreement::tasks,
    },
    Kind {
        name: ExperimentName::Overlap,
        question: "How many skill neurons do tasks share?",
        stages: agreement::all_seeds,
        section: agreement::overlap,
    },
    Kind {
        name: ExperimentName::Curves,
        question: "Which neurons does the model need, and how many?",
        stages: damage::curve_stages,
        section: damage::curves,
    },
    Kind {
        name: ExperimentName::Classes,
        question: "Do the neurons of a class matter for that class?",
        stages: classes::stages,
        section: classes::section,
    },
    Kind {
        name: ExperimentName::Prompts,
        question: "Does the prompt make neurons predictive?",
        stages: prompts::prompt_stages,
        section: prompts::prompts,
    },
    Kind {
        name: ExperimentName::RandomModel,
        question: "Does pre-training make neurons predictive?",
        stages: random_model::stages,
        section: random_model::section,
    },
    Kind {
        name: ExperimentName::Methods,
        question: "Do a prompt's skill neurons matter for BitFit and adapters?",
        stages: damage::method_stages,
        section: damage::methods,
    },
    Kind {
        name: ExperimentName::Words,
        question: "Is a skill neuron one that stands for a word?",
        stages: agreement::first_seeds,
        section: words::words,
    },
    Kind {
        name: ExperimentName::Transfer,
        question: "Does a prompt serve another task, and does the overlap of what prompts activate tell?",
        stages: prompts::transfer_stages,
        section: prompts::transfer,
    },
];

impl Session {
    /// Does experiments over several runs of one model, and leaves `experiments.json`, its tables as CSV and a page with their
    /// figures in the folder. `told` hears of each step, and may end it by an error of its own.
    ///
    /// # Errors
    /// If an option does not fit, a stage fails, or what is resumed was begun with other options.
    pub fn experiment<E: From<SessionError>>(
        &self,
        options: &Experiment,
        mut told: impl FnMut(&Step, ChainEvent<'_>) -> Result<(), E>,
    ) -> Result<Experimented, E> {
        self.require_alone("an experiment")?;
        let plan = Plan::new(options)?;
        let chosen = chosen(options);
        let whole = self.hold(&plan.out, stage::EXPERIMENT)?;
        let how = Again { overwrite: options.overwrite, resume: options.resume };
        how.check_free(&plan.out)?;
        RunRecord::read(&plan.out).map_err(SessionError::from)?;
        if options.chosen().contains(&ExperimentName::RandomModel) {
            self.write_random_model(&plan)?;
        }
        let stages = stages(&plan);
        let count = stages.len();
        for (Planned { stage, task, seed }, number) in stages.into_iter().zip(1..) {
            let subject = || plan.subject_of(&stage, &task, seed);
            let now = options.resume.then(|| Now::read(self, &subject())).transpose()?;
            self.step(how, now.as_ref(), Step { number, count, stage }, &task.name, &mut told)?;
        }
        let found = self.write_experiments(&plan, &chosen)?;
        drop(whole);
        Ok(found)
    }

    fn write_experiments(&self, plan: &Plan<'_>, chosen: &[&Kind]) -> Result<Experimented> {
        let mut sections = Vec::new();
        let mut experiments = Vec::new();
        for kind in chosen {
            let mut section = (kind.section)(self, plan)?;
            (section.id, section.heading) = (kind.name.name().into(), kind.question.into());
            let mut tables: BTreeMap<String, Table> =
                section.charts.iter().map(|chart| (chart.name.clone(), chart.table.clone())).collect();
            // A table that no figure shows.
            for (_, table) in &section.tables {
                if tables.values().all(|other| other != table) {
                    tables.insert(format!("{}-table", kind.name), table.clone());
                }
            }
            tables.extend(section.data.iter().cloned());
            experiments.push(ExperimentFound {
                name: kind.name.name().into(),
                question: kind.question.into(),
                found: section.paragraphs.clone(),
                tables,
            });
            sections.push(section);
        }
        let tasks: Vec<&str> = plan.tasks.iter().map(|task| task.name.as_str()).collect();
        let model = plan.options.model();
        let lead = format!(
            "Model {model}; tasks {}; {} a task. Every number stands in experiments.json and in the tables of csv/.",
            tasks.join(", "),
            if plan.options.seeds.get() == 1 {
                "1 seed".into()
            } else {
                format!("{} seeds", plan.options.seeds)
            }
        );
        let page = Page::new(&format!("Experiments with {model}"), &lead, &sections);
        let mut writer = RunWriter::open(self, plan.options.clone(), &plan.out, stage::EXPERIMENT, true)?;
        writer.json(file::EXPERIMENTS, &experiments)?;
        let tables: Vec<(String, &Table)> = (experiments.iter().flat_map(|found| &found.tables))
            .map(|(name, table)| (format!("{}/{name}.csv", file::CSV), table))
            .collect();
        for (name, table) in &tables {
            writer.bytes(name, table.csv())?;
        }
        // Those of experiments that are not told of now.
        let made: Vec<String> = tables.into_iter().map(|(name, _)| name).collect();
        writer.remove_former(&made, |name| name.starts_with(&format!("{}/", file::CSV)))?;
        writer.bytes(file::REPORT, page.html)?;
        writer.finish()?;
        Ok(Experimented { folder: plan.out.clone(), page: plan.out.join(file::REPORT), experiments })
    }
}

fn chosen(options: &Experiment) -> Vec<&'static Kind> {
    KINDS.iter().filter(|kind| options.chosen().contains(&kind.name)).collect()
}

/// The stages of what is done, in their order.
pub(crate) fn stages(plan: &Plan<'_>) -> Vec<Planned> {
    once(chosen(plan.options).iter().flat_map(|kind| (kind.stages)(plan)).collect())
}

/// Each stage at the first place where it is needed.
fn once(stages: Vec<Planned>) -> Vec<Planned> {
    let mut once: Vec<Planned> = Vec::new();
    for planned in stages {
        if once.iter().all(|other| other.stage != planned.stage) {
            once.push(planned);
        }
    }
    once
}
