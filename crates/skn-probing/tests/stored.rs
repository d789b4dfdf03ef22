//! A pass over stored texts gives the bits of a pass over a slice, whatever rounds the store has and whatever threads; and a pass in many
//! batches, which take one another's memory, those of a pass in one.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::sync::Arc;

use crate::support;

use skn_artifact::Spool;
use skn_data::{Encoded, Packed, StoredTexts, TextList, TextStore};
use skn_model::LanguageModel;
use skn_probing::{
    Average, Capture, Count, Fires, Metadata, NeuronPlace, PassOptions, Pool, Rank, Ranking, Statistic, Top,
    Workers, collect, collect_gradients, part,
};

use support::{NEURONS, model, model_with, texts};

/// The tokens that answer.
const WORDS: [u32; 2] = [6, 7];

/// Two rounds of a store, of which the second is short.
const TEXTS: u64 = TextStore::MOST_HERE as u64 + 300;

fn stored(texts: &[Encoded]) -> StoredTexts {
    let folder = tempfile::tempdir().unwrap();
    let mut store = TextStore::new(folder.path());
    texts.chunks(1000).for_each(|some| store.add(some.to_vec()).unwrap());
    store.finish().unwrap()
}

/// The files of statistics of a pass.
fn files(taken: Vec<Box<dyn Statistic>>) -> Vec<(String, Vec<u8>)> {
    let file = |of: Box<dyn Statistic>| {
        let (name, record) = (of.file("dev"), of.into_record().unwrap());
        (name, record.to_bundle(&Metadata::new()).unwrap().to_bytes().unwrap())
    };
    taken.into_iter().map(file).collect()
}

fn ranks(model: &LanguageModel, average: &Average, of: &[Ranking]) -> Vec<Box<dyn Statistic>> {
    let rank = |&ranking: &Ranking| -> Box<dyn Statistic> {
        Box::new(Rank::new(ranking, model, average, 2, 0).unwrap())
    };
    of.iter().map(rank).collect()
}

/// What two passes take of texts, one without and one with gradients.
fn both(
    model: &LanguageModel,
    texts: TextList<'_>,
    threads: usize,
    token_budget: usize,
) -> Vec<(String, Vec<u8>)> {
    let (workers, folder) = (Workers::new(threads).unwrap(), tempfile::tempdir().unwrap());
    let options = PassOptions { token_budget, ..PassOptions::new(&workers) };
    let average: Box<dyn Statistic> = Box::new(Average::new(model, Pool::Position).unwrap().with_variance());
    let mut taken = collect("averaging", model, texts, 2, vec![average], &options).unwrap();
    let average = part::<Average>(taken.remove(0)).unwrap();
    let threshold = average.threshold().unwrap();
    let neurons = vec![NeuronPlace { layer: 1, index: 2, position: 1 }];
    let spool = Spool::new(folder.path()).unwrap();
    let mut statistics: Vec<Box<dyn Statistic>> = vec![
        Box::new(Average::new(model, Pool::Max).unwrap()),
        Box::new(Count::new(model, &threshold, 2).unwrap()),
        Box::new(Fires::new(model, &threshold, texts, None, spool).unwrap()),
        Box::new(Top::new(model, Pool::Position, neurons).unwrap()),
        Box::new(Capture::new(model, (1, 3), texts).unwrap()),
    ];
    let streaming: Vec<Ranking> = Ranking::ALL.into_iter().filter(|ranking| ranking.streams()).collect();
    statistics.extend(ranks(model, &average, &streaming));
    let numbers = (0..TEXTS).map(|row| (row % 7) as f32 / 2.0 - 1.5).collect::<Vec<_>>();
    let correlation = Rank::new(Ranking::Correlation, model, &average, 2, 0).unwrap();
    statistics.push(Box::new(correlation.with_numbers("length", Arc::new(numbers))));
    let mut all = files(collect("counting", model, texts, 2, statistics, &options).unwrap());
    let statistics = ranks(model, &average, &[Ranking::Taylor, Ranking::Gradient]);
    all.extend(files(collect_gradients(model, texts, &WORDS, statistics, None, &options).unwrap()));
    all.push(("average".into(), average.to_bundle(&Metadata::new()).unwrap().to_bytes().unwrap()));
    all
}

#[test]
fn a_store_of_two_rounds_gives_what_a_slice_gives() {
    let (model, texts) = (model(), texts(TEXTS, 3));
    let stored = stored(&texts);
    // Or this would compare a slice with itself: in the file they are in other batches.
    let places = |list: TextList<'_>| {
        let packed = Packed::new(list, 4, 2048, 128, 1).unwrap();
        (0..packed.len()).map(|number| packed.batch(number).unwrap().places).collect::<Vec<_>>()
    };
    assert_ne!(places(TextList::from(&stored)), places(TextList::from(&texts)));
    let expected = both(&model, TextList::from(&texts), 1, 2048);
    assert_eq!(expected.len(), 16);
    for threads in [1, 3] {
        let found = both(&model, TextList::from(&stored), threads, 2048);
        for ((name, found), (expected_name, expected)) in found.iter().zip(&expected) {
            assert_eq!(name, expected_name);
            assert!(found == expected, "{name} of {threads} threads");
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn batches_that_take_memory_of_others_give_what_one_batch_gives() {
    let texts = &texts(300, 3);
    // Also of layers that have other widths, and of one that has no neuron.
    for model in [model(), model_with(&[3, 9], |_| {}), model_with(&[0, NEURONS], |_| {})] {
        let one = both(&model, TextList::from(texts), 1, usize::MAX);
        for (budget, threads) in [(512, 1), (128, 2)] {
            let found = both(&model, TextList::from(texts), threads, budget);
            for ((name, found), (_, one)) in found.iter().zip(&one) {
                let widths = &model.config().intermediate_sizes;
                assert!(found == one, "{name} of {widths:?} in batches of {budget} rows");
            }
            assert_eq!(found.len(), one.len());
        }
    }
}
