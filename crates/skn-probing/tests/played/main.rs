//! Passes on a device that reduces rows where they lie: the kernels of GPUs, which the host plays. Records have the bytes that they have
//! where the same activations are read on the host, errors say the same, and no activation travels.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

#[path = "../../../skn-kernels/tests/host/compile.rs"]
mod compile;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Tensor};
use skn_artifact::{Spool, TensorFile};
use skn_data::{Encoded, Join, Task, TextEncoder, read_dataset};
use skn_kernels::{numbers_read_back, replays};
use skn_model::{
    Backend, Gradients, LanguageModel, ModelFolder, NeuronSite, NoHook, Pass, Rows, Scored, Sequences, Site,
    Tuning, Weights,
};
use skn_probing::{
    Average, BatchTexts, Capture, Count, Fires, Metadata, NeuronPlace, PassOptions, Pool, Rank, Ranking,
    Record, Result, Row, Sample, Statistic, Threshold, Top, Workers, collect, evaluate, evaluate_with, part,
};
use tempfile::TempDir;

use support::{LAYERS, NEURONS, POSITIONS, model, model_with, texts};

/// One test at a time where they share a process, since what comes back to the host is counted for all of it. Whether there is a
/// compiler for the player; where there is none the processor computes, and what is left is a test of that.
fn alone() -> (MutexGuard<'static, ()>, bool) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    compile::play();
    let plays = compile::program().is_some();
    assert_eq!(Backend::of(&Device::Cpu).reduces(), plays);
    (alone, plays)
}

/// A statistic as one that knows nothing of devices.
struct OnHost(Box<dyn Statistic>);

impl Statistic for OnHost {
    fn reads(&self, pool: Pool, layer: usize) -> bool {
        self.0.reads(pool, layer)
    }

    fn site(&self) -> Option<NeuronSite> {
        self.0.site()
    }

    fn needs_output_norm(&self) -> bool {
        self.0.needs_output_norm()
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        Ok(Box::new(Self(self.0.of_batch(texts)?)))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        self.0.take(row)
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        self.0.absorb(part::<Self>(of_batch)?.0)
    }

    fn file(&self, split: &str) -> String {
        self.0.file(split)
    }

    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
        self.0.into_record()
    }
}

fn on_host(statistics: Vec<Box<dyn Statistic>>) -> Vec<Box<dyn Statistic>> {
    statistics.into_iter().map(|statistic| Box::new(OnHost(statistic)) as Box<dyn Statistic>).collect()
}

/// The files of what a pass takes, by their names.
fn files(
    model: &LanguageModel,
    texts: &[Encoded],
    statistics: Vec<Box<dyn Statistic>>,
    options: &PassOptions<'_>,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let taken = collect("taking", model, texts, 3, statistics, options)?;
    let file = |taken: Box<dyn Statistic>| -> Result<_> {
        let name = taken.file("dev");
        let bundle = taken.into_record()?.to_bundle(&Metadata::new())?;
        Ok((name, bundle.to_bytes().unwrap()))
    };
    taken.into_iter().map(file).collect()
}

/// Averages with their variances in every pool.
fn of_train(model: &LanguageModel) -> Vec<Box<dyn Statistic>> {
    let average = |pool| Box::new(Average::new(model, pool).unwrap().with_variance()) as Box<dyn Statistic>;
    Pool::ALL.map(average).into()
}

/// Averages of every pool.
fn averages(model: &LanguageModel, texts: &[Encoded], options: &PassOptions<'_>) -> Vec<Average> {
    let taken = collect("averaging", model, texts, 3, of_train(model), options).unwrap();
    taken.into_iter().map(|taken| part::<Average>(taken).unwrap()).collect()
}

fn thresholds(model: &LanguageModel, texts: &[Encoded], options: &PassOptions<'_>) -> Vec<Threshold> {
    averages(model, texts, options).iter().map(|average| average.threshold().unwrap()).collect()
}

