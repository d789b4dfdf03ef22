//! The original's command lines, as they stand (its programs under our names).

use crate::support;

use support::Desk;

/// What a user of the original types, in order, on a model and data of the right form.
const LINES: &str = "
skn-train --task_type sst2 --data_path data/raw/sst2 --save_to example --bz 128 --eval_every_step 2000 --model_type RobertaPrompt
skn-train --task_type sst2 --data_path data/raw/sst2 --save_to example --bz 128 --eval_every_step 2000 --model_type RobertaPrompt --resume_from example -p
skn-probe --resume_from example --data_path data/raw/sst2 --save_to example --probe_type acc --bz 16 -p --task_type sst2 --model_type RobertaPrompt
skn-select --save_to example -a example/sst2/dev_perf
skn-mask --info_path example/info/sst2/0.1 --resume_from example --data_path data/raw/sst2 --save_to example --bz 16 -p --cmp
skn-prune --info_path example/info/sst2/0.02 --ths_path example/sst2/train_avg --save_to example/prune --resume_from example/best-backbone
skn-probe -p --resume_from example/prune --model_type RobertaPrunePrompt --save_to example/prune --probe_type speed --data_path data/raw/sst2
skn-train -p --resume_from example/prune --model_type RobertaPrunePrompt --task_type sst2 --data_path data/raw/sst2 --save_to example/prune --bz 128 --eval_every_step 2000
";

/// What these leave.
const FILES: &[&str] = &[
    "example/best/adapter_config.json",
    "example/best/adapter_model.safetensors",
    "example/best/skn.json",
    "example/last/checkpoint.safetensors",
    "example/split.json",
    "example/metrics.jsonl",
    "example/run.json",
    "example/sst2/train_avg.safetensors",
    "example/sst2/dev_perf.safetensors",
    "example/sst2/test_perf.safetensors",
    "example/info/sst2/0.0.safetensors",
    "example/info/sst2/0.01.safetensors",
    "example/info/sst2/0.1.safetensors",
    "example/info/sst2/0.2.safetensors",
    "example/mask_perf.json",
    "example/cmp_perf.json",
    "example/prune/best/config.json",
    "example/prune/best/model.safetensors",
    "example/prune/best/tokenizer.json",
    "example/prune/best/adapter_model.safetensors",
    "example/prune/best/skn.json",
    "example/prune/sst2/inference_perf.json",
    "example/prune/sst2/inference_time.json",
];

#[test]
fn they_run_as_they_stand() {
    let desk = Desk::original();
    let mut prompts = Vec::new();
    for line in LINES.lines().filter(|line| !line.is_empty()) {
        let said = desk.ok(line);
        assert!(!said.trim().is_empty(), "{line} says what it did");
        if line.starts_with("skn-train") {
            prompts.push(desk.json("example/best/skn.json")["files"]["adapter_model.safetensors"].clone());
        }
    }
    assert_ne!(prompts[0], prompts[1], "-p trains what it loads");
    for file in FILES {
        assert!(desk.path(file).is_file(), "{file}");
    }
    let pruned = desk.json("example/prune/best/config.json");
    // int(0.02 x 160) neurons in all but the first quarter of four layers.
    assert_eq!(pruned["skn_intermediate_sizes"], serde_json::json!([160, 3, 3, 3]));
    let random = desk.json("example/cmp_perf.json");
    assert_eq!(random["neurons"], serde_json::json!([16, 16, 16, 16]));
    assert_eq!(random["draws"].as_array().unwrap().len(), 10);
    assert_eq!(random["edit"], "gaussian");
    for run in ["example", "example/prune"] {
        assert!(desk.ok(&format!("skn-verify {run}")).contains("as they were written"));
    }
}

#[test]
fn the_other_methods_and_probes_run_too() {
    let desk = Desk::original();
    for (method, file) in [("RobertaBias", "bitfit.safetensors"), ("RobertaAdapter", "adapter.safetensors")] {
        let at = format!("--data_path data/raw/sst2 --save_to {method} --model_type {method}");
        desk.ok(&format!("skn-train {at} --epoch 1 --bz 32"));
        assert!(desk.path(&format!("{method}/best/{file}")).is_file());
        let from = format!("{at} --resume_from {method} -p");
        desk.ok(&format!(
            "skn-probe {from} --probe_type acc,acc_mean,acc_max,pos,prompt_act,speed --pos 2,7"
        ));
        for name in ["train_mean_avg", "dev_max_perf", "pos_dev/2,7", "pos_test/2,7", "prompt_activation"] {
            assert!(desk.path(&format!("{method}/sst2/{name}.safetensors")).is_file(), "{name}");
        }
        desk.ok(&format!(
            "skn-select --save_to {method} -a {method}/sst2/dev_perf,{method}/sst2/test_perf --type min"
        ));
        for edit in
            ["zero", "mean --ths_path METHOD/sst2/train_avg", "mean --ths_path METHOD/sst2/train_mean_avg"]
        {
            let edit = edit.replace("METHOD", method);
            desk.ok(&format!("skn-mask {from} --info_path {method}/info/sst2/0.2 --type {edit} --lowlayer 1 --highlayer 3 --force"));
        }
        let pruned = format!("{method}/pruned");
        desk.ok(&format!(
            "skn-prune --resume_from {method} --info_path {method}/info/sst2/0.2 --ths_path {method}/sst2/train_avg --save_to {pruned}"
        ));
        desk.ok(&format!(
            "skn-train -p --resume_from {pruned} --save_to {pruned} --model_type {method} --epoch 1 --bz 32"
        ));
        desk.ok(&format!("skn-probe -p --resume_from {pruned} --save_to {pruned} --model_type {method} --probe_type acc,speed"));
    }
}

