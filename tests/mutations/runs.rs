//! The files of a run, and tuned parameters of other tools, as forms to damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use skn_artifact::names::key;
use skn_artifact::{Array, RunRecord, Spool, StageRecord, TensorBundle, TensorFile, sha256_hex, verify};
use skn_counts::FireBits;
use skn_model::{LanguageModel, Method, ReadAs, Tuning};
use skn_probing::{
    Average, Fires, Kinds, Metadata, PassOptions, Performance, Pool, Positions, ProbeType, Rank, Ranking,
    Silent, Statistic, Threshold, Workers, averages, collect, counts,
};
use skn_select::{MadeRanking, Mask};

use super::small::SMALL;
use super::support::write;

/// Tuned parameters as they are saved, and the file of that name.
fn tuned(to: &Path, method: usize, name: &str) -> PathBuf {
    let small = &*SMALL;
    let mut tuning = small.tuning(method);
    if tuning.method() == Some(Method::Bias) {
        // A bias that is not there is the model's own: all that train are written.
        tuning = small.model(method, &small.weights).tuning().unwrap();
    }
    let mask = small.weights.mask_embedding(small.encoder.mask_id()).unwrap();
    for (name, bytes) in tuning.files(&small.config, "model", &mask).unwrap() {
        write(&to.join(name), bytes);
    }
    to.join(name)
}

pub(super) fn peft_config(to: &Path) -> PathBuf {
    tuned(to, 0, "adapter_config.json")
}

pub(super) fn peft_tensors(to: &Path) -> PathBuf {
    tuned(to, 0, "adapter_model.safetensors")
}

pub(super) fn biases(to: &Path) -> PathBuf {
    tuned(to, 1, "bitfit.safetensors")
}

pub(super) fn adapter_config(to: &Path) -> PathBuf {
    tuned(to, 2, "adapter_config.json")
}

pub(super) fn adapter_tensors(to: &Path) -> PathBuf {
    tuned(to, 2, "adapter.safetensors")
}

pub(super) fn tuning(file: &Path) -> bool {
    let small = &*SMALL;
    let (folder, mask) = (file.parent().unwrap(), small.encoder.mask_id());
    Tuning::read(folder, &small.config, &small.weights, mask, ReadAs::default()).is_ok()
}

/// What a probe makes of the small model: averages, counts, and what one neuron does.
fn probed() -> (Average, Performance, Positions) {
    let small = &*SMALL;
    let model = small.model(0, &small.weights);
    let workers = Workers::new(1).unwrap();
    let options = PassOptions::new(&workers);
    let average = averages(&model, small.texts(), &[ProbeType::Acc], &options)
        .unwrap()
        .remove(&Pool::Position)
        .unwrap();
    let thresholds = BTreeMap::from([(Pool::Position, average.threshold().unwrap())]);
    let found = counts(&model, small.texts(), 2, &thresholds, Some((1, 3)), &options).unwrap();
    (average, found.counts[&Pool::Position].performance().unwrap(), found.positions.unwrap())
}

fn put(to: &Path, bundle: &TensorBundle) -> PathBuf {
    let file = to.join("mutant.safetensors");
    write(&file, bundle.to_bytes().unwrap());
    file
}

pub(super) fn average(to: &Path) -> PathBuf {
    put(to, &probed().0.to_bundle(&Metadata::new()).unwrap())
}

pub(super) fn read_average(file: &Path) -> bool {
    let Ok(file) = TensorFile::read(file) else { return false };
    // A stage reads one or the other.
    let threshold = Threshold::read(&file, Pool::Position);
    threshold.is_ok() | Average::read(&file, Pool::Position).is_ok()
}

pub(super) fn performance(to: &Path) -> PathBuf {
    put(to, &probed().1.to_bundle(&BTreeMap::new()).unwrap())
}

