//! What programs say to who uses them: on which line, in which words, in what form.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::fs;

use serde_json::Value;
use support::{Desk, write};

const TRAIN: &str = "skn-train --model demo --task sentiment --prompt_size 3 --max-steps 1 --bz 4 --out";

/// The run's name has a blank, and so have the words of its command lines.
fn run(desk: &Desk, program: &str, words: &[&str]) -> support::Said {
    desk.command(program, words).output().unwrap().into()
}

#[test]
fn a_damaged_run_is_told_as_json_too() {
    let desk = Desk::new();
    desk.ok(&format!("{TRAIN} run"));
    write(&desk.path("run/metrics.jsonl"), "{}\n");
    fs::remove_file(desk.path("run/split.json")).unwrap();
    let said = desk.run("skn-verify run --json");
    assert_eq!(said.code, 3, "{}", said.stderr);
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(found["changed"], serde_json::json!(["metrics.jsonl"]));
    assert_eq!(found["missing"], serde_json::json!(["split.json"]));
    assert!(found["intact"].as_array().unwrap().len() > 3, "{found}");
    assert!(said.stderr.contains("missing: split.json"), "{}", said.stderr);
    desk.fails("skn-verify run", 3, &["changed: metrics.jsonl"]);
}

#[test]
fn more_is_said_of_our_own_work_alone() {
    let desk = Desk::new();
    let said = desk.run(&format!("{TRAIN} run -vv"));
    assert_eq!(said.code, 0);
    // The library of tokenizers traces each of its merges.
    assert!(said.stderr.lines().count() < 200, "{} lines", said.stderr.lines().count());
    let mut command =
        desk.command("skn-train", &TRAIN.split(' ').skip(1).chain(["again"]).collect::<Vec<_>>());
    let all = command.env("RUST_LOG", "trace").output().unwrap();
    let lines = all.stderr.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines > 200, "who asks for it gets it all: {lines} lines");
}

#[test]
fn errors_have_one_form() {
    let desk = Desk::new();
    for (line, part) in [
        ("skn-train --out", "a value is required for '--out <RUN>'"),
        ("skn-train --out x --nobody", "unexpected argument '--nobody'"),
        ("skn-train --out x --threads 0", "'--threads <N>': expected at least 1"),
        ("skn-train --out x --batch many", "'--batch <N>': expected a whole number"),
        ("skn-pretrain --out x --shape 1,2", "expected four whole numbers with commas between"),
        ("skn-select --out x --permutations -3", "expected a whole number"),
        ("skn-probe --out x --shard 0/2", "'--shard <I/N>'"),
    ] {
        let said = desk.run(line);
        let program = line.split(' ').next().unwrap();
        assert_eq!(said.code, 2, "{line}: {}", said.stderr);
        assert!(said.stderr.starts_with(&format!("{program}: error: ")), "{line}: {}", said.stderr);
        assert!(said.stderr.contains(part), "{line}: {}", said.stderr);
        for foreign in ["non-zero type", "invalid digit", "invalid float"] {
            assert!(!said.stderr.contains(foreign), "{line}: {}", said.stderr);
        }
    }
}

#[test]
fn what_help_shows_can_be_typed() {
    let desk = Desk::new();
    let help = desk.ok("skn-pretrain --help");
    let shape = help.split("--shape <H,A,F,L>").nth(1).unwrap().split("[default: ").nth(1).unwrap();
    let shape = shape.split(']').next().unwrap();
    desk.ok(&format!("skn-pretrain --without-model --shape {shape} --out made"));
    for (program, flag, default) in [
        ("skn-run", "--model <MODEL>", "[default: demo]"),
        ("skn-run", "--task <NAME>", "[default: sentiment for the demo, else sst2]"),
        ("skn-mask", "--low_layer <LAYER>", "[default: 0]"),
        ("skn-prune", "--low_layer <LAYER>", "a quarter of the layers stays whole"),
    ] {
        let help = desk.ok(&format!("{program} --help"));
        let said = help.split(&format!("      {flag}")).nth(1).unwrap().split("\n      --").next().unwrap();
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(default), "{program} {flag}: {words}");
    }
}

