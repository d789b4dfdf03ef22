//! Which runs experiments need, and where these lie.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use skn_artifact::names::{file, kind};
use skn_perturb::EditKind;
use skn_probing::{Pool, ProbeType};
use skn_select::Share;

use crate::alpha::check_alpha;
use crate::error::{Result, SessionError};
use crate::named::Named;
use crate::options::{
    Chain, EditChoice, Experiment, NeuronNoise, Perturb, Probe, Select, Stage, Subject, TaskChoice, Train,
    Training, Tuned, TunedMethod, Usual,
};

/// A task of the experiments.
#[derive(Clone, Debug)]
pub(crate) struct PlannedTask {
    pub(crate) name: String,
    /// How many classes it has.
    pub(super) classes: usize,
    /// The words of its classes, if it says them.
    labels: Vec<String>,
    /// A prompt that somebody wrote for it.
    pub(super) prompt_text: String,
    choice: TaskChoice,
    data: Option<PathBuf>,
}

impl PlannedTask {
    /// What classes are called: each its number, with its word if the task says one.
    pub(super) fn class_names(&self) -> Vec<String> {
        let name = |class: usize| match self.labels.get(class) {
            Some(word) => format!("{class} ({})", word.trim()),
            None => class.to_string(),
        };
        (0..self.classes).map(name).collect()
    }
}

/// A stage, and the task and seed whose data it is of.
pub(crate) struct Planned {
    pub(crate) stage: Stage,
    pub(crate) task: PlannedTask,
    pub(crate) seed: u64,
}

/// Stages of a task under a seed.
pub(super) fn of(task: &PlannedTask, seed: u64, stages: impl IntoIterator<Item = Stage>) -> Vec<Planned> {
    stages.into_iter().map(|stage| Planned { stage, task: task.clone(), seed }).collect()
}

/// What experiments do, with what their options leave open decided: as in a chain.
pub(crate) struct Plan<'a> {
    pub(super) options: &'a Experiment,
    pub(crate) out: PathBuf,
    pub(crate) tasks: Vec<PlannedTask>,
    pub(super) share: Share,
    pub(super) edit: EditKind,
    training: Training,
}

/// Neurons that a mask of a task's run marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// The best.
    Skill,
    /// The worst.
    Lowest,
    /// The best for one class.
    Class(usize),
}

impl<'a> Plan<'a> {
    /// # Errors
    /// If an option does not fit.
    pub(crate) fn new(options: &'a Experiment) -> Result<Self> {
        let demo = options.model() == Chain::MODEL;
        if options.overwrite && options.resume {
            return Err(SessionError::usage(
                "option `overwrite` begins anew, option `resume` goes on: expected one of them",
            ));
        }
        if options.shares.is_empty() {
            return Err(SessionError::usage("option `shares`: expected at least one, found none"));
        }
        let half = Share::of_percent(50);
        if let Some(share) = options.shares.iter().find(|share| **share > half) {
            return Err(SessionError::usage(format!(
                "option `shares` {share}: as many random neurons are perturbed, none of them selected: at most 0.5"
            )));
        }
        options.alphas.iter().try_for_each(|&alpha| check_alpha(alpha))?;
        let edit = options.edit.unwrap_or(if demo { EditKind::Mean } else { EditKind::Gaussian });
        let usual = Usual::of(demo, false);
        let training = Training {
            epochs: Some(options.epochs.map_or(usual.epochs, NonZeroU64::get)),
            batch: Some(options.batch.unwrap_or(usual.batch)),
            learning_rate: Some(options.learning_rate.unwrap_or(usual.learning_rate)),
            ..Training::default()
        };
        let usual = Share::of_percent(if demo { 30 } else { 10 });
        let largest = options.shares.iter().copied().max().unwrap_or(usual);
        let share = match options.share {
            Some(share) if !options.shares.contains(&share) => {
                let why = format!("option `share` {share}: expected one of option `shares`");
                return Err(SessionError::usage(why));
            }
            Some(share) => share,
            None if options.shares.contains(&usual) => usual,
            None => largest,
        };
        let tasks = tasks(options, demo)?;
        Ok(Self { out: options.folder(), tasks, share, edit, training, options })
    }

