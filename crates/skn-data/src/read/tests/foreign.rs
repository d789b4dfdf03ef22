//! Files that are something else than their names say.

use super::*;

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b125\nsize 12\n";

#[test]
fn every_reader_knows_what_was_not_fetched() {
    for name in ["x.arrow", "x.jsonl", "x.json", "x.csv", "x.tsv", "x.parquet"] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(name);
        put(&path, POINTER);
        let message = message_of(&path, &task(""));
        assert!(message.contains("split train, byte 0: expected "), "{message}");
        assert!(message.contains("found a Git LFS pointer") && message.contains("git lfs pull"), "{message}");
    }
}

#[test]
fn so_do_the_readers_of_what_stands_beside() {
    let folder = TempDir::new().unwrap();
    let columns = vec![("a", two_texts()), ("label", Arc::new(Int64Array::from(vec![1, 0])) as ArrayRef)];
    for name in ["state.json", "dataset_info.json", "dataset_dict.json"] {
        save_table(&folder.path().join("train"), "{}", &[("0.arrow", stream(columns.clone()))]);
        put(folder.path().join("dataset_dict.json"), r#"{"splits": ["train"]}"#);
        assert_eq!(read_dataset(folder.path(), &task("")).unwrap().splits["train"].len(), 2);
        let path = match name {
            "dataset_dict.json" => folder.path().join(name),
            _ => folder.path().join("train").join(name),
        };
        let whole = fs::read(&path).unwrap();
        // Saved by an editor on Windows.
        put(&path, [b"\xef\xbb\xbf", &whole[..]].concat());
        assert_eq!(read_dataset(folder.path(), &task("")).unwrap().splits["train"].len(), 2);
        put(&path, POINTER);
        let message = message_of(folder.path(), &task(""));
        assert!(
            message.contains(&format!("{name}, byte 0: expected text, found a Git LFS pointer")),
            "{message}"
        );
    }
}

#[test]
fn utf_16_is_named() {
    // As PowerShell's > and Excel's "Unicode text" write it, and without a mark.
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    for (format, text) in [
        (Format::Csv, "\u{feff}a,label\r\nx,1\r\n"),
        (Format::Csv, "a,label\r\nx,1\r\n"),
        (Format::Jsonl, "\u{feff}{\"a\": \"x\", \"label\": 1}\r\n"),
        (Format::Json, "[{\"a\": \"x\", \"label\": 1}]"),
    ] {
        let expected =
            format!("expected {format}, found text in UTF-16; convert it with `iconv -f UTF-16 -t UTF-8`");
        refused(format, wide(text), &task(""), &expected);
    }
}

#[test]
fn what_is_not_read_says_how_to_convert_it() {
    let folder = TempDir::new().unwrap();
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
    for (name, bytes, expected) in [
        ("train.csv.gz", &gzip[..], "found a gzip file; unpack it with gunzip"),
        ("train.jsonl", gzip, "expected jsonl, found a gzip file; unpack it with gunzip"),
        ("train.pkl", b"\x80\x05\x95\x1c\x02", "write it with DataFrame.to_parquet"),
        ("train.feather", b"ARROW1\0\0\xff\xff\xff\xff", "pyarrow.ipc.new_stream"),
        ("train.arrow", b"ARROW1\0\0\xff\xff\xff\xff", "pyarrow.ipc.new_stream"),
        ("train.xlsx", b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\x13\0[Content_Types].xml", "CSV UTF-8"),
        ("train.txt", b"a,label\n", "expected a file named .jsonl, .json, .csv, .tsv, .parquet or .arrow"),
    ] {
        let path = folder.path().join(name);
        put(&path, bytes);
        let message = message_of(&path, &task(""));
        assert!(message.contains(expected), "{message}");
        if !["train.jsonl", "train.txt", "train.arrow"].contains(&name) {
            // In a folder, where it bears the split's name.
            let message = message_of(folder.path(), &task(""));
            let told = expected.trim_start_matches("found ");
            assert!(message.contains(&format!("; {name} is ")) && message.contains(told), "{message}");
        }
        fs::remove_file(&path).unwrap();
    }
}