pub(super) fn read_performance(file: &Path) -> bool {
    TensorFile::read(file).is_ok_and(|file| Performance::read(&file).is_ok())
}

pub(super) fn positions(to: &Path) -> PathBuf {
    put(to, &probed().2.to_bundle(&Metadata::new()).unwrap())
}

pub(super) fn read_positions(file: &Path) -> bool {
    TensorFile::read(file).is_ok_and(|file| Positions::read(&file).is_ok())
}

/// A mask of a tenth of two layers.
pub(super) fn mask(to: &Path) -> PathBuf {
    let (layers, width) = (2, 40);
    let of_layers = |value: fn(usize) -> f32| (0..layers * width).map(|place| value(place % width)).collect();
    let mut bundle = TensorBundle::new();
    bundle.describe("skn.kind", "mask").describe("skn.share", "0.1");
    let shape = || vec![layers, width];
    let chosen = (0..layers * width).map(|place| place % width < 4).collect();
    bundle.insert("mask", Array::bool(shape(), chosen).unwrap());
    bundle.insert("score", Array::f32(shape(), of_layers(|neuron| 0.5 - neuron as f32 / 100.0)).unwrap());
    let rank = (0..layers * width).map(|place| (place % width) as i32).collect();
    bundle.insert("rank", Array::i32(shape(), rank).unwrap());
    put(to, &bundle)
}

pub(super) fn read_mask(file: &Path) -> bool {
    TensorFile::read(file).is_ok_and(|file| Mask::read(&file).is_ok())
}

/// Marks of another program: 4 neurons of each of two layers of 40.
fn marks() -> Vec<u8> {
    (0..80).map(|place| u8::from(place % 40 < 4)).collect()
}

pub(super) fn made_mask(to: &Path) -> PathBuf {
    let mut bundle = TensorBundle::new();
    bundle.insert("mask", Array::u8(vec![2, 40], marks()).unwrap());
    put(to, &bundle)
}

pub(super) fn npy_mask(to: &Path) -> PathBuf {
    let header = "{'descr': '|b1', 'fortran_order': False, 'shape': (2, 40), }";
    let header = format!("{header:117}\n");
    let length = (header.len() as u16).to_le_bytes();
    let file = to.join("mutant.npy");
    write(&file, [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), &marks()].concat());
    file
}

pub(super) fn csv_neurons(to: &Path) -> PathBuf {
    let file = to.join("mutant.csv");
    let lines =
        (0..20).map(|place| format!("\"so, {place}\",{},{},{}.5\n", place % 2, 2 * place, 40 - place));
    write(&file, format!("note,layer,neuron,score\n{}", lines.collect::<String>()));
    file
}

pub(super) fn json_neurons(to: &Path) -> PathBuf {
    let file = to.join("mutant.json");
    let neurons: Vec<String> = (0..20).map(|place| format!("[{}, {}]", place % 2, 2 * place)).collect();
    write(&file, format!("[{}]\n", neurons.join(",\n ")));
    file
}

pub(super) fn read_made(file: &Path) -> bool {
    MadeRanking::marks(file, &[40, 40]).is_ok()
}

/// What a statistic of the small model's texts becomes.
fn taken(
    statistic: impl FnOnce(&LanguageModel, &Average) -> Box<dyn Statistic>,
    metadata: &Metadata,
) -> TensorBundle {
    let small = &*SMALL;
    let model = small.model(0, &small.weights);
    let workers = Workers::new(1).unwrap();
    let options = PassOptions::new(&workers);
    let statistics = vec![statistic(&model, &PROBED.0)];
    let mut taken = collect("damaging", &model, small.texts(), 2, statistics, &options).unwrap();
    taken.remove(0).into_record().unwrap().to_bundle(metadata).unwrap()
}

static PROBED: LazyLock<(Average, Performance, Positions)> = LazyLock::new(probed);

