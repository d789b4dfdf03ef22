//! The golden case on a device: what Hugging Face transformers gave in float64, within what `tests/golden/README.md` allows.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use skn_artifact::TensorFile;
use skn_data::{Encoded, Join, Task, TextEncoder, pack, pack_in_order, read_dataset};
use skn_model::{
    Config, Gradients, LanguageModel, LayerCut, ModelFolder, NoHook, Pass, PrunedForm, Scored, Sequences,
    Tuning, Weights, prune,
};
use skn_perturb::{Edit, NoiseTable, Perturbation, mean_over_positions};
use skn_probing::{
    Average, Metadata, PassOptions, Pool, ProbeType, Rank, Ranking, Statistic, Workers, averages, collect,
    collect_gradients, counts, evaluate, evaluate_with, part,
};
use skn_tune::{
    Adam, AdamSettings, Schedule, Step, StepGradients, clip_factor, gradient_norm, step_gradients,
};

use crate::difference::largest;
use crate::table::Table;
use crate::{Result, numbers};

/// Logits, activations and averages.
const NUMBERS: f32 = 2e-4;
const LOSSES: f32 = 1e-4;
/// Of a tensor's largest entry; 1e-6 more are allowed.
const GRADIENTS: f32 = 1e-3;
/// The prompt after 24 steps.
const PROMPT: f32 = 5e-4;

/// Tokens that texts are cut to, whatever stands before them.
const TEXT: usize = 122;

const PROBES: [(ProbeType, Pool, &str); 3] = [
    (ProbeType::Acc, Pool::Position, ""),
    (ProbeType::AccMean, Pool::Mean, "mean_"),
    (ProbeType::AccMax, Pool::Max, "max_"),
];

/// The model on a device, its data, and what it must give.
struct Golden {
    folder: ModelFolder,
    config: Config,
    weights: Weights,
    encoder: TextEncoder,
    verbalizer: Vec<u32>,
    train: Vec<Encoded>,
    dev: Vec<Encoded>,
    test: Vec<Encoded>,
    expected: TensorFile,
    workers: Workers,
}

/// Compares with the case in `folder`.
pub(crate) fn check(table: &mut Table, device: &Device, folder: &Path) {
    let golden = match Golden::load(folder, device) {
        Ok(golden) => golden,
        Err(error) => return table.fail(format!("golden case in {}", folder.display()), error),
    };
    type Part = fn(&Golden, &mut Table) -> Result<()>;
    let parts: [(&str, Part); 8] = [
        ("logits", Golden::logits),
        ("averages and counts", Golden::probes),
        ("rankings", Golden::rankings),
        ("edits", Golden::edits),
        ("pruning", Golden::pruned),
        ("a layer without neurons", Golden::without_neurons),
        ("gradients", Golden::gradients),
        ("training", Golden::training),
    ];
    for (name, part) in parts {
        if let Err(error) = part(&golden, table) {
            table.fail(format!("golden {name}"), error);
        }
    }
}

impl Golden {
    fn load(folder: &Path, device: &Device) -> Result<Self> {
        let model = ModelFolder::open(folder.join("model").to_string_lossy().as_ref())?;
        let config = model.config()?;
        let encoder =
            TextEncoder::from_json(&std::fs::read(folder.join("model/tokenizer.json"))?, "tokenizer.json")?;
        let mut task = Task::builtin("sst2")?;
        (task.splits.dev, task.splits.test) = (Some("validation".into()), Some("test".into()));
        let data = read_dataset(&folder.join("data/jsonl"), &task)?;
        let encode = |split: &str| {
            let rows = data.splits.get(split).ok_or_else(|| format!("no split {split}"))?;
            Ok::<_, crate::Error>(encoder.encode_all(rows, TEXT, Join::Separated)?)
        };
        Ok(Self {
            weights: Weights::read(&model, &config, device)?,
            folder: model,
            config,
            verbalizer: encoder.verbalizer(&task.labels)?.ids,
            train: encode("train")?,
            dev: encode("validation")?,
            test: encode("test")?,
            encoder,
            expected: TensorFile::read(&folder.join("expected.safetensors"))?,
            workers: Workers::new(2)?,
        })
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.expected.f32(name, None)?.1)
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let (shape, values) = self.expected.f32(name, None)?;
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn prompt(&self) -> Result<Tuning> {
        Ok(Tuning::prompt(self.tensor("prompt")?, true)?)
    }

