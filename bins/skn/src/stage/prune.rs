//! `skn-prune`: keep the skill neurons, fold the others away.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use skn_artifact::{ModelIdentity, SkillConfig, TensorFile, sha256_hex};
use skn_model::{Config, Gradients, LayerCut, PrunedForm, Roberta, Tuning, Weights, prune};
use skn_probing::speed;
use skn_select::Mask;

use crate::cli::{Common, Compute, Destination, Layers, ModelType, Subject, Tuned};
use crate::exit::Failure;
use crate::program::{Call, Stage};
use crate::run::{BEST, MODEL_FILES, Sink};
use crate::setup::{Setup, mask_embedding, method_name};
use crate::stage::mask::{Info, means};

/// Prune a tuned model to its skill neurons.
///
/// In the layers from --low_layer on the selected neurons stay; every other one is held at its mean activation, which is
/// folded into the output bias. RUN/best becomes a model folder with the tuned parameters in it: every program takes it
/// with --resume_from RUN, or alone with --model RUN/best.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-prune", version)]
pub struct Prune {
    #[command(flatten)]
    subject: Subject,

    /// Run or folder with the tuned parameters
    #[arg(long = "resume_from", value_name = "RUN", required = true)]
    resume_from: PathBuf,

    /// Mask file: the neurons that stay (RUN/info/<task>/0.02)
    #[arg(long = "info_path", value_name = "FILE")]
    info_path: PathBuf,

    /// Averages (RUN/<task>/train_avg), [L,F] or [L,P,F]: what the others are held at
    #[arg(long = "ths_path", value_name = "FILE")]
    ths_path: PathBuf,

    /// Where an average is taken that is folded into a bias: over the prompt's positions, as published; or as near to each
    /// layer's own rows as one bias allows
    #[arg(long, value_name = "HOW", default_value = "prompt")]
    fold: Fold,

    /// For --fold per-position-group: averages over texts [default: train_mean_avg beside --ths_path]
    #[arg(long = "text_ths_path", value_name = "FILE")]
    text_ths_path: Option<PathBuf>,

    #[command(flatten)]
    layers: Layers,

    /// Round the neurons that stay up to a multiple of this, filling up by rank: 64 is as fast as 61
    #[arg(long, value_name = "N", default_value = "1")]
    round_width: NonZeroUsize,

    /// Write the same function at full width, for programs that know no pruned models
    #[arg(long)]
    dense: bool,

    /// Put the <mask> row before a loaded prompt that does not start with it
    #[arg(long)]
    prepend_mask: bool,

    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    common: Common,
}

/// Which average activation stands for a removed neuron.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Fold {
    /// The mean over prompt positions
    Prompt,
    /// In the last layer, which computes the answer's row alone, the mean at that row; elsewhere the mean over prompt and
    /// text rows, each as often as a text of train has it
    PerPositionGroup,
}

/// What pruning did.
#[derive(Clone, Debug, Serialize)]
pub struct Pruned {
    run: PathBuf,
    task: String,
    model: String,
    low_layer: usize,
    high_layer: usize,
    widths: Vec<usize>,
    full_width: usize,
    parameters: [u64; 2],
    metric: &'static str,
    /// On dev, full and pruned.
    dev_score: [f64; 2],
    /// Milliseconds a text of dev, full and pruned; one pass each.
    ms_per_text: [f64; 2],
    dense: bool,
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, low_layer, high_layer, full_width, metric, .. } = self;
        let [full, pruned] = self.parameters.map(|count| count as f64 / 1e6);
        let kept = &self.widths[*low_layer..*high_layer];
        let (least, most) = (kept.iter().min().unwrap_or(&0), kept.iter().max().unwrap_or(&0));
        let kept = if least == most { least.to_string() } else { format!("{least} to {most}") };
        write!(
            f,
            "pruned layers {low_layer} to {} of {model} to {kept} of {full_width} neurons: ",
            high_layer - 1
        )?;
        if self.dense {
            write!(f, "written at full width")?;
        } else {
            write!(f, "{full:.3} M -> {pruned:.3} M parameters ({:.1} %)", 100.0 * pruned / full)?;
        }
        let [before, after] = self.dev_score;
        write!(f, "; {metric} {before:.4} -> {after:.4} on dev")?;
        let [before, after] = self.ms_per_text;
        write!(f, "; {before:.3} -> {after:.3} ms a text; model in {}", self.run.join(BEST).display())
    }
}

