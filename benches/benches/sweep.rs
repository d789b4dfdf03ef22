//! How many times faster a perturbation sweep is in one pass than as a pass for each variant.
//!
//! The variants are those of `skn-mask --cmp`: the model as it is, noise on a tenth of the neurons, and on as many random
//! ones in ten draws. Both ways take turns; the ratio is the median over rounds. Next to it stands what the number of
//! layers would allow: of the layer that a branch begins in a third is left, and the last one counts as none, because only
//! the answers are computed there.
//!
//! A second table says what the edits themselves cost: a pass with a tenth of the neurons of layers 3 to 11 edited, next to
//! one with none.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails had better stop")]
#![allow(clippy::print_stdout, reason = "this is the report")]

use std::hint::black_box;
use std::ops::Range;
use std::thread::available_parallelism;

use skn_bench::{Backbone, Clock, Lengths, PROMPT_ROWS, Turns, VERBALIZER, measures, rows};
use skn_data::{Encoded, pack};
use skn_model::{Hook, LanguageModel, ModelError, Pass, Sequences};
use skn_perturb::{Edit, Perturbation, random_control};
use skn_probing::{PassOptions, Workers, evaluate_each, evaluate_with};

const ROUNDS: usize = 3;
const EDIT_ROUNDS: usize = 9;
const TEXTS: usize = 4;
const DRAWS: u64 = 10;

/// Edited layers, from 0.
const EDITED: [Range<usize>; 3] = [3..12, 9..12, 11..12];

const HEADER: &str = "\
| what | edited layers | variants | texts | rows | separate passes, ms a text | one sweep | ratio | ratio of layers |
|---|---|---|---|---|---|---|---|---|";

fn main() {
    skn_model::keep_candle_on_calling_thread();
    skn_model::keep_freed_memory();
    let model = Backbone::base().unwrap().prompted(PROMPT_ROWS).unwrap();
    let texts = Lengths::Sst2Dev.texts(TEXTS);
    println!("{HEADER}");
    for edited in EDITED {
        let variants = variants(&model, edited.clone());
        let mut separate = || forward_alone(&model, &texts, &variants);
        let mut sweep = || forward_each(&model, &texts, &variants);
        report(("forward", Clock::Thread), &edited, &texts, &variants, [&mut separate, &mut sweep]);
    }
    sweeps_with_threads(&model, &texts);
    edits(&model, &texts);
}

/// The same through the library's passes over texts.
fn sweeps_with_threads(model: &LanguageModel, texts: &[Encoded]) {
    let threads = available_parallelism().unwrap().get();
    let workers = Workers::new(threads).unwrap();
    // Batches small enough that every thread has several.
    let options = PassOptions { token_budget: 64, ..PassOptions::new(&workers) };
    for edited in EDITED {
        let variants = variants(model, edited.clone());
        let mut separate = || {
            for variant in &variants {
                black_box(evaluate_with(model, texts, &VERBALIZER, &options, |_| variant.hook()).unwrap());
            }
        };
        let mut sweep = || {
            let hook = |variant, _: &_| Perturbation::hook(variant);
            black_box(evaluate_each(model, texts, &VERBALIZER, &options, &variants, hook).unwrap());
        };
        let what = format!("evaluate, {threads} threads");
        report((&what, Clock::Wall), &edited, texts, &variants, [&mut separate, &mut sweep]);
    }
}