/// What rankings take on a device.
const REDUCED: [Ranking; 5] =
    [Ranking::Predictivity, Ranking::Auc, Ranking::MeanDifference, Ranking::Correlation, Ranking::Lape];

/// Rankings of a pool; of texts with a number the correlation with it.
fn of_rankings(
    model: &LanguageModel,
    average: &Average,
    rankings: &[Ranking],
    numbers: Option<usize>,
) -> Vec<Box<dyn Statistic>> {
    let rank = |&ranking: &Ranking| {
        let rank = Rank::new(ranking, model, average, 3, 5).unwrap();
        let rank = match numbers {
            None => rank,
            Some(texts) => {
                let of_rows = (0..texts).map(|row| (row * row % 11) as f32 / 3.7 - 1.3).collect();
                rank.with_numbers("length", Arc::new(of_rows))
            }
        };
        Box::new(rank) as Box<dyn Statistic>
    };
    rankings.iter().map(rank).collect()
}

/// The first neuron of each layer that has any, and the last one at the last position.
fn neurons(model: &LanguageModel, pool: Pool) -> Vec<NeuronPlace> {
    let last = if pool.is_of_text() { 0 } else { model.prompt_rows() - 1 };
    let widths = model.config().intermediate_sizes.iter().enumerate().filter(|(_, width)| **width > 0);
    let of_layer = |(layer, &width): (usize, &usize)| {
        [(0, 0), (width - 1, last), (0, last)].map(|(index, position)| NeuronPlace { layer, index, position })
    };
    widths.flat_map(of_layer).collect()
}

/// Counts and bits of every pool, and for the rows of some texts alone.
fn of_dev(
    model: &LanguageModel,
    thresholds: &[Threshold],
    texts: &[Encoded],
    folder: &TempDir,
) -> Vec<Box<dyn Statistic>> {
    let mut statistics = Vec::<Box<dyn Statistic>>::new();
    for (threshold, sampled) in thresholds.iter().zip([false, true, false, false]) {
        statistics.push(Box::new(Count::new(model, threshold, 3).unwrap()));
        let sample = Sample { rows: texts.iter().map(|text| text.row).step_by(3).collect(), of: texts.len() };
        let (spool, sample) = (Spool::new(folder.path()).unwrap(), sampled.then_some(&sample));
        statistics.push(Box::new(Fires::new(model, threshold, texts, sample, spool).unwrap()));
    }
    statistics
}

/// Texts of three classes, in no order.
fn three_classes(count: u64, seed: u64) -> Vec<Encoded> {
    let mut texts = texts(count, seed);
    texts.iter_mut().for_each(|text| text.label = (text.row * text.row % 7 % 3) as usize);
    texts
}

/// Everything on the device next to everything on the host, in batches of several sizes.
fn check(model: &LanguageModel, train: &[Encoded], dev: &[Encoded], budgets: &[usize]) {
    let (workers, folder) = (Workers::new(2).unwrap(), tempfile::tempdir().unwrap());
    let whole = PassOptions::new(&workers);
    let thresholds = thresholds(model, train, &whole);
    let make: [&dyn Fn() -> Vec<Box<dyn Statistic>>; 2] =
        [&|| of_train(model), &|| of_dev(model, &thresholds, dev, &folder)];
    for (texts, statistics) in [train, dev].into_iter().zip(make) {
        let expected = files(model, texts, on_host(statistics()), &whole).unwrap();
        assert!(expected.len() >= 4);
        for &token_budget in budgets {
            let options = PassOptions { token_budget, ..whole };
            let found = files(model, texts, statistics(), &options).unwrap();
            for (name, expected) in &expected {
                assert!(found[name] == *expected, "{name}, {token_budget} rows a batch");
            }
        }
    }
}

