//! A planted truth: a model with three neurons that carry the label, among many that follow it by chance. Every ranking that looks
//! at the label finds exactly those three; one that does not, and chance, do not.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use skn_data::Encoded;
use skn_model::{Config, Gradients, LanguageModel, Tuning, Weights, shapes};
use skn_probing::{
    Average, Metadata, PassOptions, Pool, Rank, Ranking, Record, Statistic, Workers, collect,
    collect_gradients, l1, part,
};

use support::{Numbers, through_a_file};

const HIDDEN: usize = 16;
const WIDTH: usize = 64;
const LAYERS: usize = 2;

/// Layer and index of the neurons that carry the label.
const PLANTED: [(usize, usize); 3] = [(0, 7), (1, 20), (1, 41)];

/// Words 10 and 11 are the label, in the first two numbers of a hidden state, which no other word and no other neuron touches.
fn weight(name: &str, at: usize, random: f32) -> f32 {
    let layer = usize::from(name.contains("layer.1."));
    let planted = |neuron: usize| PLANTED.contains(&(layer, neuron));
    match name {
        _ if name.ends_with("word_embeddings.weight") => match (at / HIDDEN, at % HIDDEN) {
            (10, 0) | (11, 1) => -4.0,
            (10, 1) | (11, 0) => 4.0,
            (_, 0 | 1) => 0.0,
            _ => random,
        },
        _ if name.contains("position_embeddings") || name.contains("token_type_embeddings") => {
            match at % HIDDEN {
                0 | 1 => 0.0,
                _ => random,
            }
        }
        _ if name.contains("LayerNorm.weight") => 1.0,
        // Texts' words don't see each other.
        _ if name.contains("attention.output.dense") || name.contains("LayerNorm.bias") => 0.0,
        _ if name.ends_with("intermediate.dense.weight") => match (at / HIDDEN, at % HIDDEN) {
            // The norm moves both numbers alike, which their difference does not see.
            (neuron, 0) if planted(neuron) => 4.0,
            (neuron, 1) if planted(neuron) => -4.0,
            (neuron, _) if planted(neuron) => 0.0,
            (_, 0 | 1) => 0.0,
            _ => random,
        },
        _ if name.ends_with("intermediate.dense.bias") && planted(at) => 0.0,
        _ if name.ends_with("output.dense.weight") => match (at / WIDTH, at % WIDTH) {
            (0 | 1, _) => 0.0,
            (_, neuron) if planted(neuron) => 0.0,
            _ => random,
        },
        _ if name.ends_with("output.dense.bias") && at < 2 => 0.0,
        _ => random,
    }
}

fn model() -> LanguageModel {
    let config = Config::new(40, [HIDDEN, 2, WIDTH, LAYERS], 34).unwrap();
    let mut numbers = Numbers::new(21);
    let tensors = shapes(&config).into_iter().map(|(name, shape)| {
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|at| weight(&name, at, numbers.next())).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    });
    let weights = Weights::from_tensors(&config, tensors.collect()).unwrap();
    LanguageModel::new(&config, &weights, &Tuning::none(), 3, Gradients::Nothing).unwrap()
}

/// The word of the label, and five others.
fn texts(count: u64, seed: u64) -> Vec<Encoded> {
    let mut numbers = Numbers::new(seed);
    let text = |row| {
        let label = usize::from(numbers.next() > 0.0);
        let mut ids = vec![0, 10 + label as u32];
        ids.extend((0..5).map(|_| 12 + ((numbers.next() + 1.0) * 13.9) as u32));
        ids.push(2);
        Encoded { second: ids.len(), label, row, ids: ids.into() }
    };
    (0..count).map(text).collect()
}

/// The same for neurons that are read at a prompt's one row, where the answer is read too: attention carries the label there, the planted
/// neurons alone read it, and they alone write much of the answer.
fn answering(name: &str, at: usize, random: f32) -> f32 {
    let layer = usize::from(name.contains("layer.1."));
    let planted = |neuron: usize| PLANTED.contains(&(layer, neuron));
    let (row, column) = (at / HIDDEN, at % HIDDEN);
    let identity = if row == column { 1.0 } else { 0.0 };
    match name {
        _ if name.ends_with("word_embeddings.weight") => match (row, column) {
            // The words that answer.
            (6, 2) | (7, 3) => 0.5,
            (6, 3) | (7, 2) => -0.5,
            (6 | 7, _) | (_, 2 | 3) => 0.0,
            _ => weight(name, at, random),
        },
        _ if name.contains("position_embeddings") || name.contains("token_type_embeddings") => match column {
            0..4 => 0.0,
            _ => random,
        },
        _ if name.contains("LayerNorm.weight") || name.contains("layer_norm.weight") => 1.0,
        // Each row sees all alike, of which it takes the label: one of some eight words.
        _ if name.ends_with("self.value.weight") && column < 2 => 8.0 * identity,
        _ if name.ends_with("attention.output.dense.weight") && column < 2 => identity,
        _ if name.contains("attention") => 0.0,
        _ if name.ends_with("intermediate.dense.weight") => match (row, column) {
            (neuron, 0) if planted(neuron) => 2.0,
            (neuron, 1) if planted(neuron) => -2.0,
            (neuron, _) if planted(neuron) => 0.0,
            (_, 0..4) => 0.0,
            _ => random,
        },
        _ if name.ends_with("intermediate.dense.bias") && planted(at) => 0.0,
        _ if name.ends_with("output.dense.weight") => match (at / WIDTH, at % WIDTH) {
            (2, neuron) if planted(neuron) => -0.3,
            (3, neuron) if planted(neuron) => 0.3,
            (_, neuron) if planted(neuron) => 0.0,
            (0 | 1, _) => 0.0,
            // The others write a little of everything, the answer too, by chance.
            _ => 0.01 * random,
        },
        _ if name.ends_with("output.dense.bias") && at < 4 => 0.0,
        _ if name == "lm_head.dense.weight" => identity,
        _ if name.starts_with("lm_head") || name.contains("LayerNorm.bias") => 0.0,
        _ => random,
    }
}

