//! What need not be said: a run knows its method, model, prompt, task and data.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use support::{Desk, write};

const TASK: &str = "name = \"reviews\"\ntext = [\"review\"]\nlabel = \"stars\"\nlabels = [\"negative\", \"positive\"]\n\
                    [splits]\ntrain = \"train\"\ntest = \"test\"\n";

/// A desk with a task of one's own and its rows.
fn desk() -> Desk {
    let desk = Desk::new();
    write(&desk.path("reviews.toml"), TASK);
    for (split, rows) in [("train", 40), ("test", 12)] {
        let line = |row: usize| {
            let word = ["awful", "good"][row % 2];
            format!("{{\"stars\": {}, \"review\": \"the soup was {word} , no {row}\"}}\n", row % 2)
        };
        write(&desk.path(&format!("rows/{split}.jsonl")), (0..rows).map(line).collect::<String>());
    }
    desk
}

const ABOUT: &str = "--model demo --task-file reviews.toml --data rows";

#[test]
fn a_run_is_all_that_is_asked_for() {
    let desk = desk();
    for method in ["RobertaPrompt", "RobertaBias", "RobertaAdapter"] {
        let train = format!("skn-train {ABOUT} --model_type {method} --max-steps 2");
        let prompt = if method == "RobertaPrompt" { " --prompt_size 5" } else { "" };
        desk.ok(&format!("{train}{prompt} --out {method}"));
        let from = format!("--resume_from {method}");
        desk.ok(&format!("skn-probe {from} --out {method}"));
        desk.ok(&format!(
            "skn-probe {from} -p --model_type {method}{prompt} --model demo --out {method}-said"
        ));
        let perf = "reviews/dev_perf.safetensors";
        let [short, said] = [method.to_owned(), format!("{method}-said")]
            .map(|run| std::fs::read(desk.path(&run).join(perf)).unwrap());
        assert!(short == said, "{method}: the same bytes as with all that could be said");
        desk.ok(&format!("skn-select -a {method}/reviews/dev_perf --out {method}"));
        desk.ok(&format!("skn-mask {from} --info_path {method}/info/reviews/0.1 --out {method}"));
        let pruned = format!("{method}/pruned");
        desk.ok(&format!(
            "skn-prune {from} --info_path {method}/info/reviews/0.1 --ths_path {method}/reviews/train_avg --out {pruned}"
        ));
        desk.ok(&format!("skn-train --resume_from {pruned} --max-steps 1 --out {method}/tuned"));
        assert_eq!(desk.json(&format!("{method}/tuned/best/skn.json"))["task"], "reviews");
        desk.ok(&format!("skn-probe --resume_from {method}/tuned --probe_type speed --out {method}/tuned"));
        desk.ok(&format!("skn-verify {method}"));
    }
}

#[test]
fn what_contradicts_a_run_is_refused() {
    let desk = desk();
    desk.ok(&format!("skn-train {ABOUT} --prompt_size 5 --max-steps 1 --out run"));
    let probe = "skn-probe --resume_from run --out x";
    let method = ["--model_type RobertaBias", "run/best", "a prompt (RobertaPrompt)"];
    desk.fails(&format!("{probe} --model_type RobertaBias"), 2, &method);
    desk.fails(&format!("{probe} --prompt_size 4"), 2, &["--prompt_size 4", "run/best", "5 positions"]);
    support::copy(&support::golden().join("model"), &desk.path("other"));
    desk.fails(
        &format!("{probe} --model other"),
        3,
        &["run/best/skn.json", "model demo", "--model gives other"],
    );
    assert!(!desk.path("x").exists(), "nothing is left behind");
    // To try a prompt on another task is an experiment.
    let said = desk.run(&format!("{probe} --task sentiment --splits train"));
    assert_eq!(said.code, 0, "{}", said.stderr);
    let told = "--task sentiment: the parameters in run/best were tuned for task reviews";
    assert!(said.stderr.contains(told), "{}", said.stderr);
}

