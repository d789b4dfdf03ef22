//! Passes over the golden case's data against what Hugging Face transformers gave in float64, and against themselves:
//! the same bits for any threads, micro-batches and shards.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{Device, Tensor};
use skn_artifact::{TensorBundle, TensorFile};
use skn_data::{Encoded, Join, Task, TextEncoder, read_dataset, shard};
use skn_model::{Gradients, LanguageModel, ModelFolder, Tuning, Weights};
use skn_perturb::{Edit, Perturbation};
use skn_probing::{
    Average, Counts, Metadata, PassOptions, Performance, Pool, ProbeType, ProbingError, Progress, Threshold,
    Work, Workers, averages, counts, evaluate, evaluate_each, evaluate_with,
};

/// Every probe of predictivity, and the part of its names in the golden case.
const PROBES: [(ProbeType, Pool, &str); 3] = [
    (ProbeType::Acc, Pool::Position, ""),
    (ProbeType::AccMean, Pool::Mean, "mean_"),
    (ProbeType::AccMax, Pool::Max, "max_"),
];

const TYPES: [ProbeType; 3] = [ProbeType::Acc, ProbeType::AccMean, ProbeType::AccMax];

/// Threads, rows of a micro-batch and texts of a micro-batch.
const WAYS: [(usize, usize, usize); 6] = [
    (1, 4096, usize::MAX),
    (2, 4096, usize::MAX),
    (3, 4096, usize::MAX),
    (1, 64, usize::MAX),
    (3, 64, usize::MAX),
    (2, 4096, 7),
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name)
}

/// The model with the golden prompt, its data, and what it must give.
struct Case {
    model: LanguageModel,
    verbalizer: Vec<u32>,
    train: Vec<Encoded>,
    dev: Vec<Encoded>,
    test: Vec<Encoded>,
    expected: TensorFile,
}

impl Case {
    fn load() -> Self {
        let expected = TensorFile::read(&path("expected.safetensors")).unwrap();
        let file = std::fs::read(path("model/tokenizer.json")).unwrap();
        let encoder = TextEncoder::from_json(&file, "tokenizer.json").unwrap();
        let folder = ModelFolder::open(path("model")).unwrap();
        let config = folder.config().unwrap();
        let weights = Weights::read(&folder, &config, &Device::Cpu).unwrap();
        let (shape, rows) = expected.f32("prompt", None).unwrap();
        let prompt = Tuning::prompt(Tensor::from_vec(rows, shape, &Device::Cpu).unwrap(), true).unwrap();
        let model =
            LanguageModel::new(&config, &weights, &prompt, encoder.mask_id(), Gradients::Nothing).unwrap();
        let mut task = Task::builtin("sst2").unwrap();
        (task.splits.dev, task.splits.test) = (Some("validation".into()), Some("test".into()));
        let data = read_dataset(&path("data/jsonl"), &task).unwrap();
        let encode =
            |split: &str| encoder.encode_all(&data.splits[split], model.max_text(), Join::Separated).unwrap();
        Self {
            verbalizer: encoder.verbalizer(&task.labels).unwrap().ids,
            train: encode("train"),
            dev: encode("validation"),
            test: encode("test"),
            model,
            expected,
        }
    }

    fn averages(&self, texts: &[Encoded], options: &PassOptions<'_>) -> BTreeMap<Pool, Average> {
        averages(&self.model, texts, &TYPES, options).unwrap()
    }

    fn counts(
        &self,
        texts: &[Encoded],
        thresholds: &BTreeMap<Pool, Threshold>,
        options: &PassOptions<'_>,
    ) -> Counts {
        counts(&self.model, texts, 2, thresholds, Some(NEURON), options).unwrap()
    }
}

/// The neuron (layer, index) whose activations are captured.
const NEURON: (usize, usize) = (2, 77);

fn thresholds(averages: &BTreeMap<Pool, Average>) -> BTreeMap<Pool, Threshold> {
    averages.iter().map(|(&pool, average)| (pool, average.threshold().unwrap())).collect()
}