/// Averages of a model whose prompt is one row, and that model.
fn at_a_prompt(options: &PassOptions<'_>) -> (LanguageModel, Average) {
    let config = Config::new(40, [HIDDEN, 2, WIDTH, LAYERS], 34).unwrap();
    let mut numbers = Numbers::new(22);
    let tensors = shapes(&config).into_iter().map(|(name, shape)| {
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|at| answering(&name, at, numbers.next())).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    });
    let weights = Weights::from_tensors(&config, tensors.collect()).unwrap();
    let prompt = Tuning::new_prompt(&config, 1, 0).unwrap();
    let model = LanguageModel::new(&config, &weights, &prompt, 3, Gradients::Nothing).unwrap();
    let average: Box<dyn Statistic> = Box::new(Average::new(&model, Pool::Position).unwrap().with_variance());
    let average = collect("averaging", &model, &texts(120, 1), 2, vec![average], options).unwrap().remove(0);
    (model, part(average).unwrap())
}

/// The neurons by falling score, with their scores.
fn by_score(record: &dyn Record) -> Vec<((usize, usize), f32)> {
    let file = through_a_file(&record.to_bundle(&Metadata::new()).unwrap());
    let (_, score) = file.f32("score", Some(&[LAYERS, WIDTH])).unwrap();
    let mut all: Vec<_> = (0..).zip(score).map(|(at, score)| ((at / WIDTH, at % WIDTH), score)).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

#[test]
fn integrated_gradients_find_the_planted_neurons_and_no_other() {
    let workers = Workers::new(2).unwrap();
    let options = PassOptions::new(&workers);
    let (model, average) = at_a_prompt(&options);
    let ranking = Ranking::IntegratedGradients;
    let rank: Box<dyn Statistic> = Box::new(Rank::new(ranking, &model, &average, 2, 5).unwrap());
    let (texts, words) = (texts(24, 2), [6, 7]);
    let taken = collect_gradients(&model, &texts, &words, vec![rank], ranking.steps(), &options).unwrap();
    let found = by_score(taken.into_iter().next().unwrap().into_record().unwrap().as_ref());
    let best: BTreeSet<_> = found[..3].iter().map(|of| of.0).collect();
    assert_eq!(best, BTreeSet::from(PLANTED), "{:?}", &found[..6]);
    assert!(found[2].1 > 1.5 * found[3].1, "{:?}", &found[..6]);
}

#[test]
fn a_sparse_regression_finds_the_planted_neurons() {
    let workers = Workers::new(2).unwrap();
    let options = PassOptions::new(&workers);
    let (model, average) = at_a_prompt(&options);
    let folder = tempfile::tempdir().unwrap();
    let (train, dev) = (texts(150, 1), texts(80, 2));
    let record = l1(&model, [&train, &dev], &average, 2, folder.path(), &options).unwrap();
    let found = by_score(&record);
    // Those of one layer say the same, so that one of them is enough for a regression; what else has a weight has little.
    for layer in 0..LAYERS {
        let of_layer: Vec<_> = found.iter().filter(|of| of.0.0 == layer).collect();
        let others = of_layer.iter().filter(|of| !PLANTED.contains(&of.0)).map(|of| of.1).fold(0.0, f32::max);
        assert!(PLANTED.contains(&of_layer[0].0), "layer {layer}: {:?}", &of_layer[..4]);
        assert!(of_layer[0].1 > 3.0 * others, "layer {layer}: {:?}", &of_layer[..4]);
    }
}

/// The three best neurons of a ranking.
fn best(ranking: Ranking) -> BTreeSet<(usize, usize)> {
    let (model, workers) = (model(), Workers::new(2).unwrap());
    let options = PassOptions::new(&workers);
    let average: Box<dyn Statistic> = Box::new(Average::new(&model, Pool::Max).unwrap().with_variance());
    let average = collect("averaging", &model, &texts(150, 1), 2, vec![average], &options).unwrap().remove(0);
    let rank = Rank::new(ranking, &model, &part(average).unwrap(), 2, 5).unwrap();
    let taken =
        collect("ranking", &model, &texts(150, 2), 2, vec![Box::new(rank)], &options).unwrap().remove(0);
    let file = through_a_file(&taken.into_record().unwrap().to_bundle(&Metadata::new()).unwrap());
    let (_, score) = file.f32("score", Some(&[LAYERS, WIDTH])).unwrap();
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|&a, &b| score[b].total_cmp(&score[a]));
    assert!(score[order[2]] > score[order[3]], "{ranking}: the third and the fourth tie");
    order[..3].iter().map(|&place| (place / WIDTH, place % WIDTH)).collect()
}

#[test]
fn rankings_by_the_label_find_the_planted_neurons_and_no_other() {
    let planted = BTreeSet::from(PLANTED);
    for ranking in
        [Ranking::Predictivity, Ranking::Auc, Ranking::MeanDifference, Ranking::Correlation, Ranking::Lape]
    {
        assert_eq!(best(ranking), planted, "{ranking}");
    }
    assert_ne!(best(Ranking::Random), planted);
}
