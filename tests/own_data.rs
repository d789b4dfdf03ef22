//! Data as people have them: each form through train, probe, select and mask.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::fs::File;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use skn_data::{Task, read_dataset};
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

/// The task file of docs/reference/task-file.md.
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
            "split test: it is test of task reviews: expected a row with a label in column \"stars\", found no rows",
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

/// The cells of the tables of docs/reference/data.md that name files, without their heads.
fn tables_of_the_page() -> Vec<Vec<[String; 2]>> {
    let page = include_str!("../docs/reference/data.md");
    let section = page.split("\n## Labels\n").next().unwrap();
    let table = |part: &str| -> Vec<[String; 2]> {
        let cells = |line: &str| {
            let (left, right) = line.trim_matches(['|', ' ']).split_once(" | ")?;
            Some([left.to_owned(), right.to_owned()])
        };
        part.lines().skip(2).filter_map(cells).collect()
    };
    section
        .split("\n\n")
        .filter(|part| part.trim_start().starts_with('|'))
        .map(|part| table(part.trim()))
        .collect()
}

/// What stands between backticks.
fn codes(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// A table of two rows: `x` of class 1, `y` of class 0.
fn two_rows() -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let labels: ArrayRef = Arc::new(Int64Array::from(vec![1, 0]));
    RecordBatch::try_from_iter([("a", texts), ("label", labels)]).unwrap()
}

fn parquet(codec: Compression) -> Vec<u8> {
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), two_rows().schema(), Some(properties)).unwrap();
    writer.write(&two_rows()).unwrap();
    writer.into_inner().unwrap()
}

fn arrow(codec: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &two_rows().schema(), options).unwrap();
    writer.write(&two_rows()).unwrap();
    writer.into_inner().unwrap()
}

/// The ways to write a file that the page says is read: all the files of each.
fn ways(name: &str, says: &str) -> Vec<Vec<(String, Vec<u8>)>> {
    let csv = b"a,label\nx,1\ny,0\n";
    let has = |word: &str| assert!(says.contains(word), "{name}: the page does not say {word}");
    let one = |bytes: &[u8]| vec![(name.to_owned(), bytes.to_vec())];
    let [x, y] = ["{\"a\": \"x\", \"label\": 1, \"n\": NaN}", "{\"a\": \"y\",\n \"label\": 0}"];
    match name {
        "train/data-00000-of-00001.arrow" => {
            ["zstd", "lz4"].into_iter().for_each(has);
            let state = b"{\"_data_files\": [{\"filename\": \"data-00000-of-00001.arrow\"}]}".to_vec();
            let codecs = [None, Some(CompressionType::ZSTD), Some(CompressionType::LZ4_FRAME)];
            let files =
                |codec| vec![(name.to_owned(), arrow(codec)), ("train/state.json".to_owned(), state.clone())];
            codecs.map(files).to_vec()
        }
        "train.parquet" => {
            ["uncompressed", "snappy", "gzip", "lz4", "zstd"].into_iter().for_each(has);
            let [gzip, zstd] = [Compression::GZIP(Default::default()), Compression::ZSTD(Default::default())];
            [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip, Compression::LZ4_RAW, zstd]
                .map(|codec| one(&parquet(codec)))
                .to_vec()
        }
        "train/0000.parquet"
        | "train/part-00000-c000.snappy.parquet"
        | "train.parquet/part-00000.parquet" => {
            vec![one(&parquet(Compression::SNAPPY))]
        }
        "train.jsonl" | "train.ndjson" | "train.json" => {
            ["an object a line", "one after another", "list", "`NaN`"].into_iter().for_each(has);
            let line = y.replace('\n', "");
            [format!("{x}\n{line}\n"), format!("{}\n{y}", x.replace(", ", ",\n")), format!("[{x}, {y}]")]
                .map(|text| one(text.as_bytes()))
                .to_vec()
        }
        "train.tsv" => vec![one(b"a\tlabel\nx\t1\ny\t0\n")],
        "train.csv" | "data/train.csv" => vec![one(csv)],
        "reviews/train.csv" => {
            vec![[one(csv), vec![("other/train.csv".to_owned(), b"a,label\nz,0\n".to_vec())]].concat()]
        }
        "train-00000-of-00002.csv" => {
            let second = ("train-00001-of-00002.csv".to_owned(), b"a,label\ny,0\n".to_vec());
            vec![[one(b"a,label\nx,1\n"), vec![second]].concat()]
        }
        _ => panic!("the page names {name}, which this test does not know"),
    }
}

/// A file that the page says is refused.
fn refused(what: &str) -> Vec<u8> {
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
    match what {
        "`train.csv.gz`, or `train.csv` that is one" => gzip.to_vec(),
        "`train.feather`" => b"ARROW1\0\0\xff\xff\xff\xff".to_vec(),
        "`train.pkl`" => b"\x80\x05\x95\x1c\x02\0".to_vec(),
        "`train.xlsx`" => b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\x13\0[Content_Types].xml".to_vec(),
        "`train.parquet` with brotli" => {
            include_bytes!("../crates/skn-data/src/read/tests/brotli.parquet").to_vec()
        }
        "`train.csv` in UTF-16" => "a,label\r\nx,1\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "`train.csv` in Windows-1252" => b"a,label\ncaf\xe9,1\n".to_vec(),
        "`train.csv` with semicolons" => b"n;a;label\n1;x;1\n".to_vec(),
        "`train.csv` with a quote that never closes" => b"label,a\n1,x\n1,\"y\n0,z\n".to_vec(),
        "`train.json` with columns" => b"{\"a\":{\"0\":\"x\"},\"label\":{\"0\":1}}".to_vec(),
        "`train.jsonl` with the text in a key of a key" => {
            b"{\"data\": {\"a\": \"x\"}, \"label\": 1}".to_vec()
        }
        "`train.jsonl` that Git LFS stands for" => {
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n".to_vec()
        }
        _ => panic!("the page names {what}, which this test does not know"),
    }
}

#[test]
fn the_page_says_what_is_read_and_what_is_not() {
    let toml = "name = \"reviews\"\ntext = [\"a\"]\nlabels = [\"bad\", \"good\"]\nsplits.train = \"train\"\n";
    let task = Task::from_toml(toml, "t.toml").unwrap();
    assert!(include_str!("../docs/reference/task-file.md").contains(TASK));
    let tables = tables_of_the_page();
    assert_eq!(tables.iter().map(Vec::len).collect::<Vec<_>>(), [7, 12]);
    for [names, says] in &tables[0] {
        for name in codes(names) {
            for files in ways(name, says) {
                let folder = tempfile::tempdir().unwrap();
                for (name, bytes) in &files {
                    write(&folder.path().join(name), bytes);
                }
                let data =
                    read_dataset(folder.path(), &task).unwrap_or_else(|error| panic!("{name}: {error}"));
                let rows: Vec<(&str, i64)> =
                    data.splits["train"].iter().map(|row| (row.text.as_str(), row.label)).collect();
                assert_eq!(rows, [("x", 1), ("y", 0)], "{name}");
            }
        }
    }
    for [what, says] in &tables[1] {
        let hint = codes(says)[0];
        for name in codes(what) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(name);
            write(&file, refused(what));
            for path in [folder.path(), &file] {
                let error = read_dataset(path, &task).expect_err(what).to_string();
                assert!(error.contains(name) && error.contains(hint), "{what}: {error}");
            }
        }
    }
}
