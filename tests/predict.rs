//! Answers in a pipeline: tables and streams, lines that are none, signals, and folders that lie elsewhere.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use arrow_array::builder::{ListBuilder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, DictionaryArray, Float32Array, Float64Array,
    Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use support::{Desk, copy, write};

/// The embedded model as it is.
const DEMO: &str = "skn-predict --model demo --task sentiment --prompt_size 2 --threads 1";

/// How long something may take that takes a moment.
const LONG: Duration = Duration::from_secs(60);

/// Three classes that the user calls otherwise than the words.
const THREE: &str = r#"name = "complaints"
text = ["text"]
label = "kind"
labels = ["food", "music", "sports"]
names = [["F"], ["M"], ["S"]]
label_names = ["Kitchen", "Concert hall", "Stadium"]
[splits]
train = "train"
"#;

/// A desk with a run of the three classes.
fn three() -> Desk {
    let desk = Desk::new();
    write(&desk.path("complaints.toml"), THREE);
    let row = |row: usize| {
        let (word, kind) = [("soup", "F"), ("song", "M"), ("match", "S")][row % 3];
        format!("{{\"text\": \"the {word} was no {row}\", \"kind\": \"{kind}\"}}\n")
    };
    write(&desk.path("rows/train.jsonl"), (0..60).map(row).collect::<String>());
    desk.ok(
        "skn-train --model demo --task-file complaints.toml --data rows --prompt_size 2 --max-steps 3 --bz 8 --save_to run",
    );
    desk
}

/// The lines of CSV without quotes, as fields.
fn fields(csv: &str) -> Vec<Vec<&str>> {
    csv.lines().map(|line| line.split(',').collect()).collect()
}

#[test]
fn a_table_keeps_its_columns_beside_the_answers() {
    let desk = three();
    let csv = "id;kind;remark;text\n7;;\"a, b\";the soup was cold\n8;;;\"the \"\"song\"\"\"\n";
    write(&desk.path("new.csv"), csv);
    let predict = "skn-predict --resume_from run --input new.csv";
    let found = desk.ok(&format!("{predict} --format csv --probabilities --logits"));
    let lines: Vec<&str> = found.lines().collect();
    let head = "id,kind,remark,text,predicted_class,predicted_word,predicted_label,probability,probability_0,probability_1,\
                probability_2,logit_0,logit_1,logit_2";
    assert_eq!((lines[0], lines.len()), (head, 3));
    assert!(lines[1].starts_with("7,,\"a, b\",the soup was cold,"), "{}", lines[1]);
    assert!(lines[2].starts_with("8,,,\"the \"\"song\"\"\","), "{}", lines[2]);
    let json = desk.ok(&format!("{predict} --format jsonl --probabilities"));
    let rows: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names = [("food", "Kitchen"), ("music", "Concert hall"), ("sports", "Stadium")];
    for (row, line) in rows.iter().zip(&lines[1..]) {
        let class = row["predicted_class"].as_u64().unwrap() as usize;
        let (word, label) = names[class];
        assert_eq!((&row["predicted_word"], &row["predicted_label"]), (&json!(word), &json!(label)));
        let of_class = row["probabilities"][class].as_f64().unwrap();
        assert_eq!(row["probability"].as_f64().unwrap(), of_class);
        assert!(row["probabilities"].as_array().unwrap().iter().all(|p| p.as_f64().unwrap() <= of_class));
        assert!(line.contains(&format!(",{class},{word},{label},{of_class:.6},")), "{line}");
    }
    assert!(json.starts_with("{\"id\": \"7\", \"kind\": \"\", \"remark\": \"a, b\", \"text\": "), "{json}");

    // Of a column by its name, and none that nobody named.
    write(&desk.path("other.csv"), "words;n\nthe song;1\n");
    desk.fails(
        "skn-predict --resume_from run --input other.csv",
        3,
        &["other.csv: line 1: expected a column \"text\", found words;n; --column says which column"],
    );
    let other = "skn-predict --resume_from run --input other.csv --column words";
    assert!(
        desk.ok(&format!("{other} --format csv")).starts_with("words,n,predicted_class,"),
        "found by itself"
    );
    assert!(desk.ok(&format!("{other} --delimiter ;")).ends_with("\tthe song\n"));
    desk.fails(&format!("{other} --delimiter ,"), 3, &["expected a column \"words\", found words;n"]);
    desk.fails(&format!("{other} --column n,words"), 2, &["--column"]);
    write(&desk.path("taken.csv"), "text,probability\na song,1\n");
    let taken = "skn-predict --resume_from run --input taken.csv --format csv";
    desk.fails(taken, 3, &["line 2: it has a column \"probability\", under which the answer is written"]);
}

