//! Links: inside a run nothing is written through one; in a snapshot of the Hugging Face cache none leads out of its
//! repository's folder.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Base, state};
use crate::damage::Dice;
use crate::support::{Desk, Said, copy, write};

/// A file or folder of a run, and the command that writes it.
const WRITTEN: [(&str, &str); 22] = [
    ("best", TRAIN),
    ("last", TRAIN),
    ("metrics.jsonl", TRAIN),
    ("split.json", TRAIN),
    ("run.json", TRAIN),
    (".lock", TRAIN),
    ("best/skn.json", TRAIN),
    ("best/adapter_model.safetensors", TRAIN),
    ("best/adapter_config.json", TRAIN),
    ("last/checkpoint.safetensors", TRAIN),
    ("last/checkpoint.previous.safetensors", TRAIN),
    ("sentiment", PROBE),
    ("sentiment/train_avg.safetensors", PROBE),
    ("sentiment/dev_perf.safetensors", PROBE),
    ("sentiment/inference_perf.json", PROBE),
    ("info", SELECT),
    ("info/sentiment", SELECT),
    ("info/sentiment/0.1.safetensors", SELECT),
    ("mask_perf.json", MASK),
    ("cmp_perf.json", MASK),
    ("report.html", "skn-report run"),
    ("best/bitfit.safetensors", TRAIN),
];
const TRAIN: &str = "skn-train --model demo --task sentiment --prompt_size 2 --max-steps 2 --checkpoint-every 1 --threads 1 --save_to run";
const PROBE: &str = "skn-probe -p --resume_from run --threads 1 --save_to run";
const SELECT: &str = "skn-select --save_to run -a run/sentiment/dev_perf --shares 0.1";
const MASK: &str = "skn-mask -p --resume_from run --threads 1 --save_to run --info_path run/info/sentiment/0.1 --cmp --draws 1";

pub(super) fn of_a_run(base: &Base, dice: &mut Dice) -> String {
    let (name, line) = dice.one_of(&WRITTEN);
    let desk = Desk::new();
    copy(&base.path("run"), &desk.path("run"));
    copy(&base.path("run"), &desk.path("outside"));
    write(&desk.path("outside/canary"), "as it was");
    let path = desk.path("run").join(name);
    let is_folder = path.is_dir();
    match fs::symlink_metadata(&path) {
        Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path).unwrap(),
        Ok(_) => fs::remove_file(&path).unwrap(),
        Err(_) => {}
    }
    let target = match dice.below(5) {
        // The same file of another run, whose hash is right.
        0 | 1 => desk.path("outside").join(name),
        2 => "../".repeat(name.split('/').count()).as_str().into(),
        3 => desk.path(if is_folder { "outside" } else { "outside/canary" }),
        _ => desk.path("outside/new"),
    };
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(&target, &path).unwrap();
    let before = state(&desk.path("outside"));
    let force = if dice.below(3) == 0 || line.starts_with("skn-report") { "" } else { " --force" };
    let line = format!("{line}{force}");
    let said = desk.run(&line);
    let told = format!("run/{name} -> {}\n{line}\n{}", target.display(), said.stderr);
    assert!(state(&desk.path("outside")) == before, "something was written outside: {told}");
    refused(&said, &told)
}

/// Files of a snapshot, by what it is of.
const OF_MODEL: [&str; 4] = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

pub(super) fn of_a_snapshot(base: &Base, dice: &mut Dice) -> String {
    let desk = Desk::new();
    write(&desk.path("texts"), "a film\n");
    let data = dice.below(2) == 0;
    let (kind, from) = if data { ("datasets", "data") } else { ("models", "model") };
    let repository = format!("cache/hub/{kind}--a--b");
    let snapshot = format!("{repository}/snapshots/0123abcd");
    copy(&base.path(from), &desk.path(&snapshot));
    write(&desk.path(&format!("{repository}/refs/main")), "0123abcd");
    copy(&base.path(from), &desk.path("outside"));
    let name = if data {
        dice.one_of(&["train/data-00000-of-00001.arrow", "train/state.json", "dataset_dict.json", "train"])
    } else {
        dice.one_of(&OF_MODEL)
    };
    let path = desk.path(&snapshot).join(name);
    if path.is_dir() {
        fs::remove_dir_all(&path).unwrap()
    } else {
        fs::remove_file(&path).unwrap()
    }
    let outside = desk.path("outside").join(name);
    // From the folder of the link up to the desk: the repository's folder is three below it.
    let up = "../".repeat(5 + name.split('/').count() - 1);
    let target = match dice.below(4) {
        0 => outside.clone(),
        1 => format!("{up}outside/{name}").into(),
        // By way of a link that lies where contents lie.
        2 => {
            fs::create_dir_all(desk.path(&format!("{repository}/blobs"))).unwrap();
            let blob = desk.path(&format!("{repository}/blobs/4d7a"));
            symlink(&outside, &blob).unwrap();
            blob
        }
        // Another repository of the same cache is not this one.
        _ => {
            let other = desk.path(&format!("cache/hub/{kind}--a--b-other/blobs"));
            copy(&base.path(from), &other);
            other.join(name)
        }
    };
    symlink(&target, &path).unwrap();
    let line = if data {
        "skn-train --model demo --task sst2 --prompt_size 2 --max-steps 1 --threads 1 --save_to out --data a/b"
    } else {
        "skn-predict --model a/b --task sst2 --prompt_size 2 --threads 1 --input texts"
    };
    let before = state(&desk.path("outside"));
    let said = desk.run(line);
    let told = format!("{name} -> {}\n{line}\n{}", target.display(), said.stderr);
    assert!(path.exists(), "the link leads to nothing: {told}");
    assert!(state(&desk.path("outside")) == before, "something was written outside: {told}");
    assert!(!desk.path("out").exists(), "something is left: {told}");
    assert_eq!(said.code, 3, "{told}");
    refused(&said, &told)
}

fn refused(said: &Said, told: &str) -> String {
    match said.code {
        0 => "done without it".into(),
        2 | 3 => "refused".into(),
        code => panic!("exit code {code}: {told}"),
    }
}
