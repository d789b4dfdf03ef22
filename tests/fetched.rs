//! What `skn-fetch` brought is found by the stages, by its name.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::hub;
use crate::support;

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

#[test]
fn data_in_text_files_by_name() {
    let desk = Desk::new();
    let model = golden().join("model");
    let train = |data: &str, run: &str| {
        desk.ok(&format!(
            "skn-train --model {} --data {data} --save_to {run} --epoch 1 --bz 64",
            model.display()
        ));
        desk.json(&format!("{run}/split.json"))
    };
    let same = train(&golden().join("data/parquet").display().to_string(), "folder");
    for form in ["csv", "jsonl"] {
        let read = |split: &str| std::fs::read(golden().join(format!("data/{form}/{split}.{form}"))).unwrap();
        let [dev, test, rows] = ["validation", "test", "train"].map(read);
        let [of_dev, of_test, of_train] =
            ["validation", "test", "train"].map(|split| format!("data/{split}.{form}"));
        let name = format!("someone/{form}");
        let files: [(&str, &[u8]); 4] =
            [("README.md", b"---\n"), (&of_dev, &dev), (&of_test, &test), (&of_train, &rows)];
        let folder =
            fetch(&desk, &Hub::new(&format!("datasets/{name}"), &files), &format!("--dataset {name}"));
        assert!(folder.join(&of_train).is_file() && !folder.join("README.md").exists());
        assert_eq!(train(&name, form), same);
    }
}

/// Somebody uploads `best` of a run whose model transformers loads: its tuned parameters lie in a folder of their own.
#[test]
fn tuned_parameters_beside_a_model_come_with_it() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --max-steps 2 --bz 4 --out run");
    desk.ok("skn-probe --resume_from run --splits train --out run");
    desk.ok("skn-probe --resume_from run --splits dev --out run");
    desk.ok("skn-select -a run/sentiment/dev_perf --shares 0.1 --out run");
    let prune =
        "skn-prune --resume_from run --info_path run/info/sentiment/0.1 --ths_path run/sentiment/train_avg";
    desk.ok(&format!("{prune} --dense --out dense"));
    support::write(&desk.path("texts"), "the food was good .\nthe soup was awful .\n");
    for (name, run) in [("dense", "dense"), ("prompt", "run")] {
        let best = desk.path(run).join("best");
        let hub = Hub::of_folder(&format!("models/someone/{name}"), &best);
        let folder = fetch(&desk, &hub, &format!("someone/{name}"));
        let folder = folder.to_str().unwrap();
        if name == "dense" {
            assert!(Path::new(folder).join("tuned/adapter_model.safetensors").is_file());
        }
        let answers = desk.ok(&format!("skn-predict --resume_from {folder} --input texts"));
        assert_eq!(answers, desk.ok(&format!("skn-predict --resume_from {run} --input texts")));
        // Nothing is missing that would have been fetched.
        assert_eq!(fetch(&desk, &hub, &format!("someone/{name} --offline")), Path::new(folder));
    }
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

/// A message names the link, where it leads, and the command that mends it; and that command does.
#[cfg(unix)]
#[test]
fn contents_that_were_removed_are_fetched_again() {
    let desk = Desk::new();
    let hub = Hub::of_folder("models/someone/tiny", &golden().join("model"));
    let model = fetch(&desk, &hub, "someone/tiny");
    let data = fetch(&desk, &converted(), "--dataset someone/rows --revision refs/convert/parquet");
    let train = "skn-train --model someone/tiny --data someone/rows@refs/convert/parquet:default \
                 --save_to run --epoch 1 --bz 64";
    let command = format!("`skn-fetch someone/tiny --revision {COMMIT}`");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let (blob, target) = content(&model.join(name));
        let kept = std::fs::read(&blob).unwrap();
        std::fs::remove_file(&blob).unwrap();
        let link = format!("{name}: a link to {}, which", target.display());
        desk.fails(train, 3, &[&link, &command]);
        // By its path it is the same snapshot.
        let by_path = train.replace("someone/tiny", model.to_str().unwrap());
        desk.fails(&by_path, 3, &[&link, &command]);
        std::fs::write(&blob, kept).unwrap();
    }
    // A download that did not come to its end, and left no link.
    std::fs::rename(model.join("model.safetensors"), model.join("elsewhere")).unwrap();
    std::fs::write(model.join("../../blobs/0123.incomplete"), "").unwrap();
    desk.fails(train, 3, &["no model.safetensors", "not finished (blobs/0123.incomplete)", &command]);
    std::fs::rename(model.join("elsewhere"), model.join("model.safetensors")).unwrap();
    let rows = data.join("default/validation/0000.parquet");
    let (blob, target) = content(&rows);
    std::fs::remove_file(blob).unwrap();
    let link = format!("0000.parquet: a link to {}, which", target.display());
    desk.fails(train, 3, &[&link, &format!("`skn-fetch --dataset someone/rows --revision {COMMIT}`")]);
    let hub = converted();
    hub.now(|hub| hub.revision = COMMIT.into());
    fetch(&desk, &hub, &format!("--dataset someone/rows --revision {COMMIT}"));
    desk.ok(train);
}

/// Where a link leads, and how that stands in it.
#[cfg(unix)]
fn content(link: &Path) -> (PathBuf, PathBuf) {
    (link.canonicalize().unwrap(), link.read_link().unwrap())
}

