//! Loss and gradients of one training step of each tuning method: 16 texts of SST-2's train, dropout as in training,
//! all threads. An element is a text.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails had better stop")]

use std::thread::available_parallelism;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use skn_bench::{Backbone, Lengths, PROMPT_ROWS, PRUNED_NEURONS, VERBALIZER};
use skn_data::pack_in_order;
use skn_model::{Gradients, LanguageModel, TrainingDropout, Tuning};
use skn_probing::Workers;
use skn_tune::{Step, TOKEN_BUDGET, step_gradients};

const TEXTS: usize = 16;

fn main() {
    skn_model::keep_candle_on_calling_thread();
    skn_model::keep_freed_memory();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let full = Backbone::base().unwrap();
    let prompt = Tuning::new_prompt(&full.config, PROMPT_ROWS, 0).unwrap();
    let adapter = Tuning::new_adapter(&full.config, 16, 0).unwrap();
    let pruned = full.pruned(PRUNED_NEURONS).unwrap();
    let cases = [
        ("prompt", &full, &prompt),
        ("biases", &full, &Tuning::new_bias()),
        ("adapters", &full, &adapter),
        ("prompt, pruned-61", &pruned, &prompt),
    ];
    for (name, backbone, tuning) in cases {
        step(&mut criterion, name, &backbone.model(tuning, Gradients::Tuned).unwrap());
    }
    criterion.final_summary();
}

fn step(criterion: &mut Criterion, name: &str, model: &LanguageModel) {
    let workers = Workers::new(available_parallelism().unwrap().get()).unwrap();
    let order: Vec<u32> = (0..TEXTS as u32).collect();
    let texts = Lengths::Sst2Train.texts(TEXTS);
    let batches = pack_in_order(&texts, &order, model.prompt_rows(), TOKEN_BUDGET).unwrap();
    let dropout = TrainingDropout { hidden: 0.1, attention: 0.1, seed: 0, step: 0 };
    let step = Step { number: 0, batches: &batches, verbalizer: &VERBALIZER, dropout: Some(dropout) };
    let mut group = criterion.benchmark_group("training step");
    group.throughput(Throughput::Elements(TEXTS as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| step_gradients(model, &step, &workers).unwrap());
    });
    group.finish();
}