#[test]
fn pairs_take_two_columns() {
    let desk = Desk::new();
    write(&desk.path("pairs.tsv"), "n\tone\tother\n1\tthe film was good .\tit is good .\n");
    write(&desk.path("lines"), "the film was good .\tit is good .\n");
    let line = "skn-predict --model demo --task inference --prompt_size 2 --threads 1 --input";
    let answer = desk.ok(&format!("{line} lines"));
    assert_eq!(desk.ok(&format!("{line} pairs.tsv --column one,other")), answer);
    assert_ne!(desk.ok(&format!("{line} pairs.tsv --column other,one")), answer, "in the task's order");
    desk.fails(
        &format!("{line} pairs.tsv --column one"),
        2,
        &["--column one: task inference: expected 2 columns (for premise, hypothesis), found 1"],
    );
    let json = desk.ok(&format!("{line} lines --format jsonl --logits --probabilities"));
    let row: Value = serde_json::from_str(&json).unwrap();
    let exp = |class: usize| row["logits"][class].as_f64().unwrap().exp();
    let (sum, class) = ((0..3).map(exp).sum::<f64>(), row["predicted_class"].as_u64().unwrap() as usize);
    assert!((row["probability"].as_f64().unwrap() - exp(class) / sum).abs() < 1e-6, "{row}");
    assert_eq!(row["text"], "the film was good .\tit is good .");
}

#[test]
fn objects_are_given_back_as_they_were_written() {
    let desk = Desk::new();
    let lines =
        "{\"n\": 1.50, \"text\": \"so good\", \"l\": [1,  2]}\n{\"n\": 2, \"text\": \"so \u{1b}bad\"}\n";
    let lines = lines.replace('\u{1b}', "\\u001b");
    write(&desk.path("new.jsonl"), &lines);
    let json = desk.ok(&format!("{DEMO} --input new.jsonl --format jsonl"));
    let first = "{\"n\": 1.50, \"text\": \"so good\", \"l\": [1,  2], \"predicted_class\": ";
    assert!(json.starts_with(first), "{json}");
    assert!(json.lines().nth(1).unwrap().starts_with("{\"n\": 2, \"text\": \"so \\u001bbad\", "), "{json}");
    // The same from standard input, and as other forms.
    let mut stdin = desk.command("skn-predict", &DEMO.split(' ').collect::<Vec<_>>()[1..]);
    let run = stdin
        .args(["--format-in", "jsonl", "--format", "jsonl"])
        .stdin(File::open(desk.path("new.jsonl")).unwrap());
    assert_eq!(String::from_utf8(run.output().unwrap().stdout).unwrap(), json);
    let text = desk.ok(&format!("{DEMO} --input new.jsonl"));
    assert!(text.lines().next().unwrap().ends_with("\tso good"), "{text}");
    write(&desk.path("plain.jsonl"), "{\"n\": 2, \"text\": \"a\"}\n{\"text\": \"b\", \"m\": 3}\n");
    let said = desk.run(&format!("{DEMO} --input plain.jsonl --format csv"));
    let table = fields(&said.stdout);
    assert_eq!((table[1][..2].to_vec(), table[2][..2].to_vec()), (vec!["2", "a"], vec!["", "b"]));
    assert!(
        said.stderr.contains("line 2: the key \"m\" is not one of the first record's"),
        "{}",
        said.stderr
    );
    desk.fails(
        &format!("{DEMO} --input plain.jsonl --column words"),
        3,
        &["line 1: expected a column \"words\""],
    );
    write(&desk.path("words.jsonl"), "{\"words\": \"a\"}\n");
    desk.fails(
        &format!("{DEMO} --input words.jsonl"),
        3,
        &["words.jsonl: expected a column \"text\"", "--column"],
    );
    desk.fails(
        &format!("{DEMO} --input plain.jsonl --input-format text --column text"),
        2,
        &["--column", "--input-format"],
    );
}

