//! The golden case's masks, from the golden case's counts.

#![allow(clippy::unwrap_used)] // a test's helper may

use std::path::Path;

use skn_artifact::{Array, TensorBundle, TensorFile};
use skn_select::{Aggregate, Performance, Ranking, ScoreRule, Scores, Share};

fn expected() -> TensorFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/expected.safetensors");
    TensorFile::read(&path).unwrap()
}

/// Its `<split>_correct` and the like as the file that a probe writes.
fn performance(golden: &TensorFile, kind: &str, split: &str, correct: &str) -> Performance {
    let (shape, counts) = golden.i64(correct, None).unwrap();
    let (_, total) = golden.i64(&format!("{split}_total"), Some(&[1])).unwrap();
    let mut bundle = TensorBundle::new();
    bundle.describe("skn.kind", kind);
    bundle.insert("correct", Array::i64(shape, counts).unwrap());
    bundle.insert("total", Array::i64(vec![1], total).unwrap());
    let file = TensorFile::from_bytes(correct.as_ref(), bundle.to_bytes().unwrap()).unwrap();
    Performance::read(&file).unwrap()
}

#[test]
fn masks_and_scores_agree() {
    let golden = expected();
    let performance = performance(&golden, "perf", "dev", "dev_correct");
    assert_eq!((performance.layers(), performance.positions(), performance.neurons()), (4, 6, 160));
    let (_, score) = golden.f32("dev_score", Some(&[4, 160])).unwrap();
    // One file, and the same one as three seeds.
    for (files, aggregate) in [(1, Aggregate::Mean), (3, Aggregate::Mean), (3, Aggregate::Min)] {
        let groups =
            Scores::of_group(&vec![performance.clone(); files], aggregate, None, ScoreRule::Accuracy)
                .unwrap();
        let ranking = Ranking::new(&groups).unwrap();
        let far = ranking.score().iter().zip(&score).map(|(ours, golden)| (ours - golden).abs());
        assert!(far.fold(0.0, f32::max) <= 1e-6);
        for name in ["0.05", "0.10", "0.20"] {
            let mask = ranking.mask(name.parse().unwrap());
            let (_, expected) = golden.bool(&format!("mask_{name}"), Some(&[4, 160])).unwrap();
            assert_eq!(mask.mask(), expected, "{name} {aggregate} of {files}");
        }
    }
}

#[test]
fn pooled_counts_are_ranked_too() {
    let golden = expected();
    for (kind, correct) in [("mean_perf", "dev_mean_correct"), ("max_perf", "dev_max_correct")] {
        let performance = performance(&golden, kind, "dev", correct);
        assert_eq!((performance.pooled(), performance.positions()), (true, 1));
        let scores = &Scores::of_group(&[performance], Aggregate::Min, None, ScoreRule::Accuracy).unwrap()[0];
        let (_, counts) = golden.i64(correct, None).unwrap();
        for (score, correct) in scores.score().iter().zip(counts) {
            assert!((f64::from(*score) - (correct as f64 / 72.0 - 0.5).abs()).abs() <= 1e-6);
        }
    }
}

#[test]
fn smaller_masks_are_part_of_larger_ones() {
    let golden = expected();
    let split = |split: &str| performance(&golden, "perf", split, &format!("{split}_correct"));
    let groups = [split("dev"), split("test")]
        .map(|file| Scores::of_group(&[file], Aggregate::Mean, None, ScoreRule::Accuracy).unwrap());
    let ranking = Ranking::new(&groups.concat()).unwrap();
    let masks: Vec<_> = Share::series().into_iter().map(|share| ranking.mask(share)).collect();
    for (smaller, larger) in masks.iter().zip(&masks[1..]) {
        assert!(smaller.mask().iter().zip(larger.mask()).all(|(smaller, larger)| smaller <= larger));
    }
    assert_eq!(masks[20].neurons().iter().map(Vec::len).collect::<Vec<_>>(), [32; 4]);
}
