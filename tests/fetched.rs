//! What `skn-fetch` brought is found by the stages, by its name.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

#[path = "support/hub.rs"]
mod hub;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hub::{COMMIT, Hub};
use support::{Desk, golden};

/// Runs `skn-fetch` into the desk's cache; the folder that it printed.
fn fetch(desk: &Desk, hub: &Hub, line: &str) -> PathBuf {
    // Its program belongs to another package, and lies beside ours where the workspace is built.
    let program = Path::new(env!("CARGO_BIN_EXE_skn-train")).with_file_name("skn-fetch");
    assert!(program.is_file(), "{}: build the workspace: cargo test --workspace", program.display());
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).stdin(Stdio::null());
    hub::only(&mut command, hub).env("HF_HOME", desk.path("cache"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// A Hub with the golden rows as it converts data sets itself.
fn converted() -> Hub {
    let read = |split: &str| {
        std::fs::read(golden().join(format!("data/parquet/{split}-00000-of-00001.parquet"))).unwrap()
    };
    let [train, dev, test] = ["train", "validation", "test"].map(read);
    let hub = Hub::new(
        "datasets/someone/rows",
        &[
            ("default/train/0000.parquet", &train),
            ("default/validation/0000.parquet", &dev),
            ("default/test/0000.parquet", &test),
            ("other/train/0000.parquet", b"of no use"),
        ],
    );
    hub.now(|hub| hub.revision = "refs/convert/parquet".into());
    hub
}

#[test]
fn a_model_and_data_by_name() {
    let desk = Desk::new();
    let train = "skn-train --model someone/tiny --data someone/rows@refs/convert/parquet:default \
                 --save_to run --epoch 1 --bz 64";
    desk.fails(train, 4, &["`skn-fetch --dataset someone/rows --revision refs/convert/parquet`"]);
    let data = fetch(&desk, &converted(), "--dataset someone/rows --revision refs/convert/parquet");
    assert!(data.ends_with(COMMIT) && data.join("other/train/0000.parquet").is_file());
    desk.fails(train, 4, &["`skn-fetch someone/tiny`"]);
    fetch(&desk, &Hub::of_folder("models/someone/tiny", &golden().join("model")), "someone/tiny");
    desk.ok(train);
    assert_eq!(desk.json("run/best/skn.json")["model"]["id"], "someone/tiny");
    // The run remembers the names.
    desk.ok("skn-probe -p --resume_from run --save_to run");
    desk.ok("skn-verify run");
    // The same rows from a folder are the same data.
    let line = format!("--data {} --save_to copy --epoch 1 --bz 64", golden().join("data/parquet").display());
    desk.ok(&format!("skn-train --model someone/tiny {line}"));
    assert_eq!(desk.json("copy/split.json"), desk.json("run/split.json"));
    desk.fails(&train.replace(":default", ""), 3, &["one configuration", "default, other"]);
    desk.fails(&train.replace(":default", ":../.."), 3, &["../..", "no folder"]);
}

#[cfg(unix)]
#[test]
fn links_of_the_cache_lead_nowhere_else() {
    let desk = Desk::new();
    let hub = Hub::of_folder("models/someone/tiny", &golden().join("model"));
    let config = fetch(&desk, &hub, "someone/tiny").join("config.json");
    let outside = desk.path("config.json");
    std::fs::copy(&config, &outside).unwrap();
    std::fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink(&outside, &config).unwrap();
    let line = format!("--data {} --save_to run", golden().join("data/csv").display());
    desk.fails(&format!("skn-train --model someone/tiny {line}"), 3, &["config.json", "leads out of"]);
}
