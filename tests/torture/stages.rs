//! The programs that are attacked, what each finds, and the commands that make it.

use std::fs;
use std::path::Path;

use crate::support::{self, golden, write};

const TRAIN: &str = "skn-train --model model --task-file task.toml --data data --prompt_size 2 --bz 4 --max-steps 3 \
                     --eval_every_step 2 --checkpoint-every 1 --threads 1 --save_to run";
const PROBE: &str = "skn-probe -p --resume_from run --model model --data data --threads 1 --variance --probe_type acc,acc_max \
                     --save_to run";
const SELECT: &str = "skn-select -a run/tiny/dev_perf --shares 0.1,0.3 --save_to run";
const MASK: &str = "skn-mask -p --resume_from run --model model --data data --info_path run/info/tiny/0.1 --cmp --draws 2 \
                    --matched run/tiny/train_avg --matched_path run/info/tiny/0.1 --threads 1 --save_to run";
const PRUNE: &str = "skn-prune --resume_from run --model model --data data --info_path run/info/tiny/0.1 --ths_path run/tiny/train_avg \
                     --threads 1 --out pruned";
const EVALUATE: &str =
    "skn-evaluate -p --resume_from run --model model --data data --calibrate --threads 1 --out run";
const REPORT: &str = "skn-report run --figures figures";
const RUN: &str = "skn-run --model model --task-file task.toml --data data --prompt_size 2 --batch 4 --epoch 1 --retune-epoch 1 \
                   --shares 0.1,0.3 --draws 2 --threads 1 --out run";
const PRETRAIN: &str =
    "skn-pretrain --steps 3 --batch 2 --shape 8,2,16,2 --report-every 2 --threads 1 --out made";
const BINARIZE: &str = "skn-binarize --task-file task3.toml --data data3 --out two";

/// A program as it is attacked.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// The folder that it finds: one that [`STATES`] names.
    pub(crate) before: &'static str,
    pub(crate) line: String,
    /// The flag that lets it go on where it was stopped.
    pub(crate) again: &'static str,
    /// A stage that reads what this one writes.
    pub(crate) next: Option<&'static str>,
    /// The run that it writes.
    pub(crate) run: &'static str,
}

/// The programs that are attacked: all, or those that `SKN_STAGES` names, separated by commas, for a campaign against some of them.
pub(crate) fn attacked() -> Vec<Stage> {
    let Ok(named) = std::env::var("SKN_STAGES") else { return stages() };
    let named: Vec<&str> = named.split(',').collect();
    let names: Vec<&str> = stages().iter().map(|stage| stage.name).collect();
    assert!(
        named.iter().all(|name| names.contains(name)),
        "SKN_STAGES: expected some of {names:?}, found {named:?}"
    );
    stages().into_iter().filter(|stage| named.contains(&stage.name)).collect()
}

/// Those of [`states`] that these stages find, and what they are made of.
pub(crate) fn states_of(stages: &[Stage]) -> Vec<(&'static str, &'static str, Vec<String>)> {
    let mut found: Vec<&str> = stages.iter().map(|stage| stage.before).collect();
    let mut states = states();
    states.reverse();
    states.retain(|(name, from, _)| {
        let is_found = found.contains(name);
        found.extend(is_found.then_some(from));
        is_found
    });
    states.reverse();
    states
}

/// The folders that stages find, each made of an earlier one by command lines.
fn states() -> Vec<(&'static str, &'static str, Vec<String>)> {
    let seed = |line: &str| format!("{line} --seed 1");
    let force = |line: &str| format!("{line} --force");
    let shard = |part: &str| {
        PROBE.replace("--probe_type acc,acc_max", &format!("--probe_type acc --splits train --shard {part}"))
    };
    vec![
        ("trained", "inputs", vec![TRAIN.into()]),
        ("other", "inputs", vec![seed(TRAIN)]),
        // Statistics of another prompt than the one beside them.
        ("stale", "other", vec![PROBE.into(), force(TRAIN)]),
        ("sharded", "trained", vec![shard("1/2"), shard("2/2")]),
        ("probed", "trained", vec![PROBE.into()]),
        ("selected", "probed", vec![SELECT.into()]),
        ("selected otherwise", "probed", vec![SELECT.replace("dev_perf", "test_perf")]),
        ("masked", "selected", vec![MASK.into()]),
        ("masked otherwise", "selected", vec![MASK.replace("--draws 2", "--draws 3")]),
        ("pruned", "selected", vec![PRUNE.into()]),
        ("pruned otherwise", "selected", vec![PRUNE.replace("tiny/0.1", "tiny/0.3")]),
        ("reported", "masked", vec![REPORT.into(), force(&MASK.replace("--draws 2", "--draws 3"))]),
        ("run otherwise", "inputs", vec![seed(RUN)]),
        ("made otherwise", "inputs", vec![seed(PRETRAIN)]),
        ("binarized", "inputs", vec![seed(BINARIZE)]),
    ]
}

