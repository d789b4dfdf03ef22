use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use skn_artifact::names::{file, kind, stage};
use skn_artifact::{
    BestNeuron, Evidence, FullAndPruned, InferencePerformance, InferenceTime, NeuronRecord,
    PerturbationResult, PerturbationSetting, Points, RunRecord, SkillConfig, Summary, TensorFile, read_json,
};
use skn_counts::{Performance, ScoreRule};
use skn_perturb::EditKind;
use skn_probing::{Pool, ProbeType};
use skn_select::Share;

use crate::alpha::check_alpha;
use crate::done::Now;
use crate::error::{Result, SessionError};
use crate::named::Named;
use crate::options::{
    Chain, DrawReport, EditChoice, LayerRange, NeuronChoice, NeuronNoise, Perturb, Probe, Prune, Select,
    Split, Stage, Subject, Train, Training, Tuned, TunedMethod, Usual,
};
use crate::place::find_model;
use crate::run_writer::RunWriter;
use crate::session::Session;
use crate::stages::BestPredictor;
use crate::steps::{Again, ChainEvent, Step, entries, remove_others};

/// Timed passes over test, of which the median is told.
const SPEED_REPEATS: usize = 9;

impl Session {
    /// Does the whole chain, and leaves its summary and its report in the run. `told` hears of each step, and may end the
    /// chain by an error of its own.
    ///
    /// # Errors
    /// If an option does not fit, a stage fails, or a chain that is resumed was begun with other options.
    pub fn chain<E: From<SessionError>>(
        &self,
        options: &Chain,
        mut told: impl FnMut(&Step, ChainEvent<'_>) -> Result<(), E>,
    ) -> Result<Summary, E> {
        self.require_alone("a chain")?;
        let plan = Plan::new(options)?;
        // From the first stage to the report: another chain must not begin between two of them.
        let whole = self.hold(&plan.out, stage::RUN).map_err(E::from)?;
        let how = Again { overwrite: options.overwrite, resume: options.resume };
        how.check_free(&plan.out)?;
        let others = [plan.untuned(), plan.pruned(), plan.pruned_tuned()];
        let others: Vec<_> = others.iter().map(|run| self.hold(run, stage::RUN)).collect::<Result<_>>()?;
        // A record that can't be read would end the chain half-way.
        for run in [plan.out.clone(), plan.untuned(), plan.pruned(), plan.pruned_tuned()] {
            RunRecord::read(&run).map_err(SessionError::from)?;
        }
        let mut steps = plan.steps();
        let report = steps.pop();
        let now = options.resume.then(|| Now::read(self, &subject(options))).transpose()?;
        let mut own = Vec::new();
        for mut step in steps {
            if plan.can_be_told(&mut step.stage).map_err(E::from)? {
                own.push(step.clone());
                self.step(how, now.as_ref(), step, &plan.task, &mut told)?;
            }
        }
        if options.overwrite {
            // Masks of a class that dev has no text of now are an earlier run's.
            remove_others(&plan.out, &entries(&own, &plan.task))?;
        }
        let summary = plan.summary()?;
        self.write_summary(&plan, &summary)?;
        if let Some(report) = report {
            self.step(how, None, report, &plan.task, &mut told)?;
        }
        drop((others, whole));
        Ok(summary)
    }

    /// The stages that a chain does, in their order.
    ///
    /// # Errors
    /// If an option does not fit, or the model or the task is not there.
    pub fn steps(options: &Chain) -> Result<Vec<Step>> {
        Ok(Plan::new(options)?.steps())
    }

    fn write_summary(&self, plan: &Plan<'_>, summary: &Summary) -> Result<()> {
        let options = plan.chain;
        let mut writer = RunWriter::open(self, options.clone(), &options.folder(), stage::RUN, true)?;
        writer.json(file::SUMMARY, summary)?;
        plan.summarised().iter().try_for_each(|path| writer.read(path))?;
        writer.finish()
    }
}

/// What a chain does, with what its options leave open decided: the published settings, or those that suit the demo.
struct Plan<'a> {
    chain: &'a Chain,
    out: PathBuf,
    task: String,
    /// How many classes the task has.
    classes: usize,
    epochs: u64,
    retune_epochs: u64,
    batch: NonZeroUsize,
    learning_rate: f64,
    edit: EditKind,
    share: Share,
    prune_layer: Option<usize>,
}

