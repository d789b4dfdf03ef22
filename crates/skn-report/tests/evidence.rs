//! What the page says of chance.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

#[allow(dead_code, reason = "of the sample run's parts some are for other tests")]
use crate::sample;

use std::collections::BTreeMap;
use std::path::Path;

use sample::{BEST, BEST_CORRECT, DEV, LAYERS, POSITIONS, TEST, WIDTH};
use skn_artifact::{
    Array, ChanceRecord, Evidence, NeuronRecord, Overwrite, RunRecord, StabilityRecord, StageRecord,
    TensorBundle, VoteRecord, hash_file, write_file, write_json,
};
use skn_report::Report;

const TASK: &str = "sst2";

fn evidence(run: &Path) -> Evidence {
    let (layer, index, position) = BEST;
    let best = NeuronRecord {
        layer,
        index,
        position: Some(position),
        dev: Some(0.92),
        test: Some(0.883),
        test_low: Some(0.86),
        test_high: Some(0.9),
        p: Some(3.21e-9),
        q: Some(4e-6),
        p_max: Some(0.001),
        ..NeuronRecord::default()
    };
    Evidence {
        score: "accuracy".into(),
        counts: "dev_perf".into(),
        counts_sha256: hash_file(&run.join(TASK).join("dev_perf.safetensors")).unwrap(),
        inputs: BTreeMap::new(),
        class: None,
        rules: 3840,
        discoveries: 17,
        neurons: 640,
        best: vec![best],
        chance: Some(ChanceRecord {
            draws: 999,
            seed: 0,
            texts: 400,
            sample: false,
            measured: 0.92,
            best: (0..999).map(|draw| 0.57 + f64::from(draw % 20) / 400.0).collect(),
            layers: vec![vec![0.57; 999]; 4],
        }),
        stability: vec![StabilityRecord {
            share: "0.1".into(),
            draws: 100,
            mean: 0.712,
            interval: [0.65, 0.77],
        }],
        votes: vec![VoteRecord { neurons: 3, dev: 0.934 }],
        correlation: None,
    }
}

/// The page of the sample run with what `change` makes of the evidence; none is left where it makes nothing.
fn page(change: impl FnOnce(&mut Evidence) -> bool) -> String {
    page_of(|_, record| change(record))
}

/// The same, with a change of the run too.
fn page_of(change: impl FnOnce(&Path, &mut Evidence) -> bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    sample::full(folder.path(), TASK);
    let mut record = evidence(folder.path());
    if change(folder.path(), &mut record) {
        write_json(&folder.path().join("info/sst2/evidence.json"), Overwrite::Refuse, &record).unwrap();
    }
    Report::read(folder.path()).unwrap().html()
}

fn check(page: &str, said: &[&str], unsaid: &[&str]) {
    for words in said {
        assert!(page.contains(words), "not said: {words}");
    }
    for words in unsaid {
        assert!(!page.contains(words), "said: {words}");
    }
}

#[test]
fn the_page_says_what_speaks_against_chance() {
    let found = page(|_| true);
    let said = [
        "Is it chance?",
        "<figure id=\"sst2-chance\"",
        "Labels were shuffled 999 times",
        "which no shuffle reaches",
        "None does as well as the best neuron does with the true labels, 0.920.",
        "<b>17</b> neurons have a q of at most 0.05",
        "(95 % interval 0.860 to 0.900)",
        "best 10 % <b>",
        "3 neurons 0.934 on dev, where they were chosen",
        "3.2 × 10<sup>\u{2212}9</sup>",
        "0.001",
    ];
    check(&found, &said, &["is not known", "of other counts"]);
}

