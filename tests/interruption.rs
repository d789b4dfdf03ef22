//! A training or a chain that is stopped, and resumed, leaves the bytes of one that was not: what is special beside the kills of
//! `torture/kills.rs`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::runs::of_sentiment;
use crate::support;

use std::process::{Child, Stdio};
use std::time::Instant;

use support::Desk;

/// Long enough to be hit in the middle, with evaluations and checkpoints on the way.
const TRAIN: &str = "skn-train --model demo --task sentiment --bz 8 --epoch 1 --max-steps 40 --eval_every_step 10 \
                     --checkpoint-every 3 --threads 1 --save_to";

/// How a program ends that SIGUSR1 stopped: 128 and the signal's number, which is not the same on every system.
const USER_SIGNAL: i32 = if cfg!(target_os = "linux") { 138 } else { 158 };

fn start(desk: &Desk, line: &str) -> Child {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = desk.command(words[0], &words[1..]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}

/// The run's files, without the second-last checkpoint: which one that is depends on where the run was stopped.
fn contents(desk: &Desk, run: &str) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut files = desk.contents(run);
    files.retain(|name, _| !name.contains("previous"));
    files
}

/// What two folders differ in, by name: their contents are too long to be read.
fn differing(desk: &Desk, a: &str, b: &str) -> Vec<String> {
    let (a, b) = (contents(desk, a), contents(desk, b));
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

#[test]
fn a_run_that_goes_on_from_its_own_best_is_resumed_too() {
    let desk = Desk::new();
    desk.ok(&format!("{TRAIN} first"));
    support::copy(&desk.path("first"), &desk.path("straight"));
    let again = |run: &str| {
        let longer = TRAIN.replace("--max-steps 40", "--max-steps 20");
        format!("{longer} {run} -p --resume_from {run}")
    };
    // The finished training is not taken for one that this goes on with.
    desk.fails(&format!("{} --resume", again("straight")), 3, &["begins_with", "loaded parameters"]);
    let began = Instant::now();
    desk.ok(&again("straight"));
    let took = began.elapsed();
    for kill in 1..6 {
        let run = format!("killed{kill}");
        support::copy(&desk.path("first"), &desk.path(&run));
        let mut child = start(&desk, &again(&run));
        std::thread::sleep(took * kill / 6);
        signal(&child, "KILL");
        child.wait().unwrap();
        let resumed = desk.run(&format!("{} --resume", again(&run)));
        if resumed.code == 3 && resumed.stderr.contains("begins_with") {
            // Killed before it had begun: all is as it was.
            assert_eq!(differing(&desk, &run, "first"), [""; 0]);
            continue;
        }
        assert_eq!(resumed.code, 0, "{}", resumed.stderr);
        assert_eq!(differing(&desk, &run, "straight"), [""; 0], "killed after {kill}/6 of the time");
    }
}

#[test]
fn a_best_folder_that_was_torn_is_written_again() {
    let desk = Desk::new();
    desk.ok(&format!("{TRAIN} first"));
    for run in ["straight", "torn"] {
        support::copy(&desk.path("first"), &desk.path(run));
    }
    let again = |run: &str| format!("{TRAIN} {run} -p --resume_from {run}");
    desk.ok(&again("straight"));
    let checkpoint = |run: &str| std::fs::read(desk.path(&format!("{run}/last/checkpoint.safetensors"))).ok();
    let mut child = start(&desk, &again("torn"));
    while checkpoint("torn").is_none_or(|bytes| Some(bytes) == checkpoint("first")) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::yield_now();
    }
    signal(&child, "INT");
    child.wait().unwrap();
    // As after a kill between the parameters and the record of them, at the first evaluation.
    let parameters = "best/adapter_model.safetensors";
    std::fs::copy(desk.path(&format!("straight/{parameters}")), desk.path(&format!("torn/{parameters}")))
        .unwrap();
    desk.fails("skn-probe -p --resume_from torn --save_to x", 3, &[parameters, "skn.json"]);
    // And as after one while a checkpoint was written: the one before it is there alone.
    let last = desk.path("torn/last");
    std::fs::copy(last.join("checkpoint.safetensors"), last.join("checkpoint.previous.safetensors")).unwrap();
    std::fs::remove_file(last.join("checkpoint.safetensors")).unwrap();
    desk.ok(&format!("{} --resume", again("torn")));
    assert_eq!(differing(&desk, "torn", "straight"), [""; 0]);
}

/// A desk with a tenth of the demo's rows, and the words of a chain on them.
fn few() -> (Desk, String) {
    let desk = Desk::new();
    let data = of_sentiment(&desk, [96, 32, 48]);
    (desk, format!("skn-run {data} --retune-epoch 1 --shares 0.1"))
}

#[test]
fn a_run_that_was_being_replaced_goes_on() {
    let (desk, chain) = few();
    let run = format!("{chain} --prompt_size 2 --epoch 12 --draws 2 --threads 1 --out run");
    desk.ok(&run);
    let expected = contents(&desk, "run");
    let mut child = start(&desk, &format!("{run} --force"));
    while std::fs::read(desk.path("run/metrics.jsonl")).is_ok_and(|lines| lines.len() > 300) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::yield_now();
    }
    signal(&child, "KILL");
    child.wait().unwrap();
    desk.ok(&format!("{run} --resume"));
    assert!(contents(&desk, "run") == expected);
    desk.ok("skn-verify run");
    // Counts that are made again take the texts of their best neurons along, which a later step makes.
    std::fs::remove_file(desk.path("run/sentiment/dev_mean_perf.safetensors")).unwrap();
    desk.ok(&format!("{run} --resume"));
    assert!(contents(&desk, "run") == expected);
}

