//! The fence: whatever a user's file holds, there are rows or an error within the limits; and it gets in nobody's way.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use support::{Desk, copy, golden, write};

/// Reads data and a tokenizer, trains a single epoch.
const TRAIN: &str = "skn-train --data_path data/raw/sst2 --save_to run --epoch 1 --bz 64";

/// The same with the golden model in a folder.
fn with_model(desk: &Desk) -> String {
    copy(&golden().join("model"), &desk.path("model"));
    format!("{TRAIN} --model model")
}

const READER: &str = "--skn-read-under-limits";

#[test]
fn data_beyond_what_is_allowed() {
    let desk = Desk::original();
    let all = ["data-00000-of-00001.arrow, split train", "more than 5000 bytes", "--max-data 10000"];
    desk.fails(&format!("{TRAIN} --max-data 5000"), 3, &all);
    desk.fails(&format!("{TRAIN} --max-data none"), 2, &["--max-data", "16G"]);
    desk.fails(&format!("{TRAIN} --max-data 0"), 2, &["--max-data"]);
    let task = "name = \"t\"\ntext = [\"sentence\"]\nlabels = [\"negative\", \"neutral\", \"positive\"]\n[splits]\ntrain = \"train\"\n";
    write(&desk.path("task.toml"), task);
    let line = "skn-binarize --task-file task.toml --data data/raw/sst2 --out out --max-data 1K";
    desk.fails(line, 3, &["split train", "more than 1024 bytes"]);
}