/// Does `check` for each of the [`WAYS`].
fn each_way(mut check: impl FnMut(&str, &PassOptions<'_>)) {
    for (threads, token_budget, max_sequences) in WAYS {
        let workers = Workers::new(threads).unwrap();
        let options = PassOptions { token_budget, max_sequences, ..PassOptions::new(&workers) };
        check(&format!("{threads} threads, {token_budget} rows, {max_sequences} texts"), &options);
    }
}

/// The files of all averages or counts: what must not differ by a bit.
fn average_files(averages: &BTreeMap<Pool, Average>) -> Vec<Vec<u8>> {
    averages.values().map(|average| bytes(&average.to_bundle(&Metadata::new()).unwrap())).collect()
}

fn count_files(counts: &Counts) -> Vec<Vec<u8>> {
    let performances = counts.counts.values().map(|count| count.performance().unwrap());
    let mut files: Vec<_> =
        performances.map(|found| bytes(&found.to_bundle(&Metadata::new()).unwrap())).collect();
    let positions = counts.positions.as_ref().map(|positions| positions.to_bundle(&Metadata::new()).unwrap());
    files.extend(positions.iter().map(bytes));
    files
}

fn bytes(bundle: &TensorBundle) -> Vec<u8> {
    bundle.to_bytes().unwrap()
}

#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        // Written so that NaN fails.
        assert!((found - expected).abs() <= tolerance, "{what} at {place}: {found}, expected {expected}");
    }
}