    /// Adapters with the golden weights.
    fn adapters(&self) -> Result<Tuning> {
        let tuning = Tuning::new_adapter(&self.config, 16, 0)?;
        let given =
            tuning.tensors().keys().map(|name| Ok((name.clone(), self.tensor(&golden_adapter(name))?)));
        let given = given.collect::<Result<_>>()?;
        Ok(tuning.with_tensors(given))
    }

    fn model(&self, tuning: &Tuning, gradients: Gradients) -> Result<LanguageModel> {
        self.model_of(&self.weights, tuning, gradients)
    }

    fn model_of(&self, weights: &Weights, tuning: &Tuning, gradients: Gradients) -> Result<LanguageModel> {
        Ok(LanguageModel::new(&self.config, weights, tuning, self.encoder.mask_id(), gradients)?)
    }

    fn prompted(&self) -> Result<LanguageModel> {
        self.model(&self.prompt()?, Gradients::Nothing)
    }

    fn near(&self, table: &mut Table, what: &str, found: &[f32], name: &str, allowed: f32) -> Result<()> {
        let expected = self.f32(name)?;
        let difference = largest(found, &expected, |found, expected| (found - expected).abs());
        let what = format!("golden {what}, {} numbers", expected.len());
        table.check(
            what,
            format!("{difference:.1e}"),
            format!("at most {allowed:.0e}"),
            difference <= allowed,
        );
        Ok(())
    }

    fn logits(&self, table: &mut Table) -> Result<()> {
        let options = PassOptions::new(&self.workers);
        let found = evaluate(&self.prompted()?, &self.test, &self.verbalizer, &options)?;
        self.near(table, "logits", &found.logits, "test_logits", NUMBERS)?;
        let model = self.model(&self.adapters()?, Gradients::Nothing)?;
        let mut found = Vec::new();
        for batch in pack(&self.train[..16], model.prompt_rows(), usize::MAX, usize::MAX, 1) {
            let texts = Sequences {
                ids: &batch.ids,
                starts: &batch.starts,
                samples: &batch.rows,
                seconds: &batch.seconds,
            };
            let answers = model.forward(texts, &Pass::default(), &mut NoHook)?;
            let logits = model.logits(&answers, Scored::Tokens(&self.verbalizer))?.to_vec2::<f32>()?;
            found.extend(batch.rows.iter().copied().zip(logits));
        }
        // Batches are packed by length.
        found.sort_by_key(|(row, _)| *row);
        let found: Vec<f32> = found.into_iter().flat_map(|(_, logits)| logits).collect();
        self.near(table, "logits with adapters", &found, "adapter_logits_first16", NUMBERS)
    }