/// Rankings, texts that excite neurons and the activations of one, on the device next to the host.
fn check_rankings(model: &LanguageModel, train: &[Encoded], dev: &[Encoded], budgets: &[usize]) {
    let workers = Workers::new(2).unwrap();
    let whole = PassOptions::new(&workers);
    let layer = model.config().intermediate_sizes.iter().rposition(|&width| width > 2).unwrap();
    for (pool, average) in Pool::ALL.into_iter().zip(averages(model, train, &whole)) {
        let with_outputs = !matches!(pool, Pool::Mean | Pool::Max);
        let make: [&dyn Fn() -> Vec<Box<dyn Statistic>>; 4] = [
            &|| of_rankings(model, &average, &REDUCED, None),
            // Beside one that does not wait for the FFN's output.
            &|| {
                of_rankings(
                    model,
                    &average,
                    &[Ranking::Cett, Ranking::Lape][usize::from(!with_outputs)..],
                    None,
                )
            },
            &|| of_rankings(model, &average, &[Ranking::Correlation], Some(dev.len())),
            &|| {
                let top = Top::new(model, pool, neurons(model, pool)).unwrap();
                vec![Box::new(top), Box::new(Capture::new(model, (layer, 2), dev).unwrap())]
            },
        ];
        for statistics in make {
            let expected = files(model, dev, on_host(statistics()), &whole).unwrap();
            assert_eq!(expected.len(), statistics().len());
            for &token_budget in budgets {
                let options = PassOptions { token_budget, ..whole };
                let found = files(model, dev, statistics(), &options).unwrap();
                for (name, expected) in &expected {
                    assert!(found[name] == *expected, "{pool:?} {name}, {token_budget} rows a batch");
                }
            }
        }
    }
}

#[test]
fn rankings_have_the_bytes_of_those_made_on_the_host() {
    let _alone = alone();
    check_rankings(&model(), &three_classes(20, 1), &three_classes(17, 2), &[48]);
    for widths in [[3, 9], [0, NEURONS]] {
        check_rankings(&model_with(&widths, |_| {}), &three_classes(20, 1), &three_classes(8, 2), &[40]);
    }
}

#[test]
fn records_have_the_bytes_of_those_made_on_the_host() {
    let _alone = alone();
    check(&model(), &three_classes(40, 1), &three_classes(27, 2), &[4096, 48]);
}

/// Layers of other widths, one without neurons.
#[test]
fn records_of_a_pruned_model() {
    let _alone = alone();
    for widths in [[NEURONS, 5], [3, 9], [0, NEURONS]] {
        check(&model_with(&widths, |_| {}), &three_classes(20, 1), &three_classes(13, 2), &[40]);
    }
}

/// Where the same activations are read by statistics that know no device, and by those that do.
#[test]
fn both_kinds_share_a_pass() {
    let _alone = alone();
    let (model, texts, workers) = (model(), three_classes(30, 4), Workers::new(1).unwrap());
    let options = PassOptions { token_budget: 64, ..PassOptions::new(&workers) };
    let capture = || Box::new(Capture::new(&model, (1, 3), &texts).unwrap()) as Box<dyn Statistic>;
    let all = |capture| of_train(&model).into_iter().chain(capture).collect::<Vec<_>>();
    let expected = files(&model, &texts, on_host(all(vec![capture()])), &options).unwrap();
    assert!(files(&model, &texts, all(on_host(vec![capture()])), &options).unwrap() == expected);
    assert_eq!(expected.len(), 5);
}

/// The numbers that a pass brings to the host.
fn numbers_of(model: &LanguageModel, texts: &[Encoded], statistics: Vec<Box<dyn Statistic>>) -> usize {
    let workers = Workers::new(1).unwrap();
    // A batch for each text.
    let options = PassOptions { max_sequences: 1, ..PassOptions::new(&workers) };
    let before = numbers_read_back();
    files(model, texts, statistics, &options).unwrap();
    (numbers_read_back() - before) as usize
}

