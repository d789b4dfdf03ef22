//! `--dry-run`: what a program would do, and nothing done.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::runs::{model, of_sentiment, rows};
use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use support::{Desk, walk, write};

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
    let told: Value = serde_json::from_str(&said).unwrap();
    // As text it is a rehearsal of its own: of a program that needs a model once.
    static AS_TEXT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let program = line.split(' ').next().unwrap().to_owned();
    let is_new = AS_TEXT.lock().unwrap_or_else(PoisonError::into_inner).insert(program);
    if is_new || told["rehearsed_with"].is_null() {
        assert!(!desk.ok(&format!("{line} --dry-run")).is_empty(), "{line}");
    }
    told
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
    let data = of_sentiment(&desk, [480, 160, 240]);
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
        format!("skn-train {data} --prompt_size 3 --epoch 1 --lr 0.005 --batch 16 --max-steps 20 --out run");
    let said = dry(&desk, &train);
    assert_eq!(texts_of(&said, "training"), 320, "20 steps of 16 rows");
    assert_eq!(texts_of(&said, "evaluating dev"), 160, "once, at the end");
    assert!(said["reads"].as_array().unwrap().iter().any(|read| read["name"] == "model demo"), "{said:#}");
    assert!(
        said["seconds"].as_f64().unwrap() > 0.0 && said["memory"].as_u64().unwrap() > 1 << 20,
        "{said:#}"
    );
    of_run(&train, planned(&said));

    let probe = "skn-probe -p --resume_from run --probe_type acc,acc_mean --fire-bits --out run";
    let said = dry(&desk, probe);
    assert_eq!((texts_of(&said, "averaging"), texts_of(&said, "counting")), (480, 160 + 240));
    assert!(planned(&said).contains_key("run/sentiment/dev_fire.safetensors"), "{said:#}");
    of_run(probe, planned(&said));
    let said = dry(&desk, "skn-probe -p --resume_from run --probe_type acc --rank l1 --out run --force");
    assert_eq!(texts_of(&said, "reading activations"), 480 + 160, "each part by its own number of texts");
    desk.ok("skn-select -a run/sentiment/dev_perf --shares 0.1,0.2 --out run");

    let mask = "skn-mask -p --resume_from run --info_path run/info/sentiment/0.1,run/info/sentiment/0.2 --type zero --cmp \
                --draws 2 --out run";
    let said = dry(&desk, mask);
    // As it is, and for each mask itself and two draws.
    assert_eq!(texts_of(&said, "evaluating"), 7 * 240);
    of_run(mask, planned(&said));

    let prune = "skn-prune --resume_from run --info_path run/info/sentiment/0.1 --ths_path run/sentiment/train_avg --out small";
    let said = dry(&desk, prune);
    assert!(planned(&said).contains_key("small/best/model.safetensors"), "{said:#}");
    assert_eq!(texts_of(&said, "evaluating"), 2 * 160, "full and pruned; what packs the weights is not told");
    of_run(prune, planned(&said));

    // A backbone of full width goes with its prompt, which has a folder of its own.
    desk.ok(&format!("{prune} --dense").replace("--out small", "--out dense"));
    let tune = "skn-train -p --resume_from dense --out again";
    let said = dry(&desk, tune);
    assert_eq!(texts_of(&said, "training"), 6 * 480, "as many epochs as of a demo whose layers are narrower");
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
fn a_dry_run_refuses_what_the_stage_would_refuse() {
    let desk = Desk::new();
    let train = "skn-train --model demo --task sentiment --prompt_size 3 --epoch 1 --max-steps 2 --out run";
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
    let data = of_sentiment(&desk, [96, 32, 48]);
    let said = dry(&desk, &format!("skn-run {data} --out run --epoch 1 --draws 2 --shares 0.1,0.3"));
    let steps = said["work"].as_array().unwrap();
    let numbers: Vec<&str> =
        steps.iter().map(|step| step["what"].as_str().unwrap().split('/').next().unwrap()).collect();
    assert_eq!(numbers, ["1", "2", "3", "3", "4", "5", "6", "7", "8", "8", "8", "9"]);
    let of = |what: &str| steps.iter().find(|step| step["what"].as_str().unwrap().ends_with(what)).unwrap();
    assert_eq!(of("/9 tune")["texts"], 96 + 32);
    // As it is, two masks with two draws each, and two draws of matched variance for one.
    assert_eq!(of("perturb")["texts"], (1 + 2 * 3 + 2) * 48);
    assert_eq!(of("perturb")["timed"], false);
    assert!(of("select")["seconds"].is_null());
    let timed = steps.iter().filter_map(|step| step["seconds"].as_f64()).sum::<f64>();
    assert!((said["seconds"].as_f64().unwrap() - timed).abs() < 1e-6);
    assert!(!desk.path("run").exists());
}