    fn probes(&self, table: &mut Table) -> Result<()> {
        let model = self.prompted()?;
        let options = PassOptions::new(&self.workers);
        let averages = averages(&model, &self.train, &PROBES.map(|(probe, ..)| probe), &options)?;
        let mut thresholds = BTreeMap::new();
        for (_, pool, name) in PROBES {
            let found = averages.get(&pool).ok_or("no averages of a pool")?;
            thresholds.insert(pool, found.threshold()?);
            let expected = format!("train_{name}avg");
            self.near(table, &format!("averages, {expected}"), &found.values()?, &expected, NUMBERS)?;
        }
        for (split, texts) in [("dev", &self.dev), ("test", &self.test)] {
            let found = counts(&model, texts, 2, &thresholds, None, &options)?;
            for (_, pool, name) in PROBES {
                let what = format!("{split}_{name}correct");
                let (_, expected) = self.expected.i64(&what, None)?;
                let found = found.counts.get(&pool).ok_or("no counts of a pool")?.performance()?;
                let same = found.correct().len() == expected.len();
                let off: Vec<u64> =
                    found.correct().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).collect();
                let (most, others) =
                    (off.iter().max().copied().unwrap_or(0), off.iter().filter(|&&it| it > 0).count());
                table.check(
                    format!("golden counts, {what}, {} numbers", expected.len()),
                    format!("{others} differ, by {most}"),
                    format!("at most {}, by 1", off.len() / 1000),
                    same && most <= 1 && others * 1000 <= off.len(),
                );
            }
        }
        Ok(())
    }

    /// Every ranking of a pass, and those that need a way back, next to the CPU's.
    fn rankings(&self, table: &mut Table) -> Result<()> {
        let on_cpu = Weights::read(&self.folder, &self.config, &Device::Cpu)?;
        let models = [self.prompted()?, self.model_of(&on_cpu, &self.prompt()?, Gradients::Nothing)?];
        let streaming = Ranking::ALL.into_iter().filter(|it| it.streams() && *it != Ranking::Random);
        let streaming: Vec<Ranking> = streaming.collect();
        for rankings in
            [&streaming[..], &[Ranking::Taylor, Ranking::Gradient], &[Ranking::IntegratedGradients]]
        {
            let [found, expected] = [0, 1].map(|place| self.scores(&models[place], rankings));
            for (ranking, (found, expected)) in rankings.iter().zip(found?.iter().zip(&expected?)) {
                let most = expected.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
                // A text that is beside a threshold may be on its other side, and be one of a few.
                let near =
                    |(found, expected): &(&f32, &f32)| (**found - **expected).abs() <= GRADIENTS * most;
                let off = found.iter().zip(expected).filter(|pair| !near(pair)).count();
                let allowed = expected.len() / 100;
                table.check(
                    format!("golden ranking {ranking}, {} scores next to the CPU", expected.len()),
                    format!("{off} are off by more than {GRADIENTS:.0e} of the largest"),
                    format!("at most {allowed}"),
                    found.len() == expected.len() && off <= allowed,
                );
            }
        }
        Ok(())
    }

    /// The scores of all neurons by rankings of one pass.
    fn scores(&self, model: &LanguageModel, rankings: &[Ranking]) -> Result<Vec<Vec<f32>>> {
        let (options, texts) = (PassOptions::new(&self.workers), &self.dev[..self.dev.len().min(8)]);
        let average: Box<dyn Statistic> = Box::new(Average::new(model, Pool::Position)?.with_variance());
        let taken = collect("averaging", model, &self.train[..16], 2, vec![average], &options)?;
        let average = part::<Average>(taken.into_iter().next().ok_or("no averages")?)?;
        let rank = |&ranking: &Ranking| -> Result<Box<dyn Statistic>> {
            Ok(Box::new(Rank::new(ranking, model, &average, 2, 5)?))
        };
        let statistics = rankings.iter().map(rank).collect::<Result<_>>()?;
        let taken = match rankings {
            [first, ..] if first.needs_gradients() => {
                collect_gradients(model, texts, &self.verbalizer, statistics, first.steps(), &options)?
            }
            _ => collect("ranking", model, texts, 2, statistics, &options)?,
        };
        let score = |taken: Box<dyn Statistic>| {
            let bytes = taken.into_record()?.to_bundle(&Metadata::new())?.to_bytes()?;
            Ok(TensorFile::from_bytes("ranking".as_ref(), bytes)?.f32("score", None)?.1)
        };
        taken.into_iter().map(score).collect()
    }

    /// The neurons of each layer that a mask names.
    fn neurons(&self, mask: &str) -> Result<Vec<Vec<u32>>> {
        let (shape, mask) = self.expected.bool(mask, None)?;
        let width = shape.last().copied().filter(|&width| width > 0).ok_or("a mask of nothing")?;
        let of_layer =
            |layer: &[bool]| (0u32..).zip(layer).filter(|(_, named)| **named).map(|(it, _)| it).collect();
        Ok(mask.chunks_exact(width).map(of_layer).collect())
    }

    fn means(&self) -> Result<Vec<Vec<f32>>> {
        let (shape, averages) = self.expected.f32("train_avg", None)?;
        Ok(mean_over_positions(&averages, &shape)?)
    }

    fn edits(&self, table: &mut Table) -> Result<()> {
        let model = self.prompted()?;
        let options = PassOptions::new(&self.workers);
        let (shape, noise) = self.expected.f32("noise", None)?;
        let [texts, layers, neurons] = shape[..] else { return Err("noise of another shape".into()) };
        let noise = NoiseTable::new(noise, [texts, layers, neurons])?;
        for (edit, name) in [
            (Edit::Zero, "logits_zero_0.10"),
            (Edit::Mean { values: self.means()? }, "logits_mean_0.10"),
            (Edit::GivenNoise { alpha: 0.5, noise }, "logits_gaussian_0.10_alpha0.5"),
        ] {
            let edit = Perturbation::new(edit, self.neurons("mask_0.10")?, &self.config.intermediate_sizes)?;
            let found = evaluate_with(&model, &self.test, &self.verbalizer, &options, |_| edit.hook())?;
            self.near(table, &format!("edits, {name}"), &found.logits, name, NUMBERS)?;
        }
        Ok(())
    }

    fn pruned(&self, table: &mut Table) -> Result<()> {
        let first = self.expected.i64("prune_first_layer", None)?.1.first().copied().unwrap_or(0) as usize;
        let layers = self.neurons("mask_0.20")?.into_iter().zip(self.means()?).enumerate();
        let cuts = layers.map(|(layer, (kept, means))| {
            (layer >= first).then(|| LayerCut::hold_others(kept, &means)).transpose()
        });
        let cuts = cuts.collect::<skn_model::Result<Vec<_>>>()?;
        let (config, weights) = prune(&self.config, &self.weights, &cuts, PrunedForm::Narrow)?;
        let tuning = self.prompt()?;
        let model =
            LanguageModel::new(&config, &weights, &tuning, self.encoder.mask_id(), Gradients::Nothing)?;
        let found = evaluate(&model, &self.test, &self.verbalizer, &PassOptions::new(&self.workers))?;
        self.near(table, "pruned, logits", &found.logits, "logits_pruned_0.20", NUMBERS)
    }

    /// A layer of which no neuron is left, next to the whole model whose neurons there are all held at their means.
    fn without_neurons(&self, table: &mut Table) -> Result<()> {
        let (layers, means) = (self.config.layers(), self.means()?);
        let cut = 1.min(layers - 1);
        let width = self.config.intermediate_sizes[cut] as u32;
        let cuts = (0..layers).map(|layer| {
            (layer == cut).then(|| LayerCut::hold_others(Vec::new(), &means[layer])).transpose()
        });
        let cuts = cuts.collect::<skn_model::Result<Vec<_>>>()?;
        let (config, weights) = prune(&self.config, &self.weights, &cuts, PrunedForm::Narrow)?;
        let (tuning, options) = (self.prompt()?, PassOptions::new(&self.workers));
        let pruned =
            LanguageModel::new(&config, &weights, &tuning, self.encoder.mask_id(), Gradients::Nothing)?;
        let found = evaluate(&pruned, &self.test, &self.verbalizer, &options)?;
        let held = (0..layers).map(|layer| if layer == cut { (0..width).collect() } else { Vec::new() });
        let held =
            Perturbation::new(Edit::Mean { values: means }, held.collect(), &self.config.intermediate_sizes)?;
        let whole = self.prompted()?;
        let expected = evaluate_with(&whole, &self.test, &self.verbalizer, &options, |_| held.hook())?.logits;
        let plain = evaluate(&whole, &self.test, &self.verbalizer, &options)?.logits;
        let apart = |other: &[f32]| largest(&found.logits, other, |found, expected| (found - expected).abs());
        let (difference, cost) = (apart(&expected), apart(&plain));
        table.check(
            format!("golden pruned, a layer without neurons, {} numbers", expected.len()),
            format!("{difference:.1e}, of the whole model {cost:.1e}"),
            format!("at most {NUMBERS:.0e}, of the whole model more"),
            config.intermediate_sizes[cut] == 0 && difference <= NUMBERS && cost > NUMBERS,
        );
        Ok(())
    }

    /// Rows of train in the order of the file, as a step.
    fn step(&self, model: &LanguageModel, number: u64, rows: &[u32]) -> Result<StepGradients> {
        let batches = pack_in_order(&self.train, rows, model.prompt_rows(), 4096)?;
        let step = Step { number, batches: &batches, verbalizer: &self.verbalizer, dropout: None };
        Ok(step_gradients(model, &step, &self.workers)?)
    }

    fn gradients(&self, table: &mut Table) -> Result<()> {
        let first16: Vec<u32> = (0..16).collect();
        let methods = [
            ("prompt", self.prompt()?, "loss_first16"),
            ("biases", Tuning::new_bias(), "bitfit_loss"),
            ("adapters", self.adapters()?, "adapter_loss"),
        ];
        for (method, tuning, loss) in methods {
            let found = self.step(&self.model(&tuning, Gradients::Tuned)?, 0, &first16)?;
            self.near(table, &format!("loss, {method}"), &[found.loss as f32], loss, LOSSES)?;
            let mut worst = 0f32;
            for (name, gradient) in &found.gradients {
                let expected = self.f32(&match method {
                    "prompt" => "grad_prompt_first16".to_owned(),
                    "biases" => format!("bitfit_grad.{name}"),
                    _ => golden_adapter(name).replacen("adapter.", "adapter_grad.", 1),
                })?;
                let top = expected.iter().fold(0f32, |top, value| top.max(value.abs()));
                // A share of what is allowed: 1e-3 of the largest entry and 1e-6.
                let share = |found: f32, expected: f32| (found - expected).abs() / (GRADIENTS * top + 1e-6);
                worst = worst.max(largest(&numbers(gradient)?, &expected, share));
            }
            table.check(
                format!("golden gradients, {method}, {} tensors", found.gradients.len()),
                format!("{:.1e} of the largest", worst * GRADIENTS),
                format!("at most {GRADIENTS:.0e}"),
                worst <= 1.0 && !found.gradients.is_empty(),
            );
        }
        Ok(())
    }

    fn training(&self, table: &mut Table) -> Result<()> {
        let model = self.model(&self.prompt()?, Gradients::Tuned)?;
        let schedule = Schedule::new(24, 0.006)?;
        let mut adam = Adam::new(AdamSettings::default());
        let mut losses = Vec::new();
        for number in 0..24u32 {
            let rows: Vec<u32> = (0..16).map(|row| (number * 16 + row) % self.train.len() as u32).collect();
            let number = u64::from(number);
            let found = self.step(&model, number, &rows)?;
            losses.push(found.loss as f32);
            let scale = clip_factor(gradient_norm(number, &found.gradients)?, 1.0);
            adam.update(model.parameters(), &found.gradients, scale, 1e-3 * schedule.factor(number))?;
        }
        self.near(table, "training, losses of 24 steps", &losses, "train_losses", LOSSES)?;
        let prompt = model.parameters().get("prompt_embeddings").ok_or("no prompt trains")?;
        self.near(table, "training, the prompt then", &numbers(prompt)?, "prompt_after", PROMPT)
    }
}

/// `roberta.encoder.layer.K.output.adapters.skn.X` under its name in the golden case, `adapter.layer.K.X`.
fn golden_adapter(name: &str) -> String {
    name.replace("roberta.encoder.", "adapter.").replace(".output.adapters.skn", "")
}