    /// The seeds, the first being that of the options.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.options.seeds.get() as u64).map(|number| self.options.subject.seed + number)
    }

    pub(crate) fn first_seed(&self) -> u64 {
        self.options.subject.seed
    }

    /// Model, task and data under a seed.
    pub(super) fn subject(&self, task: &PlannedTask, seed: u64) -> Subject {
        Subject {
            model: Some(self.options.model().into()),
            task: Some(task.choice.clone()),
            data: task.data.clone(),
            seed,
            ..self.options.subject.clone()
        }
    }

    /// The folder of a tuned prompt.
    pub(crate) fn run(&self, task: &PlannedTask, seed: u64) -> PathBuf {
        self.out.join(format!("{}-seed-{seed}", task.name))
    }

    /// A prompt that is tuned and probed, with its masks.
    pub(super) fn tuned(&self, task: &PlannedTask, seed: u64) -> Vec<Stage> {
        let run = self.run(task, seed);
        let mut stages = self.tune_and_probe(self.subject(task, seed), run.clone());
        stages.push(self.select(&run, &task.name).into());
        stages
    }

    /// A prompt that is tuned and probed.
    pub(super) fn tune_and_probe(&self, subject: Subject, run: PathBuf) -> Vec<Stage> {
        let train = self.train(subject.clone(), TunedMethod::Prompt, run.clone());
        vec![train.into(), self.probe(subject, run).into()]
    }

    /// Tunes something new.
    pub(super) fn train(&self, subject: Subject, method: TunedMethod, out: PathBuf) -> Train {
        let prompt_size = (method == TunedMethod::Prompt).then_some(self.options.prompt_size);
        Train {
            tuned: Tuned { method: Some(method), prompt_size, ..Tuned::default() },
            training: self.training.clone(),
            resume: self.options.resume,
            ..Train::new(subject, out)
        }
    }

    /// Probes a tuned run, and what its prompt activates.
    fn probe(&self, subject: Subject, run: PathBuf) -> Probe {
        let types = [ProbeType::Acc, ProbeType::PromptAct, ProbeType::Speed];
        Probe { subject, repeats: NonZeroUsize::MIN, ..Probe::of(run, &types) }
    }

    /// Probes under a prompt that was not tuned.
    pub(super) fn probe_untuned(&self, subject: Subject, out: PathBuf) -> Probe {
        Probe {
            subject,
            tuned: Tuned { prompt_size: Some(self.options.prompt_size), ..Tuned::default() },
            probe_type: vec![ProbeType::Acc, ProbeType::Speed],
            repeats: NonZeroUsize::MIN,
            out,
            ..Probe::default()
        }
    }

    /// Probes under a prompt that somebody wrote.
    pub(super) fn probe_written(&self, task: &PlannedTask, out: PathBuf) -> Probe {
        let probe = self.probe_untuned(self.subject(task, self.first_seed()), out);
        let tuned =
            Tuned { prompt_size: None, prompt_text: Some(task.prompt_text.clone()), ..Tuned::default() };
        Probe { tuned, ..probe }
    }

    /// Masks of the best neurons.
    fn select(&self, run: &Path, task: &str) -> Select {
        Select {
            paper: self.options.subject.paper,
            shares: self.options.shares.clone(),
            ..Select::new(counts(run, task, "dev"), run)
        }
    }

    /// Masks of the worst neurons.
    pub(super) fn select_lowest(&self, task: &PlannedTask) -> Select {
        let run = self.run(task, self.first_seed());
        Select { lowest: true, task: Some(lowest(&task.name)), ..self.select(&run, &task.name) }
    }

    /// Masks of the best neurons for one class.
    pub(super) fn select_class(&self, task: &PlannedTask, class: usize) -> Select {
        let run = self.run(task, self.first_seed());
        let name = Some(Select::task_of_class(&task.name, class));
        Select { class: Some(class), task: name, shares: vec![self.share], ..self.select(&run, &task.name) }
    }

    /// A mask of the run of the first seed.
    pub(super) fn mask(&self, task: &PlannedTask, marked: Marked, share: Share) -> PathBuf {
        self.mask_of(task, self.first_seed(), marked, share)
    }

    /// A mask of a run.
    pub(super) fn mask_of(&self, task: &PlannedTask, seed: u64, marked: Marked, share: Share) -> PathBuf {
        let folder = match marked {
            Marked::Skill => task.name.clone(),
            Marked::Lowest => lowest(&task.name),
            Marked::Class(class) => Select::task_of_class(&task.name, class),
        };
        self.run(task, seed).join(file::mask(&folder, &share.to_string()))
    }

    /// The edit of the experiments; means are those of the task's run of the first seed.
    pub(super) fn edit_of(&self, task: &PlannedTask) -> EditChoice {
        self.edit_in(task, &self.run(task, self.first_seed()))
    }

    /// What happens to perturbed neurons of a tuned run: they are held at means of its own.
    pub(super) fn edit_in(&self, task: &PlannedTask, run: &Path) -> EditChoice {
        match self.edit {
            EditKind::Zero => EditChoice::Zero,
            EditKind::Gaussian => self.noise(EditChoice::ALPHA),
            EditKind::Mean => {
                EditChoice::Mean { averages: run.join(&task.name).join(file::tensors(kind::AVERAGE)) }
            }
        }
    }

    /// Averages of a run that was tuned by another method.
    pub(super) fn average(&self, subject: Subject, run: PathBuf, method: TunedMethod) -> Probe {
        Probe { subject, tuned: Tuned::of(run.clone()).by(method), ..Probe::of(run, &[ProbeType::Acc]) }
    }

    pub(super) fn noise(&self, alpha: f64) -> EditChoice {
        EditChoice::Gaussian { alpha, noise: NeuronNoise::PerText, repeats: NonZeroUsize::MIN }
    }

    /// Perturbs neurons of a tuned run, into a folder of its own.
    pub(super) fn perturb(
        &self,
        task: &PlannedTask,
        tuned: Tuned,
        masks: Vec<PathBuf>,
        edit: EditChoice,
        out: PathBuf,
    ) -> Perturb {
        let subject = self.subject(task, self.first_seed());
        Perturb { subject, tuned, masks, edit, out, ..Perturb::default() }
    }
}

