//! README's first command: the whole chain on the embedded demo.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::runs::{model, of_sentiment, rows};
use crate::support;

use serde_json::Value;
use skn_session::options::{Subject, TaskChoice};
use support::Desk;

fn number(summary: &Value, path: &str) -> f64 {
    summary.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {summary}"))
}

#[test]
fn the_demo_shows_what_skill_neurons_are() {
    let desk = Desk::new();
    let said = desk.run("skn-run");
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    let summary = desk.json("runs/demo-sentiment/summary.json");
    let accuracy = |name: &str| number(&summary, &format!("/accuracy/{name}"));

    assert!(accuracy("untuned") <= 0.65, "{summary}");
    assert!(accuracy("tuned") >= 0.88, "{summary}");
    assert!(
        number(&summary, "/best_neuron/dev") >= 0.75 && number(&summary, "/best_neuron/test") >= 0.75,
        "{summary}"
    );
    let (skill, random) = (accuracy("skill_perturbed"), accuracy("random_perturbed"));
    assert!(skill <= random - 0.10, "perturbing skill neurons costs 10 points more: {summary}");
    assert_eq!(summary["perturbation"]["draws"], 10);
    assert!(accuracy("pruned_tuned") >= accuracy("tuned") - 0.04, "{summary}");
    assert!(number(&summary, "/parameters/pruned") < number(&summary, "/parameters/full"), "{summary}");

    // Every accuracy is one of the 480 test rows' counts, and lies in its interval.
    for name in ["untuned", "tuned", "pruned", "pruned_tuned"] {
        let rows = accuracy(name) * number(&summary, "/test_rows");
        assert!((rows - rows.round()).abs() < 1e-6, "{name}: {rows}");
        let bound = |end: usize| number(&summary, &format!("/interval/{name}/{end}"));
        assert!(bound(0) < accuracy(name) && accuracy(name) < bound(1), "{summary}");
    }
    // What it printed is what it wrote.
    for value in
        [accuracy("untuned"), accuracy("tuned"), skill, random, accuracy("pruned"), accuracy("pruned_tuned")]
    {
        assert!(said.stdout.contains(&format!("{value:.4}")), "{value} in:\n{}", said.stdout);
    }
    // README shows this very table; its last digits are those of one instruction set.
    if skn_model::Isa::best() == skn_model::Isa::Avx2 {
        let readme = include_str!("../README.md");
        let rows = said.stdout.lines().filter(|line| line.starts_with('|') && !line.contains("ms a text"));
        let missing: Vec<&str> = rows.filter(|row| !readme.contains(row)).collect();
        assert!(missing.is_empty(), "README has other numbers than {missing:#?}");
    }
    for run in ["", "/untuned", "/prune", "/prune-tuned"] {
        desk.ok(&format!("skn-verify runs/demo-sentiment{run}"));
    }
    assert!(desk.path("runs/demo-sentiment/report.html").is_file());
    desk.fails("skn-run", 3, &["runs/demo-sentiment", "--resume", "--force"]);
    let again = desk.run("skn-run --resume");
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.contains("[2/9] skn-train: done before"), "{}", again.stderr);
    assert_eq!(desk.json("runs/demo-sentiment/summary.json"), summary, "nothing is left to do");
    // A run whose record is of the form that had no options is the same run.
    let record = desk.path("runs/demo-sentiment/run.json");
    let mut old = desk.json("runs/demo-sentiment/run.json");
    for entry in old["stages"].as_object_mut().unwrap().values_mut() {
        entry.as_object_mut().unwrap().remove("options");
    }
    old.as_object_mut().unwrap().remove("sha256");
    std::fs::write(&record, old.to_string()).unwrap();
    let again = desk.run("skn-run --resume --threads 1");
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(again.stderr.matches("done before").count(), 11, "{}", again.stderr);
    desk.fails("skn-run --resume --draws 3", 3, &["stage mask", "--draws 10", "--draws 3"]);
    desk.fails(
        "skn-run --resume --learning_rate 1",
        3,
        &["train", "--learning_rate 0.005", "--learning_rate 1"],
    );
    desk.fails(
        "skn-run --resume --task topic --out runs/demo-sentiment",
        3,
        &["--task sentiment", "--task topic"],
    );

    let texts = "the food was not bad , but the service was awful .\nwe never disliked the soup .\n";
    support::write(&desk.path("texts"), texts);
    let predicted = desk.ok("skn-predict --resume_from runs/demo-sentiment/prune-tuned --input texts");
    assert_eq!(predicted.lines().count(), 2);
    assert!(
        predicted.lines().all(|line| line.starts_with("positive\t0.") || line.starts_with("negative\t0.")),
        "{predicted}"
    );
}