#[test]
fn the_whole_chain_is_resumed() {
    let (desk, chain) = few();
    let line = |run: &str| format!("{chain} --prompt_size 2 --epoch 4 --draws 2 --threads 1 --out {run}");
    let began = Instant::now();
    desk.ok(&line("straight"));
    let took = began.elapsed();
    let mut hit = 0;
    for kill in 0..3 {
        let run = format!("killed{kill}");
        let mut child = start(&desk, &line(&run));
        std::thread::sleep(took * (2 * kill + 1) / 6);
        signal(&child, if kill == 2 { "INT" } else { "KILL" });
        hit += usize::from(!child.wait().unwrap().success());
        desk.ok(&format!("{} --resume", line(&run)));
        assert_eq!(differing(&desk, &run, "straight"), [""; 0], "killed after {kill}/3 of the time");
    }
    assert!(hit > 0, "all three had ended");
}

#[test]
fn stopped_by_a_signal() {
    let desk = Desk::new();
    desk.ok(&format!("{TRAIN} straight"));
    for (name, code) in [("INT", 130), ("TERM", 143), ("USR1", USER_SIGNAL)] {
        let run = format!("stopped by {name}");
        let words: Vec<&str> = TRAIN.split_whitespace().skip(1).chain([run.as_str(), "--force"]).collect();
        let mut command = desk.command("skn-train", &words);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // The first checkpoint says that training is under way.
        while !desk.path(&format!("{run}/last/checkpoint.safetensors")).exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
            std::thread::yield_now();
        }
        signal(&child, name);
        let said: support::Said = child.wait_with_output().unwrap().into();
        assert_eq!(said.code, code, "{}", said.stderr);
        assert!(
            said.stderr.contains(&format!("stopped by SIG{name}: a checkpoint of step ")),
            "{}",
            said.stderr
        );
        let goes_on = said.stderr.trim_end().rsplit_once("this goes on: ").unwrap().1.to_owned();
        assert!(goes_on.ends_with("--resume") && !goes_on.contains("--force"), "{goes_on}");
        let said = desk.command("skn-train", &words[..words.len() - 1]).output().unwrap();
        assert_eq!(said.status.code(), Some(3), "without --resume what is there is not touched");
        // As a shell reads it.
        let mut shell = std::process::Command::new("sh");
        assert!(shell.args(["-c", &goes_on]).current_dir(desk.path("")).output().unwrap().status.success());
        assert_eq!(differing(&desk, &run, "straight"), [""; 0]);
    }
}

/// A chain says so too.
#[test]
fn a_chain_that_was_stopped_says_how_it_goes_on() {
    let (desk, chain) = few();
    let line = |name: &str| format!("{chain} --prompt_size 4 --epoch 8 --draws 1 --out {name}");
    for (name, code) in [("INT", 130), ("USR1", USER_SIGNAL)] {
        let line = line(name);
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let mut command = desk.command("skn-run", &words);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        while !desk.path(&format!("{name}/last/checkpoint.safetensors")).exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
            std::thread::yield_now();
        }
        signal(&child, name);
        let said: support::Said = child.wait_with_output().unwrap().into();
        assert_eq!(said.code, code, "{}", said.stderr);
        assert!(said.stderr.contains(&format!("stopped by SIG{name}: ")), "{}", said.stderr);
        let goes_on = said.stderr.trim_end().rsplit_once("this goes on: ").unwrap().1.to_owned();
        assert!(goes_on.ends_with(&format!("{line} --resume")), "{goes_on}");
    }
    // A scheduler starts the same line again.
    desk.ok(&format!("{} --resume", line("USR1")));
    desk.ok("skn-verify USR1");
}

/// Who waits for texts that never come listens all the same.
#[test]
fn a_program_that_reads_standard_input_stops_too() {
    let desk = Desk::new();
    for (name, code) in [("INT", 130), ("TERM", 143), ("USR1", USER_SIGNAL)] {
        let words = ["--model", "demo", "--task", "sentiment"];
        let mut command = desk.command("skn-predict", &words);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Open, and silent, until the program has ended.
        let input = child.stdin.take();
        std::thread::sleep(std::time::Duration::from_millis(700));
        assert!(child.try_wait().unwrap().is_none(), "it waits");
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        drop(input);
    }
}

#[test]
fn a_resume_of_something_else_is_refused() {
    let desk = Desk::new();
    desk.ok(&format!("{TRAIN} run"));
    for (flags, field) in
        [("--seed 1", "seed"), ("--lr 0.5", "learning_rate"), ("--prompt_size 3", "parameters")]
    {
        desk.fails(&format!("{TRAIN} run --resume {flags}"), 3, &["checkpoint.safetensors", field]);
    }
    let other = TRAIN.replace("--bz 8", "--bz 4");
    desk.fails(&format!("{other} run --resume"), 3, &["checkpoint.safetensors", "batch"]);
}