/// Measures and prints the second table.
fn edits(model: &LanguageModel, texts: &[Encoded]) {
    let widths = &model.config().intermediate_sizes;
    let noise = |per_token| Edit::Gaussian { alpha: 0.1, seed: 0, per_token };
    let means = widths.iter().map(|&width| vec![0.05; width]).collect();
    let edits = [
        ("noise, one a text", noise(false)),
        ("noise, one a position", noise(true)),
        ("zero", Edit::Zero),
        ("mean", Edit::Mean { values: means }),
    ];
    let skill: Vec<Vec<u32>> = widths.iter().map(|&width| (0..width as u32 / 10).collect()).collect();
    let edited = |edit: &Edit| Perturbation::new(edit.clone(), skill.clone(), widths).unwrap().within(3..12);
    let variants: Vec<Perturbation> = std::iter::once(Perturbation::nothing(widths))
        .chain(edits.iter().map(|(_, edit)| edited(edit)))
        .collect();
    let mut work: Vec<_> = variants
        .iter()
        .map(|variant| || forward_alone(model, texts, std::slice::from_ref(variant)))
        .collect();
    let mut work: Vec<&mut dyn FnMut()> = work.iter_mut().map(|work| work as &mut dyn FnMut()).collect();
    let turns = Turns::take(Clock::Thread, if measures() { EDIT_ROUNDS } else { 1 }, &mut work);
    println!("\n| edit | longer than a pass without, % |\n|---|---|");
    for (place, (name, _)) in edits.iter().enumerate() {
        println!("| {name} | {:.1} |", 100.0 * (turns.ratio(place + 1, 0) - 1.0));
    }
}

fn variants(model: &LanguageModel, edited: Range<usize>) -> Vec<Perturbation> {
    let widths = &model.config().intermediate_sizes;
    let skill: Vec<Vec<u32>> = widths.iter().map(|&width| (0..width as u32 / 10).collect()).collect();
    let edit = Edit::Gaussian { alpha: 0.1, seed: 0, per_token: false };
    let variant = |neurons, draw| {
        Perturbation::new(edit.clone(), neurons, widths).unwrap().within(edited.clone()).repeat(draw)
    };
    let random = (0..DRAWS).map(|draw| variant(random_control(&skill, widths, 0, draw).unwrap(), draw));
    [Perturbation::nothing(widths), variant(skill.clone(), 0)].into_iter().chain(random).collect()
}

fn forward_alone(model: &LanguageModel, texts: &[Encoded], variants: &[Perturbation]) {
    let [batch] = pack(texts, PROMPT_ROWS, usize::MAX, usize::MAX, 1).try_into().unwrap();
    let texts =
        Sequences { ids: &batch.ids, starts: &batch.starts, samples: &batch.rows, seconds: &batch.seconds };
    for variant in variants {
        black_box(model.forward(texts, &Pass::default(), &mut variant.hook()).unwrap());
    }
}

fn forward_each(model: &LanguageModel, texts: &[Encoded], variants: &[Perturbation]) {
    let [batch] = pack(texts, PROMPT_ROWS, usize::MAX, usize::MAX, 1).try_into().unwrap();
    let texts =
        Sequences { ids: &batch.ids, starts: &batch.starts, samples: &batch.rows, seconds: &batch.seconds };
    let mut hooks: Vec<_> = variants.iter().map(Perturbation::hook).collect();
    let mut hooks: Vec<&mut dyn Hook> = hooks.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
    let each = |_: usize, answers| {
        black_box(answers);
        Ok::<_, ModelError>(())
    };
    model.forward_each(texts, &Pass::default(), &mut hooks, each).unwrap();
}

/// Measures and prints a row.
fn report(
    (what, clock): (&str, Clock),
    edited: &Range<usize>,
    texts: &[Encoded],
    variants: &[Perturbation],
    [separate, sweep]: [&mut dyn FnMut(); 2],
) {
    let turns = Turns::take(clock, if measures() { ROUNDS } else { 1 }, &mut [separate, sweep]);
    let [a, b] = [0, 1].map(|work| turns.median(work).as_secs_f64() * 1e3 / texts.len() as f64);
    let branches = variants.len() - 1;
    let above = (11.0 - edited.start as f64 - 2.0 / 3.0).max(0.0);
    let layers = 11.0 + branches as f64 * above;
    println!(
        "| {what}, sst2-dev | {} to {} | {} | {} | {} | {a:.1} | {b:.1} | {:.2} | {:.2} |",
        edited.start,
        edited.end - 1,
        variants.len(),
        texts.len(),
        rows(texts),
        turns.ratio(0, 1),
        11.0 * variants.len() as f64 / layers
    );
}
