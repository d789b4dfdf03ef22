//! The matrix products of RoBERTa-base on one thread: this workspace's packed ones with their bias, in f32 and bf16, candle's own
//! without one, and the most that the CPU's multiply-adds give. An element is a floating-point operation, so that
//! Gelem/s are GFLOP/s.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails had better stop")]

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput};
use rayon::{ThreadPool, ThreadPoolBuilder};
use skn_bench::multiply_adds;
use skn_kernels::{Activation, Linear, Precision};
use skn_random::{Key, Purpose};

/// Inputs and outputs: a projection, query, key and value together, and the two matrices of the FFN; and the latter
/// with 64 neurons left.
const SHAPES: [[usize; 2]; 6] = [[768, 768], [768, 2304], [768, 3072], [3072, 768], [768, 64], [64, 768]];

/// Rows: a batch, and one text.
const ROWS: [usize; 2] = [512, 48];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    peak(&mut criterion);
    let one_thread = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for rows in ROWS {
        for shape in SHAPES {
            product(&mut criterion, &one_thread, rows, shape);
        }
    }
    criterion.final_summary();
}

fn peak(criterion: &mut Criterion) {
    const STEPS: usize = 1_000_000;
    let mut group = criterion.benchmark_group("products");
    group.throughput(Throughput::Elements(multiply_adds(STEPS)));
    let work = || black_box(multiply_adds(black_box(STEPS)));
    group.bench_function("peak", |bencher| bencher.iter(work));
    group.finish();
}

fn product(criterion: &mut Criterion, one_thread: &ThreadPool, rows: usize, [inputs, outputs]: [usize; 2]) {
    let x = random(&[rows, inputs]);
    let weight = random(&[outputs, inputs]);
    let linear = Linear::new(weight.clone(), Some(random(&[outputs]))).unwrap();
    let transposed = weight.t().unwrap();
    let shape = format!("{rows}x{inputs}x{outputs}");
    let mut group = criterion.benchmark_group("products");
    group.throughput(Throughput::Elements(2 * (rows * inputs * outputs) as u64));
    let rounded = linear.clone().with_precision(Precision::Bf16);
    for (name, linear) in [("ours", &linear), ("bf16", &rounded)] {
        group.bench_function(BenchmarkId::new(name, &shape), |bencher| {
            bencher.iter(|| linear.forward(&x, Activation::Identity).unwrap());
        });
    }
    // candle hands its product to as many threads as the CPU has, but they are the pool's it is called in.
    group.bench_function(BenchmarkId::new("candle", &shape), |bencher| {
        one_thread.install(|| bencher.iter(|| x.matmul(&transposed).unwrap()));
    });
    group.finish();
}

fn random(shape: &[usize]) -> Tensor {
    let mut rng = Key::new(0, Purpose::WeightInit).rng();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform() as f32 - 0.5).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}
