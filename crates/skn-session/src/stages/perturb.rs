use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use skn_artifact::names::{file, stage};
use skn_artifact::{DamageEvidence, PerturbationResult, hash_file, resolve};
use skn_data::{Encoded, Metric};
use skn_model::{Gradients, LanguageModel, Tuning};
use skn_perturb::{Edit, Perturbation, matched_control, random_control, variance_ratio};
use skn_probing::{Evaluation, evaluate_each};

use super::averages::{means, variances};
use super::damage::{Compared, by_class};
use super::mask_file::MaskFile;
use super::ranked::tell_mixed;
use crate::alpha::check_alpha;
use crate::base::Base;
use crate::error::{Result, SessionError};
use crate::layers;
use crate::options::{EditChoice, NeuronNoise, Perturb};
use crate::run_writer::RunWriter;
use crate::score::{LEVEL, Score};
use crate::session::Session;
use crate::setup::Setup;

/// What perturbing did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Perturbed {
    /// The run's folder.
    pub run: PathBuf,
    /// The selected neurons of each mask, perturbed.
    pub skill: Vec<PerturbationResult>,
    /// As many random neurons, for each mask; empty without controls.
    pub random: Vec<PerturbationResult>,
    /// As many random neurons of matched variance, for each mask; empty without variances.
    pub matched: Vec<PerturbationResult>,
    /// The selected neurons of each mask of one class, perturbed.
    pub classes: Vec<PerturbationResult>,
}

impl Session {
    /// Evaluates the test set while the neurons of each mask are perturbed, and with controls as many random ones: all in
    /// one pass. Leaves `mask_perf.json` in the run; `cmp_perf.json` of random neurons, with what tests on the same texts say,
    /// `matched_perf.json` of those of matched variance, and `class_perf.json` of masks of one class, where there are such; with a
    /// name in `sweeps/<name>`.
    ///
    /// # Errors
    /// If something named is missing, damaged or does not fit, or the run has results that may not be replaced.
    pub fn perturb(&self, options: &Perturb) -> Result<Perturbed> {
        if options.masks.is_empty() {
            return Err(SessionError::usage("option `masks`: expected at least one file, found none"));
        }
        check_name(options.name.as_deref())?;
        let setup = Setup::load(self, &options.subject, &options.tuned)?;
        let base = &setup.base;
        let read = |paths: &[PathBuf]| -> Result<Vec<MaskFile>> {
            paths.iter().map(|path| MaskFile::read(path, base)).collect()
        };
        let (masks, class_masks) = (read(&options.masks)?, read(&options.class_masks)?);
        let layers = layers::within(options.layers, base.model.config.layers(), 0)?;
        let model = base.roberta(&base.tuning(&options.tuned)?, Gradients::Nothing)?;
        let edit = edit(options, base, &model.tuning()?)?;
        for mask in masks.iter().chain(&class_masks) {
            mask.tell_other_tuning(&model.tuning()?)?;
        }
        tell_mixed(&masks);
        let mut matched_masks = Vec::new();
        let variances = match &options.matched {
            Some(_) if options.controls == 0 => {
                let why = "option `matched`: as many as option `controls` says: expected at least 1, found 0";
                return Err(SessionError::usage(why));
            }
            Some(path) => {
                matched_masks = check_matched(options, &masks)?;
                Some(variances(path, base, &model.tuning()?)?)
            }
            None if !options.matched_masks.is_empty() => {
                let why = "option `matched_masks`: goes with option `matched`, the file of variances";
                return Err(SessionError::usage(why));
            }
            None => None,
        };
        let (out, overwrite) = (options.out.as_path(), options.overwrite);
        let entry = stage::mask(options.name.as_deref());
        let mut writer = RunWriter::open(self, options.clone(), out, &entry, overwrite)?;
        let place = |name: &str| match &options.name {
            Some(sweep) => file::in_sweep(sweep, name),
            None => name.to_owned(),
        };
        writer.check_free(&[file::SKILL, file::RANDOM, file::MATCHED, file::CLASSES].map(place))?;
        setup.keep_split(&mut writer, false)?;
        let texts = base.encode_own("test", setup.part("test"), &model)?;
        let model = &model;
        let experiment =
            Experiment { options, base, model, texts: &texts, edit, layers, variances, matched_masks };
        let found = experiment.results(&masks, &class_masks)?;
        for mask in masks.iter().chain(&class_masks) {
            writer.read(&mask.path)?;
        }
        let [skill, random, matched, classes] = found;
        let files = [
            (file::SKILL, &skill),
            (file::RANDOM, &random),
            (file::MATCHED, &matched),
            (file::CLASSES, &classes),
        ];
        for (name, results) in files {
            match results.as_slice() {
                // What an earlier experiment left would be read as this one's.
                [] => writer.remove(&place(name)),
                // One mask gives one result, several a list.
                [one] => writer.json(&place(name), one)?,
                several => writer.json(&place(name), &several)?,
            }
        }
        if let EditChoice::Mean { averages } = &options.edit {
            writer.read(&resolve(averages, "safetensors")?)?;
        }
        if let Some(path) = &options.matched {
            writer.read(&resolve(path, "safetensors")?)?;
        }
        setup.note(&mut writer)?;
        writer.finish()?;
        Ok(Perturbed { run: out.into(), skill, random, matched, classes })
    }
}

