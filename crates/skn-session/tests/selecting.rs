//! What selecting refuses, what it reads beside counts, and what it takes away.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skn_artifact::names::{file, fire, key, kind};
use skn_artifact::{
    Array, Evidence, Overwrite, RunRecord, StageRecord, TensorBundle, TensorFile, hash_file, read_json,
    write_file,
};
use skn_select::{Aggregate, ScoreRule};
use skn_session::options::{Compute, Select};
use skn_session::{ErrorKind, Selected, Session, SessionError};

use crate::warnings::warned;

const TASK: &str = "reviews";
const NEURONS: usize = 4;
const TEXTS: usize = 12;

/// Whether a neuron fires for a text: the first one for those of class 1 alone.
fn fires(neuron: usize, text: usize, classes: usize) -> bool {
    if neuron == 0 { text % classes == 1 } else { (text * (neuron + 2) + neuron) % 5 < 2 }
}

fn write(path: &Path, metadata: &[(&str, &str)], arrays: Vec<(&str, Array)>) {
    let mut bundle = TensorBundle::new();
    for (key, value) in metadata {
        bundle.describe(*key, *value);
    }
    for (name, array) in arrays {
        bundle.insert(name, array);
    }
    write_file(path, Overwrite::Replace, &bundle.to_bytes().unwrap()).unwrap();
}

/// Counts of one layer and position, of texts whose classes take turns.
fn counts(path: &Path, classes: usize, metadata: &[(&str, &str)]) {
    let ruled: Vec<usize> = if classes == 2 { vec![1] } else { (0..classes).collect() };
    let (mut correct, mut hits, mut positives) = (Vec::new(), Vec::new(), Vec::new());
    for &class in &ruled {
        positives.push((0..TEXTS).filter(|text| text % classes == class).count() as i64);
        for neuron in 0..NEURONS {
            let told = |right: &dyn Fn(bool, bool) -> bool| {
                let of = |text: &usize| right(fires(neuron, *text, classes), text % classes == class);
                (0..TEXTS).filter(of).count() as i64
            };
            correct.push(told(&|fires, is| fires == is));
            hits.push(told(&|fires, is| fires && is));
        }
    }
    let mut shape = vec![1, 1, NEURONS];
    if classes > 2 {
        shape.insert(0, classes);
    }
    let arrays = vec![
        ("correct", Array::i64(shape.clone(), correct).unwrap()),
        ("true_positive", Array::i64(shape, hits).unwrap()),
        ("positives", Array::i64(vec![ruled.len()], positives).unwrap()),
        ("total", Array::i64(vec![1], vec![TEXTS as i64]).unwrap()),
    ];
    let own = [(key::KIND, kind::PERFORMANCE), (key::TASK, TASK)];
    write(path, &[&own[..], metadata].concat(), arrays);
}

/// A ranking of the same neurons.
fn ranking(path: &Path, metadata: &[(&str, &str)]) {
    let score = Array::f32(vec![1, NEURONS], vec![0.1, 0.4, 0.3, 0.2]).unwrap();
    write(path, metadata, vec![("score", score)]);
}

fn session() -> Session {
    Session::new(Compute::default()).unwrap()
}

/// Where a run has a file of its task.
fn place(run: &Path, name: &str) -> PathBuf {
    run.join(TASK).join(file::tensors(name))
}

fn select(run: &Path, change: impl FnOnce(&mut Select)) -> Result<Selected, SessionError> {
    let mut select = Select::new(place(run, "dev_perf"), run);
    (select.shares, select.overwrite) = (vec!["0.5".parse().unwrap()], true);
    change(&mut select);
    session().select(&select)
}

fn refused(run: &Path, change: impl FnOnce(&mut Select), parts: &[&str]) -> ErrorKind {
    let error = select(run, change).unwrap_err();
    let message = error.to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message} has not all of {parts:?}");
    error.kind()
}

