//! The programs as `mpirun` starts them: the bytes of one process, and ends that are told. Needs Open MPI:
//! `cargo test --features skn/mpi --test mpi`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

mod support;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Desk, Said, write};

/// Every program that several processes do together, with what one does between.
const STAGES: [&str; 7] = [
    "skn-train --model demo --task-file task.toml --data rows.csv --bz 16 --max-steps 6 --eval_every_step 3 --save_to RUN",
    "skn-probe -p --resume_from RUN --probe_type acc,acc_mean,acc_max,acc_last,prompt_act,speed --fire-bits --variance \
     --rank auc,cett,taylor,l1 --compare 0.1 --save_to RUN",
    "skn-probe -p --resume_from RUN --probe_type pos,top --pos best --pos 0,3 --with-texts --save_to RUN",
    "skn-select -a RUN/reviews/dev_perf --save_to RUN",
    "skn-mask -p --resume_from RUN --info_path RUN/info/reviews/0.1 --cmp --draws 2 --save_to RUN",
    "skn-evaluate -p --resume_from RUN --calibrate --out RUN",
    "skn-predict --resume_from RUN --input texts.txt --format jsonl",
];

/// Which of them one process does.
const ALONE: &str = "skn-select";

fn desk(rows: usize) -> Desk {
    let desk = Desk::new();
    let task = "name = \"reviews\"\ntext = [\"text\"]\nlabels = [\"negative\", \"positive\"]\n[splits]\ntrain = \"train\"\n";
    write(&desk.path("task.toml"), task);
    let line = |row: usize| {
        let (word, more) = (["awful", "good"][row % 2], "no ".repeat(row % 7));
        format!("the soup was {word} {more}{row},{}\n", row % 2)
    };
    write(&desk.path("rows.csv"), format!("text,label\n{}", (0..rows).map(line).collect::<String>()));
    write(&desk.path("texts.txt"), "so good\nso bad\nno\nthe film\nthe soup\n");
    desk
}

/// A command line, by so many processes; nothing of `mpirun` itself is in the way of a test that root runs on few cores.
fn mpirun(desk: &Desk, processes: usize, line: &str) -> Command {
    let words: Vec<&str> = line.split_whitespace().collect();
    // For what the programs need of their surroundings.
    let program = desk.command(words[0], &words[1..]);
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "-n", &processes.to_string()]).arg(program.get_program());
    command.args(program.get_args()).current_dir(desk.path("")).stdin(Stdio::null());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let root = ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"];
    command.envs(root.map(|name| (name, "1")));
    command
}

