//! How long the full model takes for a text, and how long the models with 2 % of the neurons left in layers 3 to 11.
//!
//! `forward` is one packed batch of about 512 rows on this thread. `evaluate` is a whole pass: packing, forward,
//! head, loss. An element is a text. For ratios, see the benchmark `ratios`.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails had better stop")]

use std::thread::available_parallelism;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use skn_bench::{Backbone, Lengths, PROMPT_ROWS, PRUNED_NEURONS, VERBALIZER};
use skn_data::pack;
use skn_model::{LanguageModel, NoHook, Pass, Scored, Sequences};
use skn_probing::{PassOptions, Workers, evaluate};

/// So many texts have about 512 rows.
const TEXTS: [(Lengths, usize); 3] =
    [(Lengths::Sst2Dev, 12), (Lengths::Fixed(32), 16), (Lengths::Fixed(128), 4)];

fn main() {
    skn_model::keep_candle_on_calling_thread();
    skn_model::keep_freed_memory();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let full = Backbone::base().unwrap();
    let pruned = |neurons: usize| full.pruned(neurons).unwrap().prompted(PROMPT_ROWS).unwrap();
    let models = [
        ("full", full.prompted(PROMPT_ROWS).unwrap()),
        ("pruned-61", pruned(PRUNED_NEURONS)),
        ("pruned-64", pruned(PRUNED_NEURONS.next_multiple_of(32))),
    ];
    forward(&mut criterion, &models);
    let mut threads = vec![1, available_parallelism().unwrap().get()];
    threads.dedup();
    for threads in threads {
        passes(&mut criterion, &models, threads);
    }
    criterion.final_summary();
}

fn forward(criterion: &mut Criterion, models: &[(&str, LanguageModel)]) {
    let mut group = criterion.benchmark_group("forward");
    for (lengths, count) in TEXTS {
        let [batch] = pack(&lengths.texts(count), PROMPT_ROWS, usize::MAX, usize::MAX, 1).try_into().unwrap();
        group.throughput(Throughput::Elements(count as u64));
        for (name, model) in models {
            let texts = Sequences {
                ids: &batch.ids,
                starts: &batch.starts,
                samples: &batch.rows,
                seconds: &batch.seconds,
            };
            group.bench_function(BenchmarkId::new(*name, lengths.name()), |bencher| {
                bencher.iter(|| {
                    let answers = model.forward(texts, &Pass::default(), &mut NoHook).unwrap();
                    model.logits(&answers, Scored::Tokens(&VERBALIZER)).unwrap()
                });
            });
        }
    }
    group.finish();
}

fn passes(criterion: &mut Criterion, models: &[(&str, LanguageModel)], threads: usize) {
    let workers = Workers::new(threads).unwrap();
    // Batches small enough that every thread has several.
    let options = PassOptions { token_budget: 256, ..PassOptions::new(&workers) };
    let mut group = criterion.benchmark_group(format!("evaluate-{threads}-threads"));
    for (lengths, count) in TEXTS {
        let texts = lengths.texts(count);
        group.throughput(Throughput::Elements(texts.len() as u64));
        for (name, model) in models {
            group.bench_function(BenchmarkId::new(*name, lengths.name()), |bencher| {
                bencher.iter(|| evaluate(model, &texts, &VERBALIZER, &options).unwrap());
            });
        }
    }
    group.finish();
}
