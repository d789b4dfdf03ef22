//! The demo's three data sets.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use skn_random::{Key, Purpose, Rng};

use crate::grammar::{Level, inference, judgement};

/// Rows of each split.
const SPLITS: [(&str, u64); 3] = [("train", 960), ("dev", 320), ("test", 480)];

/// Makes a row of a task.
type Row = fn(&mut Rng) -> Value;

/// A row whose text did not come in another split.
fn new_row(row: Row, rng: &mut Rng, before: &BTreeSet<String>) -> Value {
    loop {
        let made = row(rng);
        if !before.contains(&said(&made)) {
            return made;
        }
    }
}

/// The texts of a row, without its label.
fn said(row: &Value) -> String {
    ["text", "premise", "hypothesis"].map(|column| row[column].as_str().unwrap_or_default()).join("\t")
}

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
        // The grammar makes few short texts, and some twice: none that train has may come in dev or test.
        let mut before = BTreeSet::new();
        for (split, (split_name, rows)) in SPLITS.into_iter().enumerate() {
            // Above every step of pre-training, so that no text of a task was seen there by design.
            let key = Key::new(seed, Purpose::Corpus)
                .step(u64::MAX - 1)
                .layer((task * SPLITS.len() + split) as u32);
            let made: Vec<Value> =
                (0..rows).map(|sample| new_row(row, &mut key.sample(sample).rng(), &before)).collect();
            files.push((
                format!("{name}/{split_name}.jsonl"),
                made.iter().map(|row| format!("{row}\n")).collect(),
            ));
            before.extend(made.iter().map(said));
        }
    }
    files
}
