use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use skn_artifact::names::{file, kind, stage};
use skn_artifact::{ModelIdentity, SkillConfig, TensorFile, resolve, sha256_hex};
use skn_model::{Config, Gradients, LanguageModel, LayerCut, PrunedForm, Tuning, Weights, prune};
use skn_probing::{PassOptions, speed};
use skn_select::Mask;

use super::averages::means;
use super::mask_file::MaskFile;
use super::predict::OnlyStops;
use crate::error::{Result, SessionError};
use crate::fits::method_name;
use crate::layers;
use crate::options::{Fold, Prune};
use crate::run_writer::RunWriter;
use crate::session::Session;
use crate::setup::Setup;

/// What pruning did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// The pruned run's folder, with the model in `best`.
    pub run: PathBuf,
    /// The task's name.
    pub task: String,
    /// The id of the model that was pruned.
    pub model: String,
    /// First layer that was pruned.
    pub low_layer: usize,
    /// One past the last layer that was pruned.
    pub high_layer: usize,
    /// Neurons of each layer now.
    pub widths: Vec<usize>,
    /// Neurons of the widest layer before.
    pub full_width: usize,
    /// Parameters, full and pruned.
    pub parameters: [u64; 2],
    /// The task's metric.
    pub metric: &'static str,
    /// The metric on dev, full and pruned.
    pub dev_score: [f64; 2],
    /// Milliseconds a text of dev, full and pruned; one pass each.
    pub ms_per_text: [f64; 2],
    /// Whether it was written at full width.
    pub dense: bool,
    /// Whether all layers have one width, for transformers.
    pub uniform: bool,
}

impl Session {
    /// Prunes a tuned model to the neurons of a mask: in the layers that are asked for every other neuron is held at its
    /// mean activation, which is folded into the output bias. `best` of the run becomes a model folder with the tuned
    /// parameters in it.
    ///
    /// # Errors
    /// If something named is missing, damaged or does not fit, or the run has a model that may not be replaced.
    pub fn prune(&self, options: &Prune) -> Result<Pruned> {
        let out = options.out.as_path();
        if options.text_averages.is_some() && options.fold != Fold::PerPositionGroup {
            return Err(SessionError::usage(
                "option `text_averages`: goes with option `fold` per-position-group",
            ));
        }
        let form = form(options)?;
        let setup = Setup::load(self, &options.subject, &options.tuned())?;
        form.check(&setup.base.model.config)?;
        let layers = pruned_layers(options, &setup)?;
        let mask = MaskFile::read(&options.mask, &setup.base)?;
        if options.round_width.get() > 1 {
            mask.expect_ranks("round_width")?;
        }
        if options.uniform {
            mask.expect_ranks("uniform")?;
        }
        let tuning = setup.base.loaded_tuning(options.tuned().read_as())?;
        mask.tell_other_tuning(&tuning)?;
        let cuts = cuts(options, &setup, &mask.mask, &tuning)?;
        let mut writer = RunWriter::open(self, options.clone(), out, stage::PRUNE, options.overwrite)?;
        writer.check_free(&[file::SKILL_CONFIG, file::WEIGHTS].map(in_best))?;
        let model = PrunedModel::new(&setup, &tuning, &cuts, form)?;
        let full = setup.base.roberta(&tuning, Gradients::Nothing)?;
        let pruned = model.roberta(&setup)?;
        let (before, after) = (Measured::of(&setup, &full)?, Measured::of(&setup, &pruned)?);
        model.write(&setup, after.score, form != PrunedForm::Narrow, &mut writer)?;
        let averages = resolve(&options.averages, "safetensors")?;
        let of_text = text_averages(options, &averages)?;
        for path in [&mask.path, &averages].into_iter().chain(&of_text) {
            writer.read(path)?;
        }
        setup.keep_split(&mut writer, true)?;
        setup.note(&mut writer)?;
        writer.finish()?;
        Ok(Pruned {
            run: out.into(),
            task: setup.base.task.name.clone(),
            model: setup.base.identity.id.clone(),
            low_layer: layers.start,
            high_layer: layers.end,
            widths: cuts.iter().zip(&full.config().intermediate_sizes).map(width).collect(),
            full_width: full.config().widest(),
            parameters: [&full, &pruned].map(|model| model.config().parameters()),
            metric: setup.base.task.metric.name(),
            dev_score: [before.score, after.score],
            ms_per_text: [before.ms_per_text, after.ms_per_text],
            dense: options.dense,
            uniform: options.uniform,
        })
    }
}

fn in_best(name: &str) -> String {
    format!("{}/{name}", file::BEST)
}

fn width((cut, &width): (&Option<LayerCut>, &usize)) -> usize {
    cut.as_ref().map_or(width, |cut| cut.kept.len())
}

fn form(options: &Prune) -> Result<PrunedForm> {
    match (options.dense, options.uniform) {
        (false, false) => Ok(PrunedForm::Narrow),
        (true, false) => Ok(PrunedForm::Dense),
        (false, true) => Ok(PrunedForm::Uniform),
        (true, true) => {
            let message = "option `uniform`: expected without option `dense`, which keeps the full width in every layer";
            Err(SessionError::usage(message))
        }
    }
}

