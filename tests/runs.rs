//! What a run was made of is kept, compared and told: its rows, its model, how its texts were cut, and whose its files are.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use serde_json::Value;
use skn_artifact::ErrorKind;
use skn_session::options::{Chain, Compute, Subject, Train, Tuned, TunedMethod};
use skn_session::{ChainEvent, Progress, Session, SessionError, Step};
use support::{Desk, copy, write};

const CHAIN: &str = "skn-run --model ../model --task sentiment --data ../rows --prompt_size 4 --epoch 1 --retune-epoch 1 --draws 2 \
                     --shares 0.1,0.3 --type mean --threads 1 --out run";
/// The runs of a chain.
const RUNS: [&str; 4] = ["run", "run/untuned", "run/prune", "run/prune-tuned"];

/// The demo's model, as a folder of one's own.
pub(crate) fn model(folder: &Path) {
    for (name, bytes) in skn_demo::model_files() {
        write(&folder.join(name), bytes);
    }
}

/// A task's rows, as many as given of train, dev and test, from some row on.
pub(crate) fn rows(folder: &Path, task: &str, counts: [usize; 3], from: usize) {
    for (count, (split, content)) in counts.iter().zip(skn_demo::task_files(task).unwrap().splits) {
        let lines = std::str::from_utf8(content).unwrap().lines().skip(from).take(*count);
        write(
            &folder.join(split).with_extension("jsonl"),
            lines.map(|line| format!("{line}\n")).collect::<String>(),
        );
    }
}

/// Some of the demo's rows of `sentiment` in a desk, as many as given of train, dev and test: the flags that name them.
pub(crate) fn of_sentiment(desk: &Desk, counts: [usize; 3]) -> &'static str {
    rows(&desk.path("rows"), "sentiment", counts, 0);
    write(&desk.path("task.toml"), skn_demo::task_files("sentiment").unwrap().description);
    "--model demo --task-file task.toml --data rows"
}

