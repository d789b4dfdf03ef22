//! `skn-fetch` against a Hub on this machine, which does all that can go wrong.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::fetching;
use crate::hub;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fetching::{Desk, MODEL, contents, model, names, weights};
use hub::{COMMIT, Hub};

#[test]
fn a_model_comes_into_the_cache_as_hugging_face_keeps_it() {
    let (hub, desk) = (model(), Desk::new());
    let said = desk.ok(&hub, "owner/name");
    assert_eq!(Path::new(said.stdout.trim_end()), desk.snapshot());
    assert_eq!(names(&desk.snapshot()), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(fs::read(desk.snapshot().join("model.safetensors")).unwrap(), weights());
    let reference = desk.repository("models--owner--name/refs/main");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
    let mut hashes =
        ["config.json", "model.safetensors", "tokenizer.json"].map(|name| hub.stored(name).hash());
    hashes.sort();
    assert_eq!(names(&desk.repository("models--owner--name/blobs")), hashes, "nothing but the contents");
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(desk.snapshot().join("config.json")).unwrap(),
        Path::new("../../blobs").join(hub.stored("config.json").hash())
    );
    // Again: only the list is asked for, and everything is checked.
    hub.asked();
    let said = desk.ok(&hub, "owner/name --json");
    assert_eq!(contents(&hub), [""; 0]);
    let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(json["commit"], COMMIT);
    assert_eq!(json["files"][1]["name"], "model.safetensors");
    assert_eq!(json["files"][1]["fetched"], false);
    // What is damaged since is fetched again.
    fs::write(desk.blob(&hub.stored("config.json").hash()), "[]").unwrap();
    assert!(desk.ok(&hub, "owner/name").stderr.contains("expected git SHA-1"));
    assert_eq!(contents(&hub).len(), 1);
    assert_eq!(fs::read(desk.snapshot().join("config.json")).unwrap(), b"{}");
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let (hub, desk) = (model(), Desk::new());
    hub.now(|hub| hub.cut = Some(500_000));
    desk.ok(&hub, "owner/name");
    assert_eq!(fs::read(desk.snapshot().join("model.safetensors")).unwrap(), weights());
    let ranges: Vec<_> =
        hub.asked().into_iter().filter_map(|asked| asked.headers.get("range").cloned()).collect();
    // Each range is asked for twice: of the Hub, and where it redirects to.
    assert_eq!(ranges, ["bytes=500000-", "bytes=500000-", "bytes=1000000-", "bytes=1000000-"]);
}

#[test]
fn a_server_that_fails_leaves_a_part_that_the_same_command_completes() {
    let (hub, desk) = (model(), Desk::new());
    hub.now(|hub| (hub.cut, hub.contents) = (Some(500_000), 2));
    let parts = ["model.safetensors: 500000 of 1200000 bytes are here", "503"];
    desk.fails(&hub, "owner/name", 4, &parts);
    let hash = hub.stored("model.safetensors").hash();
    assert_eq!(fs::metadata(desk.blob(&format!("{hash}.incomplete"))).unwrap().len(), 500_000);
    assert!(!desk.blob(&hash).exists() && !desk.snapshot().exists(), "nothing looks whole");
    assert!(!desk.repository("models--owner--name/refs").exists());
    hub.now(|hub| (hub.cut, hub.contents) = (None, usize::MAX));
    hub.asked();
    let said = desk.ok(&hub, "owner/name");
    assert!(said.stderr.contains("goes on behind the 500000 bytes"), "{}", said.stderr);
    let asked = hub.asked();
    let config = asked.iter().find(|asked| asked.path.contains("config.json"));
    assert!(config.is_none(), "it was here: {config:?}");
    assert!(asked.iter().any(|asked| asked.headers.get("range").is_some_and(|text| text == "bytes=500000-")));
    assert_eq!(fs::read(desk.snapshot().join("model.safetensors")).unwrap(), weights());
}