#[test]
fn no_activation_travels() {
    let (_alone, plays) = alone();
    let (model, workers, folder) = (model(), Workers::new(1).unwrap(), tempfile::tempdir().unwrap());
    let averages = averages(&model, &three_classes(20, 1), &PassOptions::new(&workers));
    let thresholds: Vec<_> = averages.iter().map(|average| average.threshold().unwrap()).collect();
    for count in [7, 35] {
        let texts = three_classes(count as u64, 3);
        // A number that says whether all could be taken, every 16 batches and at the end.
        let looks = count / 16 + 1;
        let found = numbers_of(&model, &texts, of_train(&model));
        // Of each neuron at each position, and of three pools: two sums of three counters, the smallest and the largest.
        let places = LAYERS * (POSITIONS + 3) * NEURONS;
        assert_eq!(found, if plays { places * (3 + 3 + 2) + looks } else { 0 }, "{count} texts");
        let counts = |of: &Threshold| Box::new(Count::new(&model, of, 3).unwrap()) as Box<dyn Statistic>;
        let found = numbers_of(&model, &texts, thresholds.iter().map(counts).collect());
        assert_eq!(found, if plays { 3 * places + looks } else { 0 }, "{count} texts");
        let fires = |of: &Threshold| {
            let spool = Spool::new(folder.path()).unwrap();
            Box::new(Fires::new(&model, of, &texts, None, spool).unwrap()) as Box<dyn Statistic>
        };
        let found = numbers_of(&model, &texts, thresholds.iter().map(fires).collect());
        // Bits, by bytes.
        assert_eq!(found, if plays { places / 8 * count + looks } else { 0 }, "{count} texts");
        // Counts of three classes, of 32 bins too; sums of three counters of three classes, of squares, and of products.
        let places = LAYERS * POSITIONS * NEURONS;
        for (ranking, numbers, each) in [
            (Ranking::Predictivity, None, 3),
            (Ranking::Lape, None, 3),
            (Ranking::Auc, None, 3 * 32),
            (Ranking::MeanDifference, None, 3 * 3),
            (Ranking::Correlation, None, 3 * 3 + 3),
            (Ranking::Correlation, Some(count), 3 + 3 + 3),
            (Ranking::Cett, None, 3),
        ] {
            let found = numbers_of(&model, &texts, of_rankings(&model, &averages[0], &[ranking], numbers));
            assert_eq!(found, if plays { each * places + looks } else { 0 }, "{ranking}, {count} texts");
        }
        let top = || Box::new(Top::new(&model, Pool::Position, neurons(&model, Pool::Position)).unwrap());
        // Three neurons of each layer at all positions of each text, and one neuron.
        let found = numbers_of(&model, &texts, vec![top()]);
        assert_eq!(found, if plays { 3 * LAYERS * POSITIONS * count + looks } else { 0 }, "{count} texts");
        let capture = Box::new(Capture::new(&model, (0, 3), &texts).unwrap());
        let found = numbers_of(&model, &texts, vec![capture]);
        assert_eq!(found, if plays { POSITIONS * count + looks } else { 0 }, "{count} texts");
        // What knows no device does bring them here: all rows of a layer, and of the last one those of the prompt.
        let found = numbers_of(&model, &texts, on_host(vec![counts(&thresholds[0])]));
        let rows: usize = texts.iter().map(|text| 2 * POSITIONS + text.ids.len()).sum();
        assert_eq!(found, if plays { rows * NEURONS + looks } else { 0 }, "{count} texts");
    }
}

fn error_of(model: &LanguageModel, texts: &[Encoded], statistics: Vec<Box<dyn Statistic>>) -> String {
    let workers = Workers::new(1).unwrap();
    let options = PassOptions { token_budget: 48, ..PassOptions::new(&workers) };
    files(model, texts, statistics, &options).unwrap_err().to_string()
}

/// Changes a number of a tensor of weights.
fn change(weights: &mut BTreeMap<String, Tensor>, name: &str, row: usize, to: f32) {
    let tensor = weights.get_mut(name).unwrap_or_else(|| panic!("no tensor {name}"));
    let mut values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let width = values.len() / tensor.dims()[0];
    values[row * width] = to;
    *tensor = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).unwrap();
}

