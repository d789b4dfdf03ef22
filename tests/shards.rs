//! Shards of job arrays: which one a job does, and what is told of those that are lost, half done, done twice or of something else.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::fs;

use skn_artifact::RunLock;
use support::{Desk, Said, copy, write};

const PROBE: &str =
    "skn-probe --model demo --task sentiment --prompt_size 4 --threads 1 --out run --splits train";
const AVERAGES: &str = "sentiment/train_avg.safetensors";

/// The demo's model and so many of its rows in folders.
fn desk() -> Desk {
    let desk = Desk::new();
    for (name, bytes) in skn_demo::model_files() {
        write(&desk.path(&format!("model/{name}")), bytes);
    }
    for (rows, from) in [("rows", 0), ("others", 60)] {
        for (split, content) in skn_demo::task_files("sentiment").unwrap().splits {
            let lines = std::str::from_utf8(content).unwrap().lines().skip(from).take(40);
            let text: String = lines.map(|line| format!("{line}\n")).collect();
            write(&desk.path(rows).join(split).with_extension("jsonl"), text);
        }
    }
    desk
}

/// How a command line ends in an environment that has these variables besides, `A=1 B=2`.
fn run(desk: &Desk, environment: &str, line: &str) -> Said {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = desk.command(words[0], &words[1..]);
    command.envs(environment.split_whitespace().map(|set| set.split_once('=').unwrap()));
    command.output().unwrap().into()
}

#[test]
fn a_job_does_its_shard() {
    let desk = desk();
    let probe = format!("{PROBE} --data rows");
    desk.ok(&probe.replace("--out run", "--out whole"));
    let slurm = |task: usize| {
        format!(
            "SLURM_ARRAY_TASK_ID={task} SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=2 SLURM_ARRAY_TASK_STEP=1 \
             SLURM_ARRAY_TASK_COUNT=3"
        )
    };
    let jobs = [slurm(0), slurm(1), "JOB_COMPLETION_INDEX=2 SKN_SHARDS=3".to_owned()];
    for (place, environment) in jobs.iter().enumerate() {
        let said = run(&desk, environment, &format!("{probe} --shard auto"));
        assert_eq!(said.code, 0, "{environment}\n{}", said.stderr);
        // The record tells the shard, so that it means the same where there is no such job.
        let record = desk.json(&format!("run/shards/{}-of-3/run.json", place + 1));
        let stage = &record["stages"]["probe acc on train"];
        let shard = serde_json::json!({"index": place + 1, "count": 3});
        assert_eq!(stage["options"]["stage"]["probe"]["shard"], shard, "{stage:#}");
        let words: Vec<&str> =
            stage["arguments"].as_array().unwrap().iter().flat_map(|word| word.as_str()).collect();
        let given = words.iter().position(|word| *word == "--shard").unwrap();
        assert_eq!(words[given + 1], format!("{}/3", place + 1));
    }
    desk.ok("skn-merge --out run");
    let [whole, merged] = ["whole", "run"].map(|run| fs::read(desk.path(run).join(AVERAGES)).unwrap());
    assert!(whole == merged, "it was not the whole");
    // What would be done is told of the same shard.
    let said = run(&desk, &slurm(1), &format!("{probe} --shard auto --force --dry-run --json"));
    assert!(said.code == 0 && said.stdout.contains("run/shards/2-of-3"), "{}{}", said.stdout, said.stderr);
}

#[test]
fn a_shard_that_nobody_tells_is_refused() {
    let desk = Desk::new();
    for (environment, parts) in [
        ("", ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "found neither"]),
        (
            "SLURM_ARRAY_TASK_ID=1 JOB_COMPLETION_INDEX=1",
            ["one scheduler", "SLURM_ARRAY_TASK_ID", "unset one"],
        ),
        ("JOB_COMPLETION_INDEX=1", ["SKN_SHARDS", "found none", "completions"]),
        ("SLURM_ARRAY_TASK_ID=1e9", ["SLURM_ARRAY_TASK_ID", "whole number", "`1e9`"]),
        ("JOB_COMPLETION_INDEX=7 SKN_SHARDS=7", ["JOB_COMPLETION_INDEX", "less than 7", "found 7"]),
    ] {
        let said = run(&desk, environment, &format!("{PROBE} --shard auto"));
        assert_eq!(said.code, 2, "{environment}\n{}", said.stderr);
        assert!(said.stderr.contains("--shard auto: "), "{}", said.stderr);
        assert!(parts.iter().all(|part| said.stderr.contains(part)), "{environment}\n{}", said.stderr);
        assert!(!desk.path("run").exists());
    }
}