#[test]
fn a_part_that_is_not_the_beginning_is_fetched_anew() {
    let (hub, desk) = (model(), Desk::new());
    let part = desk.blob(&format!("{}.incomplete", hub.stored("model.safetensors").hash()));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    for (length, ranges) in [(400, true), (400, false), (1_200_000, true), (1_200_001, true)] {
        fs::write(&part, vec![7; length]).unwrap();
        hub.now(|hub| hub.ranges = ranges);
        desk.ok(&hub, "owner/name");
        assert_eq!(fs::read(desk.snapshot().join("model.safetensors")).unwrap(), weights());
        assert!(!part.exists());
        fs::remove_file(desk.blob(&hub.stored("model.safetensors").hash())).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_kill_leaves_nothing_that_counts_as_whole() {
    use std::os::unix::process::ExitStatusExt;
    let (hub, desk) = (model(), Desk::new());
    let hash = hub.stored("model.safetensors").hash();
    let part = desk.blob(&format!("{hash}.incomplete"));
    for (signal, code) in [("KILL", None), ("INT", Some(130)), ("TERM", Some(143))] {
        hub.now(|hub| (hub.cut, hub.stalls) = (Some(300_000), true));
        let before = fs::metadata(&part).map_or(0, |found| found.len());
        let mut child = desk.command(&hub, "owner/name").stderr(Stdio::piped()).spawn().unwrap();
        while fs::metadata(&part).map_or(0, |found| found.len()) < before + 300_000 {
            assert!(child.try_wait().unwrap().is_none(), "it waits for the rest");
            std::thread::sleep(Duration::from_millis(5));
        }
        Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), code);
        assert_eq!(output.status.signal(), if code.is_none() { Some(9) } else { None });
        assert!(!desk.blob(&hash).exists() && !desk.snapshot().exists());
        if code.is_some() {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(stderr.contains("the same command goes on"), "{stderr}");
        }
    }
    hub.now(|hub| (hub.cut, hub.stalls) = (None, false));
    hub.asked();
    desk.ok(&hub, "owner/name");
    let range = hub.asked().into_iter().find_map(|asked| asked.headers.get("range").cloned());
    assert_eq!(range.as_deref(), Some("bytes=900000-"));
    assert_eq!(fs::read(desk.snapshot().join("model.safetensors")).unwrap(), weights());
}

#[test]
fn what_is_not_what_the_hub_lists_is_not_kept() {
    let (hub, desk) = (model(), Desk::new());
    let hash = hub.stored("config.json").hash();
    hub.now(|hub| hub.damages = true);
    desk.fails(&hub, "owner/name", 4, &["config.json: expected git SHA-1", &hash, "nothing is kept"]);
    desk.fails(&hub, "owner/name --include model.*", 4, &["model.safetensors: expected SHA-256"]);
    hub.now(|hub| (hub.damages, hub.length) = (false, -1));
    desk.fails(&hub, "owner/name", 4, &["config.json: expected 2 bytes, found 1"]);
    hub.now(|hub| hub.length = 5);
    let large = "model.safetensors: expected 1200000 bytes, found 1200005";
    desk.fails(&hub, "owner/name --include model.*", 4, &[large]);
    hub.now(|hub| (hub.length, hub.commit) = (0, "f".repeat(40)));
    desk.fails(&hub, "owner/name", 4, &["config.json: expected commit 0123", "found ffff"]);
    hub.now(|hub| (hub.commit, hub.relabels) = (COMMIT.into(), true));
    desk.fails(&hub, "owner/name", 4, &["config.json: expected git SHA-1", "found git SHA-1 0000"]);
    desk.fails(
        &hub,
        "owner/name --include model.*",
        4,
        &["model.safetensors: expected SHA-256", "found SHA-256 0000"],
    );
    assert_eq!(names(&desk.repository("models--owner--name/blobs")), [""; 0]);
    assert!(!desk.snapshot().exists());
}

#[test]
fn a_mirror_without_hashes_in_its_list_is_checked_by_headers() {
    let (hub, desk) = (model(), Desk::new());
    hub.now(|hub| hub.lists_hashes = false);
    desk.ok(&hub, "owner/name");
    assert!(desk.blob(&hub.stored("model.safetensors").hash()).is_file());
    assert!(desk.blob(&hub.stored("config.json").hash()).is_file());
    let other = Desk::new();
    hub.now(|hub| hub.damages = true);
    other.fails(&hub, "owner/name", 4, &["config.json: expected git SHA-1"]);
}

#[test]
fn lists_that_lead_elsewhere_are_refused() {
    for name in ["../../evil", "/evil", "a/../../evil"] {
        let (hub, desk) = (Hub::new(MODEL, &[("config.json", b"{}"), (name, b"x")]), Desk::new());
        desk.fails(&hub, "owner/name --include *", 4, &["file name", name]);
        assert_eq!(names(&desk.folder.path().join("home")), [""; 0]);
    }
}

#[test]
fn what_is_not_there_or_not_a_name() {
    let (hub, desk) = (model(), Desk::new());
    desk.fails(&hub, "owner/other", 4, &["owner/other", "404", &hub.url]);
    desk.fails(&hub, "owner/name --revision v9", 4, &["no revision v9"]);
    desk.fails(&hub, "owner/name --dataset", 4, &["no such data set"]);
    desk.fails(&hub, "a/b/c", 2, &["a/b/c", "owner/name"]);
    desk.fails(&hub, "owner/name@v1 --revision v2", 2, &["one revision"]);
    desk.fails(&hub, "owner/name --endpoint huggingface.co", 2, &["--endpoint", "https://HOST"]);
    desk.fails(&hub, "owner/name --include *.onnx", 3, &["*.onnx", "config.json"]);
    // A port that nobody listens at.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line = format!("owner/name --endpoint http://{closed}");
    desk.fails(&hub, &line, 4, &[&closed.to_string(), "can't be reached", "--offline"]);
}