pub(super) fn fire_bits(to: &Path) -> PathBuf {
    let fires = |model: &LanguageModel, average: &Average| {
        let (threshold, spool) = (average.threshold().unwrap(), Spool::new(to).unwrap());
        Box::new(Fires::new(model, &threshold, SMALL.texts(), None, spool).unwrap()) as Box<dyn Statistic>
    };
    put(to, &taken(fires, &Metadata::new()))
}

/// All bits are read, as for the votes of neurons.
pub(super) fn read_fire_bits(file: &Path) -> bool {
    let Ok(file) = TensorFile::open(file) else { return false };
    let Ok(bits) = FireBits::read(file, &PROBED.1) else { return false };
    let places =
        (0..bits.layers()).flat_map(|layer| (0..bits.positions()).map(move |position| (layer, position)));
    places.into_iter().all(|(layer, position)| bits.position(layer, position).is_ok())
}

fn areas_of(metadata: &Metadata) -> TensorBundle {
    let rank = |model: &LanguageModel, average: &Average| {
        Box::new(Rank::new(Ranking::Auc, model, average, 2, 0).unwrap()) as Box<dyn Statistic>
    };
    taken(rank, metadata)
}

pub(super) fn areas(to: &Path) -> PathBuf {
    put(to, &areas_of(&Metadata::new()))
}

/// As counts are scored by it, and as a ranking that was made elsewhere.
pub(super) fn read_areas(file: &Path) -> bool {
    let counts = &PROBED.1;
    let Ok(read) = TensorFile::read(file) else { return false };
    counts.clone().with_areas(&read).is_ok() & MadeRanking::read(file, counts.widths()).is_ok()
}

pub(super) fn rank_shard(to: &Path) -> PathBuf {
    let metadata = Metadata::from([(key::SHARD.to_owned(), "1/2".to_owned())]);
    put(to, &areas_of(&metadata))
}

pub(super) fn read_rank(file: &Path) -> bool {
    TensorFile::read(file).is_ok_and(|file| Kinds::default().read(&file).is_ok())
}

/// The checkpoint of a training that is done.
pub(super) fn checkpoint(to: &Path) -> PathBuf {
    let small = &*SMALL;
    let model = small.model(0, &small.weights);
    small.train(&model, &small.options(), &small.run(to, false), &Silent).unwrap();
    // The one before it would be taken in its stead.
    fs::remove_file(to.join("last/checkpoint.previous.safetensors")).unwrap();
    to.join("last/checkpoint.safetensors")
}

pub(super) fn read_checkpoint(file: &Path) -> bool {
    let small = &*SMALL;
    let run = file.parent().unwrap().parent().unwrap();
    let model = small.model(0, &small.weights);
    small.train(&model, &small.options(), &small.run(run, true), &Silent).is_ok()
}

pub(super) fn run_record(to: &Path) -> PathBuf {
    let outputs = ["metrics.jsonl", "best/skn.json"].map(|name| {
        write(&to.join(name), name);
        (name.to_owned(), sha256_hex(name.as_bytes()))
    });
    let mut record = RunRecord::default();
    let stage = StageRecord {
        arguments: vec!["--task".into(), "sst2".into()],
        options: Some(serde_json::json!({"train": {"epochs": 4, "learning_rate": 1e-3}})),
        version: "0.1.0".into(),
        started: 1_764_000_000,
        finished: 1_764_000_012,
        seconds: 12.5,
        settings: BTreeMap::from([("seed".to_owned(), "7".to_owned())]),
        inputs: BTreeMap::from([("model roberta-base".to_owned(), sha256_hex(b"model"))]),
        outputs: outputs.into(),
    };
    record.stages.insert("train".into(), stage);
    let file = to.join("run.json");
    write(&file, serde_json::to_vec_pretty(&record).unwrap());
    file
}

pub(super) fn read_run_record(file: &Path) -> bool {
    verify(file.parent().unwrap()).is_ok_and(|found| found.is_sound())
}
