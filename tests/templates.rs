//! Tasks with a template, through the programs: what a row says is the template with the row's texts in it, whoever reads it.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::reviews;
use crate::support;

use std::fs;

use reviews::{MODEL, TASK, desk, parts};
use skn_artifact::{TensorFile, sha256_hex};
use support::{Desk, write};

const TEMPLATE: &str = "({source}) {text}\nIt:";

fn says(template: &str) -> String {
    // JSON of a text is TOML too.
    format!("template = {}", serde_json::Value::from(template))
}

/// The rows with a column `source` beside the text, and the same rows with one column that has all the template says.
fn with_sources(desk: &Desk) {
    for (part, rows) in parts() {
        let rows = rows.iter().enumerate().map(|(place, row)| {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            // Short enough to be read whole.
            let text = row["text"].as_str().unwrap().split(' ').take(4).collect::<Vec<_>>().join(" ");
            let source = ["{a}", "b", ""][place % 3];
            let whole = format!("({source}) {text}\nIt:");
            serde_json::json!({"text": text, "source": source, "whole": whole, "label": row["label"]})
        });
        let rows: Vec<serde_json::Value> = rows.collect();
        let lines = |rows: &[serde_json::Value]| {
            rows.iter().map(|row| row.to_string()).collect::<Vec<_>>().join("\n")
        };
        write(&desk.path(&format!("data/{part}.jsonl")), lines(&rows));
    }
    write(&desk.path("plain.toml"), format!("text = [\"whole\"]\n{TASK}"));
}

fn metadata(desk: &Desk, file: &str, key: &str) -> Option<String> {
    TensorFile::read(&desk.path(file)).unwrap().metadata().get(key).cloned()
}

const TRAIN: &str = "--epoch 1 --max-steps 3 --bz 8 --prompt_size 3 --eval_every_step 3";

#[test]
fn a_filled_template_is_the_text_it_comes_to() {
    for family in ["llama", "modernbert"] {
        let desk = desk(family, &says(TEMPLATE));
        with_sources(&desk);
        let model = MODEL.replace(" --max-length 40", "");
        let plain = model.replace("reviews.toml", "plain.toml");
        // Long enough for all: then both are the same texts, and come to the same numbers.
        for (run, model) in [("filled", &model), ("plain", &plain)] {
            desk.ok(&format!("skn-train {model} {TRAIN} --save_to {run}"));
            desk.ok(&format!(
                "skn-probe -p --resume_from {run} --probe_type acc,acc_last,acc_mean --save_to {run}"
            ));
            desk.ok(&format!("skn-select -a {run}/reviews/dev_perf --save_to {run} --shares 0.2"));
            let of = "--info_path";
            desk.ok(&format!("skn-mask -p --resume_from {run} --save_to {run} {of} {run}/info/reviews/0.2"));
            let averages = format!("--ths_path {run}/reviews/train_avg");
            desk.ok(&format!(
                "skn-prune --resume_from {run} {of} {run}/info/reviews/0.2 {averages} --save_to {run}/pruned"
            ));
            desk.ok(&format!("skn-verify {run}"));
            desk.ok(&format!("skn-report {run}"));
            let page = fs::read_to_string(desk.path(&format!("{run}/report.html"))).unwrap();
            let told = "({source}) {text}\\nIt:";
            assert_eq!(page.contains(told), run == "filled", "{family}: {run}");
        }
        let numbers = |run: &str, name: &str| {
            let file = TensorFile::read(&desk.path(&format!("{run}/reviews/{name}.safetensors"))).unwrap();
            file.i64("correct", None).unwrap()
        };
        for name in ["dev_perf", "test_perf", "dev_last_perf", "test_mean_perf"] {
            assert_eq!(numbers("filled", name), numbers("plain", name), "{family}: {name}");
        }
        assert_eq!(
            desk.json("filled/mask_perf.json")["mean"],
            desk.json("plain/mask_perf.json")["mean"],
            "{family}"
        );
        let hash = sha256_hex(TEMPLATE.as_bytes());
        for file in ["reviews/train_avg", "reviews/test_mean_perf", "info/reviews/0.2"] {
            let said =
                |run: &str| metadata(&desk, &format!("{run}/{file}.safetensors"), "skn.template_sha256");
            assert_eq!((said("filled"), said("plain")), (Some(hash.clone()), None), "{family}: {file}");
        }
        for (run, expected) in [("filled", Some(hash.as_str())), ("plain", None)] {
            for best in ["best", "pruned/best"] {
                let found = desk.json(&format!("{run}/{best}/skn.json"));
                assert_eq!(found["template_sha256"].as_str(), expected, "{family}: {run}/{best}");
            }
        }
        // Its columns with tabs between, in the template's order.
        write(&desk.path("rows"), "the press\tthe band was superb .\na {shop}\tthe band was awful .\n");
        write(&desk.path("wholes"), "the press\tdull .\n");
        let answered = desk.ok("skn-predict --resume_from filled --input rows");
        assert_eq!(answered.lines().count(), 2, "{answered}");
        desk.ok("skn-predict --resume_from filled/pruned --input rows");
        write(&desk.path("one"), "the band was superb .\n");
        let expected = ["one: line 1: expected two texts with a tab between, found one"];
        desk.fails("skn-predict --resume_from filled --input one", 3, &expected);
    }
}