#[test]
fn what_ranks_counts_does_not_go_with_a_ranking() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let [scores, marks] = ["scores", "marks"].map(|name| run.join(file::tensors(name)));
    ranking(&scores, &[]);
    let mask = Array::bool(vec![1, NEURONS], vec![false, true, true, false]).unwrap();
    write(&marks, &[], vec![("mask", mask)]);
    let check = |option: &str, path: &Path, change: &dyn Fn(&mut Select)| {
        let of_ranking = |select: &mut Select| {
            (select.counts, select.ranking) = (Vec::new(), Some(path.into()));
            change(select);
        };
        assert_eq!(refused(run, of_ranking, &[&format!("option `{option}`")]), ErrorKind::Usage);
    };
    check("lowest", &scores, &|select| select.lowest = true);
    check("paper", &scores, &|select| select.paper = true);
    check("aggregate", &scores, &|select| select.aggregate = Aggregate::Min);
    check("score", &scores, &|select| select.score = Some(ScoreRule::Balanced));
    check("shares", &marks, &|_| {});
    check("counts", &scores, &|select| select.counts = vec![vec!["a".into()], vec!["b".into()]]);
    for path in [&scores, &marks] {
        let of_ranking = |select: &mut Select| {
            (select.counts, select.ranking) = (Vec::new(), Some(path.clone()));
            if path == &marks {
                select.shares = Select::default().shares;
            }
        };
        select(run, of_ranking).unwrap();
    }
}

#[test]
fn a_ranking_is_of_the_model_of_the_counts_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let (dev, scores) = (place(run, "dev_perf"), run.join("scores.safetensors"));
    let by = |select: &mut Select| select.ranking = Some(scores.clone());
    let of = |model, site, tuning| [(key::MODEL, model), (key::SITE, site), (key::TUNING, tuning)];
    counts(&dev, 2, &of("a", "gate", "t1"));
    ranking(&scores, &of("b", "gate", "t1"));
    let wrong = ["scores.safetensors: metadata skn.model_sha256: expected a as in", "found b"];
    assert_eq!(refused(run, by, &wrong), ErrorKind::Input);
    ranking(&scores, &of("a", "up", "t1"));
    refused(run, by, &["metadata skn.site: expected gate as in", "found up"]);
    ranking(&scores, &[(key::MODEL, "a"), (key::SITE, "gate"), (key::TEMPLATE, "x")]);
    refused(run, by, &["metadata skn.template_sha256: expected none as in", "found x"]);

    // Another prompt is an experiment, of which the mask says what the ranking says.
    let said = || TensorFile::read(&run.join("info/reviews/0.5.safetensors")).unwrap().metadata().clone();
    ranking(&scores, &of("a", "gate", "t2"));
    select(run, by).unwrap();
    assert_eq!([&said()[key::MODEL], &said()[key::SITE], &said()[key::TUNING]], ["a", "gate", "t2"]);
    ranking(&scores, &[(key::MODEL, "a"), (key::SITE, "gate")]);
    select(run, by).unwrap();
    assert_eq!(said().get(key::TUNING), None, "the untuned model has none");
    ranking(&scores, &[]);
    select(run, by).unwrap();
    assert_eq!(said()[key::TUNING], "t1", "one that says nothing is taken to be of the counts");

    counts(&dev, 2, &[(key::SHARD, "1/2")]);
    refused(run, by, &["dev_perf.safetensors: metadata skn.shard", "merge"]);
    counts(&dev, 2, &[]);
    let outputs = BTreeMap::from([("reviews/dev_perf.safetensors".to_owned(), "0".repeat(64))]);
    RunRecord::update(run, "probe acc", StageRecord { outputs, ..StageRecord::default() }, &[]).unwrap();
    refused(run, by, &["dev_perf.safetensors: expected SHA-256 000", "as stage probe acc wrote it"]);
}

/// Fire bits of the same texts.
fn fire_bits(path: &Path, classes: usize, metadata: &[(&str, &str)]) {
    let mut bits = vec![0u8; NEURONS * TEXTS.div_ceil(8)];
    for neuron in 0..NEURONS {
        for text in (0..TEXTS).filter(|text| fires(neuron, *text, classes)) {
            bits[neuron * TEXTS.div_ceil(8) + text / 8] |= 1 << (text % 8);
        }
    }
    let arrays = vec![
        ("fire", Array::u8(vec![1, 1, NEURONS, TEXTS.div_ceil(8)], bits).unwrap()),
        ("label", Array::i64(vec![TEXTS], (0..TEXTS).map(|text| (text % classes) as i64).collect()).unwrap()),
        ("row", Array::i64(vec![TEXTS], (0..TEXTS as i64).collect()).unwrap()),
    ];
    let kind = fire::kind("");
    write(path, &[&[(key::KIND, kind.as_str())][..], metadata].concat(), arrays);
}