impl Stage for Prune {
    const PROGRAM: &'static str = "skn-prune";
    type Output = Pruned;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, call: &Call<'_>) -> Result<Pruned> {
        let out = self.destination.out.as_path();
        if self.text_ths_path.is_some() && self.fold != Fold::PerPositionGroup {
            return Err(Failure::usage("--text_ths_path: goes with --fold per-position-group"));
        }
        let setup = Setup::load(&self.subject, &self.compute, &self.tuned())?;
        let layers = self.layers(&setup)?;
        let info = Info::read(&self.info_path, &setup)?;
        let tuning = setup.base.loaded_tuning(self.prepend_mask)?;
        info.tell_other_tuning(&tuning)?;
        let cuts = self.cuts(&setup, &info.mask, &tuning)?;
        let mut sink = Sink::open(call, out, "prune", self.destination.force)?;
        sink.check_free(&["best/skn.json", "best/model.safetensors"])?;
        let model = Model::pruned(&setup, &tuning, &cuts, self.form())?;
        let full = setup.base.roberta(&tuning, Gradients::Nothing)?;
        let pruned = model.roberta(&setup)?;
        let (before, after) = (Measured::of(&setup, &full, call)?, Measured::of(&setup, &pruned, call)?);
        model.write(&setup, after.score, &mut sink)?;
        for path in [&info.path, &skn_artifact::resolve(&self.ths_path, "safetensors")?] {
            sink.read(path)?;
        }
        setup.keep_split(&mut sink, true)?;
        setup.note(&mut sink)?;
        sink.finish()?;
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
            dense: self.dense,
        })
    }
}

fn width((cut, &width): (&Option<LayerCut>, &usize)) -> usize {
    cut.as_ref().map_or(width, |cut| cut.kept.len())
}

impl Prune {
    fn tuned(&self) -> Tuned {
        Tuned {
            model_type: ModelType::Prompt,
            prompt_size: None,
            from_pretrained: true,
            resume_from: Some(self.resume_from.clone()),
            prepend_mask: self.prepend_mask,
        }
    }

    fn form(&self) -> PrunedForm {
        if self.dense { PrunedForm::Dense } else { PrunedForm::Narrow }
    }

    fn layers(&self, setup: &Setup) -> Result<Range<usize>> {
        let all = setup.base.model.config.layers();
        self.layers.of(all, all / 4)
    }

