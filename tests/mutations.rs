//! 2,000 damaged files of every form that users bring: each is read, or refused with an error. No panic, no abort, nothing
//! beyond the fence's limits of time and memory; where a library aborts, the fence must turn that into an exit code.
//!
//! The mutants of a form are read by a child process (this test program again), many in one, with the limits set anew for
//! each. If it is killed, its parent knows at which mutant, and goes on behind it. `SKN_CASES=20000` makes more of them,
//! `SKN_FROM=2000` others.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::cases;
use crate::damage;
mod forms;
mod runs;
use crate::small;
use crate::support;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use damage::mutant;
use forms::{FORMS, Form};
use support::{Desk, copy, golden, write};

/// What happens to a form's mutants.
#[track_caller]
fn check(name: &str) {
    let form = FORMS.iter().find(|form| form.name == name).unwrap();
    let desk = Desk::new();
    let log = desk.path("log");
    let Range { start: first, end } = cases::first(2000);
    let (mut next, mut killed, mut wrong) = (first, Vec::new(), String::new());
    let (mut taken, mut refused) = (0, 0);
    while next < end {
        write(&log, "");
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mutations::worker", "--nocapture", "--test-threads=1"])
            // Threads that were started before a limit was set, and reserve 64 MiB for themselves behind it, are no fault of a reader.
            .env("MALLOC_ARENA_MAX", "1")
            .env("SKN_WORK", format!("{name} {next} {end} {}", log.display()))
            .output()
            .unwrap();
        for line in fs::read_to_string(&log).unwrap().lines() {
            match line.split_once(' ').unwrap() {
                ("begin", number) => next = number.parse::<u64>().unwrap() + 1,
                ("taken", _) => taken += 1,
                ("refused", _) => refused += 1,
                (what, number) => writeln!(wrong, "mutant {number}: {what}").unwrap(),
            }
        }
        if !status.status.success() {
            let said = String::from_utf8_lossy(&status.stderr).into_owned();
            killed.push((next - 1, format!("{}: {}", status.status, said.trim())));
            assert!(
                killed.len() < 200,
                "{name}: {} of them killed the process; the first: {:?}",
                killed.len(),
                killed[0]
            );
        } else {
            assert_eq!(next, end, "{name}: the child ended early");
        }
    }
    for (number, how) in &killed {
        match form.fenced {
            Some(line) => behind_the_fence(form, line, *number),
            None => writeln!(wrong, "mutant {number}: {how}").unwrap(),
        }
    }
    assert_eq!(wrong, "", "{name}");
    assert_eq!(taken + refused + killed.len() as u64, end - first);
    assert!(refused > (end - first) / 10, "{name}: only {refused} were noticed");
    #[allow(clippy::print_stdout, reason = "a test's own report")]
    {
        println!("{name}: {taken} read, {refused} refused, {} stopped by the fence {killed:?}", killed.len());
    }
}

/// What killed a child must be an error of the program that reads it.
fn behind_the_fence(form: &Form, line: &str, number: u64) {
    let desk = Desk::new();
    copy(&golden().join("data"), &desk.path("data"));
    write(&desk.path("task.toml"), include_str!("../crates/skn-data/tasks/sst2.toml"));
    let folder = desk.path("mutant");
    let file = (form.make)(&folder);
    write(&file, mutant(&fs::read(&file).unwrap(), number));
    let is_named = line.ends_with("--data") || file.extension().is_some_and(|end| end == "gguf");
    let given = if is_named { &file } else { &folder };
    let line = format!("{line} {}", given.display());
    desk.fails(&line, 3, &["mutant"]);
}

/// Not a test but the child of one: reads the mutants that it is told to, and writes down how it went.
#[test]
fn worker() {
    let Ok(work) = std::env::var("SKN_WORK") else { return };
    let mut words = work.splitn(4, ' ');
    let (name, first, end) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let mut log = File::create(words.next().unwrap()).unwrap();
    let form = FORMS.iter().find(|form| form.name == name).unwrap();
    // A disk would take four times as long as what is tried.
    let folder = Desk::new();
    let file = (form.make)(&folder.path(""));
    let whole = fs::read(&file).unwrap();
    assert!((form.read)(&file) || name == "records", "{name}: the whole file is refused");
    let beside: u64 = fs::read_dir(file.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    std::panic::set_hook(Box::new(|_| {}));
    for number in first.parse::<u64>().unwrap()..end.parse().unwrap() {
        let bytes = mutant(&whole, number);
        fs::write(&file, &bytes).unwrap();
        writeln!(log, "begin {number}").unwrap();
        allow(bytes.len() as u64 + beside);
        let result = catch_unwind(AssertUnwindSafe(|| (form.read)(&file)));
        let what = match result {
            Ok(true) => "taken",
            Ok(false) => "refused",
            Err(_) => "panicked",
        };
        writeln!(log, "{what} {number}").unwrap();
    }
}

/// The fence's limits, for one file more.
fn allow(bytes: u64) {
    #[cfg(target_os = "linux")]
    {
        use rlimit::Resource;
        let set = |resource: Resource, value: u64| resource.set(value, resource.get_hard().unwrap()).unwrap();
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // A tick is a hundredth of a second on all of Linux; the time used so far, begun seconds counted whole.
        set(Resource::CPU, ticks.div_ceil(100) + 2 + bytes.div_ceil(20_000_000));
        let size: u64 = fields[20].parse().unwrap();
        set(Resource::AS, size + (64 << 20) + 8 * bytes);
    }
    let _ = bytes;
}

macro_rules! forms {
    ($($form:ident),+) => { $(#[test] fn $form() { super::check(stringify!($form)); })+ };
}

/// The tests, one for each form.
mod mutants_of {
    forms!(
        arrow,
        parquet,
        gzip_parquet,
        zstd_arrow,
        csv,
        tsv,
        jsonl,
        json,
        json_stream,
        state,
        dataset_info,
        dataset_dict,
        task,
        safetensors,
        shard_index,
        gguf,
        gguf_tokenizer,
        config,
        tokenizer,
        vocab,
        merges,
        tokenizer_config,
        added_tokens,
        records,
        peft_config,
        peft_tensors,
        adapter_config,
        adapter_tensors,
        biases,
        average,
        performance,
        positions,
        mask,
        made_mask,
        npy_mask,
        csv_neurons,
        json_neurons,
        fire_bits,
        areas,
        rank_shard,
        checkpoint,
        run_record
    );
}
