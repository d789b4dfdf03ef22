//! The same command leaves the same bytes: whatever the number of threads, shards and texts at once, the working folder, the
//! locale, the time zone, the clock, the umask, and the order in which a folder lists its files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use crate::cases;
use crate::damage::Dice;
use crate::places::{Place, contents, differing, done};
use crate::support::{Desk, memory, write};

/// A task of pairs with three classes, which can be made into two of two.
const THREE: &str = "name = \"three\"\ntext = [\"premise\", \"hypothesis\"]\nlabels = [\"negative\", \"neutral\", \
                     \"positive\"]\n[splits]\ntrain = \"train\"\ndev = \"dev\"\ntest = \"test\"\n";
/// Files that a split of the data is divided into.
const FILES: usize = 5;

/// What differs between two calls of the same command.
#[derive(Clone, Debug, Default)]
struct Around {
    threads: usize,
    /// Texts at once, of stages that only pass over them.
    batch: Option<usize>,
    shards: Option<usize>,
    /// A folder below the case's, in which programs run.
    folder: &'static str,
    variables: Vec<(&'static str, &'static str)>,
    umask: &'static str,
    clock: Option<&'static str>,
    /// In which order files of data are made.
    order: Vec<usize>,
    /// Where data lie: file systems list files in orders of their own.
    data: PathBuf,
}

/// libfaketime, where there is one.
static FAKETIME: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = folders.map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"));
    found.into_iter().find(|path| path.is_file())
});

impl Around {
    fn of(number: u64) -> Self {
        let mut dice = Dice::of(number);
        let mut order: Vec<usize> = (0..FILES).collect();
        for place in 0..FILES {
            let other = place + dice.below(FILES - place);
            order.swap(place, other);
        }
        Self {
            threads: 1 + dice.below(3),
            batch: dice.one_of(&[None, Some(1), Some(3), Some(7), Some(64)]),
            shards: dice.one_of(&[None, Some(2), Some(3), Some(5)]),
            folder: dice.one_of(&["", "below", "below/and below"]),
            variables: vec![
                ("LC_ALL", dice.one_of(&["C", "C.UTF-8", "tr_TR.UTF-8", "de_DE.UTF-8"])),
                ("TZ", dice.one_of(&["UTC", "Pacific/Auckland", "America/St_Johns"])),
                ("COLUMNS", dice.one_of(&["20", "80", "400"])),
            ],
            umask: dice.one_of(&["022", "077", "002"]),
            // A leap second, the day before 1970's end, the day after 32 bits are full, and a clock that runs ten times as fast.
            clock: dice.one_of(&[
                None,
                Some("@2016-12-31 23:59:59"),
                Some("1970-12-31 12:00:00"),
                Some("2040-01-01 00:00:00"),
                Some("+0 x10"),
            ]),
            order,
            // One in memory lists files in another order than one on a disk.
            data: memory().filter(|_| dice.below(2) == 0).map_or_else(std::env::temp_dir, Path::to_path_buf),
        }
    }

    /// A command line of a case, `OUT` being the case's folder, `DATA` that of the data.
    fn run(&self, desk: &Desk, place: &Path, data: &Path, line: &str) -> Vec<u8> {
        let folder = place.join(self.folder);
        fs::create_dir_all(&folder).unwrap();
        let up =
            if self.folder.is_empty() { ".".into() } else { "../".repeat(self.folder.split('/').count()) };
        let words = line.split_whitespace().map(|word| {
            word.replace("OUT", up.trim_end_matches('/')).replace("DATA", data.to_str().unwrap())
        });
        let words: Vec<String> = words.collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let program = desk.command(words[0], &words[1..]);
        let mut command = Command::new("sh");
        command.args(["-c", "umask \"$0\" && exec env \"$@\"", self.umask]);
        // Not of the shell, which would leave libfaketime's memory behind.
        if let (Some(clock), Some(library)) = (self.clock, &*FAKETIME) {
            command.arg(format!("LD_PRELOAD={}", library.display())).arg(format!("FAKETIME={clock}"));
            command.arg("FAKETIME_DONT_FAKE_MONOTONIC=1");
        }
        command.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(std::process::Stdio::null()).current_dir(&folder).envs(self.variables.iter().copied());
        done(&mut command)
    }
}

/// Writes the data, and says in which order their folder lists the files of train.
fn data(folder: &Path, order: &[usize]) -> Vec<String> {
    for (name, task, description) in [
        (
            "mine",
            "sentiment",
            skn_demo::task_files("sentiment").unwrap().description.replace("\"sentiment\"", "\"mine\""),
        ),
        ("three", "inference", THREE.to_string()),
    ] {
        write(&folder.join(format!("{name}.toml")), description);
        for (split, content) in skn_demo::task_files(task).unwrap().splits {
            let lines: Vec<&str> = std::str::from_utf8(content)
                .unwrap()
                .lines()
                .take(if split == "train" { 40 } else { 20 })
                .collect();
            let each = lines.len() / FILES;
            for &file in order {
                let rows: String =
                    lines[file * each..][..each].iter().map(|line| format!("{line}\n")).collect();
                write(&folder.join(format!("{name}/{split}-{file:05}-of-{FILES:05}.jsonl")), rows);
            }
        }
    }
    let listed = fs::read_dir(folder.join("mine")).unwrap();
    listed
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("train"))
        .collect()
}

