//! What every program says of itself.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use support::{Desk, walk, write};

fn programs() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    std::fs::read_dir(folder).unwrap().map(|entry| name(&entry.unwrap().path())).collect()
}

#[test]
fn the_version_says_more_where_it_is_asked_to() {
    let desk = Desk::new();
    let programs = programs();
    assert!(programs.len() > 10, "{programs:?}");
    for program in programs {
        let short = desk.ok(&format!("{program} --version"));
        assert_eq!(short, format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
        for line in ["--version -v", "-V --verbose", "-vV", "-v --version"] {
            let long = desk.ok(&format!("{program} {line}"));
            assert!(long.starts_with(&short), "{program} {line}: {long}");
            let names: Vec<&str> =
                long.lines().skip(1).map(|line| line.split_once(": ").unwrap().0).collect();
            let expected =
                ["commit", "target", "build", "compiler", "processors", "instructions", "kernels", "devices"];
            assert_eq!(names, expected, "{program} {line}");
        }
        let long = desk.ok(&format!("{program} --version -v"));
        let of = |name: &str| long.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
        assert!(of("target").starts_with(std::env::consts::ARCH), "{long}");
        assert!(of("compiler").starts_with("rustc 1."), "{long}");
        assert!(of("build").contains("opt-level"), "{long}");
        assert!(of("kernels").starts_with(std::env::consts::ARCH), "{long}");
        assert_eq!(of("instructions").contains("avx512f"), of("kernels").contains("avx512"), "{long}");
    }
}

/// Every file below a folder, with its content.
fn all_of(desk: &Desk) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    walk(&desk.path(""), "", &mut |name, path| {
        found.insert(name.to_owned(), std::fs::read(path).unwrap());
    });
    found
}

/// A dry run that must succeed and leave everything as it was; what it says as JSON.
fn dry(desk: &Desk, line: &str) -> Value {
    let before = all_of(desk);
    let said = desk.ok(&format!("{line} --dry-run --json"));
    assert!(before == all_of(desk), "{line}: a file was written or changed");
    assert!(!desk.ok(&format!("{line} --dry-run")).is_empty());
    serde_json::from_str(&said).unwrap()
}

fn texts_of(said: &Value, what: &str) -> u64 {
    let work = said["work"].as_array().unwrap();
    let found = work.iter().find(|work| work["what"] == what);
    found.unwrap_or_else(|| panic!("{what} in {said:#}"))["texts"].as_u64().unwrap()
}

/// The paths that a dry run says would be written, in the desk's folder.
fn planned(said: &Value) -> BTreeMap<String, Option<u64>> {
    let files = said["writes"].as_array().unwrap().iter();
    files.map(|file| (file["path"].as_str().unwrap().to_owned(), file["bytes"].as_u64())).collect()
}

#[test]
fn a_dry_run_tells_what_the_stage_then_does() {
    let desk = Desk::new();
    let of_run = |line: &str, planned: BTreeMap<String, Option<u64>>| {
        desk.ok(line);
        for (path, bytes) in planned {
            // A checkpoint before the last is there only if there were two.
            if path.contains("checkpoint") {
                continue;
            }
            let length =
                desk.path(&path).metadata().unwrap_or_else(|error| panic!("{line}: {path}: {error}")).len();
            // Records have numbers of more or fewer digits; what grows with texts is scaled from some.
            let away = match path.ends_with(".safetensors") {
                true if path.contains("_fire") => length / 3,
                true => 64,
                false => length / 2,
            };
            assert!(
                bytes.is_none_or(|bytes| bytes.abs_diff(length) <= away),
                "{line}: {path}: {bytes:?} told, {length} written"
            );
        }
    };
    let train =
        "skn-train --model demo --task sentiment --epoch 1 --lr 0.005 --batch 16 --max-steps 20 --out run";
    let said = dry(&desk, train);
    assert_eq!(texts_of(&said, "training"), 320, "20 steps of 16 rows");
    assert_eq!(texts_of(&said, "evaluating dev"), 320, "once, at the end");
    assert!(said["reads"].as_array().unwrap().iter().any(|read| read["name"] == "model demo"), "{said:#}");
    assert!(
        said["seconds"].as_f64().unwrap() > 0.0 && said["memory"].as_u64().unwrap() > 1 << 20,
        "{said:#}"
    );
    of_run(train, planned(&said));

    let probe = "skn-probe -p --resume_from run --probe_type acc,acc_mean --fire-bits --out run";
    let said = dry(&desk, probe);
    assert_eq!((texts_of(&said, "averaging"), texts_of(&said, "counting")), (960, 320 + 480));
    assert!(planned(&said).contains_key("run/sentiment/dev_fire.safetensors"), "{said:#}");
    of_run(probe, planned(&said));
    let said = dry(&desk, "skn-probe -p --resume_from run --probe_type acc --rank l1 --out run --force");
    assert_eq!(texts_of(&said, "reading activations"), 960 + 320, "each part by its own number of texts");
    desk.ok("skn-select -a run/sentiment/dev_perf --shares 0.1,0.2 --out run");

    let mask = "skn-mask -p --resume_from run --info_path run/info/sentiment/0.1,run/info/sentiment/0.2 --type zero --cmp \
                --draws 2 --out run";
    let said = dry(&desk, mask);
    // As it is, and for each mask itself and two draws.
    assert_eq!(texts_of(&said, "evaluating"), 7 * 480);
    of_run(mask, planned(&said));

    let prune = "skn-prune --resume_from run --info_path run/info/sentiment/0.1 --ths_path run/sentiment/train_avg --out small";
    let said = dry(&desk, prune);
    assert!(planned(&said).contains_key("small/best/model.safetensors"), "{said:#}");
    assert_eq!(texts_of(&said, "evaluating"), 2 * 320, "full and pruned; what packs the weights is not told");
    of_run(prune, planned(&said));

    // A backbone of full width goes with its prompt, which has a folder of its own.
    desk.ok(&format!("{prune} --dense").replace("--out small", "--out dense"));
    let tune = "skn-train -p --resume_from dense --out again";
    let said = dry(&desk, tune);
    assert_eq!(texts_of(&said, "training"), 6 * 960, "as many epochs as of a demo whose layers are narrower");
    for name in ["model.safetensors", "config.json", "tokenizer.json", "tuned/adapter_config.json"] {
        assert!(planned(&said).contains_key(&format!("again/best/{name}")), "{name}: {said:#}");
    }
    of_run(&format!("{tune} --max-steps 2"), planned(&said));
}

