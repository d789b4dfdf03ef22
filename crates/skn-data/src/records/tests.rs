use std::io::{BufReader, Read};

use super::*;

/// The records of an input, or what is said of them: `line: reason`.
fn read(format: RecordFormat, input: &[u8], layout: CsvLayout) -> Vec<Result<Record, String>> {
    let told =
        |bad: BadRecord| format!("{}{}: {}", bad.line, if bad.ends { " ends" } else { "" }, bad.reason);
    RecordReader::new(format, input, layout).map(|record| record.map_err(told)).collect()
}

fn wanted(names: &[&str]) -> CsvLayout {
    CsvLayout { wanted: names.iter().map(|name| (*name).to_owned()).collect(), ..CsvLayout::default() }
}

fn texts(record: &Record) -> Vec<&str> {
    let text = |field: &'_ Field| match field {
        Field::Text(text) | Field::Json(text) => text.clone().leak() as &str,
        Field::Null => "-",
    };
    record.fields.iter().map(text).collect()
}

#[test]
fn lines_are_records() {
    let found = read(RecordFormat::Text, b"\xef\xbb\xbfone\r\n\nca\xff\nlast", CsvLayout::default());
    assert_eq!(found.len(), 4);
    assert_eq!(texts(found[0].as_ref().unwrap()), ["one"]);
    assert_eq!(texts(found[1].as_ref().unwrap()), [""]);
    assert!(found[2].as_ref().unwrap_err().starts_with("3: not UTF-8 (byte 0xFF)"));
    assert_eq!((found[3].as_ref().unwrap().line, texts(found[3].as_ref().unwrap())), (4, vec!["last"]));
    assert!(read(RecordFormat::Text, b"", CsvLayout::default()).is_empty());
    let utf16: Vec<u8> = "a film\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let refused = read(RecordFormat::Text, &utf16, CsvLayout::default());
    assert!(refused[0].as_ref().unwrap_err().contains("ends: byte 0: expected text, found text in UTF-16"));
    assert_eq!(refused.len(), 1);
}

#[test]
fn objects_keep_their_order_and_their_words() {
    let lines =
        b"{\"z\": 1.50, \"a\": \"x\", \"n\": null, \"l\": [1, {\"b\": 2}]}\n{\"a\": \n \t\r\n\n[1]\n{\"a\":1} 2\n";
    let found = read(RecordFormat::Jsonl, lines, CsvLayout::default());
    let first = found[0].as_ref().unwrap();
    assert_eq!(&first.columns[..], ["z", "a", "n", "l"]);
    assert_eq!(texts(first), ["1.50", "x", "-", "[1, {\"b\": 2}]"]);
    assert!(first.object.as_ref().unwrap().starts_with("{\"z\": 1.50, "), "as it was written");
    let told: Vec<&str> = found[1..].iter().map(|record| record.as_ref().unwrap_err().as_str()).collect();
    for (told, expected) in told.iter().zip([
        "2: byte 5: expected a JSON object: ",
        "5: byte 0: expected a JSON object: ",
        "6: byte 9: expected a JSON object: ",
    ]) {
        assert!(told.starts_with(expected), "{told}");
    }
    assert_eq!(told.len(), 3, "a line of blanks is passed over, as training does");
    assert!(read(RecordFormat::Jsonl, b"\n\n", CsvLayout::default()).is_empty());
}

#[test]
fn a_list_and_objects_of_several_lines_are_named() {
    let pandas = "; each object stands on a line of its own, in no list, as pandas writes it with to_json(path, \
                  orient=\"records\", lines=True)";
    for list in
        ["[{\"text\": \"a\"}, {\"text\": \"b\"}]", "\n[\n{\"text\": \"a\"}\n]\n", "{\n  \"text\": \"a\"\n}\n"]
    {
        let found = read(RecordFormat::Jsonl, list.as_bytes(), CsvLayout::default());
        let told = found[0].as_ref().unwrap_err();
        let what = if list.contains('[') { "found a list" } else { "the end of the text within an object" };
        assert!(told.ends_with(&format!(": expected a JSON object: {what}{pandas}")), "{told}");
    }
    let other = read(RecordFormat::Jsonl, b"{\"text\": a}\n", CsvLayout::default());
    assert!(!other[0].as_ref().unwrap_err().contains("pandas"), "it may be on its line");
}

#[test]
fn numbers_stay_what_they_are() {
    let line = r#"{"n": 12345678901234567890123, "x" :-0.10, "y":31.245270191439438,"e": 1E5 , "s": "a\\\",:}", "{:": {"k,": [1, "]}\""], "z": 1.0}, "t": true}"#;
    let found = read(RecordFormat::Jsonl, line.as_bytes(), CsvLayout::default());
    let found = found[0].as_ref().unwrap();
    assert_eq!(&found.columns[..], ["n", "x", "y", "e", "s", "{:", "t"]);
    let expected = [
        "12345678901234567890123",
        "-0.10",
        "31.245270191439438",
        "1E5",
        "a\\\",:}",
        r#"{"k,": [1, "]}\""], "z": 1.0}"#,
        "true",
    ];
    assert_eq!(texts(found), expected);
    assert_eq!(found.object.as_deref(), Some(line));
}

