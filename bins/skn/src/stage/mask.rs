//! `skn-mask`: perturb skill neurons, and as many random ones.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use skn_artifact::{PerturbationResult, TensorFile, hash_file, resolve};
use skn_data::{Encoded, Metric};
use skn_model::{Gradients, Roberta, Tuning};
use skn_perturb::{Edit, EditKind, Perturbation, mean_over_positions, random_control};
use skn_probing::{PassOptions, evaluate_each};
use skn_select::Mask as SkillMask;

use crate::cli::{AtOnce, Common, Compute, Destination, Layers, Subject, Tuned};
use crate::exit::Failure;
use crate::program::{Call, Stage};
use crate::run::Sink;
use crate::score::{LEVEL, Score, with_interval};
use crate::setup::Setup;

/// Evaluate the test set while the selected neurons are perturbed, and with --cmp as many random ones.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-mask", version)]
pub struct Mask {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    tuned: Tuned,

    /// Mask files (RUN/info/<task>/<share>), comma-separated: one result for each
    #[arg(long = "info_path", value_name = "FILES", value_delimiter = ',', required = true)]
    info_path: Vec<PathBuf>,

    /// What happens to the neurons: gaussian (noise is added), zero, mean
    #[arg(long = "type", value_name = "EDIT", default_value_t = EditKind::Gaussian)]
    edit: EditKind,

    /// Standard deviation of the noise [default: 0.1]
    #[arg(long, value_name = "NUMBER", value_parser = deviation)]
    alpha: Option<f64>,

    /// Whether each text has one noise for all its positions, or each position its own [default: per-text]
    #[arg(long, value_name = "HOW")]
    noise: Option<Noise>,

    /// For mean: averages (RUN/<task>/train_avg), [L,F] or [L,P,F]
    #[arg(long = "ths_path", value_name = "FILE")]
    ths_path: Option<PathBuf>,

    #[command(flatten)]
    layers: Layers,

    /// The same to as many random neurons of each layer, none of them selected
    #[arg(long = "cmp", visible_alias = "cmp_experiment")]
    cmp: bool,

    /// Draws of random neurons [default: 10]
    #[arg(long, value_name = "N")]
    draws: Option<NonZeroUsize>,

    /// Draws of the noise [default: 1]
    #[arg(long, value_name = "N")]
    repeats: Option<NonZeroUsize>,

    #[command(flatten)]
    at_once: AtOnce,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    common: Common,
}

/// A standard deviation, as `--alpha` gives it.
pub(crate) fn deviation(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(alpha) if f64::is_finite(alpha) && alpha >= 0.0 => Ok(alpha),
        _ => Err("expected a finite number of at least 0".into()),
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Noise {
    #[default]
    PerText,
    PerToken,
}

impl Noise {
    fn name(self) -> &'static str {
        match self {
            Self::PerText => "per-text",
            Self::PerToken => "per-token",
        }
    }
}

/// What perturbing did.
#[derive(Clone, Debug, Serialize)]
pub struct Masked {
    run: PathBuf,
    skill: Vec<PerturbationResult>,
    random: Vec<PerturbationResult>,
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, skill) in self.skill.iter().enumerate() {
            let PerturbationResult { task, metric, unperturbed, mask, neurons, edit, .. } = skill;
            let alpha = skill.alpha.map_or_else(String::new, |alpha| format!(" alpha {alpha}"));
            let most = neurons.iter().max().copied().unwrap_or(0);
            write!(f, "{}{task}: {metric} {unperturbed:.4} on test;", if place > 0 { "\n" } else { "" })?;
            write!(f, " {edit}{alpha} on the {mask} best neurons ({most} a layer)")?;
            write!(f, ": {}", with_interval(skill.mean, skill.interval))?;
            if let Some(random) = self.random.get(place) {
                write!(f, "; on as many random ones: {}", with_interval(random.mean, random.interval))?;
                write!(f, ", {} draws", random.draws.len())?;
            }
        }
        write!(f, "; in {}", self.run.display())
    }
}

