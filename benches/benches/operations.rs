//! The operations of a layer beside its plain products, on one thread and RoBERTa-base's widths. An element is a row,
//! of which a batch has 512.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails had better stop")]

use std::time::Duration;

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput};
use skn_bench::{Lengths, PROMPT_ROWS};
use skn_kernels::{
    Activation, AttentionForm, Dropout, LayerNorm, Linear, Packing, RmsNorm, Rotary, Sees, attention,
    dropout, gated,
};
use skn_random::{Key, Purpose};

const HIDDEN: usize = 768;
const HEADS: usize = 12;
const ROWS: usize = 512;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    attentions(&mut criterion);
    elementwise(&mut criterion);
    gelu(&mut criterion);
    decoder(&mut criterion);
    criterion.final_summary();
}

/// Attention's work grows with the length of the sequences, the others' does not.
fn attentions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("operations");
    let form = AttentionForm::encoder(HIDDEN, HEADS).unwrap();
    for lengths in [Lengths::Sst2Dev, Lengths::Fixed(32), Lengths::Fixed(128), Lengths::Fixed(512)] {
        let packing = packing(lengths);
        let [q, k, v] = [0, 1, 2].map(|which| random(which, &[packing.rows(), HIDDEN]));
        let (all, answers) = (packing.all_rows(), packing.first_rows(1));
        group.throughput(Throughput::Elements(packing.rows() as u64));
        group.bench_function(BenchmarkId::new("attention", lengths.name()), |bencher| {
            bencher.iter(|| attention(&q, &k, &v, &packing, &all, &form, None).unwrap());
        });
        if lengths == Lengths::Sst2Dev {
            let q = random(0, &[answers.len(), HIDDEN]);
            group.bench_function(BenchmarkId::new("attention of answers", lengths.name()), |bencher| {
                bencher.iter(|| attention(&q, &k, &v, &packing, &answers, &form, None).unwrap());
            });
        }
    }
    group.finish();
}

fn elementwise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("operations");
    group.throughput(Throughput::Elements(ROWS as u64));
    let [x, residual] = [0, 1].map(|which| random(which, &[ROWS, HIDDEN]));
    let norm = LayerNorm::new(random(2, &[HIDDEN]), Some(random(3, &[HIDDEN])), 1e-5).unwrap();
    group.bench_function("layer norm", |bencher| bencher.iter(|| norm.forward(&x).unwrap()));
    let rms = RmsNorm::new(random(2, &[HIDDEN]), 1e-5).unwrap();
    group.bench_function("rms norm", |bencher| bencher.iter(|| rms.forward(&x).unwrap()));
    let of_heads = RmsNorm::new(random(2, &[HIDDEN / HEADS]), 1e-5).unwrap();
    group.bench_function("rms norm of heads", |bencher| {
        bencher.iter(|| of_heads.forward_heads(&x, HEADS).unwrap());
    });
    group.bench_function("layer norm of a sum", |bencher| {
        bencher.iter(|| norm.forward_residual(&x, &residual, None).unwrap());
    });
    let packing = Packing::from_starts(&[0, ROWS]).unwrap();
    let (all, mask) = (packing.all_rows(), Dropout::new(0.1, vec![[1; 32]]).unwrap());
    group.bench_function("dropout", |bencher| bencher.iter(|| dropout(&x, &all, &mask).unwrap()));
    group.finish();
}

/// The first matrix of the FFN, with and without what follows it.
fn gelu(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("operations");
    group.throughput(Throughput::Elements(ROWS as u64));
    let x = random(0, &[ROWS, HIDDEN]);
    for width in [3072, 64] {
        let linear = Linear::new(random(1, &[width, HIDDEN]), Some(random(2, &[width]))).unwrap();
        for (name, activation) in [("linear", Activation::Identity), ("linear and GELU", Activation::Gelu)] {
            group.bench_function(BenchmarkId::new(name, width), |bencher| {
                bencher.iter(|| linear.forward(&x, activation).unwrap());
            });
        }
    }
    group.finish();
}

/// What a decoder has beside that, with the widths of SmolLM2-135M: causal attention with three heads for each head of keys
/// against the same with rows that see all, a window of 64 rows, rotation, and the neurons of a gated FFN in one operation and in
/// three.
fn decoder(criterion: &mut Criterion) {
    const WIDTH: usize = 64;
    let form = AttentionForm {
        heads: 9,
        key_value_heads: 3,
        head_width: WIDTH,
        scale: 0.125,
        soft_cap: None,
        sees: Sees::CAUSAL,
    };
    let window = Sees { before: Some(63), after: Some(0) };
    let mut group = criterion.benchmark_group("operations");
    for lengths in [Lengths::Sst2Dev, Lengths::Fixed(32), Lengths::Fixed(128), Lengths::Fixed(512)] {
        let packing = packing(lengths);
        let rows = packing.rows();
        let (q, [k, v]) =
            (random(0, &[rows, 9 * WIDTH]), [1, 2].map(|which| random(which, &[rows, 3 * WIDTH])));
        let all = packing.all_rows();
        group.throughput(Throughput::Elements(rows as u64));
        for (name, sees) in [("causal", Sees::CAUSAL), ("window", window), ("whole", Sees::ALL)] {
            let form = AttentionForm { sees, ..form };
            group.bench_function(
                BenchmarkId::new(format!("grouped attention, {name}"), lengths.name()),
                |bencher| {
                    bencher.iter(|| attention(&q, &k, &v, &packing, &all, &form, None).unwrap());
                },
            );
        }
    }
    group.throughput(Throughput::Elements(ROWS as u64));
    let frequencies: Vec<f64> = (0..32).map(|i| 100_000f64.powf(-f64::from(i) / 32.0)).collect();
    let rotary = Rotary::new(&frequencies, WIDTH).unwrap();
    let (packing, x) = (Packing::from_starts(&[0, ROWS]).unwrap(), random(0, &[ROWS, 9 * WIDTH]));
    let all = packing.all_rows();
    group.bench_function("rotary", |bencher| bencher.iter(|| rotary.apply(&x, &all).unwrap()));
    let [gate, up] = [1, 2].map(|which| Linear::new(random(which, &[1536, 9 * WIDTH]), None).unwrap());
    group.bench_function("gated FFN", |bencher| {
        bencher.iter(|| gate.forward_gated(&up, &x, Activation::Silu).unwrap());
    });
    group.bench_function("gated FFN in three", |bencher| {
        bencher.iter(|| {
            let [gate, up] = [&gate, &up].map(|layer| layer.forward(&x, Activation::Identity).unwrap());
            gated(&gate, &up, Activation::Silu).unwrap()
        });
    });
    group.finish();
}

/// Texts of these lengths up to about 512 rows.
fn packing(lengths: Lengths) -> Packing {
    let mut starts = vec![0];
    for text in lengths.texts(ROWS) {
        let end = starts[starts.len() - 1] + text.ids.len() + PROMPT_ROWS;
        if end > ROWS {
            break;
        }
        starts.push(end);
    }
    Packing::from_starts(&starts).unwrap()
}

fn random(which: u32, shape: &[usize]) -> Tensor {
    let mut rng = Key::new(0, Purpose::WeightInit).layer(which).rng();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform() as f32 - 0.5).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}