/// Runs what a dry run told of, and compares each file's length, to the byte but for what has a time in it.
fn does_what_it_told(desk: &Desk, line: &str, said: &Value) {
    desk.ok(line);
    for (path, bytes) in planned(said) {
        let length =
            desk.path(&path).metadata().unwrap_or_else(|error| panic!("{line}: {path}: {error}")).len();
        assert!(
            bytes.is_none_or(|bytes| bytes == length),
            "{line}: {path}: {bytes:?} told, {length} written"
        );
    }
}

/// What a stage has noted that it read, with hashes.
fn noted(desk: &Desk, run: &str, entry: &str) -> BTreeMap<String, String> {
    let inputs = &desk.json(&format!("{run}/run.json"))["stages"][entry]["inputs"];
    serde_json::from_value(inputs.clone()).unwrap_or_else(|error| panic!("{entry}: {error}"))
}

/// What a dry run says would be read, with hashes.
fn reads(said: &Value) -> BTreeMap<String, String> {
    let text = |read: &Value, field: &str| read[field].as_str().unwrap_or_default().to_owned();
    said["reads"].as_array().unwrap().iter().map(|read| (text(read, "name"), text(read, "sha256"))).collect()
}

#[test]
fn a_dry_run_without_a_model_tells_of_every_file() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --prompt_size 3 --max-steps 2 --bz 4 --out run");
    desk.ok("skn-probe --resume_from run --splits train --out run");
    for shard in ["1/2", "2/2"] {
        desk.ok(&format!("skn-probe --resume_from run --splits dev,test --shard {shard} --out run"));
    }
    let merge = "skn-merge --out run";
    let said = dry(&desk, merge);
    let files = ["dev_perf", "test_perf"].map(|name| format!("run/sentiment/{name}.safetensors"));
    assert!(files.iter().all(|file| planned(&said).contains_key(file)), "{said:#}");
    assert!(said["rehearsed_with"].is_null() && said["seconds"].as_f64().unwrap() > 0.0, "{said:#}");
    let of_shard = desk.path("run/shards/1-of-2/sentiment/dev_perf.safetensors").metadata().unwrap().len();
    let read = said["reads"].as_array().unwrap().iter().find(|read| read["bytes"] == of_shard);
    assert!(read.is_some_and(|read| read["name"].as_str().unwrap().starts_with("shards/")), "{said:#}");
    does_what_it_told(&desk, merge, &said);
    let merged = &desk.json("run/run.json")["stages"];
    let entry = merged.as_object().unwrap().keys().find(|entry| entry.starts_with("merge")).unwrap();
    assert_eq!(reads(&said), noted(&desk, "run", entry));
    let again = dry(&desk, merge);
    assert!(
        planned(&again).is_empty() && again["notes"][0].as_str().unwrap().contains("merged already"),
        "{again:#}"
    );

    let select = "skn-select -a run/sentiment/dev_perf --shares 0.1,0.2 --fdr 0.05 --out run";
    let said = dry(&desk, select);
    does_what_it_told(&desk, select, &said);
    assert_eq!(reads(&said), noted(&desk, "run", "select sentiment"));
    desk.fails(&format!("{select} --dry-run"), 3, &["0.1.safetensors", "exists", "--force"]);
    let replaces = |said: &Value| {
        said["writes"].as_array().unwrap().iter().filter(|file| file["replaces"] == true).count()
    };
    assert_eq!(replaces(&dry(&desk, &format!("{select} --force"))), planned(&said).len());

    let report = "skn-report run --csv tables --figures drawn";
    let said = dry(&desk, report);
    for file in ["run/report.html", "tables/sentiment-predictivity.csv", "drawn/sentiment-predictivity.svg"] {
        assert!(planned(&said).contains_key(file), "{file}: {said:#}");
    }
    does_what_it_told(&desk, report, &said);
    assert_eq!(reads(&said), noted(&desk, "run", "report"));
    desk.fails(
        "skn-report run --force --csv run.csv --out page.html --dry-run",
        2,
        &["--out: goes with several"],
    );
    std::fs::remove_file(desk.path("run/report.html")).unwrap();
    desk.fails("skn-report run --csv tables --dry-run", 3, &["tables", "exists"]);

    support::copy(&desk.path("run"), &desk.path("other"));
    let compare = "skn-report run other --out page.html --csv compared";
    let said = dry(&desk, compare);
    assert!(
        said["run"].is_null() && reads(&said).contains_key("other/sentiment/dev_perf.safetensors"),
        "{said:#}"
    );
    does_what_it_told(&desk, compare, &said);
}