#[test]
fn a_folder_that_is_no_run_is_said_to_be_none() {
    let desk = Desk::new();
    write(&desk.path("empty/notes.txt"), "nothing\n");
    for program in ["skn-probe --out x", "skn-predict --input empty/notes.txt", "skn-train --out x"] {
        let said = desk.run(&format!("{program} --resume_from empty"));
        assert_eq!(said.code, 3, "{program}: {}", said.stderr);
        assert!(said.stderr.contains("empty: no adapter_model.safetensors"), "{program}: {}", said.stderr);
        assert!(!said.stderr.contains("roberta-base"), "{program}: {}", said.stderr);
    }
    desk.fails(&format!("{TRAIN} empty/notes.txt/run"), 3, &["empty/notes.txt/run", "make the folder"]);
}

#[test]
fn sub_tasks_of_a_task_of_ones_own_are_tasks() {
    let desk = Desk::new();
    let task = "name = \"moods\"\ntext = [\"text\"]\nlabels = [\"negative\", \"neutral\", \"positive\"]\n\
                [splits]\ntrain = \"train\"\ntest = \"test\"\n";
    write(&desk.path("moods.toml"), task);
    for (split, rows) in [("train", 90), ("test", 12)] {
        let line =
            |row: usize| format!("{{\"text\": \"the food was good , no {row}\", \"label\": {}}}\n", row % 3);
        write(&desk.path(&format!("rows/{split}.jsonl")), (0..rows).map(line).collect::<String>());
    }
    let words = ["--task-file", "moods.toml", "--data", "rows", "--out", "my sets", "--json"];
    let said = run(&desk, "skn-binarize", &words);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    for (part, made) in ["moods-pn", "moods-neu"].into_iter().zip(found["tasks"].as_array().unwrap()) {
        assert_eq!(made["task_file"], format!("my sets/{part}.toml"));
        let command = made["command"].as_str().unwrap();
        let expected =
            format!("skn-train --task-file 'my sets/{part}.toml' --data 'my sets/{part}' --out runs/{part}");
        assert_eq!(command, expected);
        // As a shell reads it.
        let train = command.replace("skn-train", env!("CARGO_BIN_EXE_skn-train"));
        let line = format!("{train} --model demo --max-steps 1 --bz 4");
        let output = std::process::Command::new("sh").args(["-c", &line]).current_dir(desk.path("")).output();
        let output: support::Said = output.unwrap().into();
        assert_eq!(output.code, 0, "{}", output.stderr);
        assert_eq!(desk.json(&format!("runs/{part}/best/skn.json"))["task"], part);
    }
    let said = run(&desk, "skn-binarize", &words);
    assert_eq!(said.code, 3, "what is there stays: {}", said.stderr);
    fs::remove_dir_all(desk.path("my sets/moods-pn")).unwrap();
    fs::remove_dir_all(desk.path("my sets/moods-neu")).unwrap();
    let said = run(&desk, "skn-binarize", &words);
    assert!(said.code == 3 && said.stderr.contains("moods-pn.toml: exists"), "{}", said.stderr);
}

