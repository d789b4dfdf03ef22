//! A model of random weights of the same shape: what is left of skill neurons without pre-training.

use std::path::PathBuf;

use skn_artifact::Overwrite;
use skn_artifact::names::file;
use skn_model::Weights;
use skn_report::Section;

use super::plan::{Plan, Planned, PlannedTask, of};
use super::{agreement, prompts};
use crate::base::Base;
use crate::error::Result;
use crate::initial::initial_weights;
use crate::options::{Stage, Subject, Tuned};
use crate::session::Session;

/// The folder of the model, in that of the experiments.
const MODEL: &str = "random-model";

fn model(plan: &Plan<'_>) -> PathBuf {
    plan.out.join(MODEL)
}

/// The run of a task's prompt, tuned for the random model.
fn run(plan: &Plan<'_>, task: &PlannedTask) -> PathBuf {
    plan.out.join(format!("{}-{MODEL}", task.name))
}

impl Plan<'_> {
    /// A task's texts with the random model.
    fn with_random_model(&self, task: &PlannedTask, seed: u64) -> Subject {
        Subject { model: Some(model(self).display().to_string()), ..self.subject(task, seed) }
    }

    /// What a stage is of.
    pub(super) fn subject_of(&self, stage: &Stage, task: &PlannedTask, seed: u64) -> Subject {
        if stage.out() == run(self, task) {
            self.with_random_model(task, seed)
        } else {
            self.subject(task, seed)
        }
    }
}

pub(super) fn stages(plan: &Plan<'_>) -> Vec<Planned> {
    let mut planned = agreement::first_seeds(plan);
    let seed = plan.first_seed();
    for task in &plan.tasks {
        let (run, subject) = (run(plan, task), plan.with_random_model(task, seed));
        planned.extend(of(task, seed, plan.tune_and_probe(subject, run)));
    }
    planned
}

pub(super) fn section(_: &Session, plan: &Plan<'_>) -> Result<Section> {
    let seed = plan.first_seed();
    let runs: [prompts::Compared<'_>; 2] =
        [("random weights", &|task| run(plan, task)), ("pre-trained", &|task| plan.run(task, seed))];
    let title = "The best neuron of a random and of the pre-trained model";
    let (chart, bests) = prompts::compare(plan, MODEL, title, &runs)?;
    let found = format!(
        "A prompt is tuned for a model of the same shape with random weights, too. Predictivity of the best neuron on test, chosen on \
         dev: {}.",
        prompts::against(plan, &bests)
    );
    let table = ("The numbers".into(), chart.table.clone());
    Ok(Section { paragraphs: vec![found], charts: vec![chart], tables: vec![table], ..Section::default() })
}

impl Session {
    /// Writes a model of random weights of the shape and with the tokenizer of the experiments' model. One that is resumed has it.
    ///
    /// # Errors
    /// If the model can't be read, or a file not be written.
    pub(crate) fn write_random_model(&self, plan: &Plan<'_>) -> Result<()> {
        let to = model(plan);
        let Some(task) = plan.tasks.first() else { return Ok(()) };
        let base = Base::load(self, &plan.subject(task, plan.first_seed()), &Tuned::default())?;
        let config = &base.model.config;
        let weights = Weights::from_tensors(config, initial_weights(config, plan.first_seed())?)?;
        let write = |name: &str, bytes: &[u8]| self.write_beside(&to.join(name), Overwrite::Replace, bytes);
        for (name, bytes) in base.model.other_files()? {
            write(&name, &bytes)?;
        }
        write(file::WEIGHTS, &weights.to_bytes()?)?;
        // Last: with it the folder is a model.
        write(file::CONFIG, &config.to_json())
    }
}
