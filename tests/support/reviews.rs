//! A desk with one of the small models of tests/models, a task of two classes and a few of the demo's rows.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Desk, copy, write};

/// The task, without the line that says what a row's text is.
pub const TASK: &str = "name = \"reviews\"\nlabel = \"label\"\nlabels = [\" negative\", \" positive\"]\n\
                        names = [[\"negative\"], [\"positive\"]]\n\n[splits]\ntrain = \"train\"\ndev = \"dev\"\ntest = \"test\"\n";

/// What all programs are told that read data.
pub const MODEL: &str = "--model ./model --task-file reviews.toml --data data --max-length 40";

pub fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

/// A desk whose task begins with `says`, such as `text = ["text"]`.
pub fn desk(family: &str, says: &str) -> Desk {
    let desk = Desk::new();
    copy(&models().join(family), &desk.path("model"));
    fs::remove_file(desk.path("model/expected.safetensors")).unwrap();
    let tokenizer = if family.starts_with("modernbert") { "encoder.json" } else { "decoder.json" };
    write(&desk.path("model/tokenizer.json"), fs::read(models().join("tokenizers").join(tokenizer)).unwrap());
    write(&desk.path("reviews.toml"), format!("{says}\n{TASK}"));
    for (name, rows) in parts() {
        write(&desk.path(&format!("data/{name}.jsonl")), rows.join("\n"));
    }
    desk
}

/// The rows of train, dev and test: objects with `text` and `label`, a line each.
pub fn parts() -> [(&'static str, Vec<String>); 3] {
    let rows = fs::read_to_string(models().join("../../data/tasks/sentiment/train.jsonl")).unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    [("train", 0..48), ("dev", 48..72), ("test", 72..96)]
        .map(|(name, range)| (name, rows[range].iter().map(|row| (*row).to_owned()).collect()))
}
