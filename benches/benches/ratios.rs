//! How many times faster pruned models are than the full one ([`Ratios`]). A row of the report is printed as soon as it is measured.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails had better stop")]
#![allow(clippy::print_stdout, reason = "this is the report")]

use std::thread::available_parallelism;

use skn_bench::{Lengths, Ratios, measures};

/// Of these also whole passes are measured.
const PASSES: [Lengths; 2] = [Lengths::Sst2Dev, Lengths::Fixed(128)];

fn main() {
    skn_model::keep_candle_on_calling_thread();
    skn_model::keep_freed_memory();
    let ratios = Ratios::new(if measures() { Ratios::ROUNDS } else { 1 }).unwrap();
    println!("{}", Ratios::HEADER);
    for (lengths, count) in Ratios::TEXTS {
        println!("{}", ratios.forward(lengths, count).unwrap());
    }
    let mut threads = vec![1, available_parallelism().unwrap().get()];
    threads.dedup();
    for threads in threads {
        for (lengths, count) in Ratios::TEXTS.into_iter().filter(|(lengths, _)| PASSES.contains(lengths)) {
            println!("{}", ratios.evaluate(threads, lengths, 2 * count).unwrap());
        }
    }
}