/// Where counts of a run lie.
pub(super) fn counts(run: &Path, task: &str, split: &str) -> PathBuf {
    run.join(task).join(file::tensors(&Pool::Position.performance_file(split)))
}

/// A share as it is read: `10 %`.
pub(super) fn percent(share: Share) -> String {
    let share: f64 = share.to_string().parse().unwrap_or(f64::NAN);
    let digits = format!("{:.2}", 100.0 * share);
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}

fn lowest(task: &str) -> String {
    format!("{task}-lowest")
}

fn tasks(options: &Experiment, demo: bool) -> Result<Vec<PlannedTask>> {
    let choices: Vec<TaskChoice> = match options.tasks.as_slice() {
        [] if demo => skn_demo::TASKS.iter().map(|&name| name.into()).collect(),
        [] => return Err(SessionError::usage("option `tasks`: expected at least one task, found none")),
        some => some.to_vec(),
    };
    if !options.data.is_empty() && options.data.len() != choices.len() {
        return Err(SessionError::usage(format!(
            "option `data`: expected one for each task, {}, found {}",
            choices.len(),
            options.data.len()
        )));
    }
    if !options.prompt_texts.is_empty() && options.prompt_texts.len() != choices.len() {
        return Err(SessionError::usage(format!(
            "option `prompt_texts`: expected one for each task, {}, found {}",
            choices.len(),
            options.prompt_texts.len()
        )));
    }
    let mut tasks: Vec<PlannedTask> = Vec::new();
    for (place, choice) in choices.into_iter().enumerate() {
        let data = options.data.get(place).cloned();
        let model = Some(options.model().to_owned());
        let subject = Subject { model, task: Some(choice.clone()), data: data.clone(), ..Subject::default() };
        let task = Named::of(&subject, &Tuned::default(), None)?.task;
        let prompt_text = options.prompt_texts.get(place).cloned().unwrap_or_else(|| question(&task.labels));
        let (classes, name, labels) = (task.classes(), task.name, task.labels);
        if tasks.iter().any(|task| task.name == name) {
            return Err(SessionError::usage(format!(
                "option `tasks`: expected different ones, found {name} twice"
            )));
        }
        tasks.push(PlannedTask { name, classes, labels, prompt_text, choice, data });
    }
    Ok(tasks)
}

/// What a person may ask of a task whose classes have these words: `is it negative or positive ?`.
fn question(words: &[String]) -> String {
    format!("is it {} ?", words.iter().map(|word| word.trim()).collect::<Vec<_>>().join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_all_answers() {
        assert_eq!(question(&["yes".into(), " maybe".into(), "no".into()]), "is it yes or maybe or no ?");
    }
}