fn pruned_layers(options: &Prune, setup: &Setup<'_>) -> Result<Range<usize>> {
    let all = setup.base.model.config.layers();
    if !options.uniform {
        return layers::within(options.layers, all, all / 4);
    }
    let layers = layers::within(options.layers, all, 0)?;
    if layers.len() < all {
        let (low, high) = (layers.start, layers.end);
        return Err(SessionError::usage(format!(
            "option `uniform`: every layer gets the same width: expected all {all} layers, found option `low_layer` {low} \
             option `high_layer` {high}"
        )));
    }
    Ok(layers)
}

/// How many neurons each layer keeps of a model that is to have one width: as many as are selected in the layer with the most, so
/// that none of them is lost.
fn uniform_width(options: &Prune, setup: &Setup<'_>, mask: &Mask) -> Result<usize> {
    let widths = setup.base.model.config.intermediate_sizes.iter().copied().enumerate();
    let selected = widths.clone().map(|(layer, width)| (mask.selected(layer, width), layer));
    // Of equals the lowest layer.
    let (most, of) = selected.rev().max_by_key(|(selected, _)| *selected).unwrap_or_default();
    let (least, narrowest) = widths.map(|(layer, width)| (width, layer)).min().unwrap_or_default();
    let path = options.mask.display();
    if most == 0 {
        return Err(SessionError::input(format!(
            "{path}: option `uniform`: expected a selected neuron in some layer, found none; \
             transformers has no layer without neurons"
        )));
    }
    if most > least {
        return Err(SessionError::input(format!(
            "{path}: option `uniform`: layer {of}: expected at most {least} selected neurons, as many as layer {narrowest} of \
             the model has, found {most}"
        )));
    }
    let width = most.next_multiple_of(options.round_width.get()).min(least);
    tracing::info!(
        "one width of {width} in all layers: {most} neurons are selected in layer {of}, which has the most; others are filled up by rank"
    );
    Ok(width)
}

/// What happens to each layer.
fn cuts(options: &Prune, setup: &Setup<'_>, mask: &Mask, tuning: &Tuning) -> Result<Vec<Option<LayerCut>>> {
    let layers = pruned_layers(options, setup)?;
    let means = folded(options, setup, tuning)?;
    let widths = &setup.base.model.config.intermediate_sizes;
    let uniform = if options.uniform { Some(uniform_width(options, setup, mask)?) } else { None };
    let cut = |(layer, &width): (usize, &usize)| {
        if !layers.contains(&layer) {
            return Ok(None);
        }
        let kept = match uniform {
            Some(count) => mask.best(layer, width, count),
            None => mask.best_of_layer(layer, width, options.round_width.get()),
        };
        let means = &means[layer][..width];
        let cut = if setup.base.paper {
            LayerCut::fold_all(kept, means)
        } else {
            LayerCut::hold_others(kept, means)
        };
        Ok(Some(cut?))
    };
    widths.iter().enumerate().map(cut).collect()
}

/// The values that removed neurons are held at, by layer.
fn folded(options: &Prune, setup: &Setup<'_>, tuning: &Tuning) -> Result<Vec<Vec<f32>>> {
    let of_prompt = means(&options.averages, &setup.base, tuning)?;
    let path = resolve(&options.averages, "safetensors")?;
    let Some(of_text) = text_averages(options, &path)? else { return Ok(of_prompt) };
    let (shape, values) = TensorFile::read(&path)?.f32(kind::AVERAGE, None)?;
    let [layers, positions, width] = shape[..] else {
        let path = path.display();
        return Err(SessionError::input(format!(
            "{path}: option `fold` per-position-group: expected [L, P, F], found {shape:?}"
        )));
    };
    let of_text = means(&of_text, &setup.base, tuning)?;
    let tokens = mean_tokens(setup, positions)?;
    let rows = positions as f64 + tokens;
    let mixed = |layer: usize| {
        let both = of_prompt[layer].iter().zip(&of_text[layer]);
        let mean = |(&prompt, &text): (&f32, &f32)| {
            ((f64::from(prompt) * positions as f64 + f64::from(text) * tokens) / rows) as f32
        };
        both.map(mean).collect()
    };
    let at = if setup.base.model.config.is_decoder() { positions.saturating_sub(1) } else { 0 };
    let answer = |layer: usize| values[(layer * positions + at) * width..][..width].to_vec();
    Ok((0..layers).map(|layer| if layer + 1 == layers { answer(layer) } else { mixed(layer) }).collect())
}

/// The file with the averages over texts, where they are folded too: beside those of the prompt, unless it is named.
fn text_averages(options: &Prune, averages: &Path) -> Result<Option<PathBuf>> {
    if options.fold == Fold::Prompt {
        return Ok(None);
    }
    let beside = || averages.with_file_name(file::tensors(kind::MEAN_AVERAGE));
    Ok(Some(resolve(&options.text_averages.clone().unwrap_or_else(beside), "safetensors")?))
}