/// A run keeps the results of as many sweeps as have a name.
#[test]
fn sweeps_lie_beside_one_another() {
    let desk = Desk::new();
    desk.ok(&format!("{TRAIN} run"));
    desk.ok("skn-probe --resume_from run --splits train,dev --out run");
    desk.ok("skn-select -a run/sentiment/dev_perf --shares 0.1 --out run");
    let mask = "skn-mask --resume_from run --info_path run/info/sentiment/0.1 --out run";
    desk.ok(mask);
    let first = fs::read(desk.path("run/mask_perf.json")).unwrap();
    desk.ok(&format!("{mask} --type zero --name zero"));
    desk.ok(&format!("{mask} --alpha 0.5 --name loud --cmp --draws 2"));
    assert!(fs::read(desk.path("run/mask_perf.json")).unwrap() == first, "the one without a name stays");
    assert_eq!(desk.json("run/sweeps/zero/mask_perf.json")["edit"], "zero");
    assert_eq!(desk.json("run/sweeps/loud/mask_perf.json")["alpha"], 0.5);
    assert_eq!(desk.json("run/sweeps/loud/cmp_perf.json")["draws"].as_array().unwrap().len(), 2);
    let stages = desk.json("run/run.json")["stages"].clone();
    for entry in ["mask", "mask zero", "mask loud"] {
        assert!(stages[entry].is_object(), "{entry}: {stages}");
    }
    desk.ok("skn-verify run");
    // The report shows each.
    let said: serde_json::Value =
        serde_json::from_str(&desk.ok("skn-report run --csv tables --json")).unwrap();
    let page = fs::read_to_string(desk.path("run/report.html")).unwrap();
    for (section, table) in [("perturbation", "perturbation"), ("sweep-zero", "sweep-zero-perturbation")] {
        assert!(page.contains(&format!("<section id=\"{section}\">")), "{section}");
        assert!(desk.path(&format!("tables/{table}.csv")).is_file(), "{table}");
    }
    let evidence = &said["tables"]["sweep-loud-perturbation-evidence"]["data"][0];
    assert_eq!(
        evidence.as_array().unwrap()[..4],
        ["random".into(), 0.1.into(), "gaussian".into(), serde_json::json!(0.5)]
    );
    let read = desk.json("run/run.json")["stages"]["report"]["inputs"].clone();
    assert!(
        read["sweeps/loud/cmp_perf.json"].is_string() && read["sweeps/zero/mask_perf.json"].is_string(),
        "{read}"
    );
    // A name is replaced as a file is: when it is asked for, and alone.
    desk.fails(
        &format!("{mask} --type zero --name loud"),
        3,
        &["run/sweeps/loud/mask_perf.json: exists", "--force"],
    );
    desk.ok(&format!("{mask} --type zero --name loud --force"));
    assert_eq!(desk.json("run/sweeps/loud/mask_perf.json")["edit"], "zero");
    assert!(!desk.path("run/sweeps/loud/cmp_perf.json").exists(), "of another sweep");
    assert!(desk.path("run/sweeps/zero/mask_perf.json").is_file());
    desk.ok("skn-verify run");
    for name in ["../out", "a/b", ".", ""] {
        let words: Vec<&str> = mask.split(' ').skip(1).chain(["--name", name]).collect();
        let said = run(&desk, "skn-mask", &words);
        assert_eq!(said.code, 2, "{name}: {}", said.stderr);
        assert!(said.stderr.contains("--name"), "{name}: {}", said.stderr);
    }
}

/// Who takes the tuned parameters for a model is told what they are.
#[test]
fn tuned_parameters_are_no_model() {
    let desk = Desk::new();
    desk.ok(&format!("{TRAIN} run"));
    desk.fails(
        "skn-probe --model run/best --task sentiment --out x",
        3,
        &[
            "run/best: it has tuned parameters (adapter_model.safetensors)",
            "--resume_from run/best",
            "no config.json",
        ],
    );
}

/// While a training is under way its lines say what it has found.
#[test]
fn progress_says_what_is_known() {
    let desk = Desk::new();
    // One that takes longer than lines are apart, and makes way for other tests while it does.
    let mut command = desk.shell(
        "exec nice -n 19 skn-train --model demo --task sentiment --epoch 4000 --bz 4 --eval_every_step 20 --threads 1 --progress log --out run",
    );
    let mut child =
        command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let said = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let mut lines = Vec::new();
    for line in said.map_while(Result::ok) {
        let is_whole = ["training: ", " of ", "%)", "loss ", "dev accuracy ", " left"]
            .iter()
            .all(|part| line.contains(part));
        lines.push(line);
        if is_whole || lines.len() > 12 {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let last = lines.last().unwrap();
    assert!(last.contains("dev accuracy 0.") && last.contains(" left"), "{lines:?}");
}