/// The chain by calls of the session crate gives the numbers of `skn-run`, and its files, here on a few of the demo's rows.
#[test]
fn calls_give_the_numbers_of_the_program() {
    let desk = Desk::new();
    let data = of_sentiment(&desk, [96, 48, 48]);
    desk.ok(&format!("skn-run {data} --out program"));
    let summary = desk.json("program/summary.json");

    let session = skn_session::Session::new(skn_session::options::Compute::default()).unwrap();
    let mut subject = Subject::demo("sentiment");
    subject.task = Some(TaskChoice::File(desk.path("task.toml")));
    subject.data = Some(desk.path("rows"));
    let (text, run) = ("the food was not bad .", desk.path("calls"));
    let found = by_calls::chain(&session, subject, &run, &[text.into()]).unwrap();
    let names = ["tuned", "skill_perturbed", "random_perturbed", "pruned", "pruned_tuned"];
    for (name, found) in names.iter().zip(found.scores) {
        // The summary's went through files, as decimals.
        let said = number(&summary, &format!("/accuracy/{name}"));
        assert!((said - found).abs() < 1e-12, "{name}: {said} {found}");
    }
    assert_eq!(summary["best_neuron"]["layer"], found.best.0);
    assert_eq!(summary["best_neuron"]["index"], found.best.1);
    for file in
        ["sentiment/test_perf.safetensors", "prune-tuned/best/skn.json", "prune/best/model.safetensors"]
    {
        let [calls, program] = ["calls", "program"].map(|run| desk.path(run).join(file));
        assert!(std::fs::read(calls).unwrap() == std::fs::read(program).unwrap(), "{file}");
    }
    support::write(&desk.path("text"), text);
    let said = desk.ok("skn-predict --resume_from program/prune-tuned --input text");
    assert!(said.starts_with(&found.words[0]), "{said}");
}

#[test]
fn the_other_demo_tasks_run_too() {
    let desk = Desk::new();
    for (task, classes) in [("topic", 4), ("inference", 3)] {
        // Half of its rows.
        rows(&desk.path(task), task, [480, 160, 240], 0);
        let line = format!(
            "skn-run --task {task} --data {task} --prompt_size 3 --epoch 1 --retune-epoch 1 --draws 2 --shares 0.1 --out runs/demo-{task} \
             --json"
        );
        let summary: Value = serde_json::from_str(&desk.ok(&line)).unwrap();
        assert_eq!(summary["task"], *task);
        let perf = desk.path(&format!("runs/demo-{task}/{task}/dev_perf.safetensors"));
        let (shape, _) = skn_artifact::TensorFile::read(&perf).unwrap().i64("correct", None).unwrap();
        assert_eq!(shape[0], classes, "one rule for each class against the rest");
        check_one_against_the_rest(&desk, task, &summary);
        // Each class's own neurons are perturbed too, and the report shows what that does to each class.
        let damage = desk.json(&format!("runs/demo-{task}/class_perf.json"));
        let damage = damage.as_array().unwrap();
        assert_eq!(damage.len(), classes);
        for (class, of) in damage.iter().enumerate() {
            assert_eq!((of["class"].as_u64(), of["mask"].as_str()), (Some(class as u64), Some("0.1")));
            assert_eq!(of["by_class"]["rows"].as_array().unwrap().len(), classes);
            let mask = desk.path(&format!("runs/demo-{task}/info/{task}-class-{class}/0.1.safetensors"));
            assert_eq!(of["mask_sha256"], skn_artifact::hash_file(&mask).unwrap());
            let mask = skn_artifact::TensorFile::read(&mask).unwrap();
            assert_eq!(mask.metadata()["skn.class"], class.to_string());
        }
        let page = std::fs::read_to_string(desk.path(&format!("runs/demo-{task}/report.html"))).unwrap();
        assert!(page.contains("their own texts suffer most"));
    }
}