/// A Parquet file.
fn parquet_of(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns.to_vec()).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn parquet_is_read_with_all_its_columns() {
    let desk = Desk::new();
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("so good"), None, Some("so bad")]));
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("text", texts),
        ("score", Arc::new(Float64Array::from(vec![0.5, f64::NAN, 31.245270191439438]))),
        ("seen", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ];
    let bytes = parquet_of(&columns);
    write(&desk.path("new.parquet"), &bytes);
    desk.fails(
        &format!("{DEMO} --input new.parquet"),
        3,
        &["new.parquet: row 2: column \"text\": expected a text, found none"],
    );
    let found = desk.ok(&format!("{DEMO} --input new.parquet --format jsonl --on-error skip"));
    let rows: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        found.starts_with("{\"id\": 1, \"text\": \"so good\", \"score\": 0.5, \"seen\": true, "),
        "{found}"
    );
    assert_eq!((rows.len(), &rows[1]["score"], &rows[1]["line"]), (3, &Value::Null, &json!(2)));
    assert!(rows[1]["error"].as_str().unwrap().contains("found none"), "{}", rows[1]);
    assert!(found.lines().nth(2).unwrap().contains("\"score\": 31.245270191439438, "), "{found}");
    // A reader that ends in a process of its own.
    let mut damaged = bytes;
    let half = damaged.len() / 2;
    damaged.truncate(half);
    write(&desk.path("half.parquet"), &damaged);
    desk.fails(&format!("{DEMO} --input half.parquet"), 3, &["half.parquet"]);
    desk.fails(
        &format!("{DEMO} --input-format parquet"),
        2,
        &["standard input: Parquet is read from a file"],
    );
}

/// Predicting reads a file as evaluating does: neither takes one of two texts, and both pass over lines of blanks.
#[test]
fn the_same_file_is_the_same_rows_to_both() {
    let desk = Desk::new();
    desk.ok(
        "skn-train --model demo --task sentiment --prompt_size 2 --max-steps 1 --threads 1 --save_to run",
    );
    let both = ["skn-predict --resume_from run --input", "skn-evaluate --resume_from run --data"];
    let object = "{\"text\": \"so good\", \"label\": 1}\n";
    write(
        &desk.path("new.jsonl"),
        format!("{object}\n{{\"text\": \"good\", \"text\": \"bad\", \"label\": 1}}\n"),
    );
    write(&desk.path("new.csv"), "text,text,label\ngood,bad,1\n");
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["good"]));
    let columns =
        [("text", Arc::clone(&texts)), ("text", texts), ("label", Arc::new(Int64Array::from(vec![1])))];
    write(&desk.path("new.parquet"), parquet_of(&columns));
    for program in both {
        desk.fails(
            &format!("{program} new.jsonl"),
            3,
            &["new.jsonl", "line 3: ", "the key \"text\" is there twice"],
        );
        for name in ["new.csv", "new.parquet"] {
            desk.fails(&format!("{program} {name}"), 3, &[name, "two columns are named \"text\""]);
        }
    }
    write(&desk.path("blank.jsonl"), format!("\n{object} \t\n{object}\n\n"));
    assert_eq!(desk.ok(&format!("{} blank.jsonl", both[0])).lines().count(), 2);
    let found = desk.ok(&format!("{} blank.jsonl --json", both[1]));
    assert_eq!(serde_json::from_str::<Value>(&found).unwrap()["rows"], 2);
}

