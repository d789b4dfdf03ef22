//! The same command gives the same bytes: for any number of threads, texts at once and shards, and from any folder.

use crate::support;

use std::collections::BTreeMap;
use std::fs;

use support::Desk;

const PROBE: &str = "--task sentiment --model demo --probe_type acc,acc_mean,acc_max,pos --pos 2,7";

fn changed(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

#[test]
fn threads_and_batches_change_nothing() {
    let desk = Desk::new();
    for (out, flags) in [("a", "--threads 1"), ("b", "--threads 3")] {
        desk.ok(&format!(
            "skn-train --model demo --task sentiment --epoch 1 --max-steps 12 --save_to {out} {flags}"
        ));
        let batch = if out == "b" { "--bz 3" } else { "" };
        desk.ok(&format!("skn-probe -p --resume_from {out} --save_to {out} {flags} {batch}"));
        desk.ok(&format!("skn-select -a {out}/sentiment/dev_perf --save_to {out}"));
        let mask =
            format!("skn-mask -p --resume_from {out} --info_path {out}/info/sentiment/0.1 --save_to {out}");
        desk.ok(&format!("{mask} --cmp --draws 2 {flags} {batch}"));
        desk.ok(&format!(
            "skn-prune --resume_from {out} --info_path {out}/info/sentiment/0.1 --ths_path {out}/sentiment/train_avg \
             --save_to {out}/pruned {flags}"
        ));
    }
    let (a, b) = (desk.contents("a"), desk.contents("b"));
    assert!(a.len() > 30, "{:?}", a.keys());
    assert_eq!(changed(&a, &b), [""; 0]);
}

#[test]
fn folder_locale_and_time_zone_change_nothing() {
    let desk = Desk::original();
    fs::create_dir(desk.path("elsewhere")).unwrap();
    let lines = [
        "skn-train --data_path BASE/data/raw/sst2 --save_to OUT --bz 64 --epoch 1",
        "skn-probe -p --resume_from OUT --save_to OUT --probe_type acc,speed --repeats 1",
        "skn-select -a OUT/sst2/dev_perf --save_to OUT --shares 0.1",
        "skn-mask -p --resume_from OUT --save_to OUT --info_path OUT/info/sst2/0.1 --cmp --draws 2",
        "skn-prune --resume_from OUT --info_path OUT/info/sst2/0.1 --ths_path OUT/sst2/train_avg --save_to OUT/pruned",
    ];
    for (folder, base, out) in [(".", ".", "a"), ("elsewhere", "..", "../b")] {
        for line in lines {
            let line = line.replace("BASE", base).replace("OUT", out);
            let words: Vec<&str> = line.split(' ').collect();
            let mut command = desk.command(words[0], &words[1..]);
            command.current_dir(desk.path(folder));
            if out != "a" {
                command.envs([("LC_ALL", "tr_TR.UTF-8"), ("TZ", "Pacific/Auckland")]);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    assert_eq!(changed(&desk.contents("a"), &desk.contents("b")), [""; 0]);
}

#[test]
fn sixteen_bits_find_nearly_the_same_neurons() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --epoch 2 --bz 16 --lr 0.005 --save_to run");
    let probe = "skn-probe -p --resume_from run --probe_type acc,speed --repeats 1 --save_to";
    let marked = |out: &str| -> Vec<Vec<u32>> {
        desk.ok(&format!("skn-select -a {out}/sentiment/dev_perf --save_to {out} --shares 0.1"));
        let path = desk.path(&format!("{out}/info/sentiment/0.1.safetensors"));
        skn_select::Mask::read(&skn_artifact::TensorFile::read(&path).unwrap()).unwrap().neurons()
    };
    desk.ok(&format!("{probe} f32"));
    desk.ok(&format!("{probe} bf16 --dtype bf16"));
    let [exact, rounded] =
        ["f32", "bf16"].map(|run| desk.json(&format!("{run}/sentiment/inference_perf.json")));
    let score = |perf: &serde_json::Value| perf["test_score"].as_f64().unwrap();
    assert!((score(&exact) - score(&rounded)).abs() < 0.03, "{exact} {rounded}");
    assert_ne!(exact["test_loss"], rounded["test_loss"], "it is another arithmetic");
    let (exact, rounded) = (marked("f32"), marked("bf16"));
    let common = |(exact, rounded): (&Vec<u32>, &Vec<u32>)| {
        exact.iter().filter(|neuron| rounded.contains(neuron)).count()
    };
    let both: usize = exact.iter().zip(&rounded).map(common).sum();
    let all: usize = exact.iter().map(Vec::len).sum();
    assert!(both * 10 >= all * 7, "{both} of {all} neurons are marked either way");
    let dev = "skn-probe -p --resume_from run --splits dev --force --save_to";
    desk.fails(&format!("{dev} bf16"), 3, &["train_avg.safetensors", "expected f32", "found bf16"]);
    desk.fails(
        &format!("{dev} f32 --dtype bf16"),
        3,
        &["train_avg.safetensors", "expected bf16", "found f32"],
    );
    assert_eq!(desk.json("bf16/run.json")["stages"]["probe acc,speed"]["settings"]["dtype"], "bf16");
}

#[test]
fn shards_are_the_whole() {
    let desk = Desk::new();
    desk.ok(&format!("skn-probe {PROBE} --save_to whole"));
    let shard = |count: usize, index: usize, splits: &str| {
        desk.ok(&format!(
            "skn-probe {PROBE} --save_to parts{count} --shard {index}/{count} --splits {splits}"
        ));
    };
    for count in [2, 3] {
        (1..=count).rev().for_each(|index| shard(count, index, "train"));
        desk.ok(&format!("skn-merge --save_to parts{count}"));
        (1..=count).for_each(|index| shard(count, index, "dev,test"));
        let said = desk.ok(&format!("skn-merge --save_to parts{count}"));
        assert!(said.contains(&format!("merged {count} shards")) && !said.contains("train_avg"), "{said}");
        let said = desk.ok(&format!("skn-merge --save_to parts{count}"));
        assert!(said.contains("merged already"), "{said}");
        fs::remove_dir_all(desk.path(&format!("parts{count}/shards"))).unwrap();
        let changed = changed(&desk.contents("whole"), &desk.contents(&format!("parts{count}")));
        assert_eq!(changed, [""; 0], "{count} shards");
        desk.ok(&format!("skn-verify parts{count}"));
    }
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    let desk = Desk::new();
    let acc = "skn-probe --task sentiment --model demo --save_to run";
    desk.fails(&format!("{acc} --shard 1/2"), 2, &["--splits train"]);
    desk.fails(&format!("{acc} --shard 1/2 --probe_type speed"), 2, &["speed"]);
    desk.fails(&format!("{acc} --shard 1/2 --splits dev"), 3, &["train_avg.safetensors"]);
    desk.ok(&format!("{acc} --shard 1/2 --splits train"));
    desk.fails("skn-merge --save_to run", 3, &["missing shards 2/2"]);
    desk.ok(&format!("{acc} --shard 2/2 --splits train --seed 5"));
    desk.fails("skn-merge --save_to run", 3, &["skn.seed"]);
}
