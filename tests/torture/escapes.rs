//! Nothing is read or written outside the folders that the user named: names in files that lead elsewhere, links inside a run,
//! links of a snapshot. Outside lies what would be taken if somebody went there: a whole model, whole data, a whole run; its
//! content shows if it is read, and its bytes if it is written.

#![cfg(unix)]

mod links;
mod names;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use skn_artifact::TensorFile;

use crate::cases;
use crate::damage::Dice;
use crate::support::{Desk, copy, golden, write};

/// What is made once: models, data and runs that are whole.
struct Base {
    desk: Desk,
}

impl Base {
    fn new() -> Self {
        let desk = Desk::new();
        write(&desk.path("texts"), "a film\n");
        copy(&golden().join("model"), &desk.path("model"));
        let shard = desk.path("shards/shard.safetensors");
        copy(&golden().join("model"), &desk.path("shards"));
        fs::rename(desk.path("shards/model.safetensors"), &shard).unwrap();
        copy(&golden().join("data/arrow"), &desk.path("data"));
        let rows: String =
            (0..12).map(|row| format!("{{\"a\": \"a text\", \"label\": {}}}\n", row % 2)).collect();
        write(&desk.path("rows/train.jsonl"), rows);
        desk.ok(
            "skn-train --model demo --task sentiment --prompt_size 2 --max-steps 2 --threads 1 --save_to run",
        );
        desk.ok("skn-probe -p --resume_from run --threads 1 --save_to run");
        desk.ok("skn-select --save_to run -a run/sentiment/dev_perf --shares 0.1");
        Self { desk }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.desk.path(name)
    }
}

/// Everything below a folder: what each file holds, and where each link leads.
fn state(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap();
            let content = if kind.is_symlink() {
                fs::read_link(&path).unwrap().to_string_lossy().into_owned().into_bytes()
            } else if kind.is_dir() {
                open.push(path.clone());
                Vec::new()
            } else {
                // Written anew with the same bytes is written too.
                let mut bytes = fs::read(&path).unwrap();
                bytes.extend(kind.ino().to_le_bytes());
                bytes
            };
            found.insert(path.display().to_string(), content);
        }
    }
    found
}

/// A weight map that names one file for all tensors.
fn weight_map(model: &Path, name: &str) -> String {
    let tensors = TensorFile::read(&model.join("model.safetensors")).unwrap();
    let map: serde_json::Map<_, _> = tensors.names().map(|tensor| (tensor.to_owned(), name.into())).collect();
    serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string()
}

#[test]
fn outside() {
    let base = Base::new();
    let went = cases::run("torture", "escapes::outside", 1000, |number| {
        let mut dice = Dice::of(number);
        match number % 10 {
            0..6 => names::case(&base, &mut dice),
            6..8 => links::of_a_run(&base, &mut dice),
            _ => links::of_a_snapshot(&base, &mut dice),
        }
    });
    let all: u64 = went.values().sum();
    let refused = went.get("refused").copied().unwrap_or(0);
    assert!(all < 20 || refused * 2 > all, "only {refused} of {all} were refused");
}