impl Stage for Mask {
    const PROGRAM: &'static str = "skn-mask";
    type Output = Masked;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, call: &Call<'_>) -> Result<Masked> {
        let out = self.destination.out.as_path();
        let setup = Setup::load(&self.subject, &self.compute, &self.tuned)?;
        let infos = self.info_path.iter().map(|path| Info::read(path, &setup)).collect::<Result<Vec<_>>>()?;
        let layers = self.layers.of(setup.base.model.config.layers(), 0)?;
        self.flags_without_effect()
            .for_each(|(flag, of)| tracing::warn!("--{flag}: goes with {of}; it changes nothing"));
        let base = &setup.base;
        let model = base.roberta(&base.tuning(&self.tuned)?, Gradients::Nothing)?;
        let edit = self.edit(&setup, &model)?;
        for info in &infos {
            info.tell_other_tuning(&model.tuning()?)?;
        }
        let mut sink = Sink::open(call, out, "mask", self.destination.force)?;
        sink.check_free(&[SKILL, RANDOM])?;
        let texts = base.encode(setup.part("test"), &model)?;
        let options = base.pass(self.at_once.texts(), call.console);
        let experiment = Experiment { mask: self, setup: &setup, model: &model, texts: &texts, edit, layers };
        let scores = experiment.scores(&infos, &options)?;
        let (unperturbed, of_masks) = scores.split_at(1);
        let (mut skill, mut random) = (Vec::new(), Vec::new());
        for (info, of_mask) in infos.iter().zip(of_masks.chunks(self.noises() + self.controls())) {
            let (selected, controls) = of_mask.split_at(self.noises());
            skill.push(experiment.result(info, unperturbed[0].value, selected)?);
            if self.cmp {
                random.push(experiment.result(info, unperturbed[0].value, controls)?);
            }
            sink.read(&info.path)?;
        }
        write(&mut sink, SKILL, &skill)?;
        if self.cmp {
            write(&mut sink, RANDOM, &random)?;
        } else {
            // A control of an earlier experiment would be read as this one's.
            sink.remove(RANDOM);
        }
        setup.keep_split(&mut sink, false)?;
        setup.note(&mut sink)?;
        sink.finish()?;
        Ok(Masked { run: out.into(), skill, random })
    }
}

/// The published standard deviation of the noise.
pub(crate) const ALPHA: f64 = 0.1;
const DRAWS: usize = 10;
const SKILL: &str = "mask_perf.json";
const RANDOM: &str = "cmp_perf.json";

/// One mask gives one result, several a list.
fn write(sink: &mut Sink, name: &str, results: &[PerturbationResult]) -> Result<()> {
    match results {
        [one] => sink.json(name, one),
        several => sink.json(name, &several),
    }
}

/// A mask file.
pub(crate) struct Info {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// What it holds.
    pub(crate) mask: SkillMask,
    /// The hash of the tuned parameters that it was selected with, if that were one.
    tuning: Option<String>,
}

impl Info {
    /// Reads a mask, with or without its extension, and checks that it is one of the model.
    ///
    /// # Errors
    /// If it is missing, damaged, or of another shape than the model.
    pub(crate) fn read(path: &Path, setup: &Setup) -> Result<Self> {
        let path = resolve(path, "safetensors")?;
        let file = TensorFile::read(&path)?;
        let mask = SkillMask::read(&file)?;
        let config = &setup.base.model.config;
        let (expected, found) = ([config.layers(), config.widest()], [mask.layers(), mask.width()]);
        if expected == found {
            check_model(&file, setup)?;
            let tuning = file.metadata().get("skn.tuning_sha256").cloned();
            return Ok(Self { path, mask, tuning });
        }
        let model = &setup.base.identity.id;
        Err(Failure::input(format!(
            "{}: tensor `mask`: expected {expected:?} as layers and neurons of model {model}, found {found:?}",
            path.display()
        )))
    }

