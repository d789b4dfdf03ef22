//! What `peers/speed.py` asks of this workspace. The first argument says what:
//!
//! - `peak THREADS` prints the GFLOP/s of multiply-adds on so many threads.
//! - `products` prints a table of matrix products on one thread, by turns with that peak.
//! - `ratios` prints a table of the forward pass of a full model next to pruned ones, on one thread, by turns.
//! - `prune MODEL OUT` writes the model folder with 61 of 3072 neurons left in layers 3 to 11.
//! - `evaluate`, `step`, `gradient` or `probe`, then `MODEL PROMPT f32|bf16 THREADS` (a decoder's PROMPT may be `-`, none), loads
//!   the model, prints `ready`, and then
//!   answers each line `ROWS OUT` of standard input: does the work with the texts of the file ROWS, writes the result to OUT
//!   (little-endian f32), and prints the seconds that the work took.

#![allow(clippy::print_stdout, reason = "a program")]

use std::collections::BTreeMap;
use std::io::stdin;
use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use skn_bench::{Backbone, PRUNED_NEURONS, Ratios, VERBALIZER, multiply_adds};
use skn_data::{Encoded, pack_in_order};
use skn_kernels::{Activation, Linear};
use skn_model::{
    Gradients, LanguageModel, ModelFolder, NeuronSite, Precision, ReadAs, TrainingDropout, Tuning, Weights,
    keep_candle_on_calling_thread, keep_freed_memory,
};
use skn_probing::{PassOptions, ProbeType, Workers, averages, counts, evaluate, prompt_activations};
use skn_tune::{
    Adam, AdamSettings, Step, StepGradients, TOKEN_BUDGET, clip_factor, gradient_norm, step_gradients,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Texts of a training step.
const BATCH: usize = 16;

/// The neuron whose activations at the prompt the probe `pos` keeps: layer, index.
const NEURON: (usize, usize) = (9, 1893);

fn main() -> Result<()> {
    keep_candle_on_calling_thread();
    keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["peak", threads] => println!("{}", peak(threads.parse()?)),
        ["products"] => products()?,
        ["ratios"] => ratios()?,
        ["prune", model, out] => write_pruned(model, Path::new(out))?,
        [task, model, prompt, precision, threads] => {
            let model = load(model, prompt, task, precision)?;
            serve(&mut Work::new(task, model, threads.parse()?)?)?;
        }
        _ => return Err("see the head of benches/examples/speed.rs".into()),
    }
    Ok(())
}

/// The best of several tries, for what others do on the machine can only lower it.
fn peak(threads: usize) -> f64 {
    const STEPS: usize = 10_000_000;
    let all_threads = || {
        let begun = Instant::now();
        let operations: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| multiply_adds(STEPS))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
        });
        operations as f64 / begun.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(|_| all_threads()).fold(0.0, f64::max)
}

