//! Fire bits: they are what the counts count, whatever threads, batches and shards they come from.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::collections::BTreeSet;

use skn_artifact::names::key;
use skn_artifact::{Spool, TensorFile};
use skn_data::{Encoded, shard};
use skn_probing::{
    Count, Fires, Kinds, Metadata, PassOptions, Performance, Pool, ProbeType, Sample, Statistic, Threshold,
    Workers, averages, collect,
};

use support::{LAYERS, NEURONS, POSITIONS, model, texts, through_a_file};

const POOLS: [(ProbeType, Pool); 2] = [(ProbeType::Acc, Pool::Position), (ProbeType::AccLast, Pool::Last)];

fn thresholds() -> [Threshold; 2] {
    let (model, workers) = (model(), Workers::new(1).unwrap());
    POOLS.map(|(probe, pool)| {
        let found = averages(&model, &texts(30, 1), &[probe], &PassOptions::new(&workers)).unwrap();
        found[&pool].threshold().unwrap()
    })
}

/// Counts and bits of both pools, from one pass.
fn files(
    texts: &[Encoded],
    way: (usize, usize),
    sample: Option<&Sample>,
    part: Option<&str>,
) -> Vec<TensorFile> {
    let (model, workers, folder) = (model(), Workers::new(way.0).unwrap(), tempfile::tempdir().unwrap());
    let options = PassOptions { token_budget: way.1, ..PassOptions::new(&workers) };
    let mut statistics = Vec::<Box<dyn Statistic>>::new();
    for threshold in thresholds() {
        statistics.push(Box::new(Count::new(&model, &threshold, 2).unwrap()));
        let spool = Spool::new(folder.path()).unwrap();
        statistics.push(Box::new(Fires::new(&model, &threshold, texts, sample, spool).unwrap()));
    }
    let names =
        |of: &Vec<Box<dyn Statistic>>| of.iter().map(|of| of.file("dev")).collect::<Vec<_>>().join(" ");
    assert_eq!(names(&statistics), "dev_perf dev_fire dev_last_perf dev_last_fire");
    let metadata: Metadata = part.map(|part| (key::SHARD.to_owned(), part.to_owned())).into_iter().collect();
    let taken = collect("counting", &model, texts, 2, statistics, &options).unwrap();
    let file =
        |of: Box<dyn Statistic>| through_a_file(&of.into_record().unwrap().to_bundle(&metadata).unwrap());
    taken.into_iter().map(file).collect()
}

/// Checks counts and bits of the same texts against each other.
fn check(counts: &TensorFile, bits: &TensorFile, texts: &[Encoded], positions: usize) {
    let counted = Performance::read(counts).unwrap();
    let stride = texts.len().div_ceil(8);
    let shape = [LAYERS, positions, NEURONS, stride];
    let fire = bits.u8_range("fire", Some(&shape), 0..shape.iter().product()).unwrap();
    let (_, labels) = bits.i64("label", Some(&[texts.len()])).unwrap();
    let (_, rows) = bits.i64("row", Some(&[texts.len()])).unwrap();
    assert!(labels.iter().zip(texts).all(|(&label, text)| label == text.label as i64));
    assert!(rows.iter().zip(texts).all(|(&row, text)| row == text.row as i64));
    let true_positive = &counted.by_class().unwrap().true_positive;
    let mut fired = 0;
    for (place, bits) in fire.chunks_exact(stride).enumerate() {
        let fires = |text: usize| bits[text / 8] >> (text % 8) & 1 == 1;
        let hits = (0..texts.len()).filter(|&text| labels[text] == 1 && fires(text)).count();
        assert_eq!(true_positive[place], hits as i64, "{place}");
        let right = (0..texts.len()).filter(|&text| fires(text) == (labels[text] == 1)).count();
        assert_eq!(counted.correct()[place], right as i64, "{place}");
        assert!((texts.len()..8 * stride).all(|text| !fires(text)), "nothing behind the last text");
        fired += (0..texts.len()).filter(|&text| fires(text)).count();
    }
    assert!(fired > 0 && fired < texts.len() * true_positive.len());
}

#[test]
fn bits_are_what_is_counted() {
    // A whole number of bytes, one text more, and fewer than a byte.
    for count in [24, 25, 5] {
        let texts = texts(count, 9);
        let found = files(&texts, (1, 4096), None, None);
        check(&found[0], &found[1], &texts, POSITIONS);
        check(&found[2], &found[3], &texts, 1);
        assert_eq!(found[1].metadata()["skn.kind"], "fire");
        assert_eq!(found[3].metadata()["skn.kind"], "last_fire");
        assert!(!found[1].metadata().contains_key("skn.sample"));
        let again = files(&texts, (3, 32), None, None);
        for (one, other) in found.iter().zip(&again) {
            assert_eq!(hash(one), hash(other), "threads and batches change nothing");
        }
    }
}