/// Refuses a name that can't be one of a folder.
fn check_name(name: Option<&str>) -> Result<()> {
    match name {
        Some(name) if !file::is_sweep(name) => Err(SessionError::usage(format!(
            "option `name` {name:?}: expected at most 100 letters, digits, '_', '-' and '.' (it names a folder)"
        ))),
        _ => Ok(()),
    }
}

/// The files of the masks that are to get random neurons of matched variance. Refuses one that is not perturbed.
fn check_matched(options: &Perturb, masks: &[MaskFile]) -> Result<Vec<PathBuf>> {
    let check = |path: &PathBuf| {
        let found = resolve(path, "safetensors")?;
        match masks.iter().any(|mask| mask.path == found) {
            true => Ok(found),
            false => Err(SessionError::usage(format!(
                "option `matched_masks` {}: expected one of option `masks`",
                path.display()
            ))),
        }
    };
    options.matched_masks.iter().map(check).collect()
}

fn edit(options: &Perturb, base: &Base<'_>, tuning: &Tuning) -> Result<Edit> {
    if let EditChoice::Gaussian { alpha, .. } = options.edit {
        check_alpha(alpha)?;
    }
    Ok(match &options.edit {
        EditChoice::Mean { averages } => Edit::Mean { values: means(averages, base, tuning)? },
        EditChoice::Zero => Edit::Zero,
        EditChoice::Gaussian { alpha, noise, .. } => {
            Edit::Gaussian { alpha: *alpha, seed: base.seed, per_token: *noise == NeuronNoise::PerToken }
        }
    })
}

/// The test set, and what is done to the model that answers it.
struct Experiment<'a> {
    options: &'a Perturb,
    base: &'a Base<'a>,
    model: &'a LanguageModel,
    /// Those of test, in a group of processes this one's share.
    texts: &'a [Encoded],
    edit: Edit,
    layers: Range<usize>,
    /// Of each neuron over train, where random ones are to be matched.
    variances: Option<Vec<Vec<f32>>>,
    /// The files of the masks that are; of all masks, if none is named.
    matched_masks: Vec<PathBuf>,
}

/// Whose neurons are perturbed.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    /// A mask's.
    Skill,
    /// As many random ones.
    Random,
    /// As many random ones of matched variance.
    Matched,
    /// Those of a mask of one class.
    Class(usize),
}

/// The same neurons, or as many random ones, under each draw.
struct Group<'m> {
    mask: &'m MaskFile,
    who: Who,
    draws: Vec<Perturbation>,
    /// Of random neurons of matched variance.
    variance_ratio: Option<f64>,
}

/// The answers to each draw of a group, with their metric.
struct Answers {
    evaluations: Vec<Evaluation>,
    scores: Vec<Score>,
}