/// What is written out as text was never one: its answer would be of letters that nobody wrote.
#[test]
fn columns_of_texts_hold_strings() {
    let desk = Desk::new();
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("so"), Some("good")]);
    let texts: DictionaryArray<Int8Type> = ["so good"].into_iter().collect();
    let columns: [(&str, ArrayRef); 5] = [
        ("text", Arc::new(BinaryArray::from(vec![&b"so good"[..]]))),
        ("words", Arc::new(lists.finish())),
        ("day", Arc::new(Date32Array::from(vec![1]))),
        ("n", Arc::new(Int64Array::from(vec![1]))),
        ("category", Arc::new(texts)),
    ];
    write(&desk.path("new.parquet"), parquet_of(&columns));
    let predict = format!("{DEMO} --input new.parquet");
    desk.fails(&predict, 3, &["new.parquet, column \"text\": expected strings, found Binary"]);
    for (column, found) in [("words", "List"), ("day", "Date32"), ("n", "Int64")] {
        let expected = format!("new.parquet, column {column:?}: expected strings, found {found}");
        desk.fails(&format!("{predict} --column {column} --on-error skip"), 3, &[&expected]);
    }
    // What is only kept may be anything.
    let kept = desk.ok(&format!("{predict} --column category --format jsonl"));
    let expected = "{\"text\": \"736f20676f6f64\", \"words\": \"[so, good]\", \"day\": \"1970-01-02\", \"n\": 1, \
                    \"category\": \"so good\", ";
    assert!(kept.starts_with(expected), "{kept}");
}

/// JSON has no infinite numbers, and an empty cell would be another value.
#[test]
fn infinite_numbers_of_parquet_are_kept() {
    let desk = Desk::new();
    let texts = Arc::new(StringArray::from(vec!["so good"; 4]));
    let narrow = vec![f32::NEG_INFINITY, f32::INFINITY, 0.5, f32::NAN];
    let columns: [(&str, ArrayRef); 3] = [
        ("n", Arc::new(Float64Array::from(vec![f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::NAN]))),
        ("h", Arc::new(Float32Array::from(narrow))),
        ("text", texts),
    ];
    write(&desk.path("new.parquet"), parquet_of(&columns));
    let predict = format!("{DEMO} --input new.parquet --format");
    let csv = desk.ok(&format!("{predict} csv"));
    let found: Vec<[&str; 2]> = fields(&csv)[1..].iter().map(|row| [row[0], row[1]]).collect();
    assert_eq!(found, [["Infinity", "-Infinity"], ["-Infinity", "Infinity"], ["-0.0", "0.5"], ["", ""]]);
    let json = desk.ok(&format!("{predict} jsonl"));
    let rows = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<Value> = rows.map(|row| json!([row["n"], row["h"]])).collect();
    let [more, less] = ["Infinity", "-Infinity"];
    assert_eq!(found, [json!([more, less]), json!([less, more]), json!([-0.0, 0.5]), json!([null, null])]);
}

/// pandas gives each time with a zone the zone's name, and what offset that has Arrow does not know.
#[test]
fn times_of_a_zone_are_written_in_utc() {
    let desk = Desk::new();
    let time = |zone: &str| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_500_000), None]).with_timezone(zone))
    };
    let mut lists = ListBuilder::new(TimestampMicrosecondBuilder::new().with_timezone("America/New_York"));
    lists.append_value([Some(1_500_000)]);
    lists.append_null();
    let columns: [(&str, ArrayRef); 7] = [
        ("text", Arc::new(StringArray::from(vec!["so good", "so bad"]))),
        ("utc", time("UTC")),
        ("berlin", time("Europe/Berlin")),
        ("offset", time("+02:00")),
        ("none", Arc::new(TimestampMicrosecondArray::from(vec![1_500_000, 0]))),
        ("list", Arc::new(lists.finish())),
        ("struct", Arc::new(StructArray::try_from(vec![("at", time("UTC"))]).unwrap())),
    ];
    write(&desk.path("new.parquet"), parquet_of(&columns));
    let predict = format!("{DEMO} --input new.parquet");
    let found = desk.ok(&format!("{predict} --format jsonl"));
    let rows: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (column, first, second) in [
        ("utc", json!("1970-01-01T00:00:01.500Z"), json!(null)),
        ("berlin", json!("1970-01-01T00:00:01.500Z"), json!(null)),
        ("offset", json!("1970-01-01T02:00:01.500+02:00"), json!(null)),
        ("none", json!("1970-01-01T00:00:01.500"), json!("1970-01-01T00:00:00")),
        ("list", json!("[1970-01-01T00:00:01.500Z]"), json!(null)),
        ("struct", json!("{at: 1970-01-01T00:00:01.500Z}"), json!("{at: }")),
    ] {
        assert_eq!((&rows[0][column], &rows[1][column]), (&first, &second), "{column}");
    }
    let texts = desk.ok(&predict);
    assert!(texts.lines().next().unwrap().ends_with("\tso good"), "{texts}");
}