#[test]
fn each_layer_stands_beside_its_own_shuffles() {
    let drawn = |change: &dyn Fn(&mut ChanceRecord)| {
        let folder = tempfile::tempdir().unwrap();
        sample::full(folder.path(), TASK);
        let mut record = evidence(folder.path());
        change(record.chance.as_mut().unwrap());
        write_json(&folder.path().join("info/sst2/evidence.json"), Overwrite::Refuse, &record).unwrap();
        let report = Report::read(folder.path()).unwrap();
        (report.html(), report.tables().remove("sst2-chance-by-layer"))
    };
    let (page, table) = drawn(&|chance| {
        // Of 999 shuffles 499 have 0.5, 500 have 0.51; of layer 1 one has all.
        let of = |most: f64| {
            (0..999)
                .map(|draw| {
                    if draw == 998 {
                        most
                    } else if draw < 499 {
                        0.5
                    } else {
                        0.51
                    }
                })
                .collect()
        };
        chance.layers = vec![of(0.51), of(1.0), of(0.51), of(0.51)];
    });
    let rows = table.unwrap().data;
    assert_eq!(rows.len(), LAYERS);
    let numbers = |row: usize| rows[row][..4].iter().map(|cell| cell.as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(numbers(1), [1.0, 0.51, 0.51, 1.0]);
    assert_eq!(numbers(2), [2.0, 0.51, 0.51, 0.51]);
    assert!((rows[2][4].as_f64().unwrap() - 0.92).abs() < 1e-9, "the best neuron of all lies in layer 2");
    check(&page, &["<figure id=\"sst2-chance-by-layer\"", "In 3 of 4 layers the best neuron has more"], &[]);
    // Of a sample of texts it is not known what the layers' best neurons have.
    assert!(drawn(&|chance| chance.sample = true).1.is_none());
    // A record of another number of layers says nothing of these.
    assert!(drawn(&|chance| drop(chance.layers.pop())).1.is_none());
}

#[test]
fn what_is_reached_by_chance_is_said() {
    let found = page(|record| {
        record.best[0].p_max = Some(0.25);
        record.chance.as_mut().unwrap().measured = 0.606;
        true
    });
    check(&found, &["which 249 of the shuffles reach", "do at least as well"], &["no shuffle reaches"]);
}

#[test]
fn evidence_of_other_counts_is_not_shown() {
    let found = page(|record| {
        record.counts_sha256 = "0".repeat(64);
        true
    });
    check(
        &found,
        &["The evidence is of other counts", "skn-select --force"],
        &["sst2-chance\"", "3.2 × 10", "shuffled 999"],
    );
    let found = page(|_| false);
    check(&found, &["evidence.json) is not here; made by"], &["sst2-chance\"", "p<sub>max</sub>"]);
    let found = page(|record| {
        record.chance = None;
        true
    });
    check(&found, &["is not known", "skn-probe --fire-bits", "<b>17</b> neurons"], &["sst2-chance\""]);
}

#[test]
fn of_a_sample_shuffles_are_counted_by_its_own_best() {
    // The best neuron of all texts has another chance than that of the sampled ones.
    let found = page(|record| {
        record.best[0].p_max = Some(0.25);
        let chance = record.chance.as_mut().unwrap();
        (chance.sample, chance.best[7]) = (true, 0.93);
        true
    });
    let said = [
        "which one shuffle reaches.",
        "One does at least as well",
        "on 400 texts drawn from dev",
        "3 neurons 0.934 on these texts",
    ];
    check(&found, &said, &["of the shuffles reach", "0.934 on dev"]);
}

#[test]
fn evidence_of_one_class_says_so() {
    let found = page(|record| {
        (record.class, record.chance) = (Some(1), None);
        true
    });
    let said = ["All this is of class 1 against the rest", "without <code>--class</code>", "on texts of dev"];
    check(&found, &said, &["--fire-bits"]);
}

#[test]
fn evidence_is_of_all_that_was_read_with_the_counts() {
    let stale = "The evidence is of other counts";
    let noted = |run: &Path, record: &mut Evidence| {
        for name in ["dev_perf", "test_perf"].map(|name| format!("{name}.safetensors")) {
            record.inputs.insert(name.clone(), hash_file(&run.join(TASK).join(&name)).unwrap());
        }
        true
    };
    check(&page_of(noted), &["Labels were shuffled 999 times"], &[stale]);
    let without_test = page_of(|run, record| {
        noted(run, record);
        std::fs::remove_file(run.join(TASK).join("test_perf.safetensors")).unwrap();
        true
    });
    check(&without_test, &["Labels were shuffled 999 times"], &[stale]);
    let other_test = page_of(|run, record| {
        noted(run, record);
        record.inputs.insert("test_perf.safetensors".into(), "0".repeat(64));
        true
    });
    let new_test = page_of(|run, record| {
        noted(run, record);
        record.inputs.remove("test_perf.safetensors");
        true
    });
    let new_bits = page_of(|run, record| {
        noted(run, record);
        let path = run.join(TASK).join("dev_fire.safetensors");
        write_file(&path, Overwrite::Refuse, b"of another probe").unwrap();
        true
    });
    for found in [other_test, new_test, new_bits] {
        check(&found, &[stale], &["shuffled 999"]);
    }
    // Counts that do not say how often a neuron fires for each class can't have been scored so.
    let unfit = page(|record| {
        record.score = "balanced".into();
        true
    });
    check(&unfit, &[stale], &["shuffled 999", "(balanced accuracy)"]);
}

/// Counts by class, of two of one size: neurons are told by accuracy unless a selection says otherwise.
fn counts_by_class(run: &Path) {
    for (split, texts) in [("dev", DEV), ("test", TEST)] {
        let texts = texts as i64;
        let mut correct = vec![texts / 2 + 20; LAYERS * POSITIONS * WIDTH];
        correct[(BEST.0 * POSITIONS + BEST.2) * WIDTH + BEST.1] = BEST_CORRECT;
        let hits = correct.iter().map(|correct| correct / 2).collect();
        let shape = vec![LAYERS, POSITIONS, WIDTH];
        let arrays = vec![
            ("correct", Array::i64(shape.clone(), correct).unwrap()),
            ("true_positive", Array::i64(shape, hits).unwrap()),
            ("positives", Array::i64(vec![1], vec![texts / 2]).unwrap()),
            ("total", Array::i64(vec![1], vec![texts]).unwrap()),
        ];
        sample::tensors(&run.join(TASK).join(format!("{split}_perf.safetensors")), "perf", arrays);
    }
}

/// A mask that was selected by a score, and the hash of its file.
fn mask(run: &Path, share: &str, score: &str) -> (String, String) {
    let mut bundle = TensorBundle::new();
    bundle.describe("skn.score", score);
    bundle.insert("mask", Array::bool(vec![LAYERS, WIDTH], vec![false; LAYERS * WIDTH]).unwrap());
    let name = format!("info/{TASK}/{share}.safetensors");
    write_file(&run.join(&name), Overwrite::Refuse, &bundle.to_bytes().unwrap()).unwrap();
    let hash = hash_file(&run.join(&name)).unwrap();
    (name, hash)
}

#[test]
fn the_score_is_that_of_the_last_selection() {
    let (balanced, stale) = ("(balanced accuracy)", "The evidence is of other counts");
    let select = |run: &Path, outputs: Vec<(String, String)>| {
        let outputs = outputs.into_iter().collect();
        let record = StageRecord { outputs, ..StageRecord::default() };
        RunRecord::update(run, &format!("select {TASK}"), record, &[]).unwrap();
    };
    // A mask that an earlier call left is the first by name.
    let of_masks = page_of(|run, _| {
        counts_by_class(run);
        select(run, vec![mask(run, "0.01", "accuracy")]);
        select(run, vec![mask(run, "0.05", "balanced")]);
        false
    });
    check(&of_masks, &[balanced], &[]);
    let of_nobody = page_of(|run, _| {
        counts_by_class(run);
        mask(run, "0.01", "balanced");
        false
    });
    check(&of_nobody, &[], &[balanced]);
    // Evidence of these counts says it, whatever masks do.
    let weighed = |score: &'static str, other: &'static str| {
        page_of(move |run, record| {
            counts_by_class(run);
            record.counts_sha256 = hash_file(&run.join(TASK).join("dev_perf.safetensors")).unwrap();
            record.score = score.into();
            select(run, vec![mask(run, "0.05", other)]);
            true
        })
    };
    check(&weighed("balanced", "accuracy"), &[balanced, "shuffled 999"], &[stale]);
    check(&weighed("accuracy", "balanced"), &["shuffled 999"], &[balanced, stale]);
}
