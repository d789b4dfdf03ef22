//! How long the work of the method takes on a device, by turns with PyTorch where there is one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use skn_bench::{Backbone, Lengths, PROMPT_ROWS, PRUNED_NEURONS, VERBALIZER};
use skn_data::{Encoded, pack_in_order};
use skn_model::{Gradients, LanguageModel, Precision, TrainingDropout, Tuning, Weights};
use skn_probing::{PassOptions, ProbeType, Workers, averages, counts, evaluate};
use skn_tune::{Adam, AdamSettings, Step, StepGradients, clip_factor, gradient_norm, step_gradients};

use crate::difference::largest;
use crate::peers::{CONTESTANTS, Peers};
use crate::table::Table;
use crate::work::{Last, Operations};
use crate::{Result, numbers};

/// RoBERTa's vocabulary: the published implementation computes logits of all of it.
const VOCABULARY: usize = 50265;
/// Texts of a training step.
const BATCH: usize = 16;
/// The most rows of a micro-batch. A card is busy with no fewer.
const BUDGET: usize = 16384;

/// What is left for the chain, which comes last.
const RESERVED: Duration = Duration::from_secs(120);

/// What is done with texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Logits of each.
    Evaluate,
    /// The same by CUDA graphs.
    Replay,
    /// A step of prompt tuning for each 16.
    Step,
    /// The probe `acc`: averages over one half, counts over the other.
    Probe,
}

impl Task {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Evaluate | Self::Replay => "evaluate",
            Self::Step => "step",
            Self::Probe => "probe",
        }
    }
}

/// What is timed.
struct Timed {
    task: Task,
    what: String,
    texts: Vec<Encoded>,
}

fn works(short: bool) -> Vec<Timed> {
    let timed = |task, name: &str, lengths: Lengths, count: usize| {
        let count = if short { count.min(4) } else { count };
        Timed {
            task,
            what: format!("{name}, {count} texts like {}", lengths.name()),
            texts: lengths.texts(count),
        }
    };
    vec![
        timed(Task::Evaluate, "forward", Lengths::Sst2Dev, 1024),
        timed(Task::Evaluate, "forward", Lengths::Imdb, 128),
        timed(Task::Evaluate, "latency", Lengths::Sst2Dev, 1),
        timed(Task::Replay, "latency, a graph", Lengths::Sst2Dev, 1),
        timed(Task::Step, "prompt-tuning steps of 16", Lengths::Sst2Train, 4 * BATCH),
        timed(Task::Probe, "probe acc, averages and counts", Lengths::Sst2Dev, 1024),
    ]
}

/// Times everything and prints the medians.
pub(crate) fn check(table: &mut Table, device: &Device, peers: Option<&[String]>, short: bool) {
    if let Err(error) = time_all(table, device, peers, short) {
        table.fail("timings", error);
    }
}

fn time_all(table: &mut Table, device: &Device, peers: Option<&[String]>, short: bool) -> Result<()> {
    // A small model for a look whether it works, if nobody knows another size.
    let (vocabulary, sizes) =
        if short && peers.is_none() { (5000, [48, 4, 160, 4]) } else { (VOCABULARY, [768, 12, 3072, 12]) };
    let full = Backbone::of(vocabulary, sizes)?;
    let pruned = full.pruned(PRUNED_NEURONS)?;
    let folder = tempfile::tempdir()?;
    let mut peers = match peers {
        None => None,
        Some(command) => {
            write_model(folder.path(), &full)?;
            match Peers::start(command, folder.path()) {
                Ok(peers) => Some(peers),
                Err(error) => {
                    table.fail("PyTorch", error);
                    None
                }
            }
        }
    };
    if let Some(peers) = &peers {
        table.tell("PyTorch", peers.name(), "");
    }
    let mut ours = Vec::new();
    for (name, backbone, precision) in [
        ("skn f32", &full, Precision::F32),
        ("skn bf16", &full, Precision::Bf16),
        ("skn f32, pruned", &pruned, Precision::F32),
        ("skn bf16, pruned", &pruned, Precision::Bf16),
    ] {
        ours.push(Ours::new(name, &on_device(backbone, device)?, precision, device)?);
    }
    for task in [Task::Evaluate, Task::Step] {
        compare(table, task, [&full, &pruned], &ours, peers.as_mut(), folder.path())?;
    }
    for timed in works(short) {
        if table.left() < RESERVED {
            table.tell(&timed.what, "left out", "no time is left");
            continue;
        }
        if let Err(error) =
            time(table, &timed, &mut ours, peers.as_mut(), folder.path(), if short { 1 } else { 5 })
        {
            table.fail(&timed.what, error);
        }
    }
    Ok(())
}