#[test]
fn lines_that_are_none_are_told() {
    let desk = Desk::new();
    write(&desk.path("texts"), b"one\n\ntwo\nca\xff\nthree\n");
    desk.fails(&format!("{DEMO} --input texts"), 3, &["texts: line 2: expected a text, found an empty one"]);
    let said = desk.run(&format!("{DEMO} --input texts --on-error skip"));
    let places: Vec<bool> = said.stdout.lines().map(|line| line.starts_with("error\t")).collect();
    assert_eq!((said.code, places), (0, vec![false, true, false, true, false]), "{}", said.stdout);
    for told in ["texts: line 2: ", "texts: line 4: not UTF-8 (byte 0xFF)", "2 of 5 records passed over"] {
        assert!(said.stderr.contains(told), "{told}: {}", said.stderr);
    }
    write(
        &desk.path("new.jsonl"),
        "{\"text\": \"a\"}\n{\"text\": \n[1]\n{\"words\": \"x\"}\n{\"text\": 3}\n{\"text\": \"b\"}\n",
    );
    desk.fails(
        &format!("{DEMO} --input new.jsonl"),
        3,
        &["new.jsonl: line 2: byte 8: expected a JSON object"],
    );
    let said = desk.run(&format!("{DEMO} --input new.jsonl --on-error skip --format jsonl"));
    let rows: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrong: Vec<u64> = rows.iter().filter_map(|row| row.get("error").and(row["line"].as_u64())).collect();
    assert_eq!((said.code, rows.len(), wrong), (0, 6, vec![2, 3, 4, 5]), "{}", said.stdout);
    assert_eq!(rows[3]["words"], "x", "what could be read is kept");
    let keys = |row: usize| -> Vec<&String> { rows[row].as_object().unwrap().keys().collect() };
    let none = ["error", "line", "predicted_class", "predicted_word", "probability"];
    assert_eq!(keys(1), none);
    assert!(rows[1]["predicted_class"].is_null() && rows[1]["probability"].is_null(), "{}", rows[1]);
    // A key that is the program's own.
    write(&desk.path("own.jsonl"), "{\"line\": 7, \"text\": \"a\"}\n");
    let own = format!("{DEMO} --input own.jsonl --format jsonl");
    desk.fails(&format!("{own} --on-error skip"), 3, &["line 1: it has a column \"line\""]);
    assert!(desk.ok(&own).starts_with("{\"line\": 7, \"text\": \"a\", \"predicted_class\": "));
    // Two columns of one name, of which the second has nothing.
    write(&desk.path("twice.csv"), "text,n,n\na,1,2\nb,3\n");
    let said = desk.run(&format!("{DEMO} --input twice.csv --on-error skip --format csv"));
    for told in ["\na,1,2,", "\nb,3,,"] {
        assert!(said.stdout.contains(told), "{told}: {}", said.stdout);
    }
    write(&desk.path("new.csv"), "text,n\na,1\nb\n\"c\nd\",3\n,4\n");
    desk.fails(&format!("{DEMO} --input new.csv"), 3, &["new.csv: line 3: expected 2 fields, found 1"]);
    let said = desk.run(&format!("{DEMO} --input new.csv --on-error skip --format csv"));
    assert!(said.stdout.lines().next().unwrap().ends_with(",probability,error"), "{}", said.stdout);
    for told in [
        "b,,,,,\"line 3: expected 2 fields, found 1\"",
        ",4,,,,\"line 6: expected a text, found an empty one\"",
    ] {
        assert!(said.stdout.contains(told), "{told}: {}", said.stdout);
    }
    // Behind a quote that never closes there is nothing.
    write(&desk.path("open.csv"), "text,n\na,1\n\"b,2\n");
    let said = desk.run(&format!("{DEMO} --input open.csv --on-error skip --format csv"));
    assert!(
        said.code == 3 && said.stderr.contains("open.csv: line 3: a quote opens a field here"),
        "{}",
        said.stderr
    );
    assert_eq!(said.stdout.lines().count(), 2, "what stands before it is answered");
}