#[test]
fn a_dry_run_of_an_evaluation_and_of_answers() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --prompt_size 3 --max-steps 2 --bz 4 --out run");
    let said = dry(&desk, "skn-evaluate --resume_from run");
    assert_eq!((texts_of(&said, "evaluating"), planned(&said).len()), (480, 0));
    assert!(said["run"].is_null() && reads(&said).contains_key("model demo"), "{said:#}");
    let calibrate = "skn-evaluate --resume_from run --calibrate --out run";
    let said = dry(&desk, calibrate);
    assert_eq!(texts_of(&said, "evaluating"), 480 + 320, "test, and dev to fit on");
    let expected = ["run/calibration.json", "run/run.json", "run/sentiment/test_evaluation.json"];
    assert_eq!(planned(&said).into_keys().collect::<Vec<_>>(), expected);
    desk.ok(calibrate);
    assert_eq!(reads(&said), noted(&desk, "run", "calibrate"));
    desk.fails(&format!("{calibrate} --dry-run"), 3, &["exists", "--force"]);

    let rows: String = (0..300).map(|row| format!("{row},the soup was good .\n")).collect();
    write(&desk.path("rows.csv"), format!("id,review\n{rows}301,\n"));
    let predict = "skn-predict --resume_from run --calibrated --input rows.csv --column review";
    let said = dry(&desk, &format!("{predict} --on-error skip"));
    assert_eq!((texts_of(&said, "evaluating"), planned(&said).len()), (300, 0));
    let note = said["notes"][0].as_str().unwrap();
    assert_eq!(note, "rows.csv: 300 texts, and 1 record that would be passed over");
    let bytes = desk.path("rows.csv").metadata().unwrap().len();
    let input = said["reads"].as_array().unwrap().iter().find(|read| read["name"] == "rows.csv").unwrap();
    assert_eq!(input["bytes"], bytes);
    assert!(reads(&said).contains_key("run/calibration.json"), "{said:#}");
    desk.fails(&format!("{predict} --dry-run"), 3, &["rows.csv: line 302", "expected a text"]);
    desk.fails(&format!("{} --dry-run", predict.replace("review", "body")), 3, &["rows.csv", "body"]);
    let unread = dry(&desk, "skn-predict --resume_from run");
    let work = unread["work"].as_array().unwrap();
    assert!(work[1]["texts"].is_null() && work[1]["seconds"].is_null(), "{unread:#}");
    assert!(unread["notes"][0].as_str().unwrap().contains("not known"), "{unread:#}");
    assert!(desk.ok("skn-predict --resume_from run --dry-run").contains("not known"));
}

#[test]
fn a_dry_run_of_what_makes_data() {
    let desk = Desk::new();
    let pretrain = "skn-pretrain --steps 2 --batch 3 --shape 8,2,16,1 --report-every 1 --out made";
    let said = dry(&desk, pretrain);
    assert_eq!(texts_of(&said, "pre-training"), 2 * 3);
    assert!(planned(&said).contains_key("made/model/model.safetensors"), "{said:#}");
    does_what_it_told(&desk, pretrain, &said);
    desk.fails(&format!("{pretrain} --dry-run"), 3, &["made/tasks", "exists"]);
    let tasks = dry(&desk, &format!("{pretrain} --force --without-model"));
    assert!(
        planned(&tasks).keys().all(|path| !path.ends_with("weights"))
            && tasks["work"].as_array().unwrap().len() == 1
    );

    let task = "name = \"moods\"\ntext = [\"text\"]\nlabel = \"mood\"\nlabels = [\"negative\", \"neutral\", \"positive\"]\n\
                names = [\"negative\", \"neutral\", \"positive\"]\n[splits]\ntrain = \"train\"\ntest = \"test\"\n";
    write(&desk.path("moods.toml"), task);
    for split in ["train", "test"] {
        let row = |row: usize| format!("{{\"mood\": {}, \"text\": \"text {row} of {split}\"}}\n", row % 3);
        write(&desk.path(&format!("moods/{split}.jsonl")), (0..30).map(row).collect::<String>());
    }
    let binarize = "skn-binarize --task-file moods.toml --data moods --out two";
    let said = dry(&desk, binarize);
    assert!(planned(&said).contains_key("two/moods-pn.toml"), "{said:#}");
    assert!(reads(&said).contains_key("data moods"), "{said:#}");
    does_what_it_told(&desk, binarize, &said);
    let written = walk_names(&desk, "two");
    assert_eq!(planned(&said).into_keys().collect::<Vec<_>>(), written, "every file, and no other");
}