    /// Says where a mask comes from other tuned parameters than these: neurons of one prompt tried on another are an
    /// experiment, or a mistake.
    pub(crate) fn tell_other_tuning(&self, tuning: &Tuning) -> Result<()> {
        let now = tuning.sha256()?;
        if self.tuning.as_ref().is_some_and(|found| *found != now) {
            tracing::warn!(
                "{}: selected with other tuned parameters than these ({now})",
                self.path.display()
            );
        }
        Ok(())
    }

    fn name(&self) -> String {
        let name = self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        name.trim_end_matches(".safetensors").to_string()
    }
}

/// Refuses a file that was made with another backbone: its neurons are not these, whatever its shape.
fn check_model(file: &TensorFile, setup: &Setup) -> Result<()> {
    let expected = &setup.base.identity.sha256;
    match file.metadata().get("skn.model_sha256") {
        Some(found) if found != expected => Err(Failure::input(format!(
            "{}: metadata skn.model_sha256: expected {expected}, that of model {}, found {found}",
            file.path().display(),
            setup.base.identity.id
        ))),
        _ => Ok(()),
    }
}

/// The averages of `--ths_path`, `[L, F]`: over prompt positions where it has them. Those of other tuned parameters are
/// told: they are not the means of what this model does.
///
/// # Errors
/// If the file is missing or not of the model's shape.
pub(crate) fn means(path: &Path, setup: &Setup, tuning: &Tuning) -> Result<Vec<Vec<f32>>> {
    let path = resolve(path, "safetensors")?;
    let file = TensorFile::read(&path)?;
    let (shape, values) = file.f32("train_avg", None)?;
    let config = &setup.base.model.config;
    let (layers, width) = (config.layers(), config.widest());
    let fits = matches!(shape[..], [l, f] | [l, _, f] if (l, f) == (layers, width));
    if !fits {
        return Err(Failure::input(format!(
            "{}: tensor `train_avg`: expected [{layers}, {width}] or [{layers}, positions, {width}], found {shape:?}",
            path.display()
        )));
    }
    check_model(&file, setup)?;
    let now = tuning.sha256()?;
    if file.metadata().get("skn.tuning_sha256").is_some_and(|found| *found != now) {
        tracing::warn!("{}: averages of other tuned parameters than these ({now})", path.display());
    }
    Ok(mean_over_positions(&values, &shape)?)
}

/// The test set, and what is done to the model that answers it.
struct Experiment<'a> {
    mask: &'a Mask,
    setup: &'a Setup,
    model: &'a Roberta,
    texts: &'a [Encoded],
    edit: Edit,
    layers: Range<usize>,
}

