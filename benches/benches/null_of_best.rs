//! Labels shuffled 1,000 times over the fire bits of RoBERTa-base on SST-2's dev: 12 layers, 16 positions, 3,072 neurons, 872
//! texts. One layer is measured; an element is a row of bits under one shuffle.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails had better stop")]

use std::num::NonZeroUsize;

use criterion::{Criterion, Throughput};
use skn_artifact::TensorFile;
use skn_counts::{CountsError, FireBits, NullOfBest, Performance, Pool, ScoreRule};
use skn_random::{Key, Purpose};
use skn_stats::FireAccumulator;

const POSITIONS: usize = 16;
const NEURONS: usize = 3072;
const TEXTS: usize = 872;
const DRAWS: usize = 1000;

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut group = criterion.benchmark_group("null_of_best");
    group.throughput(Throughput::Elements((POSITIONS * NEURONS * DRAWS) as u64));
    let (counts, bits) = layer();
    let [draws, both] = [DRAWS, 2].map(|count| NonZeroUsize::new(count).unwrap());
    for (name, threads) in [("one_thread", NonZeroUsize::MIN), ("two_threads", both)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let go_on = || Ok::<(), CountsError>(());
                NullOfBest::draw(&bits, &counts, ScoreRule::Accuracy, draws, 0, threads, go_on).unwrap()
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

/// A layer of random bits, with its counts.
fn layer() -> (Performance, FireBits) {
    let mut rng = Key::new(0, Purpose::Noise).rng();
    let labels: Vec<usize> = (0..TEXTS).map(|_| rng.below(2)).collect();
    let bytes = TEXTS.div_ceil(8);
    let mut fire = vec![0u8; POSITIONS * NEURONS * bytes];
    let mut fires = FireAccumulator::new(POSITIONS * NEURONS, 2).unwrap();
    let thresholds = vec![0.5; POSITIONS * NEURONS];
    for (text, &label) in labels.iter().enumerate() {
        let values: Vec<f32> = (0..POSITIONS * NEURONS).map(|_| (rng.next_u32() & 1) as f32).collect();
        for (row, &value) in fire.chunks_exact_mut(bytes).zip(&values) {
            row[text / 8] |= u8::from(value > 0.5) << (text % 8);
        }
        fires.add(label, 0, &values, &thresholds).unwrap();
        fires.add_row_label(label).unwrap();
    }
    let counts = Performance::of(Pool::Position, POSITIONS, &[NEURONS], &fires).unwrap();
    let bits = FireBits::read(file(fire, &labels, bytes), &counts).unwrap();
    (counts, bits)
}

/// The file `dev_fire`, whose three tensors lie one behind the other.
fn file(fire: Vec<u8>, labels: &[usize], bytes: usize) -> TensorFile {
    let (first, second) = (fire.len(), fire.len() + 8 * TEXTS);
    let header = format!(
        "{{\"fire\":{{\"dtype\":\"U8\",\"shape\":[1,{POSITIONS},{NEURONS},{bytes}],\"data_offsets\":[0,{first}]}},\
         \"label\":{{\"dtype\":\"I64\",\"shape\":[{TEXTS}],\"data_offsets\":[{first},{second}]}},\
         \"row\":{{\"dtype\":\"I64\",\"shape\":[{TEXTS}],\"data_offsets\":[{second},{}]}}}}",
        second + 8 * TEXTS
    );
    let mut all = (header.len() as u64).to_le_bytes().to_vec();
    all.extend_from_slice(header.as_bytes());
    all.extend(fire);
    all.extend(labels.iter().flat_map(|&label| (label as i64).to_le_bytes()));
    all.extend((0..TEXTS as i64).flat_map(i64::to_le_bytes));
    TensorFile::from_bytes("dev_fire".as_ref(), all).unwrap()
}