#[test]
fn data_that_have_gone_are_asked_for() {
    let desk = desk();
    desk.ok(&format!("skn-train {ABOUT} --max-steps 1 --out run"));
    std::fs::rename(desk.path("rows"), desk.path("moved")).unwrap();
    desk.fails(
        "skn-probe --resume_from run --out run",
        3,
        &["run/run.json says that the data are there", "--data"],
    );
    desk.ok("skn-probe --resume_from run --data moved --splits train --out run");
}

/// The demo is trained as the whole chain trains it.
#[test]
fn the_demo_has_one_recipe() {
    let desk = Desk::new();
    let short = "--max-steps 3 --checkpoint-every 9";
    desk.ok(&format!("skn-train --model demo --task sentiment {short} --out usual"));
    let said = "--epoch 12 --batch 16 --learning_rate 0.005";
    desk.ok(&format!("skn-train --model demo --task sentiment {short} {said} --out said"));
    assert!(desk.contents("usual") == desk.contents("said"), "12 epochs of 16 rows a step, at 0.005");
    // An epoch's number is not in the bytes of three steps.
    for (run, line) in [("usual", ""), ("said", said)] {
        let line = format!("skn-train --model demo --task sentiment --resume --out {run} {short} {line}");
        let other = line.replace("--max-steps 3", "--max-steps 3 --epoch 4");
        let other = other.replace("--epoch 12", "");
        desk.fails(&other, 3, &["epochs", "made with 12, this run has 4"]);
    }
    // Other models are trained as published.
    let desk = Desk::original();
    desk.ok("skn-train --data_path data/raw/sst2 --max-steps 2 --out usual");
    desk.ok("skn-train --data_path data/raw/sst2 --max-steps 2 --bz 8 --lr 0.001 --epoch 4 --out said");
    assert!(desk.contents("usual") == desk.contents("said"));
}

/// A task file says what can't be known without it.
#[test]
fn a_task_file_says_what_is_not_usual() {
    let desk = desk();
    let least =
        "name = \"least\"\ntext = [\"review\"]\nlabel = \"stars\"\nlabels = [\"negative\", \"positive\"]\n";
    write(&desk.path("least.toml"), least);
    let train = "skn-train --model demo --task-file least.toml --max-steps 1 --bz 4";
    let parts = |run: &str| {
        let split = desk.json(&format!("{run}/split.json"));
        ["train", "dev", "test"].map(|part| {
            let rows = split[part]["rows"].as_array().unwrap().len();
            (split[part]["source"].as_str().unwrap().to_owned(), rows)
        })
    };
    let expected = |found: [(&str, usize); 3]| found.map(|(split, rows)| (split.to_owned(), rows));
    desk.ok(&format!("{train} --data rows --out two"));
    assert_eq!(parts("two"), expected([("train", 32), ("train", 8), ("test", 12)]));
    for dev in ["validation", "dev", "valid"] {
        let rows = format!("rows-{dev}");
        support::copy(&desk.path("rows"), &desk.path(&rows));
        std::fs::copy(desk.path("rows/test.jsonl"), desk.path(&format!("{rows}/{dev}.jsonl"))).unwrap();
        desk.ok(&format!("{train} --data {rows} --out {dev}"));
        assert_eq!(parts(dev), expected([("train", 40), (dev, 12), ("test", 12)]));
        // What is held out alone is what is reported on, as in the tasks that are built in.
        std::fs::remove_file(desk.path(&format!("{rows}/test.jsonl"))).unwrap();
        desk.ok(&format!("{train} --data {rows} --out {dev}-alone"));
        assert_eq!(parts(&format!("{dev}-alone")), expected([("train", 32), ("train", 8), (dev, 12)]));
    }
    desk.ok(&format!("{train} --data rows/train.jsonl --out one"));
    assert_eq!(parts("one"), expected([("train", 32), ("train", 4), ("train", 4)]));
    write(&desk.path("odd/learn.jsonl"), std::fs::read(desk.path("rows/train.jsonl")).unwrap());
    desk.fails(&format!("{train} --data odd --out x"), 3, &["split \"train\" of task least", "learn.jsonl"]);
    write(&desk.path("least.toml"), format!("{least}[splits]\ntest = \"test\"\n"));
    desk.fails(
        &format!("{train} --data rows --out x"),
        3,
        &["splits", "the split to train on, or no splits"],
    );
    // Labels that are the words themselves need no map.
    for split in ["train", "test"] {
        let rows = std::fs::read_to_string(desk.path(&format!("rows/{split}.jsonl"))).unwrap();
        let words = rows
            .replace("\"stars\": 0", "\"stars\": \"negative\"")
            .replace("\"stars\": 1", "\"stars\": \"Positive\"");
        write(&desk.path(&format!("words/{split}.jsonl")), words);
    }
    write(&desk.path("least.toml"), least);
    desk.ok(&format!("{train} --data words --out words-run"));
    let [numbers, words] =
        ["two", "words-run"].map(|run| desk.json(&format!("{run}/split.json"))["data_sha256"].clone());
    assert_eq!(numbers, words, "the same rows");
}