#[test]
fn columns_are_cut_and_the_template_is_not() {
    let desk = desk("llama", &says("{text}{text} good?"));
    let probe =
        "skn-probe --model ./model --task-file reviews.toml --data data --probe_type acc_last,acc_max";
    desk.ok(&format!("{probe} --save_to whole"));
    desk.ok(&format!("{probe} --max-length 14 --save_to cut"));
    // What is read last is the template's last token, of a cut text too; without the template it would be a word of the text.
    write(&desk.path("reviews.toml"), format!("{}\n{TASK}", says("{text} good?")));
    desk.ok(&format!("{probe} --max-length 4 --save_to least"));
    let expected = ["2 are needed", "may take 2 tokens", "template"];
    let said = desk.run(&format!("{probe} --max-length 2 --save_to none"));
    assert_eq!(said.code, 2, "{}", said.stderr);
    for part in &expected[1..] {
        assert!(said.stderr.contains(part), "{}", said.stderr);
    }
    write(
        &desk.path("reviews.toml"),
        format!("{}\n{TASK}", says(&format!("{} {{text}}", "word ".repeat(80)))),
    );
    desk.fails(&format!("{probe} --save_to none"), 2, &["may take 64 tokens", "template"]);
}

#[test]
fn files_of_another_template_are_refused() {
    let desk = desk("llama", &says(TEMPLATE));
    with_sources(&desk);
    desk.ok(&format!("skn-train {MODEL} {TRAIN} --save_to run"));
    desk.ok("skn-probe -p --resume_from run --splits train --save_to run");
    desk.ok("skn-probe -p --resume_from run --save_to other");
    desk.ok("skn-select -a other/reviews/dev_perf --save_to run --shares 0.2");
    let (mine, theirs) = (sha256_hex(TEMPLATE.as_bytes()), sha256_hex(b"{source}: {text}"));
    let file = fs::read_to_string(desk.path("reviews.toml")).unwrap();
    for (task, found) in
        [(says("{source}: {text}"), theirs.as_str()), ("text = [\"whole\"]".to_owned(), "no template")]
    {
        write(&desk.path("reviews.toml"), format!("{task}\n{TASK}"));
        // The parameters themselves.
        let expected = ["best/skn.json: tuned with a template", &mine, found];
        desk.fails("skn-probe -p --resume_from run --splits dev --save_to run", 3, &expected);
        desk.fails("skn-predict --resume_from run --input reviews.toml", 3, &expected);
        // Files of counts, averages and masks.
        desk.ok(&format!("skn-train {MODEL} {TRAIN} --save_to again --force"));
        let mask = "skn-mask -p --resume_from again --info_path run/info/reviews/0.2 --save_to again";
        desk.fails(mask, 3, &["0.2.safetensors", "skn.template_sha256", &mine]);
        let averages = "--ths_path run/reviews/train_avg --type mean";
        desk.ok("skn-probe -p --resume_from again --save_to again --force");
        desk.ok("skn-select -a again/reviews/dev_perf --save_to again --shares 0.2 --force");
        let mask = "skn-mask -p --resume_from again --info_path again/info/reviews/0.2 --save_to again";
        desk.fails(
            &format!("{mask} {averages}"),
            3,
            &["train_avg.safetensors", "skn.template_sha256", &mine],
        );
        let both = "skn-select -a again/reviews/dev_perf,other/reviews/dev_perf --save_to both";
        desk.fails(both, 3, &["other/reviews/dev_perf.safetensors", "skn.template_sha256", &mine]);
        write(&desk.path("reviews.toml"), &file);
    }
}