#[test]
fn flags_are_spelled_either_way() {
    let desk = Desk::original();
    desk.ok("skn-train --data-path data/raw/sst2 --save-to a --max_length 8 --max_steps 2 --prompt-size 4 --checkpoint_every 1");
    desk.ok("skn-train --data_path data/raw/sst2 --save_to b --max-length 8 --max-steps 2 --prompt_size 4 --checkpoint-every 1");
    assert!(desk.contents("a") == desk.contents("b"));
}

#[test]
fn sub_tasks_are_joined_with_two_letters_behind_one_dash() {
    let desk = Desk::original();
    desk.ok("skn-train --data_path data/raw/sst2 --save_to a --epoch 1 --bz 64");
    desk.ok("skn-probe -p --resume_from a --save_to a");
    let said = desk.ok("skn-select --save_to a -a a/sst2/dev_perf -aa a/sst2/test_perf -aa=a/sst2/test_perf --task_type both");
    assert!(said.contains("union of 3 sub-tasks"), "{said}");
    assert!(desk.path("a/info/both/0.05.safetensors").is_file());
}

/// A small MNLI in JSON Lines: of each ten rows of train five are entailed, three neutral, two contradictions.
fn mnli(desk: &Desk) {
    let line = |row: usize, label: usize| {
        format!(
            "{{\"idx\": {row}, \"premise\": \"the film is dull, {row}\", \"hypothesis\": \"it is superb\", \"label\": {label}}}\n"
        )
    };
    let label = |row: usize| [0, 0, 0, 0, 0, 1, 1, 1, 2, 2][row % 10];
    for (split, rows) in [("train", 60), ("validation_matched", 20)] {
        let lines: String = (0..rows).map(|row| line(row, label(row))).collect();
        support::write(&desk.path(&format!("data/raw/mnli/{split}.jsonl")), lines);
    }
}

#[test]
fn three_classes_become_two_tasks_of_two() {
    let desk = Desk::original();
    mnli(&desk);
    let line = "skn-binarize --task_type mnli --data_path data/raw/mnli --save_to data/raw";
    let said = desk.ok(line);
    assert!(
        said.contains("mnli-pn: train 12 negative, 12 positive; validation_matched 4 negative, 10 positive"),
        "{said}"
    );
    assert!(
        said.contains("mnli-neu: train 18 other, 18 neutral; validation_matched 14 other, 6 neutral"),
        "{said}"
    );
    let made = desk.contents("data/raw");

    // The same bytes again, others with another seed, and nothing replaced without --force.
    desk.fails(line, 3, &["mnli-pn: exists", "--force"]);
    desk.ok(&format!("{line} --force"));
    assert!(made == desk.contents("data/raw"));
    desk.ok(&format!("{line} --force --random_seed 1"));
    assert!(made != desk.contents("data/raw"));

    for (task, rows) in [("mnli-pn", 24), ("mnli-neu", 36)] {
        desk.ok(&format!("skn-train --task {task} --data_path data/raw/{task} --save_to {task} --max-steps 2 --prompt_size 4"));
        let split = desk.json(&format!("{task}/split.json"));
        let count = |part: &str| split[part]["rows"].as_array().unwrap().len();
        assert_eq!(count("train") + count("dev"), rows, "{task}");
    }
    let said = desk.ok("skn-binarize --data data/raw/mnli --out paper --compat paper");
    assert!(
        said.contains("mnli-pn: train 11 negative, 11 positive; validation_matched 3 negative, 3 positive")
    );
    desk.fails(
        "skn-binarize --task sst2 --data data/raw/sst2 --out data/raw",
        2,
        &["task sst2: expected three or four classes"],
    );
    desk.fails("skn-binarize --task nmli --data data/raw/mnli --out data/raw", 2, &["did you mean mnli"]);
    desk.fails("skn-binarize --data nowhere --out elsewhere", 3, &["nowhere"]);
    assert!(!desk.path("elsewhere").exists());
}

#[test]
fn tasks_are_listed() {
    let desk = Desk::new();
    let table = desk.ok("skn-tasks");
    for line in [
        "| sentiment (demo) |",
        "| premise, hypothesis; label ",
        "| 3: positive, neutral, negative ",
        "| accuracy_f1 ",
        "| train, test = validation_matched ",
    ] {
        assert!(table.contains(line), "{table}");
    }
    assert_eq!(desk.ok("skn-train --list-tasks"), table);
    let tasks: serde_json::Value = serde_json::from_str(&desk.ok("skn-tasks --json")).unwrap();
    let cola = tasks.as_array().unwrap().iter().find(|task| task["name"] == "cola").unwrap();
    assert_eq!((&cola["metric"], &cola["demo"]), (&"mcc".into(), &false.into()));
    assert_eq!(cola["splits"]["dev"], "validation");
    assert_eq!(tasks.as_array().unwrap().len(), 27);
}
