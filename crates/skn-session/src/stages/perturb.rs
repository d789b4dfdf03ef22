use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use skn_artifact::names::{file, stage};
use skn_artifact::{PerturbationResult, hash_file, resolve};
use skn_data::{Encoded, Metric};
use skn_model::{Gradients, LanguageModel, Tuning};
use skn_perturb::{Edit, Perturbation, random_control};
use skn_probing::evaluate_each;

use super::averages::means;
use super::mask_file::MaskFile;
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
}

impl Session {
    /// Evaluates the test set while the neurons of each mask are perturbed, and with controls as many random ones: all in
    /// one pass. Leaves `mask_perf.json` and `cmp_perf.json` in the run.
    ///
    /// # Errors
    /// If something named is missing, damaged or does not fit, or the run has results that may not be replaced.
    pub fn perturb(&self, options: &Perturb) -> Result<Perturbed> {
        if options.masks.is_empty() {
            return Err(SessionError::usage("option `masks`: expected at least one file, found none"));
        }
        let setup = Setup::load(self, &options.subject, &options.tuned)?;
        let base = &setup.base;
        let masks: Vec<MaskFile> =
            options.masks.iter().map(|path| MaskFile::read(path, base)).collect::<Result<_>>()?;
        let layers = layers::within(options.layers, base.model.config.layers(), 0)?;
        let model = base.roberta(&base.tuning(&options.tuned)?, Gradients::Nothing)?;
        let edit = edit(options, base, &model.tuning()?)?;
        for mask in &masks {
            mask.tell_other_tuning(&model.tuning()?)?;
        }
        let (out, overwrite) = (options.out.as_path(), options.overwrite);
        let mut writer = RunWriter::open(self, options.clone(), out, stage::MASK, overwrite)?;
        writer.check_free(&[file::SKILL, file::RANDOM])?;
        setup.keep_split(&mut writer, false)?;
        let texts = base.encode(setup.part("test"), &model)?;
        let experiment = Experiment { options, base, model: &model, texts: &texts, edit, layers };
        let scores = experiment.scores(&masks)?;
        let (unperturbed, of_masks) = scores.split_at(1);
        let (mut skill, mut random) = (Vec::new(), Vec::new());
        for (mask, of_mask) in masks.iter().zip(of_masks.chunks(experiment.noises() + options.controls)) {
            let (selected, controls) = of_mask.split_at(experiment.noises());
            skill.push(experiment.result(mask, unperturbed[0].value, selected)?);
            if options.controls > 0 {
                random.push(experiment.result(mask, unperturbed[0].value, controls)?);
            }
            writer.read(&mask.path)?;
        }
        write(&mut writer, file::SKILL, &skill)?;
        if options.controls > 0 {
            write(&mut writer, file::RANDOM, &random)?;
        } else {
            // A control of an earlier experiment would be read as this one's.
            writer.remove(file::RANDOM);
        }
        if let EditChoice::Mean { averages } = &options.edit {
            writer.read(&resolve(averages, "safetensors")?)?;
        }
        setup.note(&mut writer)?;
        writer.finish()?;
        Ok(Perturbed { run: out.into(), skill, random })
    }
}

/// One mask gives one result, several a list.
fn write(writer: &mut RunWriter, name: &str, results: &[PerturbationResult]) -> Result<()> {
    match results {
        [one] => writer.json(name, one),
        several => writer.json(name, &several),
    }
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
    texts: &'a [Encoded],
    edit: Edit,
    layers: Range<usize>,
}

impl Experiment<'_> {
    /// The score of the model as it is, then for each mask those of its selected neurons and those of random ones: all
    /// from one pass over the texts.
    fn scores(&self, masks: &[MaskFile]) -> Result<Vec<Score>> {
        let base = self.base;
        let mut variants = vec![Perturbation::nothing(self.widths())];
        for mask in masks {
            variants.extend(self.skill(mask)?);
            variants.extend(self.random(mask)?);
        }
        let (ids, pass) = (&base.verbalizer.ids, base.session.pass(self.options.batch));
        let answers =
            evaluate_each(self.model, self.texts, ids, &pass, &variants, |variant, _| variant.hook())?;
        answers.iter().map(|answers| Score::of(base.task.metric, answers, base.seed)).collect()
    }

    /// Draws of the noise; other edits have nothing to draw.
    fn noises(&self) -> usize {
        match self.options.edit {
            EditChoice::Gaussian { repeats, .. } => repeats.get(),
            EditChoice::Zero | EditChoice::Mean { .. } => 1,
        }
    }

    /// The selected neurons, under each draw of the noise.
    fn skill(&self, mask: &MaskFile) -> Result<Vec<Perturbation>> {
        let neurons = mask.mask.neurons();
        (0..self.noises() as u64).map(|draw| self.perturbation(neurons.clone(), draw)).collect()
    }

    /// Random neurons, another set for each draw.
    fn random(&self, mask: &MaskFile) -> Result<Vec<Perturbation>> {
        let (skill, seed) = (mask.mask.neurons(), self.base.seed);
        let control = |draw| self.perturbation(random_control(&skill, self.widths(), seed, draw)?, draw);
        (0..self.options.controls as u64).map(control).collect()
    }

    fn perturbation(&self, neurons: Vec<Vec<u32>>, draw: u64) -> Result<Perturbation> {
        let perturbation = Perturbation::new(self.edit.clone(), neurons, self.widths())?;
        Ok(perturbation.within(self.layers.clone()).repeat(draw))
    }

    fn widths(&self) -> &[usize] {
        &self.model.config().intermediate_sizes
    }

    /// The result of a mask's selected neurons, or of as many random ones.
    fn result(&self, mask: &MaskFile, unperturbed: f64, scores: &[Score]) -> Result<PerturbationResult> {
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
            rows: self.texts.len() as u64,
            edit: self.options.edit.kind().name().into(),
            alpha,
            noise,
            mask: mask.name(),
            mask_sha256: hash_file(&mask.path)?,
            low_layer: layers.start,
            high_layer: layers.end,
            neurons: mask.mask.neurons().iter().enumerate().map(edited).collect(),
            unperturbed,
            interval: if let [one] = scores { one.interval } else { over_draws },
            draws,
            mean,
            std,
        })
    }
}