/// Clusters keep weights and data on another disk.
#[cfg(unix)]
#[test]
fn links_of_ones_own_folders_are_followed_and_told() {
    let (desk, disk) = (Desk::new(), tempfile::tempdir().unwrap());
    support::copy(&golden().join("model"), &disk.path().join("model"));
    support::copy(&golden().join("data/parquet"), &disk.path().join("rows"));
    for folder in ["model", "rows"] {
        std::fs::create_dir(desk.path(folder)).unwrap();
        for entry in disk.path().join(folder).read_dir().unwrap() {
            let real = entry.unwrap().path();
            let link = desk.path(folder).join(real.file_name().unwrap());
            std::os::unix::fs::symlink(real, link).unwrap();
        }
    }
    let train = |model: &str, rows: &str, out: &str| {
        format!("skn-train --model {model} --data {rows} --save_to {out} --epoch 1 --bz 64")
    };
    let said = desk.run(&format!("{} -v", train("model", "rows", "linked")));
    assert_eq!(said.code, 0, "{}", said.stderr);
    for name in ["model/model.safetensors", "rows/train-00000-of-00001.parquet"] {
        let real = disk.path().canonicalize().unwrap().join(name);
        assert!(said.stderr.contains(&format!("{name}: read as {}", real.display())), "{}", said.stderr);
    }
    let rows = golden().join("data/parquet").display().to_string();
    desk.ok(&train(&golden().join("model").display().to_string(), &rows, "plain"));
    assert_eq!(desk.contents("linked"), desk.contents("plain"), "by content they are the same");
    // A link to nothing is no folder, and no name on the Hub.
    std::fs::remove_dir_all(disk.path().join("model")).unwrap();
    let weights = disk.path().join("model/config.json");
    let parts = [&format!("config.json: a link to {}, which", weights.display()), "mend the link"];
    desk.fails(&train("model", "rows", "none"), 3, &parts);
    std::os::unix::fs::symlink("nowhere", desk.path("gone")).unwrap();
    desk.fails(&train("gone", "rows", "none"), 3, &["gone: a link to nowhere, which"]);
    desk.fails(&train("demo", "gone", "none"), 3, &["gone: a link to nowhere, which"]);
}

#[test]
fn a_snapshot_is_found_without_refs_and_in_no_old_cache() {
    let desk = Desk::original();
    let train = "skn-train --data data/raw --task sst2 --model someone/tiny --save_to run --epoch 1 --bz 64";
    let train = train.replace("data/raw", "data/raw/sst2");
    std::fs::rename(
        desk.path("cache/hub/models--roberta-base"),
        desk.path("cache/hub/models--someone--tiny"),
    )
    .unwrap();
    std::fs::remove_dir_all(desk.path("cache/hub/models--someone--tiny/refs")).unwrap();
    let said = desk.run(&train);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let told = "someone/tiny is the only snapshot, 0123abcd";
    assert_eq!(said.stderr.matches(told).count(), 1, "{}", said.stderr);
    assert_eq!(desk.json("run/best/skn.json")["model"]["id"], "someone/tiny");
    desk.fails(&train.replace("tiny", "tiny@v1"), 4, &["here are someone/tiny@0123abcd", "--revision v1`"]);
    std::fs::rename(desk.path("cache/hub"), desk.path("old")).unwrap();
    let words: Vec<&str> = train.split_whitespace().collect();
    let mut command = desk.command(words[0], &words[1..]);
    let said: support::Said = command.env("TRANSFORMERS_CACHE", "old").output().unwrap().into();
    assert_eq!(said.code, 4);
    assert!(
        said.stderr.contains("TRANSFORMERS_CACHE has it") && said.stderr.contains("HF_HUB_CACHE=old"),
        "{}",
        said.stderr
    );
    // One that can't be looked at, such as another user's, is no reason to say something else.
    #[cfg(unix)]
    {
        let name = "models--someone--tiny";
        std::fs::create_dir(desk.path("another")).unwrap();
        std::os::unix::fs::symlink(name, desk.path("another").join(name)).unwrap();
        let said: support::Said = command.env("TRANSFORMERS_CACHE", "another").output().unwrap().into();
        assert_eq!(said.code, 4, "{}", said.stderr);
        assert!(said.stderr.contains("fetch it with `skn-fetch someone/tiny`"), "{}", said.stderr);
    }
}

/// Without `skn.json` and `split.json` the rest of a run would mean something else.
#[cfg(unix)]
#[test]
fn a_run_whose_links_lead_to_nothing_is_refused() {
    let desk = Desk::original();
    desk.ok("skn-train --data data/raw/sst2 --task sst2 --save_to run --epoch 1 --bz 64");
    let probe = "skn-probe -p --resume_from run --save_to out";
    for name in ["best/skn.json", "split.json", "best/adapter_config.json", "best"] {
        let (path, kept) = (desk.path("run").join(name), desk.path("kept"));
        std::fs::rename(&path, &kept).unwrap();
        std::os::unix::fs::symlink(&kept, &path).unwrap();
        desk.ok(probe);
        std::fs::remove_dir_all(desk.path("out")).unwrap();
        std::fs::rename(&kept, desk.path("away")).unwrap();
        let end = name.rsplit('/').next().unwrap();
        desk.fails(probe, 3, &[&format!("{end}: a link to {}, which", kept.display()), "mend the link"]);
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(desk.path("away"), &path).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", desk.path("gone")).unwrap();
    desk.fails("skn-probe -p --resume_from gone --save_to out", 3, &["gone: a link to nowhere, which"]);
}