/// A program that is written to line by line, and what it prints.
struct Talk {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Talk {
    fn begin(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || stdout.lines().try_for_each(|line| send.send(line.unwrap())));
        Self { child, lines }
    }

    fn say(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    fn hear(&self) -> String {
        self.lines.recv_timeout(LONG).expect("an answer while the input goes on")
    }
}

#[test]
fn answers_come_while_lines_are_written() {
    let desk = Desk::new();
    let line = format!("{DEMO} --flush");
    let words: Vec<&str> = line.split(' ').collect();
    let mut talk = Talk::begin(&mut desk.command(words[0], &words[1..]));
    for text in ["so good", "so bad", "the last one"] {
        talk.say(&format!("{text}\n"));
        assert!(talk.hear().ends_with(&format!("\t{text}")));
    }
    // Half a line is none yet, but it is one when the input ends.
    talk.say("no end");
    drop(talk.child.stdin.take());
    assert!(talk.hear().ends_with("\tno end"));
    assert!(talk.child.wait().unwrap().success());
    let mut talk = Talk::begin(desk.command(words[0], &words[1..]).args([
        "--input-format",
        "csv",
        "--format",
        "csv",
        "--on-error",
        "skip",
    ]));
    talk.say("id,text\n1,so good\n");
    assert!(talk.hear().starts_with("id,text,predicted_class,"));
    assert!(talk.hear().starts_with("1,so good,"));
    talk.say("2\n3,so bad\n");
    assert!(talk.hear().starts_with("2,,,,,\"line 3: expected 2 fields"));
    assert!(talk.hear().starts_with("3,so bad,"));
    drop(talk.child.stdin.take());
    assert!(talk.child.wait().unwrap().success());
}

#[cfg(unix)]
#[test]
fn signals_end_a_program_that_waits_for_lines() {
    let desk = Desk::new();
    for (signal, code, flush) in [("TERM", 143, "--flush"), ("INT", 130, "--flush"), ("TERM", 143, "--quiet")]
    {
        let line = format!("{DEMO} {flush}");
        let words: Vec<&str> = line.split(' ').collect();
        let mut talk = Talk::begin(&mut desk.command(words[0], &words[1..]));
        if flush == "--flush" {
            talk.say("so good\n");
            assert!(talk.hear().ends_with("\tso good"));
        } else {
            // More than a pipe holds is written once most of it was read.
            talk.say(&format!("{}\n", "so good ".repeat(1 << 15)));
        }
        let id = talk.child.id().to_string();
        let began = Instant::now();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        // Waiting for a child closes its input, which would end it otherwise.
        let open = talk.child.stdin.take();
        let status = talk.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{signal} {flush}");
        drop(open);
        assert!(began.elapsed() < LONG, "it did not wait for the input");
        assert!(talk.lines.iter().all(|line| line.ends_with("\tso good")), "whole lines alone");
    }
}

/// Lines that are none need no pass of the model, which would ask whether to stop.
#[cfg(unix)]
#[test]
fn signals_end_a_program_that_finds_no_text() {
    let desk = Desk::new();
    for flush in [&["--flush"][..], &[]] {
        let line = format!("{DEMO} --on-error skip");
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = desk.command(words[0], &[&words[1..], flush].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // More than a pipe holds is written once most of it was read.
        let lines = "\n".repeat(1 << 18);
        stdin.write_all(lines.as_bytes()).unwrap();
        let endless = std::thread::spawn(move || while stdin.write_all(lines.as_bytes()).is_ok() {});
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        let began = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if began.elapsed() > LONG => child.kill().unwrap(),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        assert_eq!(status.code(), Some(143), "{flush:?}");
        endless.join().unwrap();
    }
}

/// Who reads no further is no error.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_ends_it() {
    let desk = Desk::new();
    let line = format!("{DEMO} --flush");
    let words: Vec<&str> = line.split(' ').collect();
    let mut command = desk.command(words[0], &words[1..]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"so good\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "while the input is still open");
    drop(stdin);
}

#[test]
fn thresholds() {
    let desk = Desk::new();
    write(&desk.path("texts"), "so good\nso bad .\nthe soup was cold .\n");
    let class = |flags: &str| -> Vec<String> {
        let out = desk.ok(&format!("{DEMO} --input texts {flags}"));
        out.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    };
    assert_eq!(class("--threshold 0"), ["positive"; 3]);
    assert_eq!(class("--threshold 1"), ["negative"; 3]);
    // Probabilities are of the answer.
    let found = desk.ok(&format!("{DEMO} --input texts --threshold 0 --format jsonl --probabilities"));
    for line in found.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["probability"], row["probabilities"][1], "{line}");
    }
    let topic = "skn-predict --model demo --task topic --prompt_size 2 --threads 1 --input texts";
    assert!(desk.ok(&format!("{topic} --threshold 1")).lines().all(|line| line.starts_with("unsure\t0.")));
    let found = desk.ok(&format!("{topic} --threshold 1 --format jsonl"));
    let row: Value = serde_json::from_str(found.lines().next().unwrap()).unwrap();
    assert_eq!((&row["predicted_class"], &row["predicted_word"]), (&Value::Null, &Value::Null), "{row}");
    assert_eq!(desk.ok(&format!("{topic} --threshold 0")), desk.ok(topic));
    desk.fails(&format!("{DEMO} --input texts --threshold 1.5"), 2, &["--threshold 1.5", "from 0 to 1"]);
}