fn start(desk: &Desk, processes: usize, line: &str) -> Child {
    mpirun(desk, processes, line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Does all stages; what was answered at last.
fn chain(desk: &Desk, run: &str, processes: Option<usize>, threads: usize) -> String {
    let mut said = String::new();
    for stage in STAGES {
        let mut line = stage.replace("RUN", run);
        if !line.starts_with(ALONE) {
            line += &format!(" --threads {threads}");
        }
        said = match processes.filter(|_| !line.starts_with(ALONE)) {
            None => desk.ok(&line),
            Some(processes) => {
                let said: Said = mpirun(desk, processes, &line).output().unwrap().into();
                assert_eq!(said.code, 0, "{processes} processes: {line}\n{}{}", said.stdout, said.stderr);
                said.stdout
            }
        };
    }
    said
}

fn check(rows: usize, groups: &[(usize, usize)]) {
    let desk = desk(rows);
    let answers = chain(&desk, "run", None, 1);
    let expected = desk.contents("run");
    assert!(expected.len() > 50 && answers.lines().count() == 5, "{answers}");
    for &(processes, threads) in groups {
        std::fs::remove_dir_all(desk.path("run")).unwrap();
        let found = chain(&desk, "run", Some(processes), threads);
        assert_eq!(found, answers, "{processes} processes");
        let contents = desk.contents("run");
        let names: BTreeSet<&String> = expected.keys().chain(contents.keys()).collect();
        let differ: Vec<_> =
            names.into_iter().filter(|name| expected.get(*name) != contents.get(*name)).collect();
        assert!(differ.is_empty(), "{processes} processes of {threads} threads: {differ:?}");
        desk.ok("skn-verify run");
    }
}

#[test]
fn any_number_of_processes_and_threads_writes_the_bytes_of_one() {
    check(60, &[(1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (4, 2)]);
}

/// Dev and test have three rows each.
#[test]
fn more_processes_than_rows() {
    check(24, &[(5, 1)]);
}

/// The processes that `mpirun` has started, in the order of their numbers.
fn ranks(mpirun: &Child) -> Vec<u32> {
    let began = Instant::now();
    loop {
        let children = Command::new("pgrep").args(["-P", &mpirun.id().to_string()]).output().unwrap();
        let said = String::from_utf8(children.stdout).unwrap();
        let ids: Vec<u32> = said.lines().map(|id| id.parse().unwrap()).collect();
        if ids.len() >= 3 {
            return ids;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no processes: {ids:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ten thousand rows, which take longer than a test looks.
fn long_probe(desk: &Desk) -> String {
    write(&desk.path("rows.csv"), {
        let line = |row: usize| format!("the soup was {} {row},{}\n", ["awful", "good"][row % 2], row % 2);
        format!("text,label\n{}", (0..40_000).map(line).collect::<String>())
    });
    "skn-probe --model demo --task-file task.toml --data rows.csv --prompt_size 16 --threads 1 --save_to run"
        .into()
}

#[test]
fn one_that_is_killed_or_told_to_stop_ends_all_and_leaves_no_file() {
    let desk = desk(10);
    let line = long_probe(&desk);
    for (signal, codes) in [("KILL", 137..=137), ("TERM", 143..=143)] {
        for rank in 0..3 {
            let mut job = start(&desk, 3, &line);
            let ids = ranks(&job);
            // Into the passes, on a machine that is not too busy.
            std::thread::sleep(Duration::from_secs(2));
            let sent = Command::new("kill").args(["-s", signal, &ids[rank].to_string()]).status().unwrap();
            assert!(sent.success(), "rank {rank} was gone");
            let began = Instant::now();
            let ended = job.wait().unwrap();
            assert!(began.elapsed() < Duration::from_secs(60), "SIG{signal} to rank {rank}");
            assert!(codes.contains(&ended.code().unwrap()), "SIG{signal} to rank {rank}: {ended}");
            assert!(!desk.path("run/run.json").exists() && !desk.path("run/reviews").exists());
            // mpirun ends before the last of those that it has killed.
            let lives =
                |id: &u32| Command::new("kill").args(["-0", &id.to_string()]).stderr(Stdio::null()).status();
            while ids.iter().any(|id| lives(id).unwrap().success()) {
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "SIG{signal} to rank {rank}: {ids:?} go on"
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

#[test]
fn processes_with_other_models_are_refused_by_both_names() {
    let desk = desk(20);
    support::copy(&support::golden().join("model"), &desk.path("a"));
    support::copy(&support::golden().join("model"), &desk.path("b"));
    let file = desk.path("b/model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 8;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let line = "--task-file task.toml --data rows.csv --prompt_size 4 --threads 1 --save_to run";
    let mut command = mpirun(&desk, 1, &format!("skn-probe --model a {line}"));
    let program = command.get_program().to_owned();
    assert_eq!(program, "mpirun");
    let probe = desk.command("skn-probe", &[]).get_program().to_owned();
    command.args([":", "-n", "1"]).arg(probe).args(format!("--model b {line}").split(' '));
    let said: Said = command.output().unwrap().into();
    assert_eq!(said.code, 3, "{}", said.stderr);
    for part in ["rank 1 of 2 on ", ": model (SHA-256): expected ", ", as rank 0 of 2 on ", "found "] {
        assert!(said.stderr.contains(part), "expected {part:?} in\n{}", said.stderr);
    }
    assert!(!desk.path("run/reviews").exists());
}

#[test]
fn what_one_process_does_is_refused_and_an_error_is_told_once() {
    let desk = desk(20);
    for (line, code, told) in [
        ("skn-select -a run/reviews/dev_perf --save_to run", 2, "skn-select is done by one process"),
        ("skn-probe --model nowhere --task-file task.toml --data rows.csv --save_to run", 4, "nowhere"),
        ("skn-probe --no-such-flag", 2, "--no-such-flag"),
        ("skn-probe --model demo --task sentiment --shard 1/2 --splits train --save_to run", 2, "--shard"),
        (
            "skn-train --model demo --task sentiment --dry-run --save_to run",
            2,
            "a rehearsal is done by one process",
        ),
    ] {
        let said: Said = mpirun(&desk, 3, line).output().unwrap().into();
        assert_eq!(said.code, code, "{line}\n{}", said.stderr);
        assert_eq!(said.stderr.matches("error: ").count(), 1, "{line}\n{}", said.stderr);
        assert!(said.stderr.contains(told), "{line}\n{}", said.stderr);
    }
    let said: Said = mpirun(&desk, 3, "skn-probe --version").output().unwrap().into();
    assert_eq!((said.code, said.stdout.lines().count()), (0, 1), "{}{}", said.stdout, said.stderr);
}

/// Started by what MPI does not know: each would do all of the work.
#[test]
fn processes_that_know_nothing_of_each_other_are_refused() {
    let desk = desk(20);
    let words = ["--model", "demo", "--task", "sentiment", "--save_to", "run"];
    let said: Said =
        desk.command("skn-probe", &words).env("SLURM_STEP_NUM_TASKS", "2").output().unwrap().into();
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("SLURM_STEP_NUM_TASKS says that this is one of several"), "{}", said.stderr);
    // A part of the work is what such a process does.
    let part = [
        "--model",
        "demo",
        "--task",
        "sentiment",
        "--prompt_size",
        "2",
        "--splits",
        "train",
        "--shard",
        "1/9",
        "--save_to",
        "run",
    ];
    let said: Said =
        desk.command("skn-probe", &part).env("SLURM_STEP_NUM_TASKS", "9").output().unwrap().into();
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[test]
fn a_training_that_is_told_to_stop_leaves_a_checkpoint() {
    let desk = desk(20);
    let line = "skn-train --model demo --task sentiment --max-steps 200 --eval_every_step 200 \
                --checkpoint-every 3 --threads 1 --save_to";
    desk.ok(&format!("{line} whole"));
    for rank in 0..3 {
        let run = format!("run{rank}");
        let mut job = start(&desk, 3, &format!("{line} {run}"));
        let ids = ranks(&job);
        let began = Instant::now();
        while !desk.path(&run).join("last/checkpoint.safetensors").exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint of {run}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = Command::new("kill").args(["-s", "TERM", &ids[rank].to_string()]).status().unwrap();
        assert!(sent.success(), "rank {rank} was gone");
        assert_eq!(job.wait().unwrap().code(), Some(143), "rank {rank}");
        let said: Said = mpirun(&desk, 2, &format!("{line} {run} --resume")).output().unwrap().into();
        assert_eq!(said.code, 0, "{}", said.stderr);
        let without_previous = |folder: &str| {
            let mut found = desk.contents(folder);
            found.retain(|name, _| !name.contains("previous"));
            found
        };
        assert!(without_previous("whole") == without_previous(&run), "rank {rank}");
    }
}
