//! What a run was made of is kept, compared and told: its rows, its model, how its texts were cut, and whose its files are.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;
use skn_session::options::{Chain, Compute, Subject};
use skn_session::{ChainEvent, Session, SessionError, Step};
use support::{Desk, copy, write};

const CHAIN: &str = "skn-run --model ../model --task sentiment --data ../rows --prompt_size 4 --epoch 1 --retune-epoch 1 --draws 2 \
                     --shares 0.1,0.3 --type mean --threads 1 --out run";
/// The runs of a chain.
const RUNS: [&str; 4] = ["run", "run/untuned", "run/prune", "run/prune-tuned"];

const CHAIN: &str = "skn-run --model ../model --task sentiment --data ../rows --prompt_size 4 --epoch 1 --retune-epoch 1 --draws 2 \
                     --shares 0.1,0.3 --type mean --threads 1 --out run";
/// The runs of a chain.
const RUNS: [&str; 4] = ["run", "run/untuned", "run/prune", "run/prune-tuned"];

/// A task's rows, as many as given of train, dev and test, from some row on.
fn rows(folder: &Path, task: &str, counts: [usize; 3], from: usize) {
    for (count, (split, content)) in counts.iter().zip(skn_demo::task_files(task).unwrap().splits) {
        let lines = std::str::from_utf8(content).unwrap().lines().skip(from).take(*count);
        write(
            &folder.join(split).with_extension("jsonl"),
            lines.map(|line| format!("{line}\n")).collect::<String>(),
        );
    }
}

/// The demo's model and its data in folders, and a chain that is done with them, in `one`.
static DONE: LazyLock<Desk> = LazyLock::new(|| {
    let desk = Desk::in_memory();
    for (name, bytes) in skn_demo::model_files() {
        write(&desk.path(&format!("model/{name}")), bytes);
    }
    rows(&desk.path("rows"), "sentiment", [48, 24, 24], 0);
    rows(&desk.path("others"), "sentiment", [48, 24, 24], 60);
    rows(&desk.path("topics"), "topic", [48, 24, 24], 0);
    fs::create_dir(desk.path("one")).unwrap();
    let case = Case { desk: &desk, name: "one" };
    case.ok(CHAIN);
    desk
});

/// A folder of the desk, in which command lines run.
struct Case<'a> {
    desk: &'a Desk,
    name: &'a str,
}

impl<'a> Case<'a> {
    /// One that has a copy of the chain's runs.
    fn of(name: &'a str) -> Self {
        copy(&DONE.path("one"), &DONE.path(name));
        Self { desk: &DONE, name }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.desk.path(self.name).join(name)
    }

    fn run(&self, line: &str) -> support::Said {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = self.desk.command(words[0], &words[1..]);
        command.current_dir(self.desk.path(self.name)).output().unwrap().into()
    }

    /// A command line that must succeed; what it said on stderr.
    fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{line}\n{}{}", said.stdout, said.stderr);
        said.stderr
    }

    fn contents(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        self.desk.contents(&format!("{}/{name}", self.name))
    }
}

/// A chain that replaces another leaves nothing of that, and all of its own.
#[test]
fn a_clock_that_is_set_back_costs_no_files() {
    let case = Case::of("clock");
    let before = case.contents("run");
    let mut chain = Chain::default();
    let mut subject = Subject::demo("sentiment");
    subject.data = Some(DONE.path("rows"));
    chain.subject = subject;
    chain.out = Some(case.path("run"));
    chain.overwrite = true;
    chain.epochs = std::num::NonZeroU64::new(1);
    chain.retune_epochs = chain.epochs;
    chain.shares = ["0.1", "0.3"].map(|share| share.parse().unwrap()).to_vec();
    chain.draws = std::num::NonZeroUsize::new(2).unwrap();
    write(&case.path("run/other/old"), "an earlier run's");
    set_back(&case.path("run"), |stages| {
        let mut old = stages["mask"].clone();
        old["outputs"] = serde_json::json!({"other/old": skn_artifact::sha256_hex(b"an earlier run's")});
        stages["probe acc_mean"] = old;
    });
    let session = Session::new(Compute::default()).unwrap();
    // Whatever is done seems to have begun long before the chain did.
    let summary = session.chain(&chain, |_: &Step, event| {
        if let ChainEvent::Done(_) = event {
            RUNS.iter().for_each(|run| set_back(&case.path(run), |_| ()));
        }
        Ok::<_, SessionError>(())
    });
    summary.unwrap();
    // The best neuron is another one, by whose name its activations are kept.
    let names = |files: &BTreeMap<String, Vec<u8>>| {
        files.keys().filter(|name| !name.contains("/pos_")).cloned().collect::<Vec<_>>()
    };
    let after = case.contents("run");
    assert_eq!(names(&before), names(&after));
    assert_eq!(before.len(), after.len());
    RUNS.iter().for_each(|run| drop(case.ok(&format!("skn-verify {run}"))));
}

/// Changes the stages of a run's record, each of which began when time did.
fn set_back(run: &Path, change: impl FnOnce(&mut Value)) {
    let path = run.join("run.json");
    let Ok(text) = fs::read(&path) else { return };
    let mut record: Value = serde_json::from_slice(&text).unwrap();
    record.as_object_mut().unwrap().remove("sha256");
    change(&mut record["stages"]);
    for stage in record["stages"].as_object_mut().unwrap().values_mut() {
        stage["started"] = 0.into();
    }
    write(&path, record.to_string());
}

#[test]
fn one_probe_says_nothing_of_the_run() {
    let case = Case::of("one probe");
    let measure = "skn-probe -p --resume_from run --probe_type speed --repeats 1 --threads 1 --out";
    case.ok(&format!("{measure} straight"));
    for (number, flags) in [
        "--max-length 4 --probe_type acc_mean",
        "--compat paper --probe_type acc_max",
        "--task topic --data ../topics",
    ]
    .iter()
    .enumerate()
    {
        case.ok(&format!("skn-probe -p --resume_from run --out run --splits train,dev --force {flags}"));
        case.ok(&format!("{measure} {number}"));
        assert_eq!(case.contents("straight"), case.contents(&number.to_string()), "{flags}");
    }
}