#[test]
fn what_is_too_long_is_told() {
    let desk = three();
    let long = "soup ".repeat(200);
    write(&desk.path("texts"), format!("the soup\n{long}\n{long}\n"));
    let said = desk.run("skn-predict --resume_from run --input texts");
    assert!(said.stderr.contains("2 of 3 texts are longer than 126 tokens and were cut"), "{}", said.stderr);
    let said = desk.run("skn-predict --resume_from run --input texts --max-length 4");
    assert!(said.stderr.contains("2 of 3 texts are longer than 4 tokens and were cut"), "{}", said.stderr);
    desk.fails(
        "skn-predict --resume_from run --input texts --max-length 129",
        2,
        &["--max-length 129", "at most 128"],
    );
    let train =
        "skn-train --model demo --task-file complaints.toml --data rows --prompt_size 2 --max-steps 2";
    let said = desk.run(&format!("{train} --max-length 6 --save_to cut"));
    assert_eq!(said.code, 0, "{}", said.stderr);
    for part in ["48 of 48 texts of train are longer than 6 tokens", "6 of 6 texts of dev are longer"] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    let said = desk.run("skn-probe -p --resume_from cut --save_to cut --splits test,dev,train");
    assert!(
        said.stderr.contains("6 of 6 texts of test are longer than 6 tokens and were cut"),
        "{}",
        said.stderr
    );
    desk.fails(&format!("{train} --max-length 129 --save_to no"), 2, &["--max-length 129"]);
}

#[test]
fn another_task_than_the_run_s_is_refused() {
    let desk = three();
    write(&desk.path("texts"), "the soup\n");
    for line in ["skn-predict --input texts -p", "skn-evaluate -p"] {
        let expected = ["--task topic: run was tuned for task complaints"];
        desk.fails(&format!("{line} --resume_from run --task topic"), 2, &expected);
        desk.fails(&format!("{line} --resume_from run --task_type topic"), 2, &expected);
    }
}