/// One after the other in each round, so that what else the machine does hits them all.
fn time(
    table: &mut Table,
    timed: &Timed,
    ours: &mut [Ours],
    mut peers: Option<&mut Peers>,
    folder: &Path,
    rounds: usize,
) -> Result<()> {
    let file = write_texts(folder, &timed.texts)?;
    let mut others: Vec<&'static str> = Vec::new();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); ours.len() + CONTESTANTS.len()];
    // Everything once without a clock, and once more, for what is tried out at the first calls.
    for _ in 0..2 {
        ours.iter_mut().try_for_each(|ours| ours.run(timed).map(drop))?;
    }
    if let Some(peers) = peers.as_deref_mut() {
        for (name, title) in CONTESTANTS {
            let once = peers.run(timed.task, name, &file).and_then(|_| peers.run(timed.task, name, &file));
            match once {
                Ok(_) => others.push(name),
                Err(error) => table.tell(format!("{}, {title}", timed.what), "not measured", error),
            }
        }
    }
    for _ in 0..rounds {
        for (place, ours) in ours.iter_mut().enumerate() {
            times[place].push(ours.run(timed)?.0);
        }
        for (place, name) in others.iter().enumerate() {
            if let Some(peers) = peers.as_deref_mut() {
                times[ours.len() + place].push(peers.run(timed.task, name, &file)?);
            }
        }
    }
    let medians: Vec<f64> = times.iter().map(|times| median(times)).collect();
    let (own, theirs) = medians.split_at(ours.len());
    let reference = others.iter().position(|name| *name == "reference").map(|place| theirs[place]);
    let best = others.iter().zip(theirs).filter(|(name, _)| **name != "reference").map(|(_, time)| *time);
    let best = best.min_by(f64::total_cmp);
    let times_as_fast = |seconds: f64| {
        let ratio =
            |other: Option<f64>, name: &str| other.map(|other| format!("{:.2} x {name}", other / seconds));
        let both = [ratio(reference, "the original"), ratio(best, "PyTorch's best")];
        both.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let names = ours.iter().map(|ours| ours.name).chain(
        others
            .iter()
            .map(|name| CONTESTANTS.iter().find(|(other, _)| other == name).map_or("", |(_, title)| *title)),
    );
    for (place, (name, &seconds)) in names.zip(own.iter().chain(theirs)).enumerate() {
        // What others do beyond the need is no use.
        let needed = ours[if place < ours.len() { place } else { 0 }].operations(timed);
        table.tell(
            format!("{}, {name}", timed.what),
            format!("{:.3} ms, {:.2} TFLOP/s", seconds * 1e3, needed / seconds / 1e12),
            times_as_fast(seconds),
        );
    }
    Ok(())
}

/// Answers or gradients of everybody next to those of the CPU in f32, before anything is timed.
fn compare(
    table: &mut Table,
    task: Task,
    backbones: [&Backbone; 2],
    ours: &[Ours],
    peers: Option<&mut Peers>,
    folder: &Path,
) -> Result<()> {
    let texts = Lengths::Sst2Dev.texts(BATCH);
    let file = write_texts(folder, &texts)?;
    // A gradient comes behind the loss, which is much larger.
    let (what, from) = if task == Task::Step { ("gradient", 1) } else { ("logits", 0) };
    let answer = |ours: &Ours| if task == Task::Step { ours.gradient(&texts) } else { ours.evaluate(&texts) };
    let on_cpu = |backbone| answer(&Ours::new("cpu", backbone, Precision::F32, &Device::Cpu)?);
    let [full, pruned] = backbones.map(on_cpu);
    let (full, pruned) = (full?, pruned?);
    // bf16 is rounded to 8 bits: in ours where products are, in PyTorch's at every step of twelve layers.
    let allowed = |is_f32: bool, bf16: f32| if is_f32 { 1e-3 } else { bf16 };
    let mut check = |name: &str, found: Result<Vec<f32>>, expected: &[f32], allowed: f32| {
        let what = format!("{what} of {BATCH} texts, {name}");
        match found {
            Err(error) => table.fail(what, error),
            Ok(found) => {
                let (found, expected) = (found.get(from..).unwrap_or_default(), &expected[from..]);
                let top = expected.iter().fold(0f32, |top, value| top.max(value.abs()));
                let apart = largest(found, expected, |a, b| (a - b).abs()) / top;
                let found = format!("{apart:.1e} of the largest from the CPU's f32");
                table.check(what, found, format!("at most {allowed:.0e}"), apart <= allowed);
            }
        }
    };
    for ours in ours {
        let is_pruned = ours.frozen.config().intermediate_sizes != backbones[0].config.intermediate_sizes;
        let expected = if is_pruned { &pruned } else { &full };
        check(ours.name, answer(ours), expected, allowed(ours.frozen.precision() == Precision::F32, 0.1));
    }
    if let Some(peers) = peers {
        for (name, title) in CONTESTANTS {
            let is_f32 = name == "reference" || name == "frozen";
            check(title, peers.answer(what_is_asked(task), name, &file), &full, allowed(is_f32, 0.2));
        }
    }
    Ok(())
}

fn what_is_asked(task: Task) -> &'static str {
    if task == Task::Step { "gradient" } else { task.name() }
}