const WORDS: &str = "roberta.embeddings.word_embeddings.weight";
const BIAS: &str = "roberta.encoder.layer.1.intermediate.dense.bias";

#[test]
fn what_can_not_be_taken_has_the_name_that_it_has_on_the_host() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut texts = three_classes(18, 6);
    // Words of one text each, of which the longer one comes first in a pass.
    for (text, word) in [(7, 38), (9, 39)] {
        let mut ids = texts[text].ids.to_vec();
        ids[1] = word;
        texts[text].ids = ids.into();
    }
    let workers = Workers::new(1).unwrap();
    let of_texts = thresholds(&model(), &texts, &PassOptions::new(&workers));
    let average = averages(&model(), &texts, &PassOptions::new(&workers)).swap_remove(0);
    let mut told = Vec::new();
    for bad in [f32::NAN, f32::INFINITY] {
        for place in 0..3 {
            let model = model_with(&[NEURONS; LAYERS], |weights| {
                // Of one text alone; of all texts in one neuron of the second layer; of both texts and there.
                if place != 1 {
                    change(weights, WORDS, 38, bad);
                }
                if place != 0 {
                    change(weights, BIAS, 5, bad);
                }
                if place == 2 {
                    change(weights, WORDS, 39, bad);
                }
            });
            let make: [&dyn Fn() -> Vec<Box<dyn Statistic>>; 5] = [
                &|| of_train(&model),
                &|| of_dev(&model, &of_texts, &texts, &folder),
                &|| of_rankings(&model, &average, &REDUCED, None),
                &|| of_rankings(&model, &average, &[Ranking::Cett], None),
                &|| {
                    let place = NeuronPlace { layer: 1, index: 0, position: 0 };
                    let top =
                        Top::new(&model, Pool::Position, vec![NeuronPlace { layer: 0, ..place }, place]);
                    vec![Box::new(top.unwrap())]
                },
            ];
            for statistics in make {
                let expected = error_of(&model, &texts, on_host(statistics()));
                assert!(expected.contains("expected a finite activation"), "{expected}");
                assert_eq!(error_of(&model, &texts, statistics()), expected, "{bad} {place}");
                told.push(expected);
                // Each alone, so that no other one sees it for it.
                for single in (0..statistics().len()).filter(|_| place == 0 && bad.is_nan()) {
                    let one = |mut all: Vec<Box<dyn Statistic>>| vec![all.swap_remove(single)];
                    let expected = error_of(&model, &texts, on_host(one(statistics())));
                    assert_eq!(error_of(&model, &texts, one(statistics())), expected, "{single}");
                }
            }
        }
    }
    told.dedup();
    assert!(
        told[0].starts_with("row 7: layer 0") && told[1].contains("layer 1") && told[1].contains("neuron 5"),
        "{told:?}"
    );
    assert!(told[2].starts_with("row 9: layer 0"), "{told:?}");
}

#[test]
fn what_is_too_large_to_be_added_up_is_refused_and_compared() {
    let _alone = alone();
    let (texts, folder) = (three_classes(20, 6), tempfile::tempdir().unwrap());
    let workers = Workers::new(1).unwrap();
    let options = PassOptions::new(&workers);
    let of_texts = thresholds(&model(), &texts, &options);
    let model = model_with(&[NEURONS; LAYERS], |weights| change(weights, BIAS, 5, 2e6));
    let expected = error_of(&model, &texts, on_host(of_train(&model)));
    assert!(expected.contains("expected a finite number of at most 2^20"), "{expected}");
    assert_eq!(error_of(&model, &texts, of_train(&model)), expected);
    let average = averages(&self::model(), &texts, &options).swap_remove(0);
    for (ranking, numbers) in
        [(Ranking::MeanDifference, None), (Ranking::Correlation, None), (Ranking::Correlation, Some(20))]
    {
        let one = || of_rankings(&model, &average, &[ranking], numbers);
        assert_eq!(error_of(&model, &texts, on_host(one())), expected, "{ranking}");
        assert_eq!(error_of(&model, &texts, one()), expected, "{ranking}");
    }
    let compared = || of_rankings(&model, &average, &[Ranking::Predictivity, Ranking::Auc], None);
    assert!(
        files(&model, &texts, compared(), &options).unwrap()
            == files(&model, &texts, on_host(compared()), &options).unwrap()
    );
    let all = || of_dev(&model, &of_texts, &texts, &folder);
    assert!(
        files(&model, &texts, all(), &options).unwrap()
            == files(&model, &texts, on_host(all()), &options).unwrap()
    );
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name)
}

