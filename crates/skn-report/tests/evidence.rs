//! What the page says of chance.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

#[allow(dead_code, reason = "of the sample run's parts some are for other tests")]
mod sample;

use std::path::Path;

use sample::BEST;
use skn_artifact::{
    ChanceRecord, Evidence, NeuronRecord, Overwrite, StabilityRecord, VoteRecord, hash_file, write_json,
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
        votes: vec![VoteRecord { neurons: 3, dev: 0.934, test: Some(0.901) }],
        correlation: None,
    }
}

/// The page of the sample run with what `change` makes of the evidence; none is left where it makes nothing.
fn page(change: impl FnOnce(&mut Evidence) -> bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    sample::full(folder.path(), TASK);
    let mut record = evidence(folder.path());
    if change(&mut record) {
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
        "3 neurons 0.934 (0.901 on test)",
        "3.2 × 10<sup>\u{2212}9</sup>",
        "0.001",
    ];
    check(&found, &said, &["is not known", "of other counts"]);
}

#[test]
fn what_is_reached_by_chance_is_said() {
    let found = page(|record| {
        record.best[0].p_max = Some(0.25);
        record.chance.as_mut().unwrap().measured = 0.58;
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