#[test]
fn pickles_are_refused_with_how_to_convert() {
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("pytorch_model.bin", b"PK")];
    let (hub, desk) = (Hub::new(MODEL, &files), Desk::new());
    let parts = ["model.safetensors", "pytorch_model.bin", "safe_serialization=True", "owner/name"];
    desk.fails(&hub, "owner/name", 3, &parts);
    assert!(!desk.path("home").exists());
}

#[test]
fn shards_are_those_that_the_index_names() {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let files: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
        ("model-3.safetensors", b"another's"),
    ];
    let (hub, desk) = (Hub::new(MODEL, &files), Desk::new());
    desk.ok(&hub, "owner/name");
    let expected =
        ["config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"];
    assert_eq!(names(&desk.snapshot()), expected);
    let some = Desk::new();
    some.ok(&hub, "owner/name --include *.json");
    assert_eq!(
        names(&some.snapshot()),
        ["config.json", "model.safetensors.index.json"],
        "what was asked for"
    );
    desk.ok(&hub, "owner/name --offline");
    fs::remove_file(desk.snapshot().join("model-2.safetensors")).unwrap();
    desk.fails(&hub, "owner/name --offline", 4, &["model-2.safetensors", "skn-fetch owner/name"]);
    hub.now(|hub| hub.files.retain(|file| file.name != "model-2.safetensors"));
    desk.fails(&hub, "owner/name", 3, &["weight_map", "model-2.safetensors"]);
}

#[test]
fn a_revision_has_a_name_of_its_own() {
    let (hub, desk) = (model(), Desk::new());
    hub.now(|hub| hub.revision = "refs/pr/1".into());
    desk.ok(&hub, "owner/name --revision refs/pr/1");
    let refs = desk.repository("models--owner--name/refs");
    assert_eq!(fs::read_to_string(refs.join("refs/pr/1")).unwrap(), COMMIT);
    assert!(!refs.join("main").exists());
    desk.ok(&hub, "owner/name@refs/pr/1 --offline");
    desk.fails(&hub, "owner/name --offline", 4, &["revision main"]);
    // A commit needs no reference.
    let other = Desk::new();
    hub.now(|hub| hub.revision = COMMIT.into());
    other.ok(&hub, &format!("owner/name@{COMMIT}"));
    assert!(!other.repository("models--owner--name/refs").exists());
    other.ok(&hub, &format!("owner/name@{COMMIT} --offline"));
}

#[test]
fn a_model_that_has_moved_is_found_by_its_old_name() {
    let (hub, desk) = (model(), Desk::new());
    hub.now(|hub| hub.moved_to = Some("new/home".into()));
    desk.ok(&hub, "owner/name");
    assert_eq!(fs::read(desk.snapshot().join("model.safetensors")).unwrap(), weights());
    let paths: Vec<String> = hub.asked().into_iter().map(|asked| asked.path).collect();
    assert!(paths.iter().any(|path| path.starts_with("/new/home/resolve/")), "{paths:?}");
}

#[test]
fn a_data_set_comes_with_its_folders() {
    let files: [(&str, &[u8]); 4] = [
        ("README.md", b"# data"),
        ("sst2/train-00000-of-00001.parquet", b"rows"),
        ("cola/a b.csv", b"a,b"),
        ("glue.py", b"import os"),
    ];
    let (hub, desk) = (Hub::new("datasets/owner/data", &files), Desk::new());
    desk.ok(&hub, "--dataset owner/data --include sst2/*");
    let snapshot = desk.repository("datasets--owner--data/snapshots").join(COMMIT);
    assert_eq!(names(&snapshot), ["sst2"]);
    assert_eq!(fs::read(snapshot.join("sst2/train-00000-of-00001.parquet")).unwrap(), b"rows");
    desk.ok(&hub, "owner/data --repo-type dataset");
    assert_eq!(names(&snapshot), ["cola", "sst2"]);
    assert_eq!(fs::read(snapshot.join("cola/a b.csv")).unwrap(), b"a,b");
    hub.now(|hub| hub.files.retain(|file| file.name == "glue.py"));
    desk.fails(&hub, "owner/data --dataset", 3, &["glue.py", "--revision refs/convert/parquet"]);
}

#[test]
fn two_do_not_write_one_file() {
    let (hub, desk) = (model(), Desk::new());
    let hash = hub.stored("model.safetensors").hash();
    let lock = desk.repository(".locks/models--owner--name").join(format!("{hash}.lock"));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    desk.fails(&hub, "owner/name", 6, &["another program", &hash]);
    drop(held);
    desk.ok(&hub, "owner/name");
}

#[test]
fn progress_is_bytes() {
    let (hub, desk) = (model(), Desk::new());
    let said = desk.ok(&hub, "owner/name --progress none -q");
    assert_eq!(said.stderr, "");
    fs::remove_dir_all(desk.path("home")).unwrap();
    let said = desk.ok(&hub, "owner/name --progress log");
    assert!(said.stderr.contains("model.safetensors: 1200000 bytes fetched and checked"), "{}", said.stderr);
    assert!(said.stderr.contains("owner/name: 3 files, 3 of them"), "{}", said.stderr);
}