impl Experiment<'_> {
    /// The score of the model as it is, then for each mask those of its selected neurons and those of random ones: all
    /// from one pass over the texts.
    fn scores(&self, infos: &[Info], options: &PassOptions<'_>) -> Result<Vec<Score>> {
        let base = &self.setup.base;
        let mut variants = vec![Perturbation::nothing(self.widths())];
        for info in infos {
            variants.extend(self.skill(info)?);
            variants.extend(self.random(info)?);
        }
        let ids = &base.verbalizer.ids;
        let answers =
            evaluate_each(self.model, self.texts, ids, options, &variants, |variant, _| variant.hook())?;
        answers.iter().map(|answers| Score::of(base.task.metric, answers, base.seed)).collect()
    }

    /// The selected neurons, under each draw of the noise.
    fn skill(&self, info: &Info) -> Result<Vec<Perturbation>> {
        let neurons = info.mask.neurons();
        (0..self.mask.noises() as u64).map(|draw| self.perturbation(neurons.clone(), draw)).collect()
    }

    /// Random neurons, another set for each draw.
    fn random(&self, info: &Info) -> Result<Vec<Perturbation>> {
        let (skill, seed) = (info.mask.neurons(), self.setup.base.seed);
        let control = |draw| self.perturbation(random_control(&skill, self.widths(), seed, draw)?, draw);
        (0..self.mask.controls() as u64).map(control).collect()
    }

    fn perturbation(&self, neurons: Vec<Vec<u32>>, draw: u64) -> Result<Perturbation> {
        let perturbation = Perturbation::new(self.edit.clone(), neurons, self.widths())?;
        Ok(perturbation.within(self.layers.clone()).repeat(draw))
    }

    fn widths(&self) -> &[usize] {
        &self.model.config().intermediate_sizes
    }

    /// The result of a mask's selected neurons, or of as many random ones.
    fn result(&self, info: &Info, unperturbed: f64, scores: &[Score]) -> Result<PerturbationResult> {
        let draws: Vec<f64> = scores.iter().map(|score| score.value).collect();
        let (mean, [low, high]) = skn_stats::student(&draws, LEVEL)?;
        // Student's interval knows no bounds; metrics do.
        let least = if self.setup.base.task.metric == Metric::Mcc { -1.0 } else { 0.0 };
        let over_draws = [low.max(least), high.min(1.0)];
        let squares: f64 = draws.iter().map(|draw| (draw - mean).powi(2)).sum();
        let std = if draws.len() > 1 { (squares / (draws.len() - 1) as f64).sqrt() } else { 0.0 };
        let gaussian = self.mask.edit == EditKind::Gaussian;
        let layers = &self.layers;
        let edited =
            |(layer, neurons): (usize, &Vec<u32>)| if layers.contains(&layer) { neurons.len() } else { 0 };
        Ok(PerturbationResult {
            task: self.setup.base.task.name.clone(),
            metric: self.setup.base.task.metric.name().into(),
            rows: self.texts.len() as u64,
            edit: self.mask.edit.name().into(),
            alpha: gaussian.then(|| self.mask.alpha.unwrap_or(ALPHA)),
            noise: gaussian.then(|| self.mask.noise.unwrap_or_default().name().into()),
            mask: info.name(),
            mask_sha256: hash_file(&info.path)?,
            low_layer: layers.start,
            high_layer: layers.end,
            neurons: info.mask.neurons().iter().enumerate().map(edited).collect(),
            unperturbed,
            interval: if let [one] = scores { one.interval } else { over_draws },
            draws,
            mean,
            std,
        })
    }
}

impl Mask {
    /// Draws of the noise; other edits have nothing to draw.
    fn noises(&self) -> usize {
        if self.edit == EditKind::Gaussian { self.repeats.map_or(1, NonZeroUsize::get) } else { 1 }
    }

    /// Draws of random neurons.
    fn controls(&self) -> usize {
        if self.cmp { self.draws.map_or(DRAWS, NonZeroUsize::get) } else { 0 }
    }

    /// Flags that are given and have nothing to act on, with what they go with.
    fn flags_without_effect(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let gaussian = self.edit == EditKind::Gaussian;
        [
            (self.alpha.is_some() && !gaussian, "alpha", "--type gaussian"),
            (self.noise.is_some() && !gaussian, "noise", "--type gaussian"),
            (self.repeats.is_some() && !gaussian, "repeats", "--type gaussian"),
            (self.ths_path.is_some() && self.edit != EditKind::Mean, "ths_path", "--type mean"),
            (self.draws.is_some() && !self.cmp, "draws", "--cmp"),
        ]
        .into_iter()
        .filter_map(|(idle, flag, of)| idle.then_some((flag, of)))
    }

    fn edit(&self, setup: &Setup, model: &Roberta) -> Result<Edit> {
        match (self.edit, &self.ths_path) {
            (EditKind::Mean, None) => {
                Err(Failure::usage("--type mean: expected --ths_path FILE with the means, found none"))
            }
            (EditKind::Mean, Some(path)) => Ok(Edit::Mean { values: means(path, setup, &model.tuning()?)? }),
            (EditKind::Zero, _) => Ok(Edit::Zero),
            (EditKind::Gaussian, _) => Ok(Edit::Gaussian {
                alpha: self.alpha.unwrap_or(ALPHA),
                seed: setup.base.seed,
                per_token: self.noise == Some(Noise::PerToken),
            }),
        }
    }
}
