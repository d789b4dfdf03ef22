//! What the system does not give: threads, processes, pipes and memory are errors that say so, and nothing is blamed on files.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::fs;
use std::process::{Command, Stdio};

use support::{Desk, Said, copy, golden};

/// Reads data and a tokenizer, trains one step.
const TRAIN: &str = "skn-train --model model --data data/raw/sst2 --out run --epoch 1 --max-steps 1 --progress none --threads 2";

/// A desk with the golden model in a folder: that of the cache is read in the same way.
fn desk() -> Desk {
    let desk = Desk::original();
    copy(&golden().join("model"), &desk.path("model"));
    desk
}

/// Runs a command line behind another program's words, such as those of a shell that sets limits.
fn behind(desk: &Desk, before: &[&str], line: &str) -> Said {
    let words: Vec<&str> = line.split_whitespace().collect();
    let program = desk.command(words[0], &words[1..]);
    let mut command = Command::new(before[0]);
    command.args(&before[1..]).arg(program.get_program()).args(program.get_args());
    command.current_dir(desk.path("")).stdin(Stdio::null());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap().into()
}

fn limited(desk: &Desk, kilobytes: u64, line: &str) -> Said {
    behind(desk, &["sh", "-c", &format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\"")], line)
}

/// Whether calls of the system can be made to fail here.
#[allow(clippy::print_stderr, reason = "who runs the tests is told what they left out")]
fn can_inject() -> bool {
    let tried = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).status();
    let can = tried.is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: strace is not here, or may not trace");
    }
    can
}

/// Runs `TRAIN` with one call failing, which must end it with exit code 1 and these words.
fn refused(calls: &str, error: &str, when: u32, parts: &[&str]) {
    let desk = desk();
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}:when={when}"));
    let before = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let said = behind(&desk, &before, TRAIN);
    let place = format!("{calls} {when}: {}{}", said.stdout, said.stderr);
    assert_eq!(said.code, 1, "{place}");
    for part in parts {
        assert!(said.stderr.contains(part), "expected {part:?}: {place}");
    }
    assert!(!said.stderr.contains("damaged") && !said.stderr.contains("panicked"), "{place}");
    assert!(!desk.path("run/best").exists(), "{place}");
}

#[test]
fn threads_and_processes_that_can_not_be_made() {
    if !can_inject() {
        return;
    }
    let what = [
        "2 threads",
        "2 threads",
        "can't start one",
        "a thread to hear",
        "a thread to watch over the reader",
        "a thread to read the tokenizer",
    ];
    for (when, part) in (1..).zip(what) {
        refused("clone,clone3", "EAGAIN", when, &[part, "Resource temporarily unavailable (os error 11)"]);
    }
}

#[test]
fn pipes_that_fail() {
    if !can_inject() {
        return;
    }
    // The task, which the program writes to its reader; then rows, which that writes back.
    refused("write", "EIO", 1, &["can't write to the pipe", "os error 5", "says nothing of the file"]);
    refused(
        "write",
        "EIO",
        3,
        &["its reader failed: pipe to the program", "os error 5", "says nothing of the file"],
    );
    refused("pipe2", "EMFILE", 1, &["can't start one", "Too many open files (os error 24)"]);
}

/// As a child would, where nobody takes what it sends.
#[test]
fn a_reader_that_can_not_send_says_so() {
    let desk = Desk::new();
    fs::write(desk.path("train.csv"), "sentence,label\na text,1\n").unwrap();
    let mut command = desk.command("skn-train", &["--skn-read-under-limits", "rows", "train.csv", "1000"]);
    // A task, and whether its column has numbers.
    let task = "[{\"name\": \"t\", \"text\": [\"sentence\"], \"labels\": [\"bad\", \"good\"], \"splits\": {\"train\": \"train\"}}, false]";
    fs::write(desk.path("task.json"), task).unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        command.stdin(fs::File::open(desk.path("task.json")).unwrap()).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("pipe to the program: ") && said.contains("os error 28"), "{said}");
}

#[test]
fn more_threads_than_there_is_room_for() {
    let desk = Desk::new();
    fs::write(desk.path("texts"), "a text\n").unwrap();
    let line = "skn-predict --model demo --task sentiment --input texts --threads 1024";
    let said = limited(&desk, 1_000_000, line);
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(
        said.stderr.contains("can't start 1024 threads: Resource temporarily unavailable"),
        "{}",
        said.stderr
    );
}

#[test]
fn memory_that_can_not_be_had() {
    let desk = Desk::new();
    // A line of zeros, nearly as long as one may be, with no place on the disk. Its tokens need a gigabyte.
    fs::File::create(desk.path("texts")).unwrap().set_len(66_000_000).unwrap();
    let said =
        limited(&desk, 2_000_000, "skn-predict --model demo --task sentiment --input texts --threads 2");
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(said.stderr.starts_with("skn-predict: error: out of memory: "), "{}", said.stderr);
    let asked: u64 = said.stderr.split(' ').nth(5).unwrap().parse().unwrap();
    assert!(asked >= 1_000_000_000, "{}", said.stderr);
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
}

/// The model says what it needs before anything is asked for.
#[test]
fn a_model_that_a_limit_has_no_room_for() {
    let desk = desk();
    let text = fs::read_to_string(desk.path("model/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["vocab_size"] = serde_json::json!(4_000_000);
    fs::write(desk.path("model/config.json"), config.to_string()).unwrap();
    let said = limited(&desk, 1_000_000, TRAIN);
    assert_eq!(said.code, 3, "{}", said.stderr);
    assert!(said.stderr.contains("GiB of memory for the weights, but 0."), "{}", said.stderr);
}