fn evidence(run: &Path) -> Evidence {
    read_json(&run.join(file::evidence(TASK))).unwrap()
}

#[test]
fn evidence_names_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let names = ["dev_fire", "dev_perf", "test_perf"];
    counts(&place(run, "dev_perf"), 2, &[]);
    select(run, |_| {}).unwrap();
    assert_eq!(evidence(run).inputs.into_keys().collect::<Vec<_>>(), ["dev_perf.safetensors"]);
    counts(&place(run, "test_perf"), 2, &[]);
    fire_bits(&place(run, "dev_fire"), 2, &[]);
    // No program makes such a file.
    write_file(&place(run, "test_fire"), Overwrite::Refuse, b"no tensors").unwrap();
    select(run, |_| {}).unwrap();
    let hashes = names.map(|name| (file::tensors(name), hash_file(&place(run, name)).unwrap()));
    let found = evidence(run);
    assert_eq!(found.inputs, BTreeMap::from(hashes));
    assert_eq!((found.class, found.chance.is_some(), found.votes.len()), (None, true, 2));
}

#[test]
fn what_lies_beside_counts_is_of_the_same_seed_and_precision() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    counts(&place(run, "dev_perf"), 2, &[(key::SEED, "1")]);
    counts(&place(run, "test_perf"), 2, &[(key::SEED, "2")]);
    let kind =
        refused(run, |_| {}, &["test_perf", "skn.seed: expected 1 as in", "found 2; probe both again"]);
    assert_eq!(kind, ErrorKind::Input);
    counts(&place(run, "test_perf"), 2, &[(key::SEED, "1")]);
    fire_bits(&place(run, "dev_fire"), 2, &[(key::SEED, "1"), (key::DTYPE, "bf16")]);
    refused(run, |_| {}, &["dev_fire", "skn.dtype: expected none as in", "found bf16"]);
    fire_bits(&place(run, "dev_fire"), 2, &[(key::SEED, "1")]);
    select(run, |_| {}).unwrap();
}

/// Warnings but those that no run lists the files of these tests.
fn of_choice(mut told: Vec<String>) -> Vec<String> {
    told.retain(|text| !text.contains("no run lists it"));
    told
}

#[test]
fn choosing_on_test_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let [dev, test] = ["dev_perf", "test_perf"].map(|name| place(run, name));
    counts(&dev, 2, &[(key::SPLIT, "dev"), (key::SEED, "1")]);
    counts(&test, 2, &[(key::SPLIT, "test"), (key::SEED, "1")]);
    let of = |files: &[&[&PathBuf]]| {
        let counts = files.iter().map(|group| group.iter().copied().cloned().collect()).collect();
        let (selected, told) = warned(|| select(run, |select| select.counts = counts).unwrap());
        let told: Vec<String> = of_choice(told)
            .into_iter()
            .map(|text| text.split(": ").take(2).collect::<Vec<_>>().join(": "))
            .collect();
        (selected.split, told)
    };
    let of_test = format!("{}: of test", test.display());
    let twice = format!("{}: the same counts as {}", dev.display(), dev.display());
    assert_eq!(of(&[&[&dev]]), (None, vec![]));
    assert_eq!(of(&[&[&test]]), (Some("test".into()), vec![of_test.clone()]));
    assert_eq!(of(&[&[&dev], &[&test]]), (None, vec![of_test]), "sub-tasks of both");
    assert_eq!(of(&[&[&dev, &dev]]), (None, vec![twice.clone()]), "as two seeds");
    assert_eq!(of(&[&[&dev], &[&dev]]), (None, vec![twice]), "as two sub-tasks");
    // The areas of test are a ranking too.
    let scores = run.join("scores.safetensors");
    ranking(&scores, &[(key::SPLIT, "test")]);
    let of_ranking =
        |select: &mut Select| (select.counts, select.ranking) = (Vec::new(), Some(scores.clone()));
    let (selected, told) = warned(|| select(run, of_ranking).unwrap());
    assert_eq!(selected.split.as_deref(), Some("test"));
    let told = of_choice(told);
    assert!(told.len() == 1 && told[0].contains("scores.safetensors: of test"), "{told:?}");
}