/// The mean length of a text of train in tokens, as the model takes it beside `positions` prompt rows.
fn mean_tokens(setup: &Setup<'_>, positions: usize) -> Result<f64> {
    let all = setup.base.model.config.max_sequence();
    let most = all.checked_sub(positions).ok_or_else(|| {
        SessionError::input(format!("averages of {positions} positions: the model has {all}"))
    })?;
    let texts = setup.base.encode_to(setup.part("train"), most)?;
    Ok(texts.iter().map(|text| text.ids.len() as f64).sum::<f64>() / texts.len().max(1) as f64)
}

/// A pruned model with its tuned parameters.
struct PrunedModel {
    config: Config,
    weights: Weights,
    tuning: Tuning,
}

impl PrunedModel {
    /// Tuned biases are the model's own: they go into the weights before these are cut, and are taken out again.
    fn new(setup: &Setup<'_>, tuning: &Tuning, cuts: &[Option<LayerCut>], form: PrunedForm) -> Result<Self> {
        let whole = &setup.base.model;
        let mut tensors = whole.weights.to_tensors()?;
        for (name, tensor) in tuning.tensors() {
            if let Some(weight) = tensors.get_mut(name) {
                *weight = tensor.to_device(setup.base.session.device())?;
            }
        }
        let tuned = Weights::from_tensors(&whole.config, tensors)?;
        let (config, weights) = prune(&whole.config, &tuned, cuts, form)?;
        let mut tensors = tuning.tensors().clone();
        for (name, tensor) in &mut tensors {
            if let Ok(cut) = weights.get(name) {
                *tensor = cut;
            }
        }
        Ok(Self { config, weights, tuning: tuning.with_tensors(tensors) })
    }

    fn roberta(&self, setup: &Setup<'_>) -> Result<LanguageModel> {
        let mask = setup.base.encoder.mask_id();
        let model = LanguageModel::new(&self.config, &self.weights, &self.tuning, mask, Gradients::Nothing)?;
        Ok(model.with_precision(setup.base.session.compute().precision))
    }

    /// The model folder, tokenizer and tuned parameters included (`apart`: in a folder of their own); `skn.json` last.
    fn write(&self, setup: &Setup<'_>, dev_score: f64, apart: bool, writer: &mut RunWriter) -> Result<()> {
        let base = &setup.base;
        let mut files = vec![
            (file::CONFIG.to_string(), self.config.to_json()),
            (file::WEIGHTS.to_string(), self.weights.to_bytes()?),
        ];
        files.extend(base.model.other_files()?);
        let embedding = self.weights.mask_embedding(base.encoder.mask_id())?;
        let tuned = self.tuning.files(&self.config, &base.identity.id, &embedding)?;
        let place = |name: String| if apart { file::in_tuned_folder(&name) } else { name };
        files.extend(tuned.into_iter().map(|(name, bytes)| (place(name), bytes)));
        let mut hashes = BTreeMap::new();
        for (name, bytes) in files {
            hashes.insert(name.clone(), sha256_hex(&bytes));
            writer.bytes(&in_best(&name), bytes)?;
        }
        // What another run left would be read with it.
        let read = file::MODEL.iter().map(|name| (*name).to_owned()).chain(file::tuned_in_best());
        let others = read.filter(|name| !hashes.contains_key(name));
        writer.remove_listed(others.map(|name| in_best(&name)))?;
        let source = base.source.as_ref().and_then(|source| source.config.as_ref());
        let config = SkillConfig {
            method: method_name(&self.tuning, true).into(),
            prompt_size: self.tuning.prompt_rows(),
            prompt_place: self.tuning.place_in(&self.config).map(|place| place.name().to_owned()),
            verbalizer: base.verbalizer_record(),
            task: base.task.name.clone(),
            template_sha256: base.template_sha256(),
            texts: base.texts_record()?,
            model: ModelIdentity { id: base.identity.id.clone(), sha256: self.weights.sha256().into() },
            metric: base.task.metric.name().into(),
            dev_score,
            step: source.map_or(0, |config| config.step),
            files: hashes,
        };
        writer.json(&in_best(file::SKILL_CONFIG), &config)
    }
}

/// What a model does on dev, in one pass.
struct Measured {
    score: f64,
    ms_per_text: f64,
}

impl Measured {
    fn of(setup: &Setup<'_>, model: &LanguageModel) -> Result<Self> {
        let base = &setup.base;
        let texts = base.encode("dev", setup.part("dev"), model)?;
        let pass = base.session.pass_over("dev", None);
        // The first texts pack the weights, outside the time that is measured, and of what is told.
        let first = PassOptions { progress: &OnlyStops(base.session.progress()), ..pass };
        speed(model, &texts[..texts.len().min(8)], &base.verbalizer.ids, 1, 0, &first)?;
        let speed = speed(model, &texts, &base.verbalizer.ids, 1, 0, &pass)?;
        let answers = &speed.evaluation;
        let score = base.task.metric.compute(&answers.predicted, &answers.labels, answers.classes);
        Ok(Self { score, ms_per_text: speed.ms_per_text() })
    }
}
