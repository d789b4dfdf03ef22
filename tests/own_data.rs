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
            "split test: it is test of task reviews: expected a row with a label in column \"stars\", found none in 0 rows",
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

/// Texts that are learned and scored on: three of the test set's stand in train, in other letters.
#[test]
fn rows_in_two_splits_are_told() {
    let desk = Desk::new();
    write(&desk.path("reviews.toml"), TASK);
    let line = |row: usize, text: String| {
        let stars = ["down", "up"][row % 2];
        format!("{{\"stars\": \"{stars}\", \"review\": \"{text}\"}}\n")
    };
    let train: String = (0..40).map(|row| line(row, format!("soup no {row}"))).collect();
    let test = [4, 9, 70, 71, 3].map(|row| line(row, format!(" Soup no {row}"))).concat();
    write(&desk.path("reviews/train.jsonl"), train);
    write(&desk.path("reviews/test.jsonl"), test);
    let flags =
        "--model demo --task-file reviews.toml --data reviews --prompt_size 4 --max-steps 2 --save_to run";
    let said = desk.run(&format!("skn-train {flags}"));
    // The seed gave train's row 9 to dev, which learns nothing.
    let warned: Vec<&str> = said.stderr.lines().filter(|line| line.contains("stand in train too")).collect();
    assert_eq!(warned.len(), 1, "{}", said.stderr);
    let told = "2 of 5 texts of test stand in train too (test row 0 = train row 4, test row 4 = train row 3)";
    assert!(warned[0].contains("WARN") && warned[0].contains(told), "{}", warned[0]);
    let settings = desk.json("run/run.json")["stages"]["train"]["settings"].clone();
    assert!(settings["test_in_train"].as_str().unwrap().contains(told), "{settings}");
    desk.ok("skn-report run");
    let page = std::fs::read_to_string(desk.path("run/report.html")).unwrap();
    assert!(page.contains("Seen in training: ") && page.contains(told), "the report says it");
}

/// What Excel and Notepad write: a mark before the text, or UTF-16.
#[test]
fn texts_of_windows_programs_are_answered() {
    let desk = Desk::new();
    write(&desk.path("plain.txt"), "the film was good .\n");
    write(&desk.path("marked.txt"), "\u{feff}the film was good .\r\n");
    let answers = ["plain", "marked"]
        .map(|name| desk.ok(&format!("skn-predict --model demo --task sst2 --input {name}.txt")));
    assert_eq!(answers[0], answers[1]);
    let utf16: Vec<u8> = "a film\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    write(&desk.path("utf16.txt"), utf16);
    desk.fails(
        "skn-predict --model demo --task sst2 --input utf16.txt",
        3,
        &["utf16.txt", "UTF-16", "iconv"],
    );
}