#[test]
fn numbers_that_json_does_not_have_are_nothing() {
    let lines = b"{\"n\": NaN, \"text\": \"NaN\", \"m\": -Infinity}\n{\"n\": NaN, \"text\": }\n";
    let found = read(RecordFormat::Jsonl, lines, CsvLayout::default());
    let first = found[0].as_ref().unwrap();
    assert_eq!(texts(first), ["-", "NaN", "-"]);
    let object: serde_json::Value = serde_json::from_str(first.object.as_ref().unwrap()).unwrap();
    assert_eq!(object, serde_json::json!({"n": null, "text": "NaN", "m": null}));
    assert!(found[1].as_ref().unwrap_err().starts_with("2: byte "), "{:?}", found[1]);
}

#[test]
fn delimited_records_are_not_longer_than_allowed() {
    let long = format!("id,text\n1,a\n2,\"{}\n", "b\n".repeat(1 << 15));
    let within = |most: usize| {
        let layout = wanted(&["text"]);
        let mut records = Delimited::within(long.as_bytes(), &layout, most).unwrap().unwrap();
        assert_eq!(texts(&records.next().unwrap().unwrap()), ["1", "a"]);
        records.next().unwrap().unwrap_err()
    };
    let bad = within(1 << 15);
    assert!(bad.ends && bad.line == 3, "{bad:?}");
    let expected = "expected a record of at most 32768 bytes, found a longer one; a quote may open a field";
    assert!(bad.reason.starts_with(expected), "{bad:?}");
    assert!(within(1 << 17).reason.starts_with("a quote opens a field here"));
}

#[test]
fn delimiters_are_found() {
    let check = |csv: &str, layout: CsvLayout, expected: &[&str]| {
        let found = read(RecordFormat::Csv, csv.as_bytes(), layout);
        assert_eq!(texts(found[0].as_ref().unwrap()), expected, "{csv}");
    };
    check("id,text\n1,\"a, b\"\n", wanted(&["text"]), &["1", "a, b"]);
    check("id;text\n1;a, b\n", wanted(&["text"]), &["1", "a, b"]);
    check("id|text\n1|a; b\n", wanted(&["text"]), &["1", "a; b"]);
    check("sep=;\nid,n;text\n1;a\n", wanted(&["text"]), &["1", "a"]);
    check("text\na; b\n", wanted(&["text"]), &["a; b"]);
    let tab = CsvLayout { delimiter: Some(b'\t'), ..wanted(&["text"]) };
    check("id;x\ttext\n1\ta\n", tab, &["1", "a"]);
    let names = Some(vec!["id".to_owned(), "text".to_owned()]);
    check("1;a\n", CsvLayout { names, ..wanted(&["text"]) }, &["1", "a"]);
}

#[test]
fn wrong_records_are_told_and_the_next_are_read() {
    let csv = b"id,text\n1\n2,x,y\n3,\"a\nb\"\n4,ca\xff\n5,z\n6,\"never\n";
    let found = read(RecordFormat::Csv, csv, wanted(&["text"]));
    assert_eq!(found[0].as_ref().unwrap_err(), "2: expected 2 fields, found 1");
    assert_eq!(found[1].as_ref().unwrap_err(), "3: expected 2 fields, found 3");
    assert_eq!((found[2].as_ref().unwrap().line, texts(found[2].as_ref().unwrap())), (4, vec!["3", "a\nb"]));
    assert!(found[3].as_ref().unwrap_err().starts_with("6: field 1 is not UTF-8"), "{:?}", found[3]);
    assert_eq!(texts(found[4].as_ref().unwrap()), ["5", "z"]);
    assert!(
        found[5].as_ref().unwrap_err().starts_with("8 ends: a quote opens a field here"),
        "{:?}",
        found[5]
    );
    assert_eq!(found.len(), 6);
    let missing = read(RecordFormat::Csv, b"id,words\n1,a\n", wanted(&["text"]));
    assert_eq!(missing, [Err("1 ends: expected a column \"text\", found id, words".to_owned())]);
    let twice = read(RecordFormat::Csv, b"text,n,text,n\na,1,b,2\n", wanted(&["text"]));
    assert_eq!(twice, [Err("1 ends: two columns are named \"text\"".to_owned())]);
    let first = RecordReader::new(RecordFormat::Csv, &b"a,b\nx\n"[..], wanted(&["a"])).next().unwrap();
    let kept = first.unwrap_err().record.unwrap();
    assert_eq!(kept.fields, [Field::Text("x".into()), Field::Null], "what there is of it is kept");
}

/// Gives a byte at a time, and panics when it is asked for one that was not written yet.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let (first, rest) = self.0.split_first().expect("a reader does not wait for what it has no need of");
        self.0 = rest;
        out[0] = *first;
        Ok(1)
    }
}

#[test]
fn a_record_is_there_when_its_line_is() {
    for (format, lines) in [
        (RecordFormat::Text, "one\ntwo\n"),
        (RecordFormat::Jsonl, "{\"text\": \"one\"}\n{\"text\": \"two\"}\n"),
        (RecordFormat::Csv, "text,n\none,1\ntwo,2\n"),
    ] {
        let mut records =
            RecordReader::new(format, BufReader::new(Slow(lines.as_bytes())), wanted(&["text"]));
        for word in ["one", "two"] {
            let record = records.next().unwrap().unwrap();
            assert_eq!(record.get("text"), Some(&Field::Text(word.into())), "{format:?}");
        }
    }
}