/// A model that does the work.
struct Ours {
    name: &'static str,
    frozen: LanguageModel,
    graphs: LanguageModel,
    trains: LanguageModel,
    adam: Adam,
    device: Device,
    workers: Workers,
}

impl Ours {
    fn new(name: &'static str, backbone: &Backbone, precision: Precision, device: &Device) -> Result<Self> {
        let tuning = Tuning::new_prompt(&backbone.config, PROMPT_ROWS, 0)?;
        let mask = backbone.config.vocab_size as u32 - 1;
        let model = |gradients| {
            LanguageModel::new(&backbone.config, &backbone.weights, &tuning, mask, gradients)
                .map(|model| model.with_precision(precision))
        };
        Ok(Self {
            name,
            frozen: model(Gradients::Nothing)?,
            graphs: model(Gradients::Nothing)?.with_graphs(),
            trains: model(Gradients::Tuned)?,
            adam: Adam::new(AdamSettings::default()),
            device: device.clone(),
            workers: Workers::new(1)?,
        })
    }

    fn options(&self) -> PassOptions<'_> {
        PassOptions { token_budget: BUDGET, ..PassOptions::new(&self.workers) }
    }

    /// Seconds of the work, and a number that depends on its result.
    fn run(&mut self, timed: &Timed) -> Result<(f64, f64)> {
        self.device.synchronize()?;
        let begun = Instant::now();
        let number = match timed.task {
            Task::Evaluate => f64::from(self.evaluate(&timed.texts)?.iter().sum::<f32>()),
            Task::Replay => {
                let found = evaluate(&self.graphs, &timed.texts, &VERBALIZER, &self.options())?;
                f64::from(found.logits.iter().sum::<f32>())
            }
            Task::Step => timed
                .texts
                .chunks(BATCH)
                .try_fold(0.0, |sum, texts| Ok::<_, crate::Error>(sum + self.step(texts)?))?,
            Task::Probe => self.probe(&timed.texts)? as f64,
        };
        self.device.synchronize()?;
        Ok((begun.elapsed().as_secs_f64(), number))
    }

    fn evaluate(&self, texts: &[Encoded]) -> Result<Vec<f32>> {
        Ok(evaluate(&self.frozen, texts, &VERBALIZER, &self.options())?.logits)
    }

    fn gradients(&self, texts: &[Encoded], dropout: Option<TrainingDropout>) -> Result<StepGradients> {
        let order: Vec<u32> = (0..texts.len() as u32).collect();
        let batches = pack_in_order(texts, &order, self.trains.prompt_rows(), BUDGET)?;
        let step = Step { number: self.adam.step(), batches: &batches, verbalizer: &VERBALIZER, dropout };
        Ok(step_gradients(&self.trains, &step, &self.workers)?)
    }

    /// One step of training as `skn-train` makes it; its loss.
    fn step(&mut self, texts: &[Encoded]) -> Result<f64> {
        let number = self.adam.step();
        let dropout = TrainingDropout { hidden: 0.1, attention: 0.1, seed: 0, step: number };
        let found = self.gradients(texts, Some(dropout))?;
        let scale = clip_factor(gradient_norm(number, &found.gradients)?, 1.0);
        self.adam.update(self.trains.parameters(), &found.gradients, scale, 1e-3)?;
        Ok(found.loss)
    }

    /// Loss and gradient of the prompt, without dropout, as the peers answer.
    fn gradient(&self, texts: &[Encoded]) -> Result<Vec<f32>> {
        let found = self.gradients(texts, None)?;
        let gradients = found.gradients.values().map(numbers).collect::<Result<Vec<_>>>()?;
        Ok([vec![found.loss as f32], gradients.concat()].concat())
    }

    /// How many neurons were right how often, together.
    fn probe(&self, texts: &[Encoded]) -> Result<i64> {
        let (train, rest) = texts.split_at(texts.len() / 2);
        let options = self.options();
        let averages = averages(&self.frozen, train, &[ProbeType::Acc], &options)?;
        let thresholds = averages.iter().map(|(&pool, average)| Ok((pool, average.threshold()?)));
        let thresholds: BTreeMap<_, _> = thresholds.collect::<Result<_>>()?;
        let found = counts(&self.frozen, rest, VERBALIZER.len(), &thresholds, None, &options)?;
        let performances =
            found.counts.values().map(|count| Ok(count.performance()?.correct().iter().sum::<i64>()));
        performances.sum()
    }

    /// Operations that the work needs.
    fn operations(&self, timed: &Timed) -> f64 {
        let config = self.frozen.config();
        match timed.task {
            Task::Evaluate | Task::Replay => Operations::forward(config, &timed.texts, Last::Absorbed).once(),
            Task::Step => Operations::forward(config, &timed.texts, Last::Answer).with_gradients(),
            Task::Probe => Operations::forward(config, &timed.texts, Last::Neurons).once(),
        }
    }
}