/// The demo's model and its data in folders, and a chain that is done with them, in `one`.
static DONE: LazyLock<Desk> = LazyLock::new(|| {
    let desk = Desk::of_process();
    model(&desk.path("model"));
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

    /// An empty one.
    fn new(name: &'a str) -> Self {
        fs::create_dir(DONE.path(name)).unwrap();
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

    /// A command line that must be refused, with these parts in what it says, and touch nothing.
    fn fails(&self, line: &str, parts: &[&str]) {
        let before = self.contents("");
        let said = self.run(line);
        assert_eq!(said.code, 3, "{line}\n{}{}", said.stdout, said.stderr);
        for part in parts {
            assert!(said.stderr.contains(part), "{line}\nexpected `{part}` in:\n{}", said.stderr);
        }
        assert!(self.contents("") == before, "{line}: something was written");
    }

    fn contents(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        self.desk.contents(&format!("{}/{name}", self.name))
    }

    fn json(&self, name: &str) -> Value {
        self.desk.json(&format!("{}/{name}", self.name))
    }

    /// What a stage's record has of one kind.
    fn recorded(&self, run: &str, entry: &str, what: &str) -> BTreeMap<String, String> {
        let record = self.json(&format!("{run}/run.json"));
        serde_json::from_value(record["stages"][entry][what].clone()).unwrap()
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

#[test]
fn a_chain_goes_on_with_what_it_began_with() {
    let case = Case::new("resumed");
    // Copies, as others read the desk's own.
    for folder in ["model", "rows"] {
        copy(&DONE.path(folder), &case.path(folder));
    }
    let chain = CHAIN.replace("../", "");
    case.ok(&chain);
    let straight = case.contents("run");
    let resume = format!("{chain} --resume");
    let said = case.run(&resume);
    assert_eq!(
        (said.code, said.stderr.matches("done before").count()),
        (0, 11),
        "{}{}",
        said.stdout,
        said.stderr
    );

    let path = case.path("rows/dev.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let (first, rest) = whole.split_once('\n').unwrap();
    write(&path, format!("{}\n{rest}", first.replacen(" .", " , now", 1).replacen("was", "is", 1)));
    assert_ne!(fs::read_to_string(&path).unwrap(), whole);
    case.fails(
        &resume,
        &["untuned/run.json", "stage probe speed", "data of sentiment", "--force begins anew"],
    );
    write(&path, whole);

    let path = case.path("model/model.safetensors");
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    let end = bytes.len() - 400;
    bytes[end..].fill(0);
    write(&path, bytes);
    case.fails(&resume, &["stage probe speed", "model ", "--force begins anew"]);
    write(&path, whole);
    case.ok(&resume);
    assert_eq!(case.contents("run"), straight);
}

#[test]
fn a_model_that_was_pruned_otherwise_is_tuned_anew() {
    let case = Case::of("mixed");
    let chain = format!("{CHAIN} --prune-share 0.1");
    fs::rename(case.path("run"), case.path("older")).unwrap();
    case.ok(&chain);
    let straight = case.contents("run");
    fs::remove_dir_all(case.path("run/prune-tuned")).unwrap();
    copy(&case.path("older/prune-tuned"), &case.path("run/prune-tuned"));
    let said = case.run(&format!("{chain} --resume"));
    assert_eq!(
        (said.code, said.stderr.matches("done before").count()),
        (0, 9),
        "{}{}",
        said.stdout,
        said.stderr
    );
    assert_eq!(case.contents("run"), straight);
    case.ok("skn-verify run/prune-tuned");
}

#[test]
fn results_of_other_rows_do_not_mix() {
    let case = Case::of("rows");
    let probe =
        "skn-probe --model demo --task sentiment -p --resume_from run/best --threads 1 --out two --splits";
    let adapter = case.path("peft");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        write(&adapter.join(name), fs::read(case.path("run/best").join(name)).unwrap());
    }
    let probe = probe.replace("run/best", "peft");
    case.ok(&format!("{probe} train --data ../rows --max-length 12"));
    let dev = format!("{probe} dev --max-length 12");
    case.fails(
        &format!("{dev} --data ../others"),
        &["two/split.json", "expected the rows of sentiment", "probe acc on train"],
    );
    // Force replaces this probe's files, and not those that they are compared with.
    case.fails(&format!("{dev} --data ../others --force"), &["two/split.json"]);
    for flags in ["", "--max-length 100"] {
        let line = format!("{probe} dev --data ../rows {flags}");
        case.fails(
            &line,
            &["stage probe acc on train: max_length of sentiment/train_avg", "found 12; probe again"],
        );
    }
    case.fails(
        &format!("{dev} --data ../rows --compat paper"),
        &["compat of sentiment/train_avg", "found nothing"],
    );
    case.ok(&format!("{dev} --data ../rows"));
    // Another task's rows are others, and those of one entry are replaced with it.
    let topic = probe.replace("--task sentiment", "--task topic");
    case.ok(&format!("{topic} train --data ../topics"));
    let three = probe.replace("--out two", "--out three");
    case.ok(&format!("{three} train --data ../others"));
    case.fails(&format!("{three} train --data ../rows"), &["exists; --force replaces it"]);
    case.ok(&format!("{three} train --data ../rows --force"));
    let of = |run: &str| case.json(&format!("{run}/split.json"))["data_sha256"].clone();
    assert_eq!(of("three"), of("two"));

    // Averages of other rows are refused though their run lists no rows.
    let line = "skn-probe --model demo --task sentiment --prompt_size 4 --threads 1";
    for (folder, data) in [("four", "rows"), ("five", "others")] {
        case.ok(&format!("{line} --data ../{data} --splits train --out {folder}"));
    }
    let average = "sentiment/train_avg.safetensors";
    fs::create_dir(case.path("six")).unwrap();
    write(&case.path("six").join(average), fs::read(case.path("four").join(average)).unwrap());
    let line = format!("{line} --data ../others --splits dev --out six");
    case.fails(&line, &["six/sentiment/train_avg", "skn.data_sha256", "that of the rows given"]);
}

#[test]
fn shards_of_other_rows_do_not_mix_with_a_run() {
    let case = Case::new("shards");
    let probe = "skn-probe --model demo --task sentiment --prompt_size 4 --threads 1 --out parts --splits";
    let shards = |flags: &str| {
        for part in ["1/2", "2/2"] {
            case.ok(&format!("{probe} {flags} --force --shard {part}"));
        }
    };
    shards("train --data ../rows --max-length 12");
    case.ok("skn-merge --out parts");
    let merge = case.json("parts/run.json")["stages"]["merge sentiment/train_avg.safetensors"].clone();
    assert_eq!(merge["settings"], serde_json::json!({"max_length": "12"}));
    case.fails(
        &format!("{probe} dev --data ../rows --shard 1/2"),
        &["stage merge sentiment/train_avg.safetensors: max_length", "expected nothing", "found 12"],
    );
    fs::remove_dir_all(case.path("parts/shards")).unwrap();
    shards("train --data ../others --max-length 12 --probe_type acc_mean");
    case.fails(
        "skn-merge --out parts --force",
        &["parts/split.json", "stage merge sentiment/train_avg.safetensors took"],
    );
    // All that there was is replaced.
    fs::remove_dir_all(case.path("parts/shards")).unwrap();
    shards("train --data ../others");
    case.ok("skn-merge --out parts --force");
    let of = |run: &str| case.json(&format!("{run}/split.json"))["data_sha256"].clone();
    assert_eq!(of("parts"), of("parts/shards/1-of-2"));
    case.ok("skn-verify parts");
}

#[test]
fn what_somebody_put_beside_a_model_is_told() {
    let case = Case::of("beside");
    let probe = "skn-probe -p --model_type RobertaPrunePrompt --resume_from run/prune --splits train --threads 1 --out";
    let told = "prune/best/tokenizer_config.json: no run lists it";
    assert!(!case.ok(&format!("{probe} before")).contains("no run lists it"));
    write(&case.path("run/prune/best/tokenizer_config.json"), "{\"truncation_side\":\"left\"}");
    assert!(case.ok(&format!("{probe} after")).contains(told));
    let line = "skn-probe --model run/prune/best --task sentiment --data ../rows --prompt_size 4 --splits train --out as-model";
    assert!(case.ok(line).contains(told));
    // A model of the user's own is in no run.
    let line = line.replace("run/prune/best", "../model").replace("as-model", "own");
    assert!(!case.ok(&line).contains("no run lists it"));
}

#[test]
fn results_that_no_stage_has_noted_are_told() {
    let case = Case::of("unnoted");
    assert!(!case.ok("skn-report run --force").contains("does not list"));
    let other = case.path("run/topic/dev_mean_perf.safetensors");
    write(&other, fs::read(case.path("run/sentiment/dev_mean_perf.safetensors")).unwrap());
    let said = case.ok("skn-report run --force");
    assert!(said.contains("run.json does not list topic/dev_mean_perf.safetensors: "), "{said}");
}

#[test]
fn a_run_of_another_kind_is_replaced_whole() {
    let case = Case::of("kinds");
    let train = "skn-train --model demo --task sentiment --data ../rows --max-steps 2 --threads 1 --prompt_size 4 --out";
    // A user's own file stays.
    write(&case.path("run/prune/best/README.md"), "mine");
    case.ok(&format!("{train} run/prune --force"));
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(!case.path("run/prune/best").join(name).exists(), "{name}");
    }
    assert!(case.path("run/prune/best/README.md").exists());
    case.ok("skn-probe -p --resume_from run/prune --splits train --threads 1 --out probed");
    case.ok("skn-verify run/prune");

    case.ok(&format!("{train} biases --model_type RobertaBias --max-length 5"));
    let prune = "skn-prune --resume_from run --info_path run/info/sentiment/0.3 --ths_path run/sentiment/train_avg --threads 1 --out";
    case.ok(&format!("{prune} straight"));
    case.ok(&format!("{prune} biases --force"));
    assert!(!case.path("biases/best/bitfit.safetensors").exists());
    case.ok("skn-verify biases");
    // What the run was before says nothing of how it cuts its texts.
    let probe = "skn-probe -p --model_type RobertaPrunePrompt --splits train,dev --threads 1 --resume_from";
    for run in ["straight", "biases"] {
        case.ok(&format!("{probe} {run} --out of-{run}"));
    }
    assert_eq!(case.contents("of-straight"), case.contents("of-biases"));
}

#[test]
fn what_was_read_is_noted() {
    let case = Case::of("read");
    let has = |run: &str, entry: &str, names: &[&str]| {
        let inputs = case.recorded(run, entry, "inputs");
        for name in names {
            let sha256 = skn_artifact::hash_file(&case.path("run").join(name)).unwrap();
            let found = inputs.get(*name).or_else(|| {
                let within = format!("/{name}");
                inputs.iter().find(|(path, _)| path.ends_with(&within)).map(|(_, sha256)| sha256)
            });
            assert_eq!(found, Some(&sha256), "{run}, {entry}, {name}: {inputs:?}");
        }
    };
    let average = "sentiment/train_avg.safetensors";
    has("run", "mask", &["best/adapter_model.safetensors", "best/skn.json", average]);
    let counts = ["dev", "test"].map(|split| format!("sentiment/{split}_perf.safetensors"));
    let of_all = [
        "mask_perf.json",
        "cmp_perf.json",
        "best/skn.json",
        "sentiment/inference_perf.json",
        "sentiment/inference_time.json",
        &counts[0],
        &counts[1],
    ];
    has("run", "run", &of_all);
    has("run", "run", &["prune/sentiment/inference_perf.json", "prune-tuned/sentiment/inference_time.json"]);
    has("run", "report", &of_all);
    has("run", "report", &["summary.json", "metrics.jsonl", average, "sentiment/dev_mean_perf.safetensors"]);
    let pruned = case.recorded("run/prune-tuned", "train", "inputs");
    let (_, config) = pruned.iter().find(|(path, _)| path.ends_with("prune/best/skn.json")).unwrap();
    assert_eq!(*config, skn_artifact::hash_file(&case.path("run/prune/best/skn.json")).unwrap());
    let prune = "skn-prune --resume_from run --info_path run/info/sentiment/0.3 --ths_path run/sentiment/train_avg --threads 1";
    case.ok(&format!("{prune} --fold per-position-group --out beside"));
    case.ok("skn-probe -p --resume_from run --probe_type acc_last --splits train --threads 1 --out run");
    case.ok(&format!(
        "{prune} --fold per-position-group --text_ths_path run/sentiment/train_last_avg --out named"
    ));
    has("beside", "prune", &[average, "sentiment/train_mean_avg.safetensors"]);
    has("named", "prune", &[average, "sentiment/train_last_avg.safetensors"]);
}

#[test]
fn a_users_files_are_not_listed_as_a_stages() {
    let case = Case::new("own files");
    let train = "skn-train --model demo --task sentiment --data ../rows --max-steps 2 --threads 1 --prompt_size 4 --out run";
    case.ok(train);
    let listed = case.recorded("run", "train", "outputs");
    write(&case.path("run/best/README.md"), "mine");
    write(&case.path("run/last/notes"), "mine");
    write(&case.path("run/best/tokenizer_config.json"), "{}");
    case.ok(&format!("{train} --resume"));
    assert_eq!(case.recorded("run", "train", "outputs"), listed);
    assert!(
        listed.contains_key("last/checkpoint.safetensors") && listed.contains_key("best/skn.json"),
        "{listed:?}"
    );
}

#[test]
fn a_run_that_goes_on_from_its_best_knows_what_it_began_with() {
    let case = Case::of("in place");
    let inputs = || case.recorded("run/prune-tuned", "train", "inputs");
    let listed = || case.recorded("run/prune-tuned", "train", "outputs");
    let began = listed();
    let train = "skn-train -p --model_type RobertaPrunePrompt --resume_from run/prune-tuned --out run/prune-tuned --max-steps 4 --bz 4 \
                 --threads 1";
    case.ok(train);
    let first = inputs();
    for name in ["best/adapter_model.safetensors", "best/skn.json"] {
        assert_eq!(first[name], began[name], "{name}");
        assert_ne!(listed()[name], began[name], "{name}");
    }
    case.ok(&format!("{train} --resume"));
    assert_eq!(inputs(), first, "it had nothing to do");
}

/// Stops when it was asked so often.
struct StopAfter(AtomicUsize);

impl Progress for StopAfter {
    fn cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

/// Where parameters were perhaps torn when a training was stopped, the model beside them was not.
#[test]
fn a_model_that_was_changed_is_not_tuned_further_in_place() {
    let case = Case::of("stopped");
    let run = case.path("run/prune-tuned");
    let mut train = Train::new(Subject::default(), &run);
    train.tuned = Tuned::of(&run).by(TunedMethod::PrunePrompt);
    train.training.max_steps = Some(4);
    for moment in 0.. {
        let stop = Arc::new(StopAfter(moment.into()));
        let session = Session::new(Compute::default()).unwrap().with_progress(stop);
        match session.train(&train) {
            Err(SessionError::Stopped { .. }) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => panic!("{other:?}"),
        }
    }
    let path = run.join("best/config.json");
    let config = fs::read_to_string(&path).unwrap();
    write(&path, format!("{config}\n"));
    let resume = "skn-train -p --model_type RobertaPrunePrompt --resume_from run/prune-tuned --out run/prune-tuned --max-steps 4 --resume";
    case.fails(resume, &["best/config.json: expected SHA-256", "as stage train wrote it"]);
    write(&path, config);
    case.ok(resume);
    case.ok("skn-verify run/prune-tuned");
}
