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
use skn_kernels::{Misfit, RowGroups, numbers_read_back, replays};
use skn_model::{
    Backend, Gradients, LanguageModel, ModelFolder, NeuronSite, NoHook, Pass, Rows, Scored, Sequences, Site,
    Tuning, Weights,
};
use skn_probing::{
    Average, BatchTexts, Block, Capture, Count, Fires, Metadata, NeuronPlace, PassOptions, Pool, Rank,
    Ranking, Record, Result, Row, Sample, SlopeOf, Slopes, Statistic, Threshold, Top, Workers, collect,
    collect_gradients, evaluate, evaluate_with, l1, part,
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

    fn slopes(&self) -> &[SlopeOf] {
        self.0.slopes()
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
    written(collect("taking", model, texts, 3, statistics, options)?)
}

/// The tokens that answer for the three classes.
const THREE: [u32; 3] = [6, 7, 8];

/// The same of a pass that goes back, for rankings of one number of steps.
fn files_of_gradients(
    model: &LanguageModel,
    texts: &[Encoded],
    statistics: Vec<Box<dyn Statistic>>,
    steps: Option<usize>,
    options: &PassOptions<'_>,
) -> Result<BTreeMap<String, Vec<u8>>> {
    written(collect_gradients(model, texts, &THREE, statistics, steps, options)?)
}

fn written(taken: Vec<Box<dyn Statistic>>) -> Result<BTreeMap<String, Vec<u8>>> {
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

/// Rankings by gradients, those of one pass together.
const OF_GRADIENTS: [&[Ranking]; 2] =
    [&[Ranking::Taylor, Ranking::Gradient], &[Ranking::IntegratedGradients]];

/// Such rankings on the device next to the host.
fn check_gradients(
    model: &LanguageModel,
    [train, dev]: [&[Encoded]; 2],
    rankings: &[&[Ranking]],
    token_budget: usize,
) {
    let workers = Workers::new(2).unwrap();
    let whole = PassOptions::new(&workers);
    for average in averages(model, train, &whole) {
        if !matches!(average.pool(), Pool::Position | Pool::Last) {
            continue;
        }
        for of in rankings {
            let (statistics, steps) = (|| of_rankings(model, &average, of, None), of[0].steps());
            let expected = files_of_gradients(model, dev, on_host(statistics()), steps, &whole).unwrap();
            assert_eq!(expected.len(), of.len());
            let options = PassOptions { token_budget, ..whole };
            let found = files_of_gradients(model, dev, statistics(), steps, &options).unwrap();
            for (name, expected) in &expected {
                assert!(found[name] == *expected, "{:?} {name}", average.pool());
            }
        }
    }
}

#[test]
fn rankings_by_gradients_have_the_bytes_of_those_made_on_the_host() {
    let _alone = alone();
    check_gradients(&model(), [&three_classes(9, 1), &three_classes(8, 2)], &OF_GRADIENTS, 40);
    for widths in [[3, 9], [0, NEURONS]] {
        let texts = [three_classes(9, 1), three_classes(4, 2)];
        check_gradients(&model_with(&widths, |_| {}), texts.each_ref().map(Vec::as_slice), &OF_GRADIENTS, 20);
    }
}

/// What the host refuses a device notes: a gradient that is no number, a product that can't be added up or is none.
#[test]
fn a_gradient_that_can_not_be_taken_is_noted() {
    let (_alone, plays) = alone();
    let (model, workers) = (model(), Workers::new(1).unwrap());
    let average = averages(&model, &three_classes(20, 1), &PassOptions::new(&workers)).swap_remove(0);
    let shape = (POSITIONS, NEURONS);
    for (ranking, of) in [
        (Ranking::Taylor, SlopeOf::Loss),
        (Ranking::IntegratedGradients, SlopeOf::OwnClass),
        (Ranking::Gradient, SlopeOf::EachClass),
    ] {
        for (value, slope) in
            [(1.0, 2.0), (1.0, f32::NAN), (f32::INFINITY, 0.0), (4e19, 3e19), (2048.0, 1024.0)]
        {
            let one_odd = |usual: f32, odd: f32| {
                let numbers = (0..POSITIONS * NEURONS).map(|at| if at == NEURONS + 2 { odd } else { usual });
                Tensor::from_vec(numbers.collect(), shape, &Device::Cpu).unwrap()
            };
            let (values, slopes) = (one_odd(0.5, value), one_odd(-0.25, slope));
            let one = |wanted| (of == wanted).then(|| slopes.clone());
            let classes = if of == SlopeOf::EachClass { vec![slopes.clone(); 3] } else { Vec::new() };
            let all = Slopes { loss: one(SlopeOf::Loss), own: one(SlopeOf::OwnClass), classes };
            let texts = BatchTexts { labels: &[1], rows: &[7], places: &[0] };
            let whole = of_rankings(&model, &average, &[ranking], None).swap_remove(0);
            let (mut there, mut here) = (whole.of_batch(&texts).unwrap(), whole.of_batch(&texts).unwrap());
            // The host is given numbers alone, which the pass has looked at: what is left to it are products.
            let rows = (0..POSITIONS).filter(|_| value.is_finite() && !slope.is_nan()).map(|position| {
                let of_row = |of: &Tensor| of.get(position).unwrap().to_vec1::<f32>().unwrap();
                let of_row = [of_row(&values), of_row(&slopes)];
                let one = |wanted| (of == wanted).then_some(&of_row[1][..]);
                let classes = if of == SlopeOf::EachClass { vec![&of_row[1][..]; 3] } else { Vec::new() };
                let slopes = Slopes { loss: one(SlopeOf::Loss), own: one(SlopeOf::OwnClass), classes };
                let (pool, layer, text, label) = (Pool::Position, 1, 0, 1);
                let (values, slopes) = (&of_row[0][..], Some(&slopes));
                here.take(&Row { pool, layer, position, text, label, values, output_norm: None, slopes })
            });
            let taken = rows.collect::<Result<Vec<()>>>();
            let expected = match ranking {
                _ if value.is_infinite() || slope.is_nan() => true,
                Ranking::Gradient => (value * slope).is_infinite(),
                _ => (value * slope) > (1 << 20) as f32,
            };
            let is_looked_at = value.is_finite() && !slope.is_nan();
            assert_eq!(taken.is_err(), expected && is_looked_at, "{ranking} {value} {slope} {taken:?}");
            if !plays {
                continue;
            }
            let mut misfit = Misfit::new(&Device::Cpu).unwrap();
            misfit.set_mark(3);
            let rows = RowGroups::new(POSITIONS, (0..POSITIONS as u32).collect(), vec![1]).unwrap();
            let (output_norms, slopes) = (None, Some(&all));
            let (pool, layer, values, rows, texts) = (Pool::Position, 1, &values, &rows, &[0][..]);
            let block = Block { pool, layer, values, rows, texts, output_norms, slopes };
            there.blocks().unwrap().take_block(&block, &mut misfit).unwrap();
            assert_eq!(misfit.found().unwrap(), expected.then_some(3), "{ranking} {value} {slope}");
        }
    }
}

/// The regression reads one row of each text, and no other comes to the host.
#[test]
fn a_regression_reads_its_rows_alone() {
    let (_alone, plays) = alone();
    let (workers, folder) = (Workers::new(1).unwrap(), tempfile::tempdir().unwrap());
    let (train, dev) = (three_classes(40, 1), three_classes(20, 2));
    for widths in [[NEURONS; LAYERS], [3, NEURONS]] {
        let model = model_with(&widths, |_| {});
        let averages = averages(&model, &train, &PassOptions::new(&workers));
        let options = PassOptions { token_budget: 48, ..PassOptions::new(&workers) };
        for average in averages.iter().filter(|of| matches!(of.pool(), Pool::Position | Pool::Last)) {
            let before = numbers_read_back();
            l1(&model, [&train, &dev], average, 3, folder.path(), &options).unwrap();
            let (found, all) = (numbers_read_back() - before, train.len() + dev.len());
            // Beside the numbers that say whether all could be taken, of each pass one every 16 batches and one behind it.
            let numbers = (all * widths.iter().sum::<usize>()) as u64;
            let expected = if plays { numbers + 2..numbers + 10 } else { 0..1 };
            assert!(expected.contains(&found), "{:?}: {found}, expected {expected:?}", average.pool());
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
        // Sums of three counters; of three classes counts of their own texts and of the others.
        for (ranking, each) in
            [(Ranking::Taylor, 3), (Ranking::Gradient, 3 * 2), (Ranking::IntegratedGradients, 3)]
        {
            if ranking.steps().is_some() && count > 7 {
                continue; // twenty passes
            }
            let statistics = of_rankings(&model, &averages[0], &[ranking], None);
            let options = PassOptions { max_sequences: 1, ..PassOptions::new(&workers) };
            let before = numbers_read_back();
            files_of_gradients(&model, &texts, statistics, ranking.steps(), &options).unwrap();
            let found = (numbers_read_back() - before) as usize;
            // And logits, of each pass.
            let logits = 3 * count * ranking.steps().map_or(1, |steps| 1 + steps);
            let expected = each * places + looks + logits;
            assert_eq!(found, if plays { expected } else { 0 }, "{ranking}, {count} texts");
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
                // Before anybody goes back the logits are looked at.
                if place == 0 {
                    let (statistics, options) = (
                        || of_rankings(&model, &average, OF_GRADIENTS[0], None),
                        PassOptions { token_budget: 48, ..PassOptions::new(&workers) },
                    );
                    let error = |of| files_of_gradients(&model, &texts, of, None, &options).unwrap_err();
                    let expected = error(on_host(statistics())).to_string();
                    assert!(expected.contains("row 7: class 0: expected a finite logit"), "{expected}");
                    assert_eq!(error(statistics()).to_string(), expected, "{bad}");
                }
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
    check_gradients(&model, [&encode("train")[..3], &dev[..3]], &OF_GRADIENTS[..1], 50);
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