pub(crate) fn on_device(backbone: &Backbone, device: &Device) -> Result<Backbone> {
    let tensors = backbone.weights.to_tensors()?.into_iter();
    let tensors = tensors.map(|(name, tensor)| Ok((name, tensor.to_device(device)?)));
    let tensors = tensors.collect::<candle_core::Result<BTreeMap<String, Tensor>>>()?;
    Ok(Backbone {
        config: backbone.config.clone(),
        weights: Weights::from_tensors(&backbone.config, tensors)?,
    })
}

/// The model and the prompt for transformers, as `speed_peers.py` reads them.
fn write_model(folder: &Path, backbone: &Backbone) -> Result<()> {
    let (model, prompt) = (folder.join("model"), folder.join("prompt"));
    fs::create_dir_all(&model)?;
    fs::create_dir_all(&prompt)?;
    fs::write(model.join("config.json"), backbone.config.to_json())?;
    fs::write(model.join("model.safetensors"), backbone.weights.to_bytes()?)?;
    let mask = backbone.config.vocab_size as u32 - 1;
    let tuning = Tuning::new_prompt(&backbone.config, PROMPT_ROWS, 0)?;
    let made = LanguageModel::new(&backbone.config, &backbone.weights, &tuning, mask, Gradients::Tuned)?;
    let trained = made.parameters().get("prompt_embeddings").ok_or("no prompt")?.as_detached_tensor();
    let words = backbone.weights.to_tensors()?;
    let words = words.get("roberta.embeddings.word_embeddings.weight").ok_or("no word embeddings")?;
    let rows = Tensor::cat(&[&words.narrow(0, mask as usize, 1)?, &trained], 0)?;
    Ok(rows.save_safetensors("prompt_embeddings", prompt.join("adapter_model.safetensors"))?)
}

/// Each line has the class and then the token ids.
fn write_texts(folder: &Path, texts: &[Encoded]) -> Result<PathBuf> {
    let line = |text: &Encoded| {
        let ids: Vec<String> = text.ids.iter().map(u32::to_string).collect();
        format!("{} {}\n", text.label, ids.join(" "))
    };
    let file = folder.join("texts.txt");
    fs::write(&file, texts.iter().map(line).collect::<String>())?;
    Ok(file)
}

/// The middle value, or the mean of the two in the middle.
fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    match times.len() {
        0 => f64::NAN,
        count => (times[(count - 1) / 2] + times[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_by_hand() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (2.0, 2.5));
    }

    /// On a small model every kind of work is done, and none of its results is nothing.
    #[test]
    fn all_work_can_be_done() {
        let backbone = Backbone::of(5000, [48, 4, 160, 4]).unwrap();
        for precision in [Precision::F32, Precision::Bf16] {
            let mut ours = Ours::new("small", &backbone, precision, &Device::Cpu).unwrap();
            for timed in works(true) {
                let (seconds, number) = ours.run(&timed).unwrap();
                assert!(
                    seconds > 0.0 && number.abs() > 1e-6 && number.is_finite(),
                    "{}: {number}",
                    timed.what
                );
                assert!(ours.operations(&timed) > 1e5);
            }
        }
    }
}
