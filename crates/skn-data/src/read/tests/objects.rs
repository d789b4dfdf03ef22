//! JSON as libraries write it.

use super::*;

const BOTH: [Format; 2] = [Format::Jsonl, Format::Json];

#[track_caller]
fn two_rows(format: Format, bytes: impl AsRef<[u8]>) {
    let read = rows(format, bytes, &task("")).unwrap();
    assert_eq!((texts(&read), labels(&read)), (vec!["x", "y"], vec![1, 0]), "{format}");
}

#[test]
fn every_way_to_write_objects_down_is_read_under_both_names() {
    let ways = [
        // json.dumps(row) + "\n", pandas to_json(orient="records", lines=True), datasets to_json
        "{\"a\": \"x\", \"label\": 1}\n{\"a\": \"y\", \"label\": 0}\n",
        // pandas to_json(orient="records", indent=1)
        "[\n {\n  \"a\":\"x\",\n  \"label\":1,\n  \"n\":null\n },\n {\n  \"a\":\"y\",\n  \"label\":0,\n  \"n\":1.5\n }\n]",
        // polars write_json
        "[{\"a\":\"x\",\"label\":1},{\"a\":\"y\",\"label\":0}]",
        // jq . train.jsonl
        "{\n  \"a\": \"x\",\n  \"label\": 1\n}\n{\n  \"a\": \"y\",\n  \"label\": 0\n}\n",
        "{\"a\": \"x\",\n\"label\": 1} {\"a\": \"y\", \"label\": 0}",
    ];
    for way in ways {
        for format in BOTH {
            two_rows(format, way);
            two_rows(format, format!("\u{feff}\r\n\n  {}", way.replace('\n', "\r\n")));
        }
    }
    let one_line = "{\"a\": \"x\", \"label\": 1} {\"a\": \"y\", \"label\": 0}\n";
    [Format::Json, Format::Jsonl].into_iter().for_each(|format| two_rows(format, one_line));
    assert!(rows(Format::Jsonl, " \n\n", &task("")).unwrap().is_empty());
}

#[test]
fn errors_name_the_line_of_the_file() {
    let stream = "\n\n{\n\"a\": \"x\",\n\"label\": 1\n}\n{\n\"a\": \"y\"\n\"label\": 0}";
    for format in BOTH {
        refused(format, stream, &task(""), "line 9: byte 1: expected `,` or `}`");
        refused(
            format,
            stream.replace("\"y\"\n", "\"y\",\n\"a b"),
            &task(""),
            "line 9: byte 6: expected `:`",
        );
        refused(format, "\n[{\"a\": \"x\", \"label\": 1},\n{]", &task(""), "line 3: byte 2");
        refused(format, "\n\n{\"a\": \"x\", \"label\": 7}\n", &task(""), "line 3: label 7");
        refused(format, "{\n\"a\": \"x\",\n\"label\": 7}\n", &task(""), "row 0: label 7");
        refused(
            format,
            "{\"a\": \"x\", \"label\": 1}\n{\"a\": \"y\", ",
            &task(""),
            "line 2: byte 11: the end of the text",
        );
        // Cut short: nothing follows with which it could go on.
        refused(format, "{\"a\": \"x\", ", &task(""), "line 1: byte 11: the end of the text");
    }
}

#[test]
fn numbers_that_json_does_not_have_are_nulls() {
    // json.dumps({"a": .., "label": .., "n": [float("inf"), -float("inf"), float("nan")]})
    let row = |text: &str, label: &str| {
        format!("{{\"a\": {text}, \"label\": {label}, \"n\": [Infinity, -Infinity, NaN, -1]}}")
    };
    let [first, second] = [row("\"NaN, \\\"Infinity\"", "1"), row("\"-Infinity\"", "0")];
    let ways = [
        format!("{first}\n{second}\n"),
        format!("[{first},\n{second}]"),
        format!("{}\n{second}", first.replace(", \"", ",\n\"")),
    ];
    for way in &ways {
        for format in BOTH {
            let read = rows(format, way, &task("")).unwrap();
            assert_eq!(texts(&read), ["NaN, \"Infinity", "-Infinity"], "{way}");
            assert_eq!(labels(&read), [1, 0]);
            // In a key that is wanted they are what null is.
            let none = rows(format, way.replace("\"label\": 0", "\"label\": NaN"), &task("")).unwrap();
            assert_eq!(labels(&none), [1, UNLABELLED]);
            refused(format, way.replace("\"-Infinity\"", "NaN"), &task(""), "expected a text, found a null");
        }
    }
    // pandas writes null for them, and words that only begin so are no numbers.
    for word in ["Nan", "Inf", "-Inf", "NaNN", "+Infinity", "-NaN", "nan", "InfinitY", "N"] {
        for way in [row("\"x\"", word), format!("[{}]", row("\"x\"", word))] {
            assert!(rows(Format::Jsonl, way, &task("")).is_err(), "{word}");
        }
    }
    // Wherever the pieces end that the file is read in.
    let long = format!("[{}]", vec![row("\"x\"", "NaN"); 5000].join(","));
    assert_eq!(rows(Format::Json, long, &task("")).unwrap().len(), 5000);
}