    /// What happens to each layer.
    fn cuts(&self, setup: &Setup, mask: &Mask, tuning: &Tuning) -> Result<Vec<Option<LayerCut>>> {
        let layers = self.layers(setup)?;
        let means = self.means(setup, tuning)?;
        let widths = &setup.base.model.config.intermediate_sizes;
        let cut = |(layer, &width): (usize, &usize)| {
            if !layers.contains(&layer) {
                return Ok(None);
            }
            let kept = mask.best_of_layer(layer, width, self.round_width.get());
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
}

impl Prune {
    /// The values that removed neurons are held at, by layer.
    fn means(&self, setup: &Setup, tuning: &Tuning) -> Result<Vec<Vec<f32>>> {
        let of_prompt = means(&self.ths_path, setup, tuning)?;
        if self.fold == Fold::Prompt {
            return Ok(of_prompt);
        }
        let path = skn_artifact::resolve(&self.ths_path, "safetensors")?;
        let (shape, values) = TensorFile::read(&path)?.f32("train_avg", None)?;
        let [layers, positions, width] = shape[..] else {
            let path = path.display();
            return Err(Failure::input(format!(
                "{path}: --fold per-position-group: expected [L, P, F], found {shape:?}"
            )));
        };
        let beside = || path.with_file_name("train_mean_avg.safetensors");
        let of_text = means(&self.text_ths_path.clone().unwrap_or_else(beside), setup, tuning)?;
        let tokens = self.mean_tokens(setup, positions)?;
        let rows = positions as f64 + tokens;
        let mixed = |layer: usize| {
            let both = of_prompt[layer].iter().zip(&of_text[layer]);
            let mean = |(&prompt, &text): (&f32, &f32)| {
                ((f64::from(prompt) * positions as f64 + f64::from(text) * tokens) / rows) as f32
            };
            both.map(mean).collect()
        };
        let answer = |layer: usize| values[layer * positions * width..][..width].to_vec();
        Ok((0..layers).map(|layer| if layer + 1 == layers { answer(layer) } else { mixed(layer) }).collect())
    }

    /// The mean length of a text of train in tokens, as the model takes it beside `positions` prompt rows.
    fn mean_tokens(&self, setup: &Setup, positions: usize) -> Result<f64> {
        let texts =
            setup.base.encode_to(setup.part("train"), setup.base.model.config.max_sequence() - positions)?;
        Ok(texts.iter().map(|text| text.ids.len() as f64).sum::<f64>() / texts.len().max(1) as f64)
    }
}

/// A pruned model with its tuned parameters.
struct Model {
    config: Config,
    weights: Weights,
    tuning: Tuning,
}

impl Model {
    /// Tuned biases are the model's own: they go into the weights before these are cut, and are taken out again.
    fn pruned(setup: &Setup, tuning: &Tuning, cuts: &[Option<LayerCut>], form: PrunedForm) -> Result<Self> {
        let whole = &setup.base.model;
        let mut tensors = whole.weights.to_tensors()?;
        for (name, tensor) in tuning.tensors() {
            if let Some(weight) = tensors.get_mut(name) {
                *weight = tensor.to_device(&setup.base.device)?;
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

    fn roberta(&self, setup: &Setup) -> Result<Roberta> {
        let mask = setup.base.encoder.mask_id();
        let model = Roberta::new(&self.config, &self.weights, &self.tuning, mask, Gradients::Nothing)?;
        Ok(model.with_precision(setup.base.precision))
    }

    /// The model folder, tokenizer and tuned parameters included; `skn.json` last.
    fn write(&self, setup: &Setup, dev_score: f64, sink: &mut Sink) -> Result<()> {
        let base = &setup.base;
        let mut files = vec![
            ("config.json".to_string(), self.config.to_json()),
            ("model.safetensors".to_string(), self.weights.to_bytes()?),
        ];
        for name in MODEL_FILES.iter().filter(|name| !["config.json", "model.safetensors"].contains(name)) {
            files.extend(base.model.folder.file(name)?.map(|bytes| (name.to_string(), bytes.into_owned())));
        }
        let embedding = mask_embedding(&self.weights, &base.encoder)?;
        files.extend(self.tuning.files(&self.config, &base.identity.id, &embedding)?);
        let mut hashes = BTreeMap::new();
        for (name, bytes) in files {
            hashes.insert(name.clone(), sha256_hex(&bytes));
            sink.bytes(&format!("{BEST}/{name}"), bytes)?;
        }
        let source = base.source.as_ref().and_then(|source| source.config.as_ref());
        let config = SkillConfig {
            method: method_name(&self.tuning, true).into(),
            prompt_size: self.tuning.prompt_rows(),
            verbalizer: base.verbalizer_record(),
            task: base.task.name.clone(),
            model: ModelIdentity { id: base.identity.id.clone(), sha256: self.weights.sha256().into() },
            metric: base.task.metric.name().into(),
            dev_score,
            step: source.map_or(0, |config| config.step),
            files: hashes,
        };
        sink.json(&format!("{BEST}/skn.json"), &config)
    }
}

/// What a model does on dev, in one pass.
struct Measured {
    score: f64,
    ms_per_text: f64,
}

impl Measured {
    fn of(setup: &Setup, model: &Roberta, call: &Call<'_>) -> Result<Self> {
        let base = &setup.base;
        let texts = base.encode(setup.part("dev"), model)?;
        let options = base.pass(None, call.console);
        // The first texts pack the weights, outside the time that is measured.
        speed(model, &texts[..texts.len().min(8)], &base.verbalizer.ids, 1, 0, &options)?;
        let speed = speed(model, &texts, &base.verbalizer.ids, 1, 0, &options)?;
        let answers = &speed.evaluation;
        let score = base.task.metric.compute(&answers.predicted, &answers.labels, answers.classes);
        Ok(Self { score, ms_per_text: speed.ms_per_text() })
    }
}