/// Where nothing answers no words are needed, but names say which classes there are.
#[test]
fn words_are_needed_where_something_answers() {
    let desk = desk();
    let nameless = "name = \"none\"\ntext = [\"review\"]\nlabel = \"stars\"\n";
    let at = "--model demo --task-file none.toml --data rows";
    write(&desk.path("none.toml"), nameless);
    let texts = format!("skn-probe {at} --probe_type acc_mean,acc_max,acc_last");
    desk.fails(&format!("{texts} --out x"), 3, &["none.toml: labels", "names or a label_map"]);
    write(&desk.path("none.toml"), format!("{nameless}names = [\"bad\", \"good\"]\n"));
    desk.ok(&format!("{texts} --out unanswered"));
    write(&desk.path("with.toml"), format!("{nameless}labels = [\"negative\", \"positive\"]\n"));
    desk.ok(&format!("{} --out answered", texts.replace("none.toml", "with.toml")));
    let counts = "none/dev_mean_perf.safetensors";
    let [without, with] =
        ["unanswered", "answered"].map(|run| std::fs::read(desk.path(run).join(counts)).unwrap());
    assert!(without == with, "words change nothing there");
    for line in [
        format!("skn-train {at} --max-steps 1 --out x"),
        format!("skn-probe {at} --probe_type speed --out x"),
        format!("skn-probe {at} --probe_type acc_last --rank gradient --out x"),
        "skn-predict --model demo --task-file none.toml --input rows/test.jsonl".to_owned(),
    ] {
        desk.fails(&line, 2, &["task none: no labels, the words that answer it", "--verb"]);
    }
    desk.ok(&format!("skn-train {at} --verb negative,positive --max-steps 1 --bz 4 --out said"));
}

#[test]
fn names_that_were_meant_are_named() {
    let desk = desk();
    let train = "skn-train --model demo --data rows --max-steps 1 --out x";
    for (line, code, part) in [
        ("skn-train --model demo --task sentimnet --out x", 2, "did you mean sentiment"),
        ("skn-train --task tweet_eval_pn --out x", 2, "did you mean tweet_eval-pn"),
        ("skn-probe --resume_from none --probe_type acc_maen --out x", 2, "did you mean acc_mean"),
        ("skn-probe --resume_from none --rank predictvity --out x", 2, "did you mean predictivity"),
        ("skn-experiment metods", 2, "did you mean methods"),
        ("skn-probe --resume_from none --splits tets --out x", 2, "test"),
    ] {
        desk.fails(line, code, &[part]);
    }
    write(&desk.path("columns.toml"), TASK.replace("\"review\"", "\"reviews\""));
    desk.fails(
        &format!("{train} --task-file columns.toml"),
        3,
        &["the keys reviews, stars", "did you mean review"],
    );
    write(&desk.path("table/train.csv"), "review,stars\ngood soup,1\n");
    let table = format!("{train} --task-file columns.toml").replace("--data rows", "--data table/train.csv");
    desk.fails(&table, 3, &["column \"reviews\"", "did you mean review"]);
    std::fs::rename(desk.path("rows/test.jsonl"), desk.path("rows/tests.jsonl")).unwrap();
    desk.fails(&format!("{train} --task-file reviews.toml"), 3, &["split \"test\"", "did you mean tests"]);
}