impl<'a> Plan<'a> {
    fn new(chain: &'a Chain) -> Result<Self> {
        let demo = chain.model() == Chain::MODEL;
        if chain.overwrite && chain.resume {
            return Err(SessionError::usage(
                "option `overwrite` begins anew, option `resume` goes on: expected one of them",
            ));
        }
        if chain.shares.is_empty() {
            return Err(SessionError::usage("option `shares`: expected at least one, found none"));
        }
        chain.alpha.map_or(Ok(()), check_alpha)?;
        let half = Share::of_percent(50);
        if let Some(share) = chain.shares.iter().find(|share| **share > half) {
            return Err(SessionError::usage(format!(
                "option `shares` {share}: as many random neurons are perturbed, none of them selected: at most 0.5"
            )));
        }
        let edit = chain.edit.unwrap_or(if demo { EditKind::Mean } else { EditKind::Gaussian });
        if chain.alpha.is_some() && edit != EditKind::Gaussian {
            return Err(SessionError::usage(format!(
                "option `alpha`: the standard deviation of option `edit` gaussian; the edit is {edit}"
            )));
        }
        let layers = find_model(chain.model())?.config()?.layers();
        if let Some(layer) = chain.prune_layer.filter(|&layer| layer >= layers) {
            return Err(SessionError::usage(format!(
                "option `prune_layer` {layer}: expected 0 to {}, the model's layers",
                layers.saturating_sub(1)
            )));
        }
        let (usual, of_pruned) = (Usual::of(demo, false), Usual::of(demo, true));
        let or = |asked: Option<NonZeroU64>, usual: u64| asked.map_or(usual, NonZeroU64::get);
        let task = Named::of(&subject(chain), &Tuned::default(), None)?.task;
        Ok(Self {
            out: chain.folder(),
            classes: task.classes(),
            task: task.name,
            epochs: or(chain.epochs, usual.epochs),
            retune_epochs: or(chain.retune_epochs, of_pruned.epochs),
            batch: chain.batch.unwrap_or(usual.batch),
            learning_rate: chain.learning_rate.unwrap_or(usual.learning_rate),
            edit,
            share: share(chain, demo)?,
            // What the demo understands of negation and contrast lies in its layers 1 and 2.
            prune_layer: chain.prune_layer.or(demo.then_some(3)),
            chain,
        })
    }

    fn untuned(&self) -> PathBuf {
        self.out.join(file::UNTUNED)
    }

    fn pruned(&self) -> PathBuf {
        self.out.join(file::PRUNED)
    }

    fn pruned_tuned(&self) -> PathBuf {
        self.out.join(file::PRUNED_TUNED)
    }

    /// The stages, the report last.
    fn steps(&self) -> Vec<Step> {
        let [train, retrain] = self.trainings();
        let mut numbered = vec![(1, self.probe_untuned().into()), (2, train.into())];
        numbered.extend(self.probes().map(|probe| (3, probe.into())));
        numbered.push((4, self.select().into()));
        numbered.extend(self.classes().map(|class| (4, self.select_class(class).into())));
        numbered.extend([(5, self.perturb().into()), (6, self.prune().into()), (7, retrain.into())]);
        // One after another, so that they run on the machine at one speed.
        numbered.extend(self.speeds().map(|probe| (8, probe.into())));
        numbered.push((9, DrawReport::new(self.out.clone()).into()));
        let count = 9;
        numbered.into_iter().map(|(number, stage): (usize, Stage)| Step { number, count, stage }).collect()
    }