/// The files below a folder of the desk, by their paths in the desk.
fn walk_names(desk: &Desk, folder: &str) -> Vec<String> {
    let mut names = Vec::new();
    walk(&desk.path(folder), "", &mut |name, _| names.push(format!("{folder}/{name}")));
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}

#[test]
fn a_dry_run_of_experiments_knows_every_step() {
    let desk = Desk::new();
    rows(&desk.path("topic"), "topic", [240, 80, 120], 0);
    model(&desk.path("model"));
    let experiment = "skn-experiment seeds --model model --tasks topic --data topic --seeds 2 --epoch 1 --shares 0.3 --out all";
    let said = dry(&desk, experiment);
    assert!(!desk.path("all").exists());
    let steps = said["work"].as_array().unwrap();
    let of = |what: &str| {
        steps.iter().find(|step| step["what"] == what).unwrap_or_else(|| panic!("{what}: {said:#}"))
    };
    assert_eq!(of("1/6 tune topic-seed-0")["timed"], true);
    assert_eq!(of("4/6 tune topic-seed-1")["timed"], false);
    assert_eq!(of("4/6 tune topic-seed-1")["texts"], 240 + 80);
    assert!(of("3/6 select topic-seed-0")["seconds"].is_null());
    assert_eq!(steps.len(), 6);
    desk.ok(experiment);
    for path in planned(&said).into_keys().filter(|path| !path.contains("checkpoint")) {
        assert!(desk.path(&path).is_file(), "{path}");
    }
    assert!(planned(&said).contains_key("all/topic-seed-1/topic/dev_perf.safetensors"), "{said:#}");
    desk.fails(&format!("{experiment} --dry-run"), 3, &["a run is there", "--force"]);
    desk.fails("skn-experiment --resume --dry-run", 2, &["--resume", "--dry-run"]);
}

#[test]
fn a_dry_run_of_experiments_counts_passes() {
    let desk = Desk::new();
    for task in ["topic", "sentiment"] {
        rows(&desk.path(task), task, [96, 32, 48], 0);
    }
    model(&desk.path("model"));
    let before = desk.contents("");
    let said = desk.ok(
        "skn-experiment methods,curves,transfer --model model --tasks topic,sentiment --data topic,sentiment --seeds 1 --epoch 1 \
         --shares 0.1,0.3 --alphas 0.5 --draws 2 --out all --dry-run --json",
    );
    let said: Value = serde_json::from_str(&said).unwrap();
    let work = said["work"].as_array().unwrap();
    let of = |end: &str| {
        let found = work.iter().find(|step| step["what"].as_str().unwrap().ends_with(end));
        found.unwrap_or_else(|| panic!("{end}: {said:#}"))
    };
    // As it is, and two masks with two draws of random neurons each; of the lowest and of another task's neurons masks alone.
    assert_eq!(of("perturb topic-seed-0/curves/shares")["texts"], (1 + 2 * 3) * 48);
    assert_eq!(of("perturb topic-seed-0/curves/shares-others")["texts"], (1 + 2 + 2) * 48);
    assert_eq!(of("select topic-seed-0 (topic-lowest)")["seconds"], Value::Null);
    assert_eq!(of("tune topic-bitfit")["timed"], true);
    assert_eq!(
        of("tune sentiment-bitfit")["timed"],
        false,
        "reckoned from how much longer it takes for topic"
    );
    assert_eq!(of("perturb topic-adapter")["texts"], (1 + 3) * 48);
    assert_eq!(of("measure transfer/sentiment-to-topic")["texts"], 2 * 48);
    assert!(desk.contents("") == before, "nothing is written");
}