/// A task file that says something else of the classes than in the training does not change answers unseen.
#[test]
fn a_task_file_that_was_edited_is_told() {
    let desk = three();
    write(&desk.path("texts"), "the soup was cold\n");
    let predict = "skn-predict --resume_from run --input texts --format jsonl";
    let before = desk.ok(predict);
    let edit = |from: &str, to: &str| {
        let edited = THREE.replace(from, to);
        assert_ne!(edited, THREE);
        write(&desk.path("complaints.toml"), edited);
    };
    edit("\"Kitchen\", \"Concert hall\", \"Stadium\"", "\"Stadium\", \"Kitchen\", \"Concert hall\"");
    let expected = [
        "complaints.toml: label_names: expected [\"Kitchen\", \"Concert hall\", \"Stadium\"], as run/best/skn.json has kept it",
        "found [\"Stadium\", \"Kitchen\", \"Concert hall\"]; --task-file ",
    ];
    desk.fails(predict, 3, &expected);
    let other = desk.ok(&format!("{predict} --task-file complaints.toml"));
    assert_ne!(other, before, "who names the file means it");
    edit("\"food\", \"music\"", "\"music\", \"food\"");
    desk.fails(predict, 3, &["complaints.toml: labels: expected "]);
    desk.fails("skn-probe -p --resume_from run --save_to run", 3, &["complaints.toml: labels: expected "]);
    // How answers are scored is another matter.
    write(
        &desk.path("complaints.toml"),
        THREE.replacen("label = ", "metric = \"balanced_accuracy\"\nlabel = ", 1),
    );
    assert_eq!(desk.ok(predict), before);
}

/// What lies beside a run's best is not what the run's record is of.
#[test]
fn a_copy_in_its_run_stays_as_it_is() {
    let desk = three();
    write(&desk.path("texts"), "the soup was cold and the song was long\n");
    copy(&desk.path("run/best"), &desk.path("run/best-v1"));
    let answer =
        |from: &str| desk.ok(&format!("skn-predict --resume_from {from} --input texts --format jsonl"));
    let before = answer("run");
    desk.ok(
        "skn-train --model demo --task-file complaints.toml --data rows --prompt_size 2 --max-steps 3 --bz 8 --max-length 5 \
         --save_to run --force",
    );
    assert_ne!(answer("run"), before, "the text is cut now");
    assert_eq!(answer("run/best-v1"), before);
}

/// A run's best, and a pruned one, answer as before when they are all that is left.
#[test]
fn a_folder_is_whole_wherever_it_lies() {
    let desk = three();
    write(&desk.path("texts"), format!("the soup was cold .\n{}\n", "a song ".repeat(90)));
    desk.ok("skn-train --model demo --task-file complaints.toml --data rows --prompt_size 2 --max-steps 2 --max-length 9 --save_to cut");
    desk.ok("skn-probe -p --resume_from run --save_to run");
    desk.ok("skn-select -a run/complaints/dev_perf --save_to run --shares 0.1");
    desk.ok(
        "skn-prune --resume_from run --info_path run/info/complaints/0.1 --ths_path run/complaints/train_avg --save_to pruned",
    );
    let answers =
        |from: &str| desk.ok(&format!("skn-predict --resume_from {from} --input texts --format jsonl"));
    let before = ["run", "cut", "pruned"].map(&answers);
    copy(&desk.path("run"), &desk.path("moved/whole"));
    for name in ["run", "cut", "pruned"] {
        copy(&desk.path(&format!("{name}/best")), &desk.path(&format!("moved/{name}")));
        std::fs::remove_dir_all(desk.path(name)).unwrap();
    }
    std::fs::remove_dir_all(desk.path("rows")).unwrap();
    std::fs::remove_file(desk.path("complaints.toml")).unwrap();
    assert_eq!(["moved/run", "moved/cut", "moved/pruned"].map(&answers), before);
    assert_eq!(answers("moved/whole"), before[0]);
    assert!(before[1] != before[0], "the texts of one are cut");
    // Parameters alone need the model that they were tuned on.
    let mut config = desk.json("moved/run/skn.json");
    config["model"]["id"] = "elsewhere".into();
    write(&desk.path("moved/run/skn.json"), config.to_string());
    let sha256 = config["model"]["sha256"].as_str().unwrap().to_owned();
    desk.fails(
        "skn-predict --resume_from moved/run --input texts",
        4,
        &[
            "moved/run/skn.json: the model that this was tuned on is not beside it: elsewhere",
            &sha256,
            "--model says",
        ],
    );
    assert_eq!(
        desk.ok("skn-predict --resume_from moved/run --model demo --input texts --format jsonl"),
        before[0]
    );
}