fn stages() -> Vec<Stage> {
    let stage = |name, before, line: &str, again, next, run| Stage {
        name,
        before,
        line: line.into(),
        again,
        next,
        run,
    };
    let force = |line: &str| format!("{line} --force");
    let untuned = PROBE.replace("-p --resume_from run", "--task-file task.toml --prompt_size 2");
    vec![
        stage("train", "inputs", TRAIN, "--resume", Some(PROBE), "run"),
        stage("train anew", "other", &force(TRAIN), "--force", Some(PROBE), "run"),
        stage("probe", "trained", PROBE, "--force", Some(SELECT), "run"),
        stage("probe the untuned", "inputs", &untuned, "--force", Some(SELECT), "run"),
        stage("probe anew", "stale", &force(PROBE), "--force", Some(SELECT), "run"),
        stage("merge", "sharded", "skn-merge --out run", "--force", None, "run"),
        stage("select", "probed", SELECT, "--force", Some(MASK), "run"),
        stage("select anew", "selected otherwise", &force(SELECT), "--force", Some(MASK), "run"),
        stage("mask", "selected", MASK, "--force", Some(REPORT), "run"),
        stage("mask anew", "masked otherwise", &force(MASK), "--force", Some(REPORT), "run"),
        stage("prune", "selected", PRUNE, "--force", None, "pruned"),
        stage("prune anew", "pruned otherwise", &force(PRUNE), "--force", None, "pruned"),
        stage(
            "tune the pruned",
            "pruned",
            &TRAIN
                .replace("--model model", "-p --resume_from pruned --model_type RobertaPrunePrompt")
                .replace("--save_to run", "--save_to tuned"),
            "--resume",
            None,
            "tuned",
        ),
        stage("evaluate", "trained", EVALUATE, "--force", None, "run"),
        stage("report", "masked", REPORT, "--force", None, "run"),
        stage("report anew", "reported", &force(REPORT), "--force", None, "run"),
        stage("run", "inputs", RUN, "--resume", None, "run"),
        stage("run anew", "run otherwise", &force(RUN), "--force", None, "run"),
        stage("pretrain", "inputs", PRETRAIN, "--force", None, ""),
        stage("pretrain anew", "made otherwise", &force(PRETRAIN), "--force", None, ""),
        stage("binarize", "inputs", BINARIZE, "--force", None, ""),
        stage("binarize anew", "binarized", &force(BINARIZE), "--force", None, ""),
        stage("verify", "masked", "skn-verify run", "", None, "run"),
        stage(
            "predict",
            "trained",
            "skn-predict --resume_from run --input texts.txt --threads 1",
            "",
            None,
            "run",
        ),
    ]
}

/// Copies a folder; a model and data, which nobody writes, by links.
pub(crate) fn copy_state(from: &Path, to: &Path) {
    support::walk(from, "", &mut |name, path| {
        let target = to.join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        if name.starts_with("model/") || name.starts_with("data") {
            fs::hard_link(path, target).unwrap();
        } else if !name.starts_with('.') {
            fs::copy(path, target).unwrap();
        }
    });
}

/// A model, two tasks, and data of a few rows.
pub(crate) fn inputs(place: &Path) {
    support::copy(&golden().join("model"), &place.join("model"));
    let task = |labels: &str| {
        format!(
            "text = [\"sentence\"]\nlabel = \"label\"\nlabels = [{labels}]\n[splits]\ntrain = \"train\"\ntest = \"test\"\n"
        )
    };
    write(&place.join("task.toml"), format!("name = \"tiny\"\n{}", task("\"bad\", \"good\"")));
    let sides = "\"negative\", \"neutral\", \"positive\"";
    write(&place.join("task3.toml"), format!("name = \"tiny3\"\n{}", task(sides)));
    let words = ["bad", "good", "fine"];
    for (folder, classes) in [("data", 2), ("data3", 3)] {
        for (split, rows) in [("train", 20), ("test", 7)] {
            let line = |row: usize| {
                format!("the film is {} {split} {row},{}\n", words[row % classes], row % classes)
            };
            let lines: String = (0..rows).map(line).collect();
            write(&place.join(folder).join(split).with_extension("csv"), format!("sentence,label\n{lines}"));
        }
    }
    write(&place.join("texts.txt"), "the film is good\nthe film is bad\n");
}