/// The rule of the golden case: equal for 99.9 % of the neurons, and never off by more than 1.
#[track_caller]
fn assert_counts(what: &str, found: &[i64], expected: &[i64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let off = |(found, expected): (&i64, &i64)| found.abs_diff(*expected);
    let offs: Vec<u64> = found.iter().zip(expected).map(off).collect();
    let different = offs.iter().filter(|&&off| off > 0).count();
    assert!(offs.iter().all(|&off| off <= 1), "{what}: off by {:?}", offs.iter().max());
    assert!(different * 1000 <= offs.len(), "{what}: {different} of {} differ", offs.len());
}

#[test]
fn averages_of_train() {
    let case = Case::load();
    let workers = Workers::new(2).unwrap();
    let found = case.averages(&case.train, &PassOptions::new(&workers));
    for (_, pool, name) in PROBES {
        let (shape, expected) = case.expected.f32(&format!("train_{name}avg"), None).unwrap();
        assert_eq!((found[&pool].dims(), found[&pool].count()), (&shape[..], 192));
        assert_near(name, &found[&pool].values().unwrap(), &expected, 2e-4);
    }
}

#[test]
fn counts_of_dev_and_test() {
    let case = Case::load();
    let workers = Workers::new(2).unwrap();
    let options = PassOptions::new(&workers);
    let thresholds = thresholds(&case.averages(&case.train, &options));
    for (split, texts) in [("dev", &case.dev), ("test", &case.test)] {
        let found = case.counts(texts, &thresholds, &options);
        let (_, total) = case.expected.i64(&format!("{split}_total"), None).unwrap();
        for (_, pool, name) in PROBES {
            let what = format!("{split}_{name}correct");
            let (shape, expected) = case.expected.i64(&what, None).unwrap();
            let performance = found.counts[&pool].performance().unwrap();
            assert_eq!((performance.dims(), performance.total()), (&shape[..], total[0]), "{what}");
            assert_counts(&what, performance.correct(), &expected);
            let share = |correct: &i64| (*correct as f64 / total[0] as f64) as f32;
            assert!(performance.accuracy().into_iter().eq(performance.correct().iter().map(share)), "{what}");
        }
    }
}

/// What the files hold of class 1, counted again from activations and averages.
#[test]
fn texts_of_class_1_for_which_a_neuron_fires() {
    let case = Case::load();
    let workers = Workers::new(2).unwrap();
    let options = PassOptions::new(&workers);
    let all = thresholds(&case.averages(&case.train, &options));
    let found = case.counts(&case.test, &all, &options);
    let fires = |value: f32, average: f32, label: usize| i64::from(value > average && label == 1);

    // One neuron for every text, at all positions: the very numbers that were compared.
    let (layer, index) = NEURON;
    let kept = found.positions.as_ref().unwrap();
    let performance = found.counts[&Pool::Position].performance().unwrap();
    let counted = performance.by_class().unwrap();
    let of_class = case.test.iter().filter(|text| text.label == 1).count() as i64;
    assert_eq!(counted.positives, [of_class]);
    assert!(0 < of_class && of_class < performance.total(), "a test that can fail has both classes");
    let (positions, neurons) = (performance.positions(), performance.neurons());
    for position in 0..positions {
        let place = (layer * positions + position) * neurons + index;
        let average = all[&Pool::Position].values()[place];
        let rows = kept.activations.chunks_exact(positions).zip(&kept.labels);
        let expected: i64 = rows.map(|(row, &label)| fires(row[position], average, label)).sum();
        assert_eq!(counted.true_positive[place], expected, "position {position}");
    }

    // Every neuron for the texts whose activations the golden case has.
    let (shape, activations) = case.expected.f32("test_acts_first6", None).unwrap();
    let (_, averages) = case.expected.f32("train_avg", Some(&shape[1..])).unwrap();
    let first = &case.test[..shape[0]];
    let mut expected = vec![0; averages.len()];
    for (text, row) in first.iter().zip(activations.chunks_exact(averages.len())) {
        for (place, count) in expected.iter_mut().enumerate() {
            *count += fires(row[place], averages[place], text.label);
        }
    }
    let performance = case.counts(first, &all, &options).counts[&Pool::Position].performance().unwrap();
    assert_counts("true_positive", &performance.by_class().unwrap().true_positive, &expected);
    assert!(expected.iter().any(|&count| count > 0));
}

#[test]
fn one_probe_alone_gives_what_it_gives_among_others() {
    let case = Case::load();
    let workers = Workers::new(2).unwrap();
    let options = PassOptions::new(&workers);
    let together = case.averages(&case.train, &options);
    let all = thresholds(&together);
    let counted = case.counts(&case.dev, &all, &options);
    for (probe, pool, name) in PROBES {
        let alone = averages(&case.model, &case.train, &[probe], &options).unwrap();
        assert!(alone.keys().eq([&pool]), "{name}");
        assert_eq!(alone[&pool].values().unwrap(), together[&pool].values().unwrap(), "{name}");
        let only = counts(&case.model, &case.dev, 2, &thresholds(&alone), None, &options).unwrap();
        assert!(only.positions.is_none());
        let performance = |counts: &Counts| counts.counts[&pool].performance().unwrap();
        assert_eq!(performance(&only), performance(&counted), "{name}");
    }
}

#[test]
fn captured_activations_of_a_neuron() {
    let case = Case::load();
    let workers = Workers::new(2).unwrap();
    let options = PassOptions::new(&workers);
    let found = case.counts(&case.test, &BTreeMap::new(), &options).positions.unwrap();
    let labels: Vec<usize> = case.test.iter().map(|text| text.label).collect();
    assert_eq!((found.positions, &found.labels, found.activations.len()), (6, &labels, 80 * 6));
    let (shape, activations) = case.expected.f32("test_acts_first6", None).unwrap();
    let [texts, layers, positions, neurons] = shape[..] else { panic!("{shape:?}") };
    let (layer, index) = NEURON;
    let place =
        |text: usize, position: usize| ((text * layers + layer) * positions + position) * neurons + index;
    let places = (0..texts).flat_map(|text| (0..positions).map(move |position| place(text, position)));
    let expected: Vec<f32> = places.map(|place| activations[place]).collect();
    assert_near("captured activations", &found.activations[..expected.len()], &expected, 2e-4);
}

#[test]
fn answers_to_the_test_rows() {
    let case = Case::load();
    let (_, expected) = case.expected.f32("test_logits", None).unwrap();
    let mut first = None;
    each_way(|way, options| {
        let found = evaluate(&case.model, &case.test, &case.verbalizer, options).unwrap();
        assert_near(way, &found.logits, &expected, 2e-4);
        assert_eq!(&found, first.get_or_insert_with(|| found.clone()), "{way}");
    });
    let found = first.unwrap();
    let right = |(row, text): (&[f32], &Encoded)| (row[1] > row[0]) == (text.label == 1);
    let right = expected.chunks_exact(2).zip(&case.test).filter(|row| right(*row)).count();
    assert_eq!(found.accuracy(), right as f64 / 80.0);
}

/// Edits of every kind, first ones in every layer, in no order, and the model as it is among them.
fn variants(model: &LanguageModel) -> Vec<Perturbation> {
    let widths = &model.config().intermediate_sizes;
    let edits = [
        Edit::Gaussian { alpha: 2.0, seed: 5, per_token: false },
        Edit::Zero,
        Edit::Gaussian { alpha: 2.0, seed: 5, per_token: true },
        Edit::Mean { values: widths.iter().map(|&width| vec![1.5; width]).collect() },
    ];
    let every_third: Vec<Vec<u32>> =
        widths.iter().map(|&width| (0..width as u32).step_by(3).collect()).collect();
    let from = |(layer, edit): (usize, &Edit)| {
        let all = Perturbation::new(edit.clone(), every_third.clone(), widths).unwrap();
        all.within(layer..widths.len()).repeat(layer as u64)
    };
    // From layer 0 to "after the last", and down again with other edits.
    let layers = (0..=widths.len()).chain((0..widths.len()).rev());
    layers.zip(edits.iter().cycle()).map(from).chain([Perturbation::nothing(widths)]).collect()
}

#[test]
fn a_sweep_has_the_bits_of_a_pass_for_each_variant() {
    let case = Case::load();
    let variants = variants(&case.model);
    let mut first = None;
    each_way(|way, options| {
        let found =
            evaluate_each(&case.model, &case.test, &case.verbalizer, options, &variants, |variant, _| {
                variant.hook()
            });
        let found = found.unwrap();
        assert_eq!(&found, first.get_or_insert_with(|| found.clone()), "{way}");
        let alone = |variant: &Perturbation| {
            evaluate_with(&case.model, &case.test, &case.verbalizer, options, |_| variant.hook()).unwrap()
        };
        assert!(found.iter().eq(&variants.iter().map(alone).collect::<Vec<_>>()), "{way}");
    });
    let found = first.unwrap();
    let workers = Workers::new(1).unwrap();
    let plain = evaluate(&case.model, &case.test, &case.verbalizer, &PassOptions::new(&workers)).unwrap();
    assert_eq!(found.last(), Some(&plain), "nothing changes nothing");
    let layers = case.model.config().layers();
    assert!(found[..layers].iter().all(|edited| edited.logits != plain.logits), "the others do");
}

/// Remembers what it is told, and stops the pass at so much work.
#[derive(Default)]
struct Told {
    texts: AtomicU64,
    total: AtomicU64,
    done: AtomicU64,
    stop_at: Option<u64>,
}

impl Progress for Told {
    fn begin(&self, work: Work<'_>) {
        self.texts.fetch_add(work.texts, Ordering::Relaxed);
        self.total.fetch_add(work.amount, Ordering::Relaxed);
    }

    fn advance(&self, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.stop_at.is_some_and(|amount| self.done.load(Ordering::Relaxed) >= amount)
    }
}

#[test]
fn a_sweep_tells_of_every_variant_and_stops_between_them() {
    let case = Case::load();
    let variants = variants(&case.model);
    // Tokens, for texts are of several lengths.
    let tokens: usize = case.test.iter().map(|text| text.ids.len() + case.model.prompt_rows()).sum();
    let all = (tokens * variants.len()) as u64;
    let workers = Workers::new(1).unwrap();
    let sweep = |told: &Told| {
        let options = PassOptions { token_budget: usize::MAX, progress: told, ..PassOptions::new(&workers) };
        let hook = |variant, _: &_| Perturbation::hook(variant);
        evaluate_each(&case.model, &case.test, &case.verbalizer, &options, &variants, hook)
    };
    let told = Told::default();
    sweep(&told).unwrap();
    assert_eq!(told.texts.load(Ordering::Relaxed), (case.test.len() * variants.len()) as u64);
    assert_eq!((told.total.into_inner(), told.done.into_inner()), (all, all));

    let told = Told { stop_at: Some(1), ..Told::default() };
    let error = sweep(&told).unwrap_err();
    assert!(matches!(error, ProbingError::Cancelled), "{error}");
    // All texts are one batch, so the first variant is all that was done.
    assert_eq!(told.done.into_inner(), tokens as u64);
}

#[test]
fn any_way_gives_the_same_bytes() {
    let case = Case::load();
    let mut first = None;
    each_way(|way, options| {
        let averages = case.averages(&case.train, options);
        let counts = case.counts(&case.dev, &thresholds(&averages), options);
        let files = (average_files(&averages), count_files(&counts));
        assert!(&files == first.get_or_insert_with(|| files.clone()), "{way}");
    });
}

#[test]
fn the_order_of_the_texts_changes_no_statistic() {
    let case = Case::load();
    let workers = Workers::new(2).unwrap();
    let options = PassOptions::new(&workers);
    let whole = case.averages(&case.train, &options);
    let mut reversed = case.train.clone();
    reversed.reverse();
    assert!(average_files(&case.averages(&reversed, &options)) == average_files(&whole));
}

#[test]
fn shards_merge_to_the_bytes_of_the_whole() {
    let case = Case::load();
    let workers = Workers::new(2).unwrap();
    let options = PassOptions::new(&workers);
    let whole = case.averages(&case.train, &options);
    let all = thresholds(&whole);
    let counted = case.counts(&case.dev, &all, &options);
    for count in [2, 5] {
        let part = |texts, index| shard(texts, index, count).unwrap();
        let mut merged = case.averages(part(&case.train, 0), &options);
        let mut merged_counts = case.counts(part(&case.dev, 0), &all, &options);
        for index in 1..count {
            for (pool, average) in case.averages(part(&case.train, index), &options) {
                merged.get_mut(&pool).unwrap().merge(&through_a_file(&average)).unwrap();
            }
            merged_counts.merge(&case.counts(part(&case.dev, index), &all, &options)).unwrap();
        }
        assert!(average_files(&merged) == average_files(&whole), "averages of {count} shards");
        assert!(count_files(&merged_counts) == count_files(&counted), "counts of {count} shards");
    }
}

#[test]
fn count_files_of_shards_merge_to_the_bytes_of_the_whole() {
    let case = Case::load();
    let workers = Workers::new(2).unwrap();
    let options = PassOptions::new(&workers);
    let all = thresholds(&case.averages(&case.train, &options));
    let counted = case.counts(&case.dev, &all, &options);
    let halves = [0, 1].map(|index| case.counts(shard(&case.dev, index, 2).unwrap(), &all, &options));
    for (pool, whole) in &counted.counts {
        let read = |counts: &Counts| {
            let bundle = counts.counts[pool].performance().unwrap().to_bundle(&Metadata::new()).unwrap();
            let file = TensorFile::from_bytes("dev_perf.safetensors".as_ref(), bytes(&bundle)).unwrap();
            Performance::read(&file).unwrap()
        };
        let [mut merged, second] = halves.each_ref().map(read);
        merged.merge(&second).unwrap();
        assert_eq!(merged, whole.performance().unwrap(), "{pool:?}");
    }
}

/// What another process would read of it.
fn through_a_file(average: &Average) -> Average {
    let bundle = average.to_bundle(&Metadata::new()).unwrap();
    let file = TensorFile::from_bytes("train_avg.safetensors".as_ref(), bytes(&bundle)).unwrap();
    Average::read(&file, average.pool()).unwrap()
}