#[test]
fn a_dry_run_of_a_forced_chain_is_of_the_rows_that_it_would_take() {
    let desk = Desk::new();
    let task = "name = \"reviews\"\ntext = [\"review\"]\nlabel = \"stars\"\nlabels = [\"negative\", \"positive\"]\n\
                [label_map]\ndown = 0\nup = 1\n[splits]\ntrain = \"train\"\ntest = \"test\"\n";
    write(&desk.path("reviews.toml"), task);
    for (split, rows) in [("train", 60), ("test", 20)] {
        let line = |row: usize| {
            let (word, stars) = [("awful", "down"), ("good", "up")][row % 2];
            format!("{{\"stars\": \"{stars}\", \"review\": \"the soup was {word} , no {row}\"}}\n")
        };
        write(&desk.path(&format!("reviews/{split}.jsonl")), (0..rows).map(line).collect::<String>());
    }
    // Without dev the seed takes a fifth of train.
    let data = "--model demo --task-file reviews.toml --data reviews --out run";
    desk.ok(&format!("skn-train {data} --seed 1 --max-steps 1"));
    desk.fails(&format!("skn-probe {data} --dry-run"), 3, &["split.json", "can't be compared"]);
    let said = desk.ok(&format!("skn-run {data} --force --dry-run --json"));
    let said: Value = serde_json::from_str(&said).unwrap();
    let replaces = |file: &Value| file["path"] == "run/split.json" && file["replaces"] == true;
    assert!(said["writes"].as_array().unwrap().iter().any(replaces), "{said:#}");
}

#[test]
fn options_of_a_prompt_are_told_of_where_what_is_loaded_leaves_no_place_for_them() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --model_type RobertaBias --max-steps 1 --out run");
    let said = desk.run("skn-evaluate --resume_from run --prompt_size 5 --prompt_place front");
    assert_eq!(said.code, 0, "{}", said.stderr);
    for flag in ["--prompt_size", "--prompt_place"] {
        let warned = format!("{flag}: RobertaBias, as it was loaded, has no prompt");
        assert_eq!(said.stderr.matches(&warned).count(), 1, "{}", said.stderr);
    }
    let written = desk.run("skn-train --resume_from run --prompt_text good --max-steps 1 --out other");
    assert_eq!(written.code, 2, "{}", written.stderr);
    let expected = "--resume_from takes a tuned prompt; expected one of them";
    assert!(written.stderr.contains(expected), "{}", written.stderr);
}

#[test]
fn a_dry_run_refuses_what_the_stage_would_refuse() {
    let desk = Desk::new();
    let train = "skn-train --model demo --task sentiment --epoch 1 --max-steps 2 --out run";
    desk.ok(train);
    desk.fails(&format!("{train} --dry-run"), 3, &["run/best", "exists", "--force"]);
    let said = dry(&desk, &format!("{train} --force"));
    let replaces = |file: &Value| file["replaces"] == true;
    assert!(said["writes"].as_array().unwrap().iter().any(replaces), "{said:#}");
    desk.fails("skn-probe -p --resume_from nowhere --out run --dry-run", 3, &["nowhere"]);
    desk.fails("skn-mask -p --resume_from run --info_path nothing --out run --dry-run", 3, &["nothing"]);
    desk.fails("skn-run --out run --dry-run", 3, &["a run is there"]);
    desk.fails("skn-run --untuned --dry-run", 2, &["--dry-run"]);
    desk.fails("skn-run --out run --resume --dry-run", 2, &["--resume", "--dry-run"]);
    desk.fails(&format!("{train} --resume --dry-run"), 2, &["--resume", "--dry-run"]);
}

#[test]
fn a_dry_run_of_the_chain_knows_every_step() {
    let desk = Desk::new();
    let said = dry(&desk, "skn-run --out run --epoch 1 --draws 2 --shares 0.1,0.3");
    let steps = said["work"].as_array().unwrap();
    let numbers: Vec<&str> =
        steps.iter().map(|step| step["what"].as_str().unwrap().split('/').next().unwrap()).collect();
    assert_eq!(numbers, ["1", "2", "3", "3", "4", "5", "6", "7", "8", "8", "8", "9"]);
    let of = |what: &str| steps.iter().find(|step| step["what"].as_str().unwrap().ends_with(what)).unwrap();
    assert_eq!(of("/9 tune")["texts"], 960 + 320);
    // As it is, two masks with two draws each, and two draws of matched variance for one.
    assert_eq!(of("perturb")["texts"], (1 + 2 * 3 + 2) * 480);
    assert_eq!(of("perturb")["timed"], false);
    assert!(of("select")["seconds"].is_null());
    let timed = steps.iter().filter_map(|step| step["seconds"].as_f64()).sum::<f64>();
    assert!((said["seconds"].as_f64().unwrap() - timed).abs() < 1e-6);
    assert!(!desk.path("run").exists());
}
