//! Data as people have them: each form through train, probe, select and mask.

mod support;

use std::fs::File;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use support::{Desk, write};

/// Tunes, probes, selects and perturbs; what skn-mask left.
fn chain(desk: &Desk, task: &str, flags: &str) -> serde_json::Value {
    let run = format!("runs/{task}");
    desk.ok(&format!("skn-train {flags} --prompt_size 4 --max-steps 4 --save_to {run}"));
    desk.ok(&format!("skn-probe -p --resume_from {run} --save_to {run}"));
    desk.ok(&format!("skn-select -a {run}/{task}/dev_perf --save_to {run} --shares 0.1"));
    desk.ok(&format!(
        "skn-mask -p --resume_from {run} --info_path {run}/info/{task}/0.1 --save_to {run} --cmp --draws 2"
    ));
    desk.ok(&format!("skn-verify {run}"));
    desk.json(&format!("{run}/mask_perf.json"))
}

#[test]
fn a_folder_of_save_to_disk() {
    let desk = Desk::original();
    let result = chain(&desk, "sst2", "--task sst2 --data data/raw/sst2");
    assert_eq!((&result["task"], &result["metric"]), (&"sst2".into(), &"accuracy".into()));
}

#[test]
fn parquet_as_the_hub_has_it() {
    let desk = Desk::new();
    let rows = [("train", 30), ("validation_matched", 12), ("validation_mismatched", 3)];
    for (split, rows) in rows {
        // Two shards each, as larger splits have.
        for shard in 0..2 {
            let texts = |what: &str| -> ArrayRef {
                Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{what} {shard} {row}"))))
            };
            let labels: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row % 3)));
            let columns =
                [("premise", texts("the film is")), ("hypothesis", texts("it is")), ("label", labels)];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let path = desk.path(&format!("mnli/data/{split}-0000{shard}-of-00002.parquet"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }
    }
    let result = chain(&desk, "mnli", "--model demo --task mnli --data mnli --verb yes,maybe,no");
    assert_eq!(result["rows"], 24, "both shards of validation_matched, and nothing of the other");
}

#[test]
fn csv_without_a_header() {
    let desk = Desk::new();
    for (split, rows) in [("train", 140), ("test", 28)] {
        let line = |row: usize| {
            format!("{},\"Title, no. {row}\",\"It is a \"\"thing\"\" of {row},\nand more.\"\n", row % 14 + 1)
        };
        write(&desk.path(&format!("dbpedia/{split}.csv")), (0..rows).map(line).collect::<String>());
    }
    let flags = "--model demo --task dbpedia --data dbpedia";
    desk.fails(
        &format!("skn-train {flags} --save_to runs/dbpedia"),
        2,
        &["politician", "plant", "same logit", "--verb"],
    );
    let words = "good,bad,food,music,sports,travel,yes,no,maybe,positive,negative,right,wrong,true";
    let result = chain(&desk, "dbpedia", &format!("{flags} --verb {words}"));
    assert_eq!(result["rows"], 28);
    // Chance has left a class out of dev: it selects nothing, and the others do.
    let said = desk.run("skn-select -a runs/dbpedia/dbpedia/dev_perf --save_to again --shares 0.1");
    let warned = said.stderr.matches("no text of it").count();
    assert!(
        warned > 0 && said.stdout.contains(&format!("union of {} ", 14 - warned)),
        "{}{}",
        said.stdout,
        said.stderr
    );
}

/// The task file of README's page: ten lines.
const TASK: &str = r#"name = "reviews"
text = ["review"]
label = "stars"
labels = ["negative", "positive"]
[label_map]
down = 0
up = 1
[splits]
train = "train"
test = "test"
"#;

#[test]
fn json_lines_with_labels_in_words() {
    let desk = Desk::new();
    write(&desk.path("reviews.toml"), TASK);
    for (split, rows) in [("train", 60), ("test", 20)] {
        let line = |row: usize| {
            let (word, stars) = [("awful", "down"), ("good", "up")][row % 2];
            format!(
                "{{\"stars\": \"{stars}\", \"review\": \"the soup was {word} , no {row}\", \"id\": {row}}}\n"
            )
        };
        write(&desk.path(&format!("reviews/{split}.jsonl")), (0..rows).map(line).collect::<String>());
    }
    let result = chain(&desk, "reviews", "--model demo --task-file reviews.toml --data reviews");
    assert_eq!(result["rows"], 20);
    let split = desk.json("runs/reviews/split.json");
    let count = |part: &str| split[part]["rows"].as_array().unwrap().len();
    assert_eq!((count("train"), count("dev")), (48, 12), "without dev, a fifth of train");
    write(&desk.path("reviews/test.jsonl"), "");
    desk.fails(
        "skn-train --model demo --task-file reviews.toml --data reviews --save_to other",
        3,
        &[
            "reviews can't be divided",
            "split test: it is test of task reviews: expected a labelled row, found none in 0 rows",
        ],
    );
    write(&desk.path("reviews/test.jsonl"), "{\"stars\": \"sideways\", \"review\": \"a text\"}\n");
    desk.fails(
        "skn-train --model demo --task-file reviews.toml --data reviews --save_to other",
        3,
        &["test.jsonl", "line 1", "sideways"],
    );
    assert!(!desk.path("other").exists());
}