/// Products of 512 rows with each of RoBERTa-base's matrices: as many of them as no cache holds, as a model has them.
fn products() -> Result<()> {
    const ROWS: usize = 512;
    const TURNS: usize = 25;
    const NUMBERS: usize = 16 << 20;
    println!("| product | GFLOP/s, best | median | of the peak, best | median |\n|---|---|---|---|---|");
    for [inputs, outputs] in [[768, 768], [768, 2304], [768, 3072], [3072, 768]] {
        let tensor = |rows: usize, columns: usize| {
            let values = (0..rows * columns).map(|place| (place % 101) as f32 / 101.0 - 0.5).collect();
            Tensor::from_vec(values, (rows, columns), &Device::Cpu)
        };
        let x = tensor(ROWS, inputs)?;
        let linears = (0..NUMBERS.div_ceil(inputs * outputs))
            .map(|_| Linear::new(tensor(outputs, inputs)?, None))
            .collect::<candle_core::Result<Vec<_>>>()?;
        linears.iter().try_for_each(Linear::pack)?;
        let operations = 2 * (ROWS * inputs * outputs * linears.len()) as u64;
        let rate = |work: &dyn Fn() -> Result<u64>| -> Result<f64> {
            let begun = Instant::now();
            Ok(work()? as f64 / begun.elapsed().as_secs_f64() / 1e9)
        };
        let turn = |_| {
            let peak = rate(&|| Ok(multiply_adds(1_000_000)))?;
            let product = rate(&|| {
                linears.iter().try_for_each(|linear| linear.forward(&x, Activation::Identity).map(drop))?;
                Ok(operations)
            })?;
            Ok((product, product / peak, peak))
        };
        let turns = (0..TURNS).map(turn).collect::<Result<Vec<_>>>()?;
        let sorted = |of: fn(&(f64, f64, f64)) -> f64| {
            let mut all: Vec<f64> = turns.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let (products, shares) = (sorted(|turn| turn.0), sorted(|turn| turn.1));
        let (best, peak) = (products[TURNS - 1], sorted(|turn| turn.2)[TURNS - 1]);
        println!(
            "| {ROWS} x {inputs} x {outputs} | {best:.1} | {:.1} | {:.0}% | {:.0}% |",
            products[TURNS / 2],
            best / peak * 100.0,
            shares[TURNS / 2] * 100.0
        );
    }
    Ok(())
}

fn ratios() -> Result<()> {
    let ratios = Ratios::new(Ratios::ROUNDS)?;
    println!("{}", Ratios::HEADER);
    for (lengths, count) in Ratios::TEXTS {
        println!("{}", ratios.forward(lengths, count)?);
    }
    Ok(())
}

fn open(model: &str) -> Result<Backbone> {
    let folder = ModelFolder::open(model)?;
    let config = folder.config()?;
    let weights = Weights::read(&folder, &config, &Device::Cpu)?;
    Ok(Backbone { config, weights })
}

fn write_pruned(model: &str, out: &Path) -> Result<()> {
    let pruned = open(model)?.pruned(PRUNED_NEURONS)?;
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("config.json"), pruned.config.to_json())?;
    Ok(std::fs::write(out.join("model.safetensors"), pruned.weights.to_bytes()?)?)
}

fn load(model: &str, prompt: &str, task: &str, precision: &str) -> Result<LanguageModel> {
    let Backbone { config, weights } = open(model)?;
    // As in RoBERTa, <mask> is the last token.
    let mask = config.vocab_size as u32 - 1;
    let tuning = match prompt {
        "-" => Tuning::plain_text(),
        prompt => Tuning::read(Path::new(prompt), &config, &weights, mask, ReadAs::default())?.tuning,
    };
    let trains = matches!(task, "step" | "gradient");
    let gradients = if trains { Gradients::Tuned } else { Gradients::Nothing };
    let precision = if precision == "bf16" { Precision::Bf16 } else { Precision::F32 };
    Ok(LanguageModel::new(&config, &weights, &tuning, mask, gradients)?.with_precision(precision))
}

