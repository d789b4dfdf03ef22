//! Runs that are there, damaged, locked, or others than they should be.

use std::fs;

use serde_json::json;
use skn_artifact::{Array, TensorBundle};

use super::Reader;
use crate::support::{Desk, copy, write};

#[test]
fn runs() {
    let mut user =
        Reader::new(Desk::new(), "runs", "Runs that are there already, damaged, locked, or not there.");
    let train = "skn-train --model demo --task sentiment --prompt_size 4 --max-steps 3 --out run";
    user.told("A report of nothing", "skn-report run", 3);
    user.told("Nothing to verify", "skn-verify run", 3);
    user.told("Nothing to merge", "skn-merge --out run", 3);
    user.desk.ok(train);
    user.desk.ok("skn-probe -p --resume_from run --out run");
    user.desk.ok("skn-select -a run/sentiment/dev_perf --out run --shares 0.1");
    user.desk.ok("skn-report run");
    copy(&user.desk.path("run"), &user.desk.path("whole"));
    user.told("Tuned already", train, 3);
    user.told("Probed already", "skn-probe -p --resume_from run --out run", 3);
    user.told("Selected already", "skn-select -a run/sentiment/dev_perf --out run --shares 0.1", 3);
    user.told("Drawn already", "skn-report run", 3);
    user.told("A run is there", "skn-run --out run", 3);
    user.told("Another task in a run", "skn-train --model demo --task topic --max-steps 3 --out run", 3);
    user.told("Resumed with another seed", &format!("{train} --resume --seed 3"), 3);
    user.told("Resumed with another batch", &format!("{train} --resume --batch 3"), 3);
    write(&user.desk.path("file"), "");
    user.told("A file in place of the folder", &train.replace("--out run", "--out file"), 3);
    user.told("Figures into a file", "skn-report run --force --figures file", 3);
    user.told("Classes of two", "skn-select -a run/sentiment/dev_perf --out x --class 1", 2);
    user.told("Averages in place of counts", "skn-select -a run/sentiment/train_avg --out x", 3);
    user.told("A mask in place of counts", "skn-select -a run/info/sentiment/0.1 --out x", 3);
    user.told("Counts that are not there", "skn-select -a run/sentiment/dev_mean_perf --out x", 3);
    let long = format!("skn-select -a run/sentiment/dev_perf --out x --task {}", "a".repeat(300));
    user.told("A task of 300 characters", &long, 2);
    user.told("A task elsewhere", "skn-select -a run/sentiment/dev_perf --out x --task ../y", 2);

    let lock = skn_artifact::RunLock::acquire(&user.desk.path("run"), "skn-other").unwrap();
    user.told("Another program works there", &format!("{train} --force"), 6);
    drop(lock);

    // One bit of a file that run.json knows.
    let perf = user.desk.path("run/sentiment/dev_perf.safetensors");
    let mut bytes = fs::read(&perf).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x40;
    write(&perf, &bytes);
    user.told("A file of the run was changed", "skn-select -a run/sentiment/dev_perf --out x", 3);
    user.told("The same, asked for", "skn-verify run", 3);
    write(&user.desk.path("run/metrics.jsonl"), "{\"step\": 1, \"lo");
    user.told("metrics.jsonl breaks off", "skn-report run --force", 3);
    write(&user.desk.path("run/run.json"), "{\"stages\": {");
    user.told("run.json breaks off", "skn-verify run", 3);
    user.told("The same, where it is needed", "skn-probe -p --resume_from run --out x", 3);
    write(&user.desk.path("run/last/checkpoint.safetensors"), "no tensors");
    write(&user.desk.path("run/last/checkpoint.previous.safetensors"), "none either");
    fs::copy(user.desk.path("whole/run.json"), user.desk.path("run/run.json")).unwrap();
    user.told("No checkpoint is whole", &format!("{train} --resume"), 3);
    assert!(!user.desk.path("x").exists(), "nothing is left behind");
    user.finish(26);
}

#[test]
fn shards() {
    let mut user = Reader::new(Desk::new(), "shards", "Parts of a probe that don't fit.");
    let probe = "skn-probe --model demo --task sentiment --out run --splits train --probe_type acc";
    user.desk.ok(&format!("{probe} --shard 1/2"));
    user.told("A part is missing", "skn-merge --out run", 3);
    user.told("A part is there already", &format!("{probe} --shard 1/2"), 3);
    user.told("The first of no parts", &format!("{probe} --shard 1/0"), 2);
    user.told("The part of a job, where there is none", &format!("{probe} --shard auto"), 2);
    fs::create_dir(user.desk.path("run/shards/2-of-2")).unwrap();
    user.told("A part that was begun", "skn-merge --out run", 3);
    user.desk.ok(&format!("{probe} --shard 2/2 --seed 1"));
    user.told("A part of another seed", "skn-merge --out run", 3);
    fs::create_dir(user.desk.path("run/shards/3-of-3")).unwrap();
    user.told("A part of two and one of three", "skn-merge --out run", 3);
    user.finish(7);
}

