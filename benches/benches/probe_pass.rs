//! What probing costs beside answering: a pass that only answers, one that averages all activations, and one that
//! compares them with the averages, over the same texts like SST-2's dev and on all threads. An element is a text.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails had better stop")]

use std::collections::BTreeMap;
use std::thread::available_parallelism;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use skn_bench::{Backbone, Lengths, PROMPT_ROWS, VERBALIZER};
use skn_probing::{PassOptions, ProbeType, Workers, averages, counts, evaluate};

const TEXTS: usize = 24;

fn main() {
    skn_model::keep_candle_on_calling_thread();
    skn_model::keep_freed_memory();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    let model = Backbone::base().unwrap().prompted(PROMPT_ROWS).unwrap();
    let texts = Lengths::Sst2Dev.texts(TEXTS);
    let workers = Workers::new(available_parallelism().unwrap().get()).unwrap();
    let options = PassOptions { token_budget: 256, ..PassOptions::new(&workers) };
    let mut group = criterion.benchmark_group("probe pass");
    group.throughput(Throughput::Elements(TEXTS as u64));
    group.bench_function("evaluate", |bencher| {
        bencher.iter(|| evaluate(&model, &texts, &VERBALIZER, &options).unwrap());
    });
    for probes in [&[ProbeType::Acc][..], &[ProbeType::Acc, ProbeType::AccMean, ProbeType::AccMax]] {
        let names: Vec<&str> = probes.iter().map(|probe| probe.name()).collect();
        let names = names.join(" ");
        let average = || averages(&model, &texts, probes, &options).unwrap();
        group.bench_function(format!("averages, {names}"), |bencher| bencher.iter(average));
        let thresholds = average();
        let thresholds: BTreeMap<_, _> =
            thresholds.iter().map(|(&pool, average)| (pool, average.threshold().unwrap())).collect();
        group.bench_function(format!("counts, {names}"), |bencher| {
            bencher.iter(|| counts(&model, &texts, 2, &thresholds, None, &options).unwrap());
        });
    }
    group.finish();
    criterion.final_summary();
}