    fn probe_untuned(&self) -> Probe {
        Probe {
            subject: subject(self.chain),
            tuned: self.new_prompt(),
            repeats: NonZeroUsize::MIN,
            probe_type: vec![ProbeType::Speed],
            out: self.untuned(),
            ..Probe::default()
        }
    }

    fn new_prompt(&self) -> Tuned {
        Tuned { prompt_size: Some(self.chain.prompt_size), ..Tuned::default() }
    }

    /// Of the model, and of the pruned model.
    fn trainings(&self) -> [Train; 2] {
        // Said even where it is usual: the record of an earlier program says it too.
        let training = |epochs| Training {
            epochs: Some(epochs),
            batch: Some(self.batch),
            learning_rate: Some(self.learning_rate),
            eval_every: self.chain.eval_every,
            ..Training::default()
        };
        let resume = self.chain.resume;
        [
            Train {
                tuned: self.new_prompt(),
                training: training(self.epochs),
                resume,
                ..Train::new(subject(self.chain), self.out.clone())
            },
            Train {
                tuned: Tuned::of(self.pruned()).by(TunedMethod::PrunePrompt),
                training: training(self.retune_epochs),
                resume,
                ..Train::new(self.as_in_the_run(), self.pruned_tuned())
            },
        ]
    }

    /// What is not said is as in the run that is resumed from.
    fn as_in_the_run(&self) -> Subject {
        Subject { seed: self.chain.subject.seed, ..Subject::default() }
    }

    fn probes(&self) -> [Probe; 2] {
        let all = [ProbeType::Acc, ProbeType::AccMean, ProbeType::AccMax, ProbeType::PromptAct];
        let of = |types: &[ProbeType]| Probe {
            subject: self.as_in_the_run(),
            ..Probe::of(self.out.clone(), types)
        };
        let splits = vec![Split::Dev, Split::Test];
        [
            Probe { fire_bits: true, variance: true, ..of(&all) },
            Probe { pos: vec![NeuronChoice::Best], splits, ..of(&[ProbeType::Pos, ProbeType::Top]) },
        ]
    }

    fn of_task(&self, name: &str) -> PathBuf {
        self.out.join(&self.task).join(name)
    }

    fn mask(&self, share: Share) -> PathBuf {
        self.out.join(file::INFO).join(&self.task).join(share.to_string())
    }

    /// With all shares that later steps need masks of.
    fn select(&self) -> Select {
        let mut shares = self.chain.shares.clone();
        shares.push(self.chain.prune_share);
        shares.sort_unstable();
        shares.dedup();
        let counts = self.of_task(&Pool::Position.performance_file("dev"));
        let seed = self.chain.subject.seed;
        Select { shares, seed, paper: self.chain.subject.paper, ..Select::new(counts, self.out.clone()) }
    }

    /// The classes that have neurons of their own: of two one rule tells both. None where the names of their folders would be too long.
    fn classes(&self) -> std::ops::Range<usize> {
        let last = Select::task_of_class(&self.task, self.classes);
        let apart = self.classes > 2 && last.len() <= file::LONGEST_TASK;
        0..if apart { self.classes } else { 0 }
    }

    /// The best for one class, of the share that the summary tells of.
    fn select_class(&self, class: usize) -> Select {
        let task = Some(Select::task_of_class(&self.task, class));
        Select { class: Some(class), task, shares: vec![self.share], ..self.select() }
    }

    fn mask_of_class(&self, class: usize) -> PathBuf {
        let folder = self.out.join(file::INFO).join(Select::task_of_class(&self.task, class));
        folder.join(self.share.to_string())
    }