#[test]
fn masks_and_averages() {
    let mut user = Reader::new(Desk::new(), "masks", "Masks and averages of something else.");
    user.desk.ok("skn-train --model demo --task sentiment --prompt_size 4 --max-steps 1 --out run");
    let mask = "skn-mask -p --resume_from run --out x --info_path mask";
    user.told("No mask there", mask, 3);
    let bools = |layers: usize, width: usize, mark: bool| {
        Array::bool(vec![layers, width], vec![mark; layers * width]).unwrap()
    };
    let marked = |layers: usize, width: usize, mark: bool| {
        let (shape, count) = (vec![layers, width], layers * width);
        let ranks = (0..count).map(|place| (place % width) as i32).collect();
        let mut bundle = TensorBundle::new();
        bundle.insert("mask", bools(layers, width, mark));
        bundle.insert("score", Array::f32(shape.clone(), vec![0.5; count]).unwrap());
        bundle.insert("rank", Array::i32(shape, ranks).unwrap());
        bundle.to_bytes().unwrap()
    };
    let whole = |layers: usize, width: usize| marked(layers, width, true);
    let file = |name: &str, array: Array| {
        let mut bundle = TensorBundle::new();
        bundle.insert(name, array);
        bundle.to_bytes().unwrap()
    };
    write(&user.desk.path("mask.safetensors"), whole(4, 160));
    user.told("A mask of narrower layers", mask, 3);
    write(&user.desk.path("mask.safetensors"), whole(12, 384));
    user.told("A mask of more layers", mask, 3);
    write(&user.desk.path("mask.safetensors"), file("neurons", bools(4, 384, true)));
    user.told("No mask in the file", mask, 3);
    write(&user.desk.path("mask.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:4d\n");
    user.told("What git left", mask, 3);
    write(&user.desk.path("mask.safetensors"), whole(4, 384));
    let held = format!("{mask} --type mean --ths_path averages");
    user.told("No averages there", &held, 3);
    let floats = |shape: Vec<usize>, value: f32| {
        let count = shape.iter().product();
        Array::f32(shape, vec![value; count]).unwrap()
    };
    write(&user.desk.path("averages.safetensors"), file("train_avg", floats(vec![4, 160], 1.0)));
    user.told("Averages of narrower layers", &held, 3);
    write(&user.desk.path("averages.safetensors"), file("train_avg", floats(vec![4, 384], f32::NAN)));
    user.told("Averages that are no numbers", &held, 3);
    let prune = "skn-prune --resume_from run --out x --info_path mask --ths_path averages";
    user.told("The same where a model is pruned", prune, 3);
    user.told("One width in some layers", &format!("{prune} --uniform --low_layer 2"), 2);
    write(&user.desk.path("mask.safetensors"), marked(4, 384, false));
    write(&user.desk.path("averages.safetensors"), file("train_avg", floats(vec![4, 384], 1.0)));
    user.told("One width of no neurons", &format!("{prune} --uniform"), 3);
    write(&user.desk.path("mask.safetensors"), whole(4, 384));
    // Averages that a stranger changed, with their sums beside them.
    user.desk.ok("skn-probe -p --resume_from run --out run --splits train");
    let path = user.desk.path("run/sentiment/train_avg.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    write(&user.desk.path("averages.safetensors"), &bytes);
    user.told("One average that is not its sum's", &held, 3);
    write(&path, &bytes);
    user.told("The same within its run", "skn-probe -p --resume_from run --out run --splits dev", 3);
    user.told("A layer that is none", &format!("{mask} --low_layer 4"), 2);
    user.told("A strength that is no number", &format!("{mask} --alpha nan"), 2);
    assert!(!user.desk.path("x").exists(), "nothing is left behind");
    user.finish(15);
}

#[test]
fn chains() {
    let mut user = Reader::new(Desk::new(), "chains", "Chains that can't go on.");
    user.desk.ok("skn-train --model demo --task sentiment --prompt_size 4 --max-steps 1 --out run");
    user.told("Pruned, in place of tuned", "skn-train -p --resume_from run/prune --out x", 3);
    let mut record = user.desk.json("run/run.json");
    record["stages"]["train"]["inputs"] = json!("none");
    write(&user.desk.path("run/run.json"), record.to_string());
    user.told("A record of another form", "skn-run --model demo --task sentiment --out run --resume", 3);
    user.finish(2);
}
