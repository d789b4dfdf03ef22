//! The demo's three data sets.

use serde_json::json;
use skn_random::{Key, Purpose, Rng};

use crate::grammar::{Level, inference, judgement};

/// Rows of each split.
const SPLITS: [(&str, u64); 3] = [("train", 960), ("dev", 320), ("test", 480)];

/// Makes a row of a task.
type Row = fn(&mut Rng) -> serde_json::Value;

/// The files of the demo's tasks: `<task>/<split>.jsonl` and their content, made from `seed`.
pub fn make_tasks(seed: u64) -> Vec<(String, String)> {
    let tasks: [(&str, Row); 3] = [
        ("sentiment", |rng| {
            let judged = judgement(rng, Level::Contrast);
            json!({"text": judged.text, "label": judged.sentiment})
        }),
        ("topic", |rng| {
            let judged = judgement(rng, Level::Contrast);
            json!({"text": judged.text, "label": judged.topic})
        }),
        ("inference", |rng| {
            let pair = inference(rng, Level::Contrast);
            json!({"premise": pair.premise, "hypothesis": pair.hypothesis, "label": pair.class})
        }),
    ];
    let mut files = Vec::new();
    for (task, (name, row)) in tasks.into_iter().enumerate() {
        for (split, (split_name, rows)) in SPLITS.into_iter().enumerate() {
            // Above every step of pre-training, so that no text of a task was seen there by design.
            let key = Key::new(seed, Purpose::Corpus)
                .step(u64::MAX - 1)
                .layer((task * SPLITS.len() + split) as u32);
            let lines = (0..rows).map(|sample| format!("{}\n", row(&mut key.sample(sample).rng())));
            files.push((format!("{name}/{split_name}.jsonl"), lines.collect()));
        }
    }
    files
}