    /// Whether a stage has something to do: a class that dev has no text of, or nothing else, has no neurons, and none of its own are
    /// perturbed.
    fn can_be_told(&self, stage: &mut Stage) -> Result<bool> {
        let asked = match stage {
            Stage::Select(select) => select.class.is_some(),
            Stage::Perturb(perturb) => !perturb.class_masks.is_empty(),
            _ => false,
        };
        if !asked {
            return Ok(true);
        }
        let counts = self.of_task(&file::tensors(&Pool::Position.performance_file(Split::Dev.name())));
        let dev = Performance::read(&TensorFile::read(&counts)?)?;
        let told = |class: usize| dev.tells(class, ScoreRule::Balanced);
        match stage {
            Stage::Perturb(perturb) => {
                perturb.class_masks = self
                    .classes()
                    .filter(|&class| told(class))
                    .map(|class| self.mask_of_class(class))
                    .collect();
                Ok(true)
            }
            Stage::Select(select) => Ok(select.class.is_none_or(told)),
            _ => Ok(true),
        }
    }

    fn perturb(&self) -> Perturb {
        let edit = match self.edit {
            EditKind::Mean => EditChoice::Mean { averages: self.of_task(kind::AVERAGE) },
            EditKind::Zero => EditChoice::Zero,
            EditKind::Gaussian => EditChoice::Gaussian {
                alpha: self.chain.alpha.unwrap_or(EditChoice::ALPHA),
                noise: NeuronNoise::PerText,
                repeats: NonZeroUsize::MIN,
            },
        };
        let masks = self.chain.shares.iter().map(|&share| self.mask(share)).collect();
        Perturb {
            subject: self.as_in_the_run(),
            controls: self.chain.draws.get(),
            // Of the share that the summary tells of: each draw costs a pass.
            matched: Some(self.of_task(kind::AVERAGE)),
            matched_masks: vec![self.mask(self.share)],
            // A pass for each class.
            class_masks: self.classes().map(|class| self.mask_of_class(class)).collect(),
            ..Perturb::of(self.out.clone(), masks, edit)
        }
    }

    fn prune(&self) -> Prune {
        let mask = self.mask(self.chain.prune_share);
        Prune {
            subject: self.as_in_the_run(),
            layers: LayerRange { low_layer: self.prune_layer, high_layer: None },
            ..Prune::of(self.out.clone(), mask, self.of_task(kind::AVERAGE), self.pruned())
        }
    }

    fn speeds(&self) -> impl Iterator<Item = Probe> {
        let runs = [
            (self.out.clone(), TunedMethod::Prompt),
            (self.pruned(), TunedMethod::PrunePrompt),
            (self.pruned_tuned(), TunedMethod::PrunePrompt),
        ];
        runs.into_iter().map(|(run, method)| Probe {
            subject: self.as_in_the_run(),
            tuned: Tuned::of(run.clone()).by(method),
            repeats: NonZeroUsize::new(SPEED_REPEATS).unwrap_or(NonZeroUsize::MIN),
            ..Probe::of(run, &[ProbeType::Speed])
        })
    }

    /// The files that the summary is made of.
    fn summarised(&self) -> Vec<PathBuf> {
        let runs = [self.untuned(), self.out.clone(), self.pruned(), self.pruned_tuned()];
        let of_runs = runs.map(|run| run.join(&self.task).join(file::INFERENCE_PERFORMANCE));
        let times =
            [&self.out, &self.pruned_tuned()].map(|run| run.join(&self.task).join(file::INFERENCE_TIME));
        let counts = ["dev", "test"]
            .map(|split| self.of_task(&file::tensors(&Pool::Position.performance_file(split))));
        let config = self.out.join(file::BEST).join(file::SKILL_CONFIG);
        let evidence = file::evidence(&self.task);
        let own = [file::SKILL, file::RANDOM, &evidence].map(|name| self.out.join(name));
        of_runs.into_iter().chain(times).chain(counts).chain(own).chain([config]).collect()
    }