/// Every stage, and the bytes of all that they left; with what was answered.
fn all(desk: &Desk, place: &Path, around: &Around) -> BTreeMap<String, Vec<u8>> {
    let lying = tempfile::tempdir_in(&around.data).unwrap();
    let order = data(lying.path(), &around.order);
    ORDERS.lock().unwrap().insert(order);
    let run = |line: &str| around.run(desk, place, lying.path(), line);
    let threads = format!("--threads {}", around.threads);
    let pass = around.batch.map_or(threads.clone(), |batch| format!("{threads} --bz {batch}"));
    let subject = "--model demo --task-file DATA/mine.toml --data DATA/mine";
    run(&format!(
        "skn-train {subject} --prompt_size 4 --max-steps 6 --eval_every_step 3 --bz 8 --save_to OUT/run {threads}"
    ));
    let probe = format!("skn-probe -p --resume_from OUT/run --save_to OUT/run {pass}");
    match around.shards {
        None => drop(run(&format!("{probe} --probe_type acc,acc_mean,acc_max,pos --pos 2,7"))),
        Some(count) => {
            for (splits, pos) in [("train", ""), ("dev,test", ",pos --pos 2,7")] {
                for index in (1..=count).rev() {
                    run(&format!(
                        "{probe} --probe_type acc,acc_mean,acc_max{pos} --splits {splits} --shard {index}/{count}"
                    ));
                }
                run("skn-merge --save_to OUT/run");
            }
            fs::remove_dir_all(place.join("run/shards")).unwrap();
        }
    }
    run(&format!("{probe} --probe_type prompt_act,speed --repeats 1"));
    run("skn-select -a OUT/run/mine/dev_perf --save_to OUT/run --shares 0.1,0.3");
    run(&format!(
        "skn-mask -p --resume_from OUT/run --save_to OUT/run --info_path OUT/run/info/mine/0.1,OUT/run/info/mine/0.3 --cmp --draws 2 {pass}"
    ));
    run(&format!(
        "skn-prune --resume_from OUT/run --info_path OUT/run/info/mine/0.3 --ths_path OUT/run/mine/train_avg --save_to OUT/pruned {threads}"
    ));
    run(&format!(
        "skn-train -p --model_type RobertaPrunePrompt --resume_from OUT/pruned --save_to OUT/tuned --max-steps 3 --bz 8 {threads}"
    ));
    write(
        &place.join("texts"),
        "the food was not bad , but the service was awful .\nwe never disliked the soup .\n",
    );
    let answers = run(&format!("skn-predict --resume_from OUT/tuned --input OUT/texts --json {pass}"));
    run("skn-binarize --task-file DATA/three.toml --data DATA/three --out OUT/binarized");
    run(&format!(
        "skn-run {subject} --prompt_size 4 --epoch 1 --retune-epoch 1 --draws 2 --shares 0.1 --out OUT/chain {threads}"
    ));
    run("skn-report OUT/run --figures OUT/figures");
    let mut found = contents(place);
    // The page and one figure show times.
    found.retain(|name, _| !name.ends_with("report.html") && !name.ends_with("-speed.svg"));
    found.insert("(answers)".into(), answers);
    found
}

/// The orders in which folders listed the data.
static ORDERS: Mutex<BTreeSet<Vec<String>>> = Mutex::new(BTreeSet::new());

#[test]
#[allow(clippy::print_stdout, reason = "a test's own report")]
fn every_stage() {
    if FAKETIME.is_none() {
        println!("same::every_stage: without libfaketime all runs have the machine's clock");
    }
    if memory().is_none() {
        println!("same::every_stage: without files in memory (/dev/shm) all data lie on one file system");
    }
    let desk = Desk::new();
    let usual = Around {
        threads: 2,
        umask: "022",
        order: (0..FILES).collect(),
        data: std::env::temp_dir(),
        ..Around::default()
    };
    let place = Place::new(&desk, "expected");
    let expected = all(&desk, &place.0, &usual);
    assert!(expected.len() > 80, "{:?}", expected.keys());
    let went = cases::run("torture", "same::every_stage", 20, |number| {
        let around = Around::of(number);
        let place = Place::new(&desk, &format!("case {number}"));
        let found = all(&desk, &place.0, &around);
        assert!(found == expected, "{around:?}: {:?}", differing(&expected, &found));
        if around.shards.is_some() { "of shards".into() } else { "whole".into() }
    });
    if went.values().sum::<u64>() >= 20 {
        assert_eq!(went.len(), 2, "{went:?}");
        let orders = ORDERS.lock().unwrap().len();
        assert!(orders > 1, "every folder listed its files in the same order");
        println!("same::every_stage: {orders} orders of directory entries");
    }
}
