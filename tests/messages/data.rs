//! Data that are not what they seem.

use super::Reader;
use crate::support::{Desk, copy, golden, write};

/// A task of sentences, with names for its classes.
const TASK: &str =
    "name = \"mine\"\ntext = [\"sentence\"]\nlabels = [\"bad\", \"good\"]\nsplits.train = \"train\"\n";

#[test]
fn files_of_data() {
    let mut user = Reader::new(Desk::new(), "data", "Data that are not there, damaged, or of another form.");
    write(&user.desk.path("mine.toml"), TASK);
    let line = "skn-train --model demo --task-file mine.toml --out run --data";
    user.told("Nothing there", &format!("{line} nowhere"), 3);
    user.told("A data set that was not fetched", &format!("{line} someone/something"), 4);
    write(&user.desk.path("empty/readme"), "");
    user.told("A folder without data", &format!("{line} empty"), 3);
    let utf16 = |text: &str| {
        text.encode_utf16().fold(vec![0xff, 0xfe], |mut bytes, unit| {
            bytes.extend(unit.to_le_bytes());
            bytes
        })
    };
    let workbook =
        b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\0\0\0\0\0\0\0\0\0\0\0\0\x13\0\0\0[Content_Types].xml";
    let cases: [(&str, &str, Vec<u8>); 24] = [
        (
            "What git left",
            "lfs.csv",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 3\n".into(),
        ),
        ("A pickle", "pickle.csv", b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.".into()),
        (
            "A zip file",
            "zip.csv",
            b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0a.csv".into(),
        ),
        ("A workbook", "workbook.csv", workbook.into()),
        ("A file of gzip", "train.csv", b"\x1f\x8b\x08\0\0\0\0\0".into()),
        ("UTF-16", "utf16.csv", utf16("sentence,label\na text,1\n")),
        ("Latin-1", "latin1.csv", b"sentence,label\nd\xe9j\xe0 vu,1\n".into()),
        ("No such column", "columns.csv", b"text,label\na text,1\n".into()),
        ("No label", "unlabelled.csv", b"sentence\na text\n".into()),
        ("A column twice", "twice.csv", b"sentence,label,label\na text,1,0\n".into()),
        (
            "A row with too many values",
            "row.csv",
            b"sentence,label\na text,1\na text, with a comma,1\n".into(),
        ),
        ("A quote that never closes", "quote.csv", b"sentence,label\n\"a text,1\nanother,0\n".into()),
        ("A class that there is not", "class.csv", b"sentence,label\na text,1\nanother,7\n".into()),
        ("A label that is a word", "word.csv", b"sentence,label\na text,good\nanother,awful\n".into()),
        ("A label that is a fraction", "fraction.csv", b"sentence,label\na text,0.5\n".into()),
        ("No row", "none.csv", b"sentence,label\n".into()),
        ("An empty file", "nothing.csv", Vec::new()),
        (
            "A line of JSON that breaks off",
            "broken.jsonl",
            b"{\"sentence\": \"a text\", \"label\": 1}\n{\"sentence\": \"an".into(),
        ),
        ("A text that is a number", "number.jsonl", b"{\"sentence\": 5, \"label\": 1}\n".into()),
        ("A label that is a list", "list.jsonl", b"{\"sentence\": \"a text\", \"label\": [1]}\n".into()),
        ("JSON that is no list of rows", "object.json", b"{\"sentence\": \"a text\"".into()),
        ("A Parquet file that is cut", "cut.parquet", b"PAR1\x15\x04\x15\x10".into()),
        ("An Arrow file that is cut", "cut.arrow", b"\xff\xff\xff\xff\x10\x01\0\0\x10\0".into()),
        ("A form that nobody reads", "train.xml", b"<rows/>\n".into()),
    ];
    for (what, name, bytes) in cases {
        write(&user.desk.path(name), bytes);
        user.told(what, &format!("{line} {name}"), 3);
    }
    write(&user.desk.path("long.csv"), format!("sentence,label\n{},1\n", "a text ".repeat(1000)));
    user.told("More than was allowed", &format!("{line} long.csv --max-data 1K"), 3);
    write(&user.desk.path("small.csv"), "sentence,label\na text,1\n");
    user.told("Too few rows to divide", &format!("{line} small.csv"), 3);
    copy(&golden().join("data/arrow"), &user.desk.path("arrow"));
    std::fs::remove_file(user.desk.path("arrow/train/data-00000-of-00001.arrow")).unwrap();
    user.told("A split that lost its file", "skn-train --model demo --task sst2 --out run --data arrow", 3);
    user.told("A task of two sides", "skn-binarize --task sst2 --data small.csv --out two", 2);
    assert!(!user.desk.path("run").exists(), "nothing is left behind");
    user.finish(31);
}

#[test]
fn texts_to_classify() {
    let mut user = Reader::new(Desk::new(), "texts", "Texts to classify that are none.");
    let line = "skn-predict --model demo --task inference --input";
    user.told("A file that is not there", &format!("{line} texts"), 3);
    user.told("A folder", &format!("{line} ."), 3);
    write(&user.desk.path("texts"), b"one\ttwo\nthree\tf\xffour\n");
    user.told("Bytes that are no text", &format!("{line} texts"), 3);
    write(&user.desk.path("texts"), "one\ttwo\nthree\n");
    user.told("One text where there should be two", &format!("{line} texts"), 3);
    write(&user.desk.path("texts"), "");
    user.told("Nothing", &format!("{line} texts"), 3);
    user.told("Tuned parameters from nowhere", &format!("{line} texts -p"), 2);
    user.finish(6);
}