fn serve(work: &mut Work) -> Result<()> {
    println!("ready");
    for line in stdin().lines() {
        let line = line?;
        let (rows, out) = line.split_once(' ').ok_or("expected ROWS OUT")?;
        let texts = read_texts(rows)?;
        let begun = Instant::now();
        let result = work.run(&texts)?;
        let seconds = begun.elapsed().as_secs_f64();
        std::fs::write(out, result.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;
        println!("{seconds}");
    }
    Ok(())
}

/// Each line has the class and then the token ids.
fn read_texts(file: &str) -> Result<Vec<Encoded>> {
    let text = |(row, line): (usize, &str)| {
        let numbers = line.split(' ').map(str::parse).collect::<std::result::Result<Vec<u32>, _>>()?;
        let (&label, ids) = numbers.split_first().ok_or("an empty line")?;
        Ok(Encoded { second: ids.len(), ids: ids.to_vec().into(), label: label as usize, row: row as u64 })
    };
    std::fs::read_to_string(file)?.lines().enumerate().map(text).collect()
}

struct Work {
    task: String,
    model: LanguageModel,
    workers: Workers,
    adam: Adam,
}

impl Work {
    fn new(task: &str, model: LanguageModel, threads: usize) -> Result<Self> {
        let adam = Adam::new(AdamSettings::default());
        Ok(Self { task: task.to_owned(), model, workers: Workers::new(threads)?, adam })
    }

    fn run(&mut self, texts: &[Encoded]) -> Result<Vec<f32>> {
        match self.task.as_str() {
            "evaluate" => {
                let options = PassOptions::new(&self.workers);
                Ok(evaluate(&self.model, texts, &VERBALIZER, &options)?.logits)
            }
            "step" => texts.chunks(BATCH).map(|texts| self.step(texts)).collect(),
            "gradient" => {
                let found = self.gradients(texts, None)?;
                let gradients = found.gradients.values().map(|gradient| gradient.flatten_all()?.to_vec1());
                let gradients: Vec<Vec<f32>> = gradients.collect::<candle_core::Result<_>>()?;
                Ok([vec![found.loss as f32], gradients.concat()].concat())
            }
            "probe" => self.probe(texts),
            task => Err(format!("unknown task {task}").into()),
        }
    }

    /// One step of training as `skn-train` makes it; returns its loss.
    fn step(&mut self, texts: &[Encoded]) -> Result<f32> {
        let number = self.adam.step();
        let config = self.model.config();
        let (hidden, attention) = (config.hidden_dropout, config.attention_dropout);
        let dropout = TrainingDropout { hidden, attention, seed: 0, step: number };
        let found = self.gradients(texts, Some(dropout))?;
        let scale = clip_factor(gradient_norm(number, &found.gradients)?, 1.0);
        self.adam.update(self.model.parameters(), &found.gradients, scale, 1e-3)?;
        Ok(found.loss as f32)
    }

    fn gradients(&self, texts: &[Encoded], dropout: Option<TrainingDropout>) -> Result<StepGradients> {
        let order: Vec<u32> = (0..texts.len() as u32).collect();
        let batches = pack_in_order(texts, &order, self.model.prompt_rows(), TOKEN_BUDGET)?;
        let step = Step { number: self.adam.step(), batches: &batches, verbalizer: &VERBALIZER, dropout };
        Ok(step_gradients(&self.model, &step, &self.workers)?)
    }

    /// All probes but `speed`: averages over the first half of the texts, counts over the second. Returns how often each
    /// neuron is right, of `acc` (without a prompt `acc_last`), `acc_mean`, `acc_max`.
    fn probe(&self, texts: &[Encoded]) -> Result<Vec<f32>> {
        let (train, rest) = texts.split_at(texts.len() / 2);
        let options = PassOptions::new(&self.workers);
        // Without a prompt there are no positions of one.
        let is_plain = self.model.prompt_rows() == 0;
        let first = if is_plain { ProbeType::AccLast } else { ProbeType::Acc };
        let types = [first, ProbeType::AccMean, ProbeType::AccMax];
        let neuron = (!is_plain).then_some(NEURON);
        let averages = averages(&self.model, train, &types, &options)?;
        let thresholds = averages.iter().map(|(&pool, average)| Ok((pool, average.threshold()?)));
        let thresholds: BTreeMap<_, _> = thresholds.collect::<skn_probing::Result<_>>()?;
        let counts = counts(&self.model, rest, VERBALIZER.len(), &thresholds, neuron, &options)?;
        if !is_plain {
            prompt_activations(&self.model, &[0, 2], NeuronSite::Product)?;
        }
        let mut right = Vec::new();
        for pool in types.iter().filter_map(|probe| probe.pool()) {
            let performance = counts.counts[&pool].performance()?;
            right.extend(performance.correct().iter().map(|&count| count as f32));
        }
        Ok(right)
    }
}