    /// The summary, from the files that the steps left.
    fn summary(&self) -> Result<Summary> {
        let of_task = |folder: &Path, name: &str| folder.join(&self.task).join(name);
        let performance =
            |folder: &Path| json::<InferencePerformance>(&of_task(folder, file::INFERENCE_PERFORMANCE));
        let time = |folder: &Path| json::<InferenceTime>(&of_task(folder, file::INFERENCE_TIME));
        let [untuned, tuned] = [performance(&self.untuned())?, performance(&self.out)?];
        let [pruned, pruned_tuned] = [performance(&self.pruned())?, performance(&self.pruned_tuned())?];
        let (skill, random) = (self.perturbed(file::SKILL)?, self.perturbed(file::RANDOM)?);
        let model: SkillConfig = json(&self.out.join(file::BEST).join(file::SKILL_CONFIG))?;
        Ok(Summary {
            best_neuron: self.best_neuron()?,
            perturbation: PerturbationSetting {
                edit: skill.edit.clone(),
                alpha: skill.alpha,
                share: skill.mask.clone(),
                draws: random.draws.len(),
                evidence: random.evidence.clone(),
            },
            model: model.model.id,
            test_rows: tuned.rows,
            parameters: FullAndPruned { full: tuned.parameters, pruned: pruned.parameters },
            ms_per_text: FullAndPruned {
                full: time(&self.out)?.ms_per_text,
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
            task: self.task.clone(),
        })
    }

    /// The result at the share that the summary tells of.
    fn perturbed(&self, name: &str) -> Result<PerturbationResult> {
        let path = self.out.join(name);
        let value: serde_json::Value = json(&path)?;
        let all = if value.is_array() { value } else { serde_json::Value::Array(vec![value]) };
        let all: Vec<PerturbationResult> = serde_json::from_value(all)
            .map_err(|error| SessionError::from(error).within(path.display().to_string()))?;
        let share = self.share.to_string();
        let missing = || SessionError::input(format!("{}: no result for share {share}", path.display()));
        all.into_iter().find(|result| result.mask == share).ok_or_else(missing)
    }

    fn best_neuron(&self) -> Result<BestNeuron> {
        let folder = self.out.join(&self.task);
        // Says which file is missing.
        TensorFile::read(&folder.join(file::tensors(&Pool::Position.performance_file("test"))))?;
        let found = BestPredictor::of(&folder, ProbeType::Acc, self.chain.subject.paper)?;
        let missing = || SessionError::input(format!("{}: no counts of prompt positions", folder.display()));
        let BestPredictor { layer, index, position, class, score, dev, test, .. } =
            found.ok_or_else(missing)?;
        let position = position.unwrap_or_default();
        let test = test.ok_or_else(|| {
            SessionError::input(format!("{}: test_perf can't tell the best neuron's class", folder.display()))
        })?;
        let score = Some(score.name().into());
        // What selecting found out of this very neuron.
        let evidence: Evidence = json(&self.out.join(file::evidence(&self.task)))?;
        let place = (layer, index, Some(position), class);
        let known = evidence.best.into_iter().find(|of| (of.layer, of.index, of.position, of.class) == place);
        let NeuronRecord { test_low, test_high, p, q, p_max, .. } = known.unwrap_or_default();
        Ok(BestNeuron { layer, index, position, class, score, dev, test, test_low, test_high, p, q, p_max })
    }
}

/// The model, the task and the data, which a chain always says.
pub(crate) fn subject(chain: &Chain) -> Subject {
    Subject { model: Some(chain.model().into()), task: Some(chain.task()), ..chain.subject.clone() }
}

fn share(chain: &Chain, demo: bool) -> Result<Share> {
    match chain.share {
        Some(share) if !chain.shares.contains(&share) => {
            Err(SessionError::usage(format!("option `share` {share}: expected one of option `shares`")))
        }
        Some(share) => Ok(share),
        None => {
            let usual = Share::of_percent(if demo { 30 } else { 10 });
            let largest = chain.shares.iter().copied().max().unwrap_or(usual);
            Ok(if chain.shares.contains(&usual) { usual } else { largest })
        }
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    Ok(read_json(path)?)
}