#[test]
fn shards_that_are_not_there_are_named() {
    let desk = desk();
    let merge = "skn-merge --out run";
    let shard = |shard: &str| desk.ok(&format!("{PROBE} --data rows --shard {shard}"));
    shard("1/3");
    desk.fails(merge, 3, &["run/shards: missing shards 2/3, 3/3\n"]);
    shard("3/3");
    // Begun, and killed before anything was written.
    fs::create_dir(desk.path("run/shards/2-of-3")).unwrap();
    let unfinished = [
        "run/shards/2-of-3/run.json: shard 2/3 is not finished",
        AVERAGES,
        "as run/shards/1-of-3/run.json lists it",
        "--force",
    ];
    desk.fails(merge, 3, &unfinished);
    // Killed when the file was written, and its record was not.
    shard("2/3");
    let record = desk.path("run/shards/2-of-3/run.json");
    fs::remove_file(&record).unwrap();
    desk.fails(merge, 3, &unfinished);
    // Done again as a scheduler would do it.
    desk.fails(&format!("{PROBE} --data rows --shard 2/3"), 3, &["2-of-3", AVERAGES, "exists; --force"]);
    desk.ok(&format!("{PROBE} --data rows --shard 2/3 --force"));
    // A file that is listed and gone.
    let file = desk.path("run/shards/2-of-3").join(AVERAGES);
    let content = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    desk.fails(merge, 3, &["2-of-3", AVERAGES, "missing"]);
    write(&file, content);
    desk.ok(merge);
    // None is finished: nothing was merged, and nothing was merged before.
    for shard in 1..=3 {
        copy(&desk.path("model"), &desk.path(&format!("empty/shards/{shard}-of-3")));
    }
    desk.fails("skn-merge --out empty", 3, &["empty/shards", "found 3 of which none is finished"]);
    // A number that nobody can count to.
    fs::create_dir_all(desk.path("many/shards/2-of-18446744073709551615")).unwrap();
    let parts =
        ["missing shards 1/18446744073709551615, 3/18446744073709551615", " and 18446744073709551598 more"];
    desk.fails("skn-merge --out many", 3, &parts);
}

#[test]
fn shards_of_something_else_are_named() {
    let desk = desk();
    let merge = "skn-merge --out run";
    let second = "run/shards/2-of-2/sentiment/train_avg.safetensors";
    desk.ok(&format!("{PROBE} --data rows --shard 1/2"));
    let other = |flags: &str, parts: &[&str]| {
        desk.ok(&format!("{} {flags} --shard 2/2 --force", PROBE.replace("--model demo ", "")));
        desk.fails(merge, 3, &[&["skn-merge: error: run/shards/2-of-2/", "found"], parts].concat());
    };
    other("--model demo --data others", &[second, "skn.data_sha256"]);
    other("--model demo --data rows --seed 7", &[second, "skn.seed", "expected 0", "found 7"]);
    other("--model demo --data rows --max-length 9", &["max_length", "found 9"]);
    // The same rows, another model of the same name.
    let weights = desk.path("model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    fs::rename(desk.path("model"), desk.path("demo")).unwrap();
    write(&desk.path("demo/model.safetensors"), bytes);
    other("--model ./demo --data rows", &[second, "skn.model_sha256"]);
    // As it should be: nothing is left of what was wrong before.
    desk.ok(&format!("{PROBE} --data rows --shard 2/2 --force"));
    desk.ok(merge);
    // One of the shards of four beside those of two.
    desk.ok(&format!("{PROBE} --data rows --shard 3/4"));
    desk.fails(merge, 3, &["run/shards: expected shards of 2, found 3/4 too"]);
    fs::remove_dir_all(desk.path("run/shards/3-of-4")).unwrap();
    // A copy under another number would be counted twice.
    fs::remove_dir_all(desk.path("run/shards/2-of-2")).unwrap();
    copy(&desk.path("run/shards/1-of-2"), &desk.path("run/shards/2-of-2"));
    desk.fails(merge, 3, &[second, "skn.shard: expected 2/2, found 1/2"]);
}

#[test]
fn a_shard_is_done_by_one_job_at_a_time() {
    let desk = desk();
    let probe = format!("{PROBE} --data rows --shard");
    let lock = RunLock::acquire(&desk.path("run/shards/1-of-2"), "skn-probe of another job").unwrap();
    let parts = ["run/shards/1-of-2: another run works here: skn-probe of another job"];
    desk.fails(&format!("{probe} 1/2"), 6, &parts);
    // With or without --force, and other shards meanwhile.
    desk.fails(&format!("{probe} 1/2 --force"), 6, &parts);
    desk.ok(&format!("{probe} 2/2"));
    desk.fails("skn-merge --out run", 3, &["shard 1/2 is not finished"]);
    drop(lock);
    desk.ok(&format!("{probe} 1/2"));
    desk.ok("skn-merge --out run");
}