impl Experiment<'_> {
    /// Of selected neurons, of random ones, of random ones of matched variance, and of those of one class: a result for each
    /// mask. All from one pass over the texts.
    fn results(&self, masks: &[MaskFile], class_masks: &[MaskFile]) -> Result<[Vec<PerturbationResult>; 4]> {
        let groups = self.groups(masks, class_masks)?;
        let mut variants = vec![Perturbation::nothing(self.widths())];
        variants.extend(groups.iter().flat_map(|group| group.draws.iter().cloned()));
        let base = self.base;
        let (ids, pass) = (&base.verbalizer.ids, base.session.pass_over("test", self.options.batch));
        let answers =
            evaluate_each(self.model, self.texts, ids, &pass, &variants, |variant, _| variant.hook())?;
        let mut answers = answers.into_iter();
        let unperturbed = self.answers(answers.by_ref().take(1))?;
        let mut results = [vec![], vec![], vec![], vec![]];
        let mut skill = None;
        for group in &groups {
            let found = self.answers(answers.by_ref().take(group.draws.len()))?;
            let mut result = self.result(group, &unperturbed, &found)?;
            match group.who {
                Who::Skill => skill = Some(found),
                Who::Class(_) => {}
                Who::Random | Who::Matched => {
                    let evidence = |skill: &Answers| found.as_control_of(skill, base.seed);
                    result.evidence = skill.as_ref().map(evidence).transpose()?;
                }
            }
            results[group.who.place()].push(result);
        }
        Ok(results)
    }

    /// What is evaluated: a mask's own neurons come before the random ones that they are compared with.
    fn groups<'m>(&self, masks: &'m [MaskFile], class_masks: &'m [MaskFile]) -> Result<Vec<Group<'m>>> {
        let mut groups = Vec::new();
        for mask in masks {
            groups.push(self.selected(mask, Who::Skill)?);
            if self.options.controls > 0 {
                groups.push(self.random(mask)?);
            }
            if let Some(variances) = self.variances.as_ref().filter(|_| self.is_matched(mask)) {
                groups.push(self.matched(mask, variances)?);
            }
        }
        for (place, mask) in class_masks.iter().enumerate() {
            let class = mask.of_class(place, class_masks.len(), self.base.task.classes())?;
            groups.push(self.selected(mask, Who::Class(class))?);
        }
        Ok(groups)
    }

    fn answers(&self, evaluations: impl Iterator<Item = Evaluation>) -> Result<Answers> {
        let evaluations: Vec<Evaluation> = evaluations.collect();
        let score = |answers| Score::of(self.base.task.metric, answers, self.base.seed);
        let scores = evaluations.iter().map(score).collect::<Result<_>>()?;
        Ok(Answers { evaluations, scores })
    }

    /// Draws of the noise; other edits have nothing to draw.
    fn noises(&self) -> usize {
        match self.options.edit {
            EditChoice::Gaussian { repeats, .. } => repeats.get(),
            EditChoice::Zero | EditChoice::Mean { .. } => 1,
        }
    }

    /// The selected neurons, under each draw of the noise.
    fn selected<'m>(&self, mask: &'m MaskFile, who: Who) -> Result<Group<'m>> {
        let neurons = mask.mask.neurons();
        let draws = (0..self.noises() as u64).map(|draw| self.perturbation(neurons.clone(), draw));
        Ok(Group { mask, who, draws: draws.collect::<Result<_>>()?, variance_ratio: None })
    }

    /// Random neurons, another set for each draw.
    fn random<'m>(&self, mask: &'m MaskFile) -> Result<Group<'m>> {
        let (skill, seed) = (mask.mask.neurons(), self.base.seed);
        let control = |draw| self.perturbation(random_control(&skill, self.widths(), seed, draw)?, draw);
        let draws = self.controls().map(control).collect::<Result<_>>()?;
        Ok(Group { mask, who: Who::Random, draws, variance_ratio: None })
    }

    /// The same, of matched variance. The ratio is of the layers that are edited, of all draws together.
    fn matched<'m>(&self, mask: &'m MaskFile, variances: &[Vec<f32>]) -> Result<Group<'m>> {
        let (skill, seed) = (mask.mask.neurons(), self.base.seed);
        let control = |draw| Ok(matched_control(&skill, variances, seed, draw)?);
        let controls: Vec<Vec<Vec<u32>>> = self.controls().map(control).collect::<Result<_>>()?;
        let layers = self.layers.clone();
        let of = |neurons: &[Vec<u32>]| {
            variance_ratio(&skill[layers.clone()], neurons, &variances[layers.clone()])
        };
        let ratios: Option<Vec<f64>> = controls.iter().map(|neurons| of(&neurons[layers.clone()])).collect();
        let variance_ratio = ratios.map(|ratios| ratios.iter().sum::<f64>() / ratios.len() as f64);
        let draws = controls.into_iter().zip(0..).map(|(neurons, draw)| self.perturbation(neurons, draw));
        Ok(Group { mask, who: Who::Matched, draws: draws.collect::<Result<_>>()?, variance_ratio })
    }

    /// Whether random neurons of matched variance are drawn for a mask too.
    fn is_matched(&self, mask: &MaskFile) -> bool {
        self.matched_masks.is_empty() || self.matched_masks.contains(&mask.path)
    }

    fn controls(&self) -> Range<u64> {
        0..self.options.controls as u64
    }

    fn perturbation(&self, neurons: Vec<Vec<u32>>, draw: u64) -> Result<Perturbation> {
        let perturbation = Perturbation::new(self.edit.clone(), neurons, self.widths())?;
        Ok(perturbation.within(self.layers.clone()).repeat(draw))
    }

    fn widths(&self) -> &[usize] {
        &self.model.config().intermediate_sizes
    }

    /// The result of a mask's selected neurons, or of as many random ones; without what compares them.
    fn result(
        &self,
        group: &Group<'_>,
        unperturbed: &Answers,
        found: &Answers,
    ) -> Result<PerturbationResult> {
        let (mask, scores) = (group.mask, found.scores.as_slice());
        let draws: Vec<f64> = scores.iter().map(|score| score.value).collect();
        let (mean, [low, high]) = skn_stats::student(&draws, LEVEL)?;
        // Student's interval knows no bounds; metrics do.
        let metric = self.base.task.metric;
        let least = if metric == Metric::Mcc { -1.0 } else { 0.0 };
        let over_draws = [low.max(least), high.min(1.0)];
        let squares: f64 = draws.iter().map(|draw| (draw - mean).powi(2)).sum();
        let std = if draws.len() > 1 { (squares / (draws.len() - 1) as f64).sqrt() } else { 0.0 };
        let (alpha, noise) = match &self.options.edit {
            EditChoice::Gaussian { alpha, noise, .. } => (Some(*alpha), Some(noise.name().into())),
            EditChoice::Zero | EditChoice::Mean { .. } => (None, None),
        };
        let layers = &self.layers;
        let edited =
            |(layer, neurons): (usize, &Vec<u32>)| if layers.contains(&layer) { neurons.len() } else { 0 };
        Ok(PerturbationResult {
            task: self.base.task.name.clone(),
            metric: metric.name().into(),
            rows: unperturbed.evaluations.first().map_or(0, |answers| answers.labels.len() as u64),
            edit: self.options.edit.kind().name().into(),
            alpha,
            noise,
            mask: mask.name(),
            mask_sha256: hash_file(&mask.path)?,
            ranking: mask.ranking.clone(),
            lowest: mask.lowest,
            low_layer: layers.start,
            high_layer: layers.end,
            neurons: mask.mask.neurons().iter().enumerate().map(edited).collect(),
            unperturbed: unperturbed.scores[0].value,
            interval: if let [one] = scores { one.interval } else { over_draws },
            draws,
            mean,
            std,
            class: if let Who::Class(class) = group.who { Some(class) } else { None },
            by_class: Some(by_class(&unperturbed.evaluations[0], &found.evaluations)),
            evidence: None,
            variance_ratio: group.variance_ratio,
        })
    }
}

impl Who {
    /// Which of [`Experiment::results`] it is.
    fn place(self) -> usize {
        match self {
            Self::Skill => 0,
            Self::Random => 1,
            Self::Matched => 2,
            Self::Class(_) => 3,
        }
    }
}

impl Answers {
    /// What these, with random neurons perturbed, say of the selected ones.
    fn as_control_of(&self, skill: &Answers, seed: u64) -> Result<DamageEvidence> {
        let right = |of: &Answers| of.evaluations.iter().map(|answers| answers.right().collect()).collect();
        let metrics = |of: &Answers| of.scores.iter().map(|score| score.value).collect::<Vec<f64>>();
        let of_skill = metrics(skill);
        let (of_random, mean) = (metrics(self), of_skill.iter().sum::<f64>() / of_skill.len() as f64);
        let (skill, random): (Vec<Vec<bool>>, Vec<Vec<bool>>) = (right(skill), right(self));
        let compared =
            Compared { skill: &skill, random: &random, skill_metric: mean, random_metrics: &of_random };
        compared.evidence(seed)
    }
}