fn hash(file: &TensorFile) -> String {
    skn_artifact::file_hash([file]).unwrap()
}

#[test]
fn shards_are_joined_in_row_order() {
    let texts = texts(41, 4);
    let whole = files(&texts, (1, 4096), None, None);
    for count in [2, 3, 7] {
        let parts: Vec<_> = (0..count)
            .map(|index| files(shard(&texts, index, count).unwrap(), (2, 64), None, Some("1/2")))
            .collect();
        for which in [1, 3] {
            let mut records = parts.iter().map(|part| Kinds::default().read(&part[which]).unwrap());
            let mut merged = records.next().unwrap();
            records.for_each(|record| merged.merge(record.as_ref()).unwrap());
            let merged = through_a_file(&merged.to_bundle(&Metadata::new()).unwrap());
            assert_eq!(hash(&merged), hash(&whole[which]), "{count} shards");
            assert_eq!(merged.metadata(), whole[which].metadata());
        }
        let [first, second] = [0, 1].map(|part| Kinds::default().read(&parts[part][1]).unwrap());
        let mut wrong = second;
        let error = wrong.merge(first.as_ref()).unwrap_err().to_string();
        assert!(error.contains("first row of a shard") && error.contains("found 0"), "{error}");
    }
}

#[test]
fn a_sample_keeps_some_texts_and_says_so() {
    let texts = texts(20, 4);
    let rows: BTreeSet<u64> = [0, 3, 4, 11, 19].into();
    let sample = Sample { rows: rows.clone(), of: 20 };
    let found = files(&texts, (2, 48), Some(&sample), None);
    let kept: Vec<Encoded> = texts.iter().filter(|text| rows.contains(&text.row)).cloned().collect();
    let alone = files(&kept, (1, 4096), None, None);
    assert_eq!(hash(&found[1]), hash(&alone[1]), "the bits of these texts");
    assert_eq!(found[1].metadata()["skn.sample"], "5 of 20");
    // A shard that has none of them, beside one that has all.
    let halves = [0, 1].map(|index| {
        let few = Sample { rows: [1, 2].into(), of: 20 };
        files(shard(&texts, index, 2).unwrap(), (1, 4096), Some(&few), Some("1/2")).swap_remove(1)
    });
    let mut merged = Kinds::default().read(&halves[0]).unwrap();
    merged.merge(Kinds::default().read(&halves[1]).unwrap().as_ref()).unwrap();
    let merged = through_a_file(&merged.to_bundle(&Metadata::new()).unwrap());
    assert_eq!(merged.i64("row", Some(&[2])).unwrap().1, [1, 2]);
}

#[test]
fn files_that_can_not_be_are_refused() {
    use skn_artifact::{Array, TensorBundle};
    let file = |shape: &[usize], labels: &[i64], rows: &[i64]| {
        let mut bundle = TensorBundle::new();
        bundle.describe("skn.kind", "fire");
        bundle.insert("fire", Array::u8(shape.to_vec(), vec![0; shape.iter().product()]).unwrap());
        bundle.insert("label", Array::i64(vec![labels.len()], labels.to_vec()).unwrap());
        bundle.insert("row", Array::i64(vec![rows.len()], rows.to_vec()).unwrap());
        Kinds::default().read(&through_a_file(&bundle)).err().map_or(String::new(), |error| error.to_string())
    };
    assert_eq!(file(&[1, 2, 3, 1], &[0, 1], &[4, 5]), "");
    for (message, part) in [
        (file(&[1, 2, 3, 2], &[0, 1], &[4, 5]), "`fire`: expected shape [layers, positions, neurons, 1]"),
        (file(&[1, 0, 3, 1], &[0, 1], &[4, 5]), "`fire`"),
        (file(&[2, 3, 1], &[0, 1], &[4, 5]), "`fire`"),
        (file(&[1, 2, 3, 1], &[0, -1], &[4, 5]), "`label`: expected 0 or more, found -1"),
        (file(&[1, 2, 3, 1], &[0, 1], &[5, 5]), "`row`: expected rows that ascend, found 5 behind 5"),
        (file(&[1, 2, 3, 1], &[0, 1], &[5]), "`row`"),
    ] {
        assert!(message.contains("part.safetensors") && message.contains(part), "{message} has no {part}");
    }
}