#[test]
fn files_of_another_form_say_how_to_convert() {
    let desk = Desk::new();
    let line = "skn-train --model demo --task sst2 --epoch 1 --save_to run --data data/train";
    let forms: [(&[u8], &[&str]); 6] = [
        (b"\x80\x04\x95\x10\x00\x00\x00", &["pickle", "to_parquet"]),
        (b"PK\x03\x04\x14\x00\x00\x00", &["zip", "unpack"]),
        (b"GGUF\x03\x00\x00\x00", &["GGUF"]),
        (b"\x1f\x8b\x08\x00", &["gzip", "gunzip"]),
        (b"\x28\xb5\x2f\xfd\x04", &["zstd", "unzstd"]),
        (b"ARROW1\0\0\xff\xff", &["Feather", "new_stream"]),
    ];
    for extension in ["jsonl", "json", "csv", "parquet"] {
        for (bytes, parts) in forms {
            let file = desk.path(&format!("data/train.{extension}"));
            write(&file, bytes);
            let name = format!("train.{extension}");
            desk.fails(&format!("{line}.{extension}"), 3, &[&[name.as_str(), "byte 0"], parts].concat());
            fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn weights_and_tokenizers_of_another_form_say_how_to_convert() {
    let desk = Desk::original();
    let line = with_model(&desk);
    let forms: [(&[u8], &str); 3] = [
        (b"\x80\x02}q\x00X\x01\x00\x00\x00", "pickle"),
        (b"PK\x03\x04\x14\x00\x00\x00", "zip"),
        (b"GGUF\x03\0\0\0\0", "GGUF"),
    ];
    for (bytes, what) in forms {
        for file in ["model.safetensors", "tokenizer.json", "config.json"] {
            let path = desk.path(&format!("model/{file}"));
            let whole = fs::read(&path).unwrap();
            write(&path, bytes);
            let parts: &[&str] =
                if file == "model.safetensors" { &[file, what, "safetensors"] } else { &[file] };
            desk.fails(&line, 3, parts);
            write(&path, whole);
        }
    }
}

#[test]
fn a_tokenizer_that_is_damaged_is_named() {
    let desk = Desk::original();
    let line = with_model(&desk);
    let path = desk.path("model/tokenizer.json");
    let whole = fs::read_to_string(&path).unwrap();
    write(&path, &whole[..whole.len() / 2]);
    desk.fails(&line, 3, &["model/tokenizer.json", "not a tokenizer"]);
    let mut json: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let mut normalized = |steps: &[(usize, usize)], expected: &str| {
        let step = |longer: usize| serde_json::json!({"type": "Replace", "pattern": {"String": "e"}, "content": "e".repeat(longer)});
        let steps: Vec<_> = steps.iter().flat_map(|(times, longer)| vec![step(*longer); *times]).collect();
        json["normalizer"] = serde_json::json!({"type": "Sequence", "normalizers": steps});
        write(&path, json.to_string());
        desk.fails(&line, 3, &["model/tokenizer.json", expected]);
    };
    // Each step makes a text a hundred times as long.
    normalized(&[(6, 100)], "bytes of memory, the limit for its size");
    // A long text is looked through again and again.
    normalized(&[(2, 150), (3000, 1)], "s of processor time, the limit for its size");
}

#[test]
fn files_beside_a_tokenizer_are_read_with_it() {
    let desk = Desk::original();
    let line = with_model(&desk);
    let settings = desk.path("model/tokenizer_config.json");
    write(&settings, r#"{"tokenizer_class": "BertweetTokenizer"}"#);
    desk.fails(&line, 3, &["model/tokenizer_config.json: tokenizer_class", "BertweetTokenizer"]);
    // An editor of Windows.
    write(&settings, "\u{feff}{\"add_prefix_space\": \"yes\"}");
    desk.fails(&line, 3, &["model/tokenizer_config.json: add_prefix_space", "\"yes\""]);
    fs::remove_file(&settings).unwrap();
    write(&desk.path("model/added_tokens.json"), r#"{"[USER]": 420}"#);
    desk.fails(&line, 3, &["the tokenizer has 421 tokens, but the model has embeddings for 420"]);
    write(
        &desk.path("model/added_tokens.json"),
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
    );
    desk.fails(&line, 3, &["model/added_tokens.json", "git lfs pull"]);
}

/// A child by hand, as a program starts it: what it sent, whether it ended well, and what it said.
fn reader(desk: &Desk, words: &[&str], given: &[u8]) -> (Vec<u8>, bool, String) {
    let mut command = desk.command("skn-train", &[&[READER], words].concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(given).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.stdout, output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_nobody_should_type_does_no_harm() {
    let desk = Desk::new();
    assert!(!reader(&desk, &[], b"").1);
    assert!(!reader(&desk, &["rows", "nowhere", "1"], b"{}").1);
    assert!(!reader(&desk, &["tokenizer", "t"], b"").1);
    assert!(!reader(&desk, &["anything"], b"").1);
}

#[cfg(target_os = "linux")]
mod limits {
    use std::time::{Duration, Instant};

    use super::*;

    /// A Parquet file of one text.
    fn parquet_of(text: &str) -> Vec<u8> {
        use std::sync::Arc;

        use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
        use parquet::arrow::ArrowWriter;
        use parquet::basic::{Compression, ZstdLevel};
        use parquet::file::properties::WriterProperties;

        let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let labels: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("sentence", texts), ("label", labels)]).unwrap();
        let packed =
            WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()));
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(packed.build())).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn a_file_that_unpacks_to_gigabytes_is_stopped() {
        let desk = Desk::new();
        write(&desk.path("data.parquet"), parquet_of(&"x".repeat(1 << 28)));
        assert!(fs::metadata(desk.path("data.parquet")).unwrap().len() < 1 << 20);
        let line =
            "skn-train --model demo --task sst2 --epoch 1 --save_to run --data data.parquet --max-data 8M";
        desk.fails(line, 3, &["data.parquet, split train, after row 0", "memory", "limit for its size"]);
    }

    #[test]
    fn no_child_is_an_error_that_says_so() {
        let desk = Desk::original();
        // Not one more process may be started.
        let line = format!("ulimit -u 0; exec \"$0\" {}", TRAIN.split_once(' ').unwrap().1);
        let program = desk.command("skn-train", &[]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &line]).arg(program.get_program()).current_dir(desk.path(""));
        for (name, value) in program.get_envs() {
            if let Some(value) = value {
                shell.env(name, value)
            } else {
                shell.env_remove(name)
            };
        }
        let said = shell.output().unwrap();
        let stderr = String::from_utf8_lossy(&said.stderr);
        // The superuser may start as many as there are.
        if said.status.success() {
            eprintln!("skipped: this user's processes are not limited");
            return;
        }
        assert_eq!(said.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("can't start one"), "{stderr}");
    }

    #[test]
    fn a_signal_stops_reading() {
        let desk = Desk::new();
        write(
            &desk.path("task.toml"),
            "name = \"t\"\ntext = [\"a\"]\nlabels = [\"bad\", \"good\"]\nsplits.train = \"train\"\n",
        );
        let mut file = std::io::BufWriter::new(fs::File::create(desk.path("train.jsonl")).unwrap());
        for row in 0..1_000_000 {
            writeln!(file, "{{\"a\": \"a text that is read for a while\", \"label\": {}}}", row % 2).unwrap();
        }
        file.flush().unwrap();
        let words =
            ["--model", "demo", "--task-file", "task.toml", "--data", "train.jsonl", "--save_to", "run"];
        let mut command = desk.command("skn-train", &words);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Until it has a child that reads.
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let begun = Instant::now();
        let reader = loop {
            match fs::read_to_string(&children).unwrap().trim().parse::<u32>() {
                Ok(reader) => break reader,
                Err(_) => assert!(begun.elapsed() < Duration::from_secs(20), "no child"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let told =
            std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(told.success());
        let status = child.wait().unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!(status.code(), Some(143), "{said}");
        assert!(!std::path::Path::new(&format!("/proc/{reader}")).exists(), "the child is still there");
    }
}

/// A FIFO that nobody writes to, a device without an end, a file that no vocabulary is as large as: each is named at once.
#[cfg(unix)]
#[test]
fn special_files_are_not_read() {
    let fifo = |desk: &Desk, name: &str| {
        let path = desk.path(name);
        fs::remove_file(&path).ok();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    };
    for name in ["tokenizer.json", "model.safetensors", "tokenizer_config.json"] {
        let desk = Desk::original();
        let line = with_model(&desk);
        fifo(&desk, &format!("model/{name}"));
        desk.fails(&line, 3, &[name, "FIFO"]);
        fs::remove_file(desk.path(&format!("model/{name}"))).unwrap();
        std::os::unix::fs::symlink("/dev/zero", desk.path(&format!("model/{name}"))).unwrap();
        desk.fails(&line, 3, &[name, "a device"]);
    }
    let desk = Desk::original();
    let line = with_model(&desk);
    fs::remove_file(desk.path("model/tokenizer.json")).unwrap();
    fs::File::create(desk.path("model/merges.txt")).unwrap().set_len(1 << 30).unwrap();
    desk.fails(&line, 3, &["merges.txt", "1073741824 bytes"]);

    let desk = Desk::new();
    let line = "skn-train --model demo --task sst2 --epoch 1 --save_to run --data";
    for name in ["train.csv", "train.jsonl", "train.parquet"] {
        fifo(&desk, &format!("{name}.d/{name}"));
        desk.fails(&format!("{line} {name}.d/{name}"), 3, &[name, "FIFO"]);
        write(&desk.path(&format!("{name}.d/validation.csv")), "sentence,label\na,1\n");
        desk.fails(&format!("{line} {name}.d"), 3, &[name, "FIFO"]);
    }
    fifo(&desk, "task.toml");
    desk.fails(
        "skn-train --model demo --task-file task.toml --data d --save_to run",
        3,
        &["task.toml", "FIFO"],
    );
    fifo(&desk, "run/run.json");
    desk.fails("skn-verify run", 3, &["run.json", "FIFO"]);
    fifo(&desk, "mask.safetensors");
    desk.fails("skn-mask --model demo --task sentiment --info_path mask --save_to r", 3, &["mask", "FIFO"]);
}