#[test]
fn records_of_the_golden_model() {
    let _alone = alone();
    let expected = TensorFile::read(&golden("expected.safetensors")).unwrap();
    let file = std::fs::read(golden("model/tokenizer.json")).unwrap();
    let encoder = TextEncoder::from_json(&file, "tokenizer.json").unwrap();
    let folder = ModelFolder::open(golden("model")).unwrap();
    let config = folder.config().unwrap();
    let weights = Weights::read(&folder, &config, &Device::Cpu).unwrap();
    let (shape, rows) = expected.f32("prompt", None).unwrap();
    let prompt = Tuning::prompt(Tensor::from_vec(rows, shape, &Device::Cpu).unwrap(), true).unwrap();
    let model =
        LanguageModel::new(&config, &weights, &prompt, encoder.mask_id(), Gradients::Nothing).unwrap();
    let mut task = Task::builtin("sst2").unwrap();
    (task.splits.dev, task.splits.test) = (Some("validation".into()), Some("test".into()));
    let data = read_dataset(&golden("data/jsonl"), &task).unwrap();
    let encode =
        |split: &str| encoder.encode_all(&data.splits[split], model.max_text(), Join::Separated).unwrap();
    check(&model, &encode("train")[..6], &encode("validation")[..4], &[100]);
    let mut dev = encode("validation")[..4].to_vec();
    dev.iter_mut().enumerate().for_each(|(place, text)| text.label = place % 3);
    check_rankings(&model, &encode("train")[..6], &dev, &[100]);
}

/// An evaluation of texts one by one: passes of a length that comes again are replayed, the head with them, where no hook reads.
#[test]
fn answers_are_those_of_plain_passes() {
    let (_alone, plays) = alone();
    let (plain, graphs) = (model(), model().with_graphs());
    let workers = Workers::new(1).unwrap();
    let options = PassOptions { max_sequences: 1, ..PassOptions::new(&workers) };
    let texts = texts(15, 3);
    let expected = evaluate(&plain, &texts, &[11, 12, 13], &options).unwrap();
    let before = replays();
    assert_eq!(evaluate(&graphs, &texts, &[11, 12, 13], &options).unwrap(), expected);
    // Three of each of five lengths, which are captured when they come for the second time.
    assert_eq!(replays() - before, if plays { 10 } else { 0 });
    let batch = |text: &Encoded| {
        let scored = Scored::Tokens(&[11, 12, 13]);
        let (starts, seconds) = ([0, text.ids.len()], [text.second]);
        let batch = Sequences { ids: &text.ids, starts: &starts, samples: &[0], seconds: &seconds };
        graphs.forward_logits(batch, &Pass::default(), scored, &mut NoHook).unwrap();
    };
    let before = replays();
    batch(&texts[0]);
    assert_eq!(replays() - before, u64::from(plays), "the head is in what was captured");
    let looks_on = |_: &_| |_: Site, _: &Rows<'_>, x: Tensor| Ok(x);
    let before = replays();
    assert_eq!(evaluate_with(&graphs, &texts, &[11, 12, 13], &options, looks_on).unwrap(), expected);
    assert_eq!(replays(), before);
}
