//! How many times faster the pruned model is than the full one: the number that pruning is for.
//!
//! The models take turns, so that a busy machine slows down all of them; the ratio is the median over rounds. Next to
//! it stands the ratio of multiply-adds, which a program without any other work would reach. A row of the report
//! is printed as soon as it is measured.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails had better stop")]
#![allow(clippy::print_stdout, reason = "this is the report")]

use std::hint::black_box;
use std::thread::available_parallelism;

use skn_bench::{Backbone, Clock, Lengths, PROMPT_ROWS, PRUNED_NEURONS, Turns, VERBALIZER, measures, rows};
use skn_data::{Encoded, pack};
use skn_model::{NoHook, Pass, Roberta, Scored, Sequences};
use skn_probing::{PassOptions, Workers, evaluate};

const ROUNDS: usize = 5;

/// A batch for `forward` has about 512 rows of these, and a pass of `evaluate` twice as many.
const TEXTS: [(Lengths, usize); 5] = [
    (Lengths::Sst2Train, 16),
    (Lengths::Sst2Dev, 12),
    (Lengths::Fixed(32), 16),
    (Lengths::Fixed(128), 4),
    (Lengths::Imdb, 2),
];

/// Of these also whole passes are measured.
const PASSES: [Lengths; 2] = [Lengths::Sst2Dev, Lengths::Fixed(128)];

const HEADER: &str = "\
| what | texts | rows | full, ms a text | 61 neurons | 64 neurons | full/61 | full/64 | multiply-adds full/61 |
|---|---|---|---|---|---|---|---|---|";

fn main() {
    skn_model::keep_candle_on_calling_thread();
    let full = Backbone::base().unwrap();
    let pruned = |neurons: usize| full.pruned(neurons).unwrap().prompted(PROMPT_ROWS).unwrap();
    let (narrow, padded) = (pruned(PRUNED_NEURONS), pruned(PRUNED_NEURONS.next_multiple_of(32)));
    let models = [full.prompted(PROMPT_ROWS).unwrap(), narrow, padded];
    println!("{HEADER}");
    for (lengths, count) in TEXTS {
        report(("forward", Clock::Thread), lengths, &lengths.texts(count), &models, forward);
    }
    let mut threads = vec![1, available_parallelism().unwrap().get()];
    threads.dedup();
    for threads in threads {
        let workers = Workers::new(threads).unwrap();
        // Batches small enough that every thread has several.
        let options = PassOptions { token_budget: 256, ..PassOptions::new(&workers) };
        let pass = |model: &Roberta, texts: &[Encoded]| {
            black_box(evaluate(model, texts, &VERBALIZER, &options).unwrap());
        };
        for (lengths, count) in TEXTS.into_iter().filter(|(lengths, _)| PASSES.contains(lengths)) {
            let what = format!("evaluate, {threads} threads");
            report((&what, Clock::Wall), lengths, &lengths.texts(2 * count), &models, pass);
        }
    }
}

/// One packed batch on this thread.
fn forward(model: &Roberta, texts: &[Encoded]) {
    let [batch] = pack(texts, PROMPT_ROWS, usize::MAX, usize::MAX, 1).try_into().unwrap();
    let texts =
        Sequences { ids: &batch.ids, starts: &batch.starts, samples: &batch.rows, seconds: &batch.seconds };
    let answers = model.forward(texts, &Pass::default(), &mut NoHook).unwrap();
    black_box(model.logits(&answers, Scored::Tokens(&VERBALIZER)).unwrap());
}

/// Measures and prints a row.
fn report(
    (what, clock): (&str, Clock),
    lengths: Lengths,
    texts: &[Encoded],
    [full, narrow, padded]: &[Roberta; 3],
    work: impl Fn(&Roberta, &[Encoded]),
) {
    let rounds = if measures() { ROUNDS } else { 1 };
    let models: [&mut dyn FnMut(); 3] =
        [&mut || work(full, texts), &mut || work(narrow, texts), &mut || work(padded, texts)];
    let turns = Turns::take(clock, rounds, &mut { models });
    let [a, b, c] = [0, 1, 2].map(|work| turns.median(work).as_secs_f64() * 1e3 / texts.len() as f64);
    let multiply_adds = |model: &Roberta| -> u64 {
        texts.iter().map(|text| model.config().multiply_adds(text.ids.len() + PROMPT_ROWS)).sum()
    };
    println!(
        "| {what}, {} | {} | {} | {a:.2} | {b:.2} | {c:.2} | {:.2} | {:.2} | {:.2} |",
        lengths.name(),
        texts.len(),
        rows(texts),
        turns.ratio(0, 1),
        turns.ratio(0, 2),
        multiply_adds(full) as f64 / multiply_adds(narrow) as f64
    );
}