#[test]
fn shards_and_resumes_come_to_the_same_bytes() {
    let desk = desk("qwen2", &says(TEMPLATE));
    with_sources(&desk);
    let train =
        format!("skn-train {MODEL} --epoch 1 --max-steps 6 --bz 8 --prompt_size 3 --checkpoint-every 2");
    desk.ok(&format!("{train} --save_to run"));
    let probe = "skn-probe -p --resume_from run --probe_type acc,acc_last";
    desk.ok(&format!("{probe} --save_to run"));
    for splits in ["train", "dev,test"] {
        for shard in ["1/2", "2/2"] {
            desk.ok(&format!("{probe} --splits {splits} --shard {shard} --save_to merged"));
        }
        desk.ok("skn-merge --save_to merged");
    }
    for name in ["train_avg", "train_last_avg", "dev_perf", "test_last_perf"] {
        let of = |run: &str| fs::read(desk.path(&format!("{run}/reviews/{name}.safetensors"))).unwrap();
        assert!(of("run") == of("merged"), "{name}");
    }
    // A resume of another template's training is none.
    let before = fs::read_to_string(desk.path("reviews.toml")).unwrap();
    write(&desk.path("reviews.toml"), before.replace("It:", "It?"));
    desk.fails(&format!("{train} --save_to run --resume"), 3, &["checkpoint.safetensors", "`data_template`"]);
    write(&desk.path("reviews.toml"), &before);
    desk.ok(&format!("{train} --save_to run --resume"));
}

#[test]
fn the_whole_run_takes_a_template() {
    let desk = desk("gemma3", &says(TEMPLATE));
    with_sources(&desk);
    let run = format!(
        "skn-run {MODEL} --epoch 1 --retune-epoch 1 --prompt_size 3 --shares 0.2 --draws 2 --out run"
    );
    desk.ok(&run);
    desk.ok("skn-verify run");
    let hash = sha256_hex(TEMPLATE.as_bytes());
    for best in ["best", "prune/best", "prune-tuned/best"] {
        assert_eq!(desk.json(&format!("run/{best}/skn.json"))["template_sha256"], hash.as_str(), "{best}");
    }
}

#[test]
fn what_is_no_template_is_refused() {
    let desk = desk("llama", "");
    let probe = format!("skn-probe {MODEL} --probe_type acc_last --save_to run");
    for (template, parts) in [
        ("Review: {text", ["reviews.toml: line 1", "a { is never closed", "at character 9"]),
        ("Review: text}", ["reviews.toml: line 1", "a } closes nothing", "at character 13"]),
        ("Review:", ["reviews.toml: line 1", "names no column", "{text}"]),
        ("{text} {label}", ["reviews.toml: template", "other columns than the label's", "\"label\""]),
        ("{text} {stars}", ["train.jsonl", "text, stars, label", "found one with the keys"]),
        // Nothing of a task's file reaches a terminal as it is.
        ("{text} {\u{1b}[2J", ["reviews.toml: line 1", "never closed", "at character 8"]),
    ] {
        write(&desk.path("reviews.toml"), format!("{}\n{TASK}", says(template)));
        let said = desk.run(&probe);
        assert_eq!(said.code, 3, "{template}: {}", said.stderr);
        assert!(parts.iter().all(|part| said.stderr.contains(part)), "{template}: {}", said.stderr);
        assert!(!said.stderr.contains('\u{1b}'), "{template:?}: {:?}", said.stderr);
    }
    write(&desk.path("reviews.toml"), format!("{}\n{TASK}", says("{text} {\u{1b}[2J}")));
    let said = desk.run(&probe);
    assert!(said.code == 3 && !said.stderr.contains('\u{1b}'), "{:?}", said.stderr);
}