#[test]
fn masks_of_the_worst_neurons_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    counts(&place(run, "dev_perf"), 2, &[]);
    let of = |lowest: bool| {
        let fdr = Some("0.9".parse().unwrap());
        let selected = select(run, |select| (select.lowest, select.fdr) = (lowest, fdr)).unwrap();
        let said = ["0.5", "fdr-0.9"].map(|name| {
            let mask = TensorFile::read(&run.join(file::mask(TASK, name))).unwrap();
            mask.metadata().get(key::ORDER).cloned()
        });
        (selected.lowest, said)
    };
    assert_eq!(of(false), (false, [None, None]));
    assert_eq!(of(true), (true, [Some("lowest".into()), None]), "discoveries are the best ones whatever");
}

#[test]
fn masks_of_another_ranking_that_stay_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    counts(&place(run, "dev_perf"), 2, &[]);
    let scores = run.join("scores.safetensors");
    ranking(&scores, &[(key::TASK, TASK)]);
    let of = |shares: &[&str], change: &dyn Fn(&mut Select)| {
        let shares = shares.iter().map(|share| share.parse().unwrap()).collect();
        let select = |select: &mut Select| {
            (select.shares, select.fdr) = (shares, None);
            change(select);
        };
        of_choice(warned(|| super::selecting::select(run, select).unwrap()).1)
    };
    let lowest = |select: &mut Select| select.lowest = true;
    let made = |select: &mut Select| (select.counts, select.ranking) = (Vec::new(), Some(scores.clone()));
    assert_eq!(of(&["0.25", "0.5", "0.75"], &|_| {}), Vec::<String>::new());
    assert_eq!(of(&["0.5"], &|_| {}), Vec::<String>::new(), "of one ranking");
    let told = of(&["0.5"], &lowest);
    let [text] = &told[..] else { panic!("{told:?}") };
    let names = "info/reviews/0.25.safetensors, info/reviews/0.75.safetensors: of an earlier call and ranked by accuracy, beside";
    assert!(text.starts_with(names) && text.contains("by accuracy, lowest first;"), "{text}");
    let told = of(&["0.75"], &made);
    let parts = [
        "0.25.safetensors: of an earlier call and ranked by accuracy, beside",
        "0.5.safetensors: of an earlier call and ranked by accuracy, lowest first, beside",
    ];
    assert_eq!(told.len(), 2, "{told:?}");
    told.iter().zip(parts).for_each(|(text, part)| {
        assert!(text.contains(part) && text.contains("ranked by scores;"), "{text}");
    });
    assert_eq!(of(&["0.25", "0.5", "0.75"], &made), Vec::<String>::new(), "none stays");
}

#[test]
fn labels_are_not_shuffled_for_one_class() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    counts(&place(run, "dev_perf"), 3, &[]);
    fire_bits(&place(run, "dev_fire"), 3, &[]);
    let of_class = |draws| move |select: &mut Select| (select.class, select.permutations) = (Some(1), draws);
    let kind = refused(run, of_class(Some(7)), &["option `permutations` 7", "option `class` 1"]);
    assert_eq!(kind, ErrorKind::Usage);
    for draws in [None, Some(0)] {
        select(run, of_class(draws)).unwrap();
        assert_eq!((evidence(run).class, evidence(run).chance), (Some(1), None));
    }
}

#[test]
fn discoveries_of_an_earlier_selection_go() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    counts(&place(run, "dev_perf"), 2, &[]);
    let scores = run.join("scores.safetensors");
    ranking(&scores, &[]);
    let path = |rate: &str| run.join(file::discoveries(TASK, rate));
    // One that nobody lists stays.
    write_file(&path("mine"), Overwrite::Refuse, b"of another program").unwrap();
    let there = || ["0.1", "0.2", "mine"].map(|rate| path(rate).exists());
    let by_rate = |rate: &'static str| move |select: &mut Select| select.fdr = Some(rate.parse().unwrap());
    select(run, by_rate("0.1")).unwrap();
    assert_eq!(there(), [true, false, true]);
    select(run, by_rate("0.2")).unwrap();
    assert_eq!(there(), [false, true, true]);
    select(run, |_| {}).unwrap();
    assert_eq!(there(), [false, false, true]);
    select(run, by_rate("0.1")).unwrap();
    select(run, |select| select.ranking = Some(scores.clone())).unwrap();
    assert_eq!(there(), [false, false, true]);
    let record = RunRecord::read(run).unwrap();
    let listed = record.stages.values().flat_map(|stage| stage.outputs.keys());
    assert_eq!(listed.filter(|name| name.contains("fdr")).count(), 0);
}