#[test]
fn what_is_no_list_of_rows_is_named_by_its_keys() {
    let whole = "found one object with the keys data, version";
    for nested in ["{\"data\": [{\"a\": \"x\"}], \"version\": 1}", "{\n\"data\": [\n],\n\"version\": 1\n}\n"]
    {
        refused(Format::Json, nested, &task(""), "expected a list of objects with the keys a, label, ");
        refused(Format::Json, nested, &task(""), whole);
    }
    // pandas: to_json with each orient that is not "records".
    for columns in [
        "{\"a\":{\"0\":\"x\",\"1\":\"y\"},\"label\":{\"0\":1,\"1\":0},\"n\":{\"0\":null,\"1\":1.5}}",
        // Dataset.to_dict(), DataFrame.to_dict("list")
        "{\"a\": [\"x\", \"y\"], \"label\": [1, 0], \"n\": [null, 1.5]}",
    ] {
        for format in BOTH {
            refused(
                format,
                columns,
                &task(""),
                "found one object with the keys a, label, n that holds columns",
            );
            refused(format, columns, &task(""), "to_json(path, orient=\"records\")");
        }
    }
    for other in [
        "{\"columns\":[\"a\",\"label\",\"n\"],\"index\":[0,1],\"data\":[[\"x\",1,null],[\"y\",0,1.5]]}",
        "{\"0\":{\"a\":\"x\",\"label\":1,\"n\":null},\"1\":{\"a\":\"y\",\"label\":0,\"n\":1.5}}",
    ] {
        refused(Format::Json, other, &task(""), "orient=\"records\"");
    }
    refused(
        Format::Json,
        "[[\"x\",1,null],[\"y\",0,1.5]]",
        &task(""),
        "expected an object with the keys a, label",
    );
    // A text that is a list of words is a row, if a wrong one.
    refused(Format::Jsonl, "{\"a\": [\"x\"], \"label\": 1}", &task(""), "column \"a\": expected a text");
}

#[test]
fn a_row_without_its_text_says_which_keys_it_has() {
    let good = "{\"a\": \"x\", \"label\": 1}\n";
    let expected = "line 2: expected an object with the keys a, label, found one with the keys data, label";
    for format in BOTH {
        refused(format, format!("{good}{{\"data\": {{\"a\": 1}}, \"label\": 1}}"), &task(""), expected);
        refused(
            format,
            "[{}]",
            &task(""),
            "row 0: expected an object with the keys a, label, found one without",
        );
    }
    let long = format!("{{\"{}\": 1, \"b\": 2}}", "k".repeat(1000));
    let message = rows(Format::Jsonl, long, &task("")).unwrap_err().to_string();
    assert!(message.len() < 400 && message.ends_with(", .."), "{message}");
}

#[test]
fn other_encodings_are_named() {
    let western = b"{\"a\": \"caf\xe9\", \"label\": 1}\n";
    for format in BOTH {
        let hint = "line 1: not UTF-8 (byte 0xE9); it is probably in Windows-1252";
        refused(format, western, &task(""), hint);
        let list = [b"[\n", &western[..], b"]"].concat();
        refused(
            format,
            list,
            &task(""),
            "line 2: byte 11: invalid unicode code point; if the file is not UTF-8",
        );
    }
}

#[test]
fn several_objects_on_a_line_are_read_whatever_the_name() {
    let objects = "{\"a\": \"x\", \"label\": 1} {\"a\": \"y\", \"label\": 0}\n{\"a\": \"z\", \"label\": 1}\n";
    for format in [Format::Json, Format::Jsonl] {
        let rows = rows(format, objects, &task("")).unwrap();
        assert_eq!((texts(&rows), labels(&rows)), (vec!["x", "y", "z"], vec![1, 0, 1]));
    }
    refused(
        Format::Jsonl,
        "{\"a\": \"x\", \"label\": 1} x\n",
        &task(""),
        "line 1: byte 24: trailing characters",
    );
}