/// Counts the best neuron's answers again, from its activations and its average.
fn check_one_against_the_rest(desk: &Desk, task: &str, summary: &Value) {
    let file = |name: &str| {
        let path = desk.path(&format!("runs/demo-{task}/{task}/{name}.safetensors"));
        skn_artifact::TensorFile::read(&path).unwrap()
    };
    let best = |field: &str| summary["best_neuron"][field].as_u64().unwrap() as usize;
    let (class, layer, index, position) = (best("class"), best("layer"), best("index"), best("position"));
    let (shape, average) = file("train_avg").f32("train_avg", None).unwrap();
    let [_, positions, width] = shape[..] else { panic!("{shape:?}") };
    let threshold = average[(layer * positions + position) * width + index];
    for split in ["dev", "test"] {
        let kept = file(&format!("pos_{split}/{layer},{index}"));
        let (activation, label) =
            (kept.f32("activation", None).unwrap().1, kept.i64("label", None).unwrap().1);
        let fires = activation.chunks_exact(positions).map(|row| row[position] > threshold);
        // How often it is right where the class is, and where it is not.
        let (mut of, mut right) = ([0, 0], [0, 0]);
        for (fires, &label) in fires.zip(&label) {
            let is = usize::from(label == class as i64);
            of[is] += 1;
            right[is] += i64::from(fires == (is == 1));
        }
        let (shape, correct) = file(&format!("{split}_perf")).i64("correct", None).unwrap();
        let place = ((class * shape[1] + layer) * positions + position) * width + index;
        assert_eq!(correct[place], right[0] + right[1], "{task} {split}");
        let share = (right[0] as f64 / f64::from(of[0]) + right[1] as f64 / f64::from(of[1])) / 2.0;
        let told = summary["best_neuron"][split].as_f64().unwrap();
        assert!((told - share).abs() < 1e-9 || (told - (1.0 - share)).abs() < 1e-9, "{told} {share}");
    }
}

#[test]
fn a_run_that_is_replaced_leaves_nothing_of_another_task() {
    let desk = Desk::new();
    model(&desk.path("model"));
    for task in ["topic", "sentiment"] {
        rows(&desk.path(task), task, [48, 24, 24], 0);
    }
    let line = |task: &str| {
        format!(
            "skn-run --model model --task {task} --data {task} --prompt_size 3 --epoch 1 --retune-epoch 1 --draws 2 --shares 0.1 --out run \
             --force"
        )
    };
    let of_task = ["topic", "info/topic", "prune/topic", "prune-tuned/topic", "untuned/topic"];
    let there = |name: &&str| desk.path("run").join(name).exists();
    desk.ok(&line("topic"));
    let made: Vec<&str> = of_task.into_iter().filter(there).collect();
    assert_eq!(made, of_task);
    support::write(&desk.path("run/notes.txt"), "mine");
    desk.ok(&line("sentiment"));
    let left: Vec<&str> = of_task.into_iter().filter(there).collect();
    assert_eq!(left, [""; 0]);
    assert!(desk.path("run/notes.txt").is_file() && desk.path("run/info/sentiment").is_dir());
    for run in ["run", "run/prune", "run/prune-tuned", "run/untuned"] {
        let told = desk.ok(&format!("skn-verify {run}"));
        assert!(!told.contains("made from"), "{told}");
    }
    // What a run was stopped before it had trained is a run too.
    std::fs::remove_file(desk.path("run/run.json")).unwrap();
    desk.fails("skn-run --model model --task sentiment --data sentiment --out run", 3, &["--resume"]);
}
