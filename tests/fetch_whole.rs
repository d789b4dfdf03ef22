//! What is visible of a fetch: nothing, what was there before, or all of it; whenever it is killed, and whoever else is at
//! it.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::fetching;
use crate::hub;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fetching::{Desk, model, names, said};
use hub::{COMMIT, Hub};
use skn_hub::{Cache, Kind, Repository};

const DATA: &str = "datasets--owner--data";

/// Many files, so that giving them names takes a good part of the time.
const FILES: usize = 60;
/// The folders that they are in.
const PARTS: usize = 6;

fn rows() -> Hub {
    let names: Vec<(String, Vec<u8>)> = (0..FILES)
        .map(|i| (format!("part-{}/rows-{i}.csv", i % PARTS), format!("a,{i}").into_bytes()))
        .collect();
    let files: Vec<(&str, &[u8])> =
        names.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    Hub::new("datasets/owner/data", &files)
}

fn all_rows() -> BTreeSet<String> {
    (0..FILES).map(|i| format!("part-{}/rows-{i}.csv", i % PARTS)).collect()
}

/// What a program that reads by name sees: all files whose content can be read, or nothing.
fn seen(cache: &Path, name: &str) -> Option<BTreeSet<String>> {
    let repository = Repository::parse(Kind::Dataset, name).unwrap();
    let folder = Cache::at(cache).snapshot(&repository).unwrap()?;
    let mut found = BTreeSet::new();
    for part in names(&folder) {
        for file in names(&folder.join(&part)) {
            let path = folder.join(&part).join(&file);
            let real = skn_hub::follow(&folder, &path).unwrap().unwrap();
            assert!(fs::read_to_string(real).unwrap().starts_with("a,"));
            found.insert(format!("{part}/{file}"));
        }
    }
    Some(found)
}

fn start(desk: &Desk, hub: &Hub, line: &str) -> Child {
    desk.command(hub, line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a fetch at so many moments, spread over the time that it takes, beginning with what `before` leaves. What is
/// seen by revision and by commit must be one of `right`.
fn kill(hub: &Hub, kills: u32, before: &dyn Fn(&Desk), right: &[Option<BTreeSet<String>>]) {
    let desk = Desk::new();
    before(&desk);
    let began = Instant::now();
    desk.ok(hub, "--dataset owner/data");
    let took = began.elapsed();
    for kill in 0..kills {
        before(&desk);
        let mut child = start(&desk, hub, "--dataset owner/data");
        std::thread::sleep(took * kill / kills);
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        let cache = desk.path("home/hub");
        for name in ["owner/data", &format!("owner/data@{COMMIT}")] {
            let found = seen(&cache, name);
            let count = found.as_ref().map(BTreeSet::len);
            assert!(right.contains(&found), "kill {kill} of {kills}, {name}: {count:?} files are seen");
        }
        desk.ok(hub, "--dataset owner/data");
        assert_eq!(
            seen(&cache, "owner/data"),
            Some(all_rows()),
            "kill {kill}: the same command completes it"
        );
        assert_eq!(
            names(&cache.join(DATA).join(".unpublished")),
            [""; 0],
            "kill {kill}: nothing is left over"
        );
    }
}

fn remove_names(desk: &Desk) {
    for folder in ["snapshots", "refs"] {
        fs::remove_dir_all(desk.repository(DATA).join(folder)).ok();
    }
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_or_all() {
    let hub = rows();
    let nothing = |desk: &Desk| drop(fs::remove_dir_all(desk.path("home")));
    kill(&hub, 10, &nothing, &[None, Some(all_rows())]);
}

/// With all contents here, so that most of it is giving names.
#[test]
fn a_kill_while_names_are_given_leaves_nothing_or_all() {
    kill(&rows(), 30, &remove_names, &[None, Some(all_rows())]);
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_files_or_all() {
    let hub = rows();
    let some = |desk: &Desk| {
        remove_names(desk);
        desk.ok(&hub, "--dataset owner/data --include part-1/*");
    };
    let old = all_rows().into_iter().filter(|name| name.starts_with("part-1/")).collect();
    kill(&hub, 30, &some, &[Some(old), Some(all_rows())]);
}

/// What an older program left when it was killed.
#[test]
fn a_part_that_is_visible_already_is_completed() {
    let (hub, desk) = (rows(), Desk::new());
    desk.ok(&hub, "--dataset owner/data");
    let snapshot = desk.repository(DATA).join("snapshots").join(COMMIT);
    fs::remove_dir_all(snapshot.join("part-3")).unwrap();
    fs::remove_file(snapshot.join("part-4/rows-4.csv")).unwrap();
    fs::remove_dir_all(desk.repository(DATA).join("refs")).unwrap();
    desk.ok(&hub, "--dataset owner/data");
    assert_eq!(seen(&desk.path("home/hub"), "owner/data"), Some(all_rows()));
}

/// One reads all the time while another fetches more into the same commit, a part after the other.
#[test]
fn readers_see_a_snapshot_grow_at_one_moment() {
    let (hub, desk) = (rows(), Desk::new());
    desk.ok(&hub, "--dataset owner/data --include part-0/*");
    let cache = desk.path("home/hub");
    let done = AtomicBool::new(false);
    let sizes = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut sizes = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                sizes.insert(seen(&cache, "owner/data").map(|found| found.len()));
            }
            sizes
        });
        for part in 1..PARTS {
            desk.ok(&hub, &format!("--dataset owner/data --include part-{part}/*"));
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    // It lists one folder after the other, so it may see some of the next size; but no folder with a part of its files.
    assert!(sizes.iter().all(|size| size.is_some_and(|size| size % (FILES / PARTS) == 0)), "{sizes:?}");
    assert_eq!(seen(&cache, "owner/data"), Some(all_rows()));
}

/// The loser of a content says so; whoever succeeds left all that he was asked for.
#[test]
fn two_at_once_leave_all_that_both_were_asked_for() {
    let hub = rows();
    for _ in 0..3 {
        let desk = Desk::new();
        let patterns = ["part-1/*", "part-2/*", "part-?/*"];
        let lines = patterns.map(|pattern| format!("--dataset owner/data --include {pattern}"));
        let mut children = lines.each_ref().map(|line| start(&desk, &hub, line));
        let codes = children.each_mut().map(|child| child.wait().unwrap().code());
        assert!(codes.iter().all(|code| matches!(code, Some(0 | 6))), "{codes:?}");
        let found = seen(&desk.path("home/hub"), "owner/data").unwrap_or_default();
        for (part, code) in ["part-1/", "part-2/", "part-"].into_iter().zip(codes) {
            let wanted: Vec<_> = all_rows().into_iter().filter(|name| name.starts_with(part)).collect();
            assert!(code == Some(6) || wanted.iter().all(|name| found.contains(name)), "{part}");
        }
        desk.ok(&hub, "--dataset owner/data");
        assert_eq!(seen(&desk.path("home/hub"), "owner/data"), Some(all_rows()));
    }
}

/// The revision that was fetched alone is not taken for `main`, killed or not.
#[test]
fn a_revision_leads_to_its_commit_before_that_is_there() {
    let (hub, desk) = (rows(), Desk::new());
    hub.now(|hub| hub.revision = "refs/pr/1".into());
    // Where the snapshot would be is something that it can't replace.
    fs::create_dir_all(desk.repository(DATA)).unwrap();
    fs::write(desk.repository(DATA).join("snapshots"), "").unwrap();
    desk.fails(&hub, "--dataset owner/data@refs/pr/1", 3, &["snapshots", "expected a folder, found a file"]);
    fs::remove_file(desk.repository(DATA).join("snapshots")).unwrap();
    let cache = desk.path("home/hub");
    assert_eq!(seen(&cache, "owner/data"), None);
    assert_eq!(seen(&cache, "owner/data@refs/pr/1"), None);
    let reference = desk.repository(DATA).join("refs/refs/pr/1");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
    desk.ok(&hub, "--dataset owner/data@refs/pr/1");
    assert_eq!(seen(&cache, "owner/data"), None);
    assert_eq!(seen(&cache, "owner/data@refs/pr/1"), Some(all_rows()));
}

/// A revision keeps its old commit until the new one is whole.
#[test]
fn a_revision_that_moves_on_keeps_its_commit_until_then() {
    let (hub, desk) = (rows(), Desk::new());
    desk.ok(&hub, "--dataset owner/data");
    let repository = desk.repository(DATA);
    let old = format!("f{}", &COMMIT[1..]);
    fs::rename(repository.join("snapshots").join(COMMIT), repository.join("snapshots").join(&old)).unwrap();
    fs::write(repository.join("refs/main"), &old).unwrap();
    // Where the new one would be is something that it can't replace.
    fs::write(repository.join("snapshots").join(COMMIT), "").unwrap();
    desk.fails(&hub, "--dataset owner/data", 1, &[COMMIT]);
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), old);
    assert_eq!(seen(&desk.path("home/hub"), "owner/data"), Some(all_rows()));
    fs::remove_file(repository.join("snapshots").join(COMMIT)).unwrap();
    desk.ok(&hub, "--dataset owner/data");
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
}

#[test]
fn names_that_the_file_system_does_not_take_are_refused_before_anything_comes() {
    let long = format!("{}.csv", "x".repeat(252));
    let deep = format!("{}y.csv", format!("{}/", "x".repeat(250)).repeat(17));
    let cases: [(&[&str], &str); 4] = [
        (&["a.csv", &long], "x...: expected a name of at most 255 bytes, found 256"),
        (&["a.csv", &deep], "x...: path: expected at most"),
        (&["a.csv", "b", "b/c.csv"], ""),
        (&["a.csv", "b.csv", "b.csv/c.csv"], "b.csv: expected a file or a folder, found both"),
    ];
    for (files, part) in cases {
        let files: Vec<(&str, &[u8])> = files.iter().map(|name| (*name, &b"a"[..])).collect();
        let (hub, desk) = (Hub::new("datasets/owner/data", &files), Desk::new());
        if part.is_empty() {
            // What is not wanted does not matter.
            desk.ok(&hub, "--dataset owner/data");
            continue;
        }
        let code = if part.starts_with('b') { 4 } else { 3 };
        let stderr = desk.fails(&hub, "--dataset owner/data", code, &[part]);
        assert!(stderr.len() < 400, "{stderr}");
        assert!(!desk.path("home").exists(), "nothing is begun");
        desk.ok(&hub, "--dataset owner/data --include a.csv");
    }
    let (hub, desk) = (model(), Desk::new());
    desk.fails(&hub, &format!("owner/{}", "n".repeat(300)), 2, &["expected a name of at most 255 bytes"]);
    desk.fails(&hub, &format!("owner/name@{}", "r".repeat(300)), 2, &["revision rrr", "found 300"]);
    assert_eq!(hub.connections(), 0);
}

/// Shards are named by the index, which comes first.
#[test]
fn shards_with_long_names_are_refused_before_anything_is_published() {
    let long = format!("{}.safetensors", "x".repeat(252));
    let index = format!("{{\"weight_map\": {{\"a\": \"{long}\"}}}}");
    let files: [(&str, &[u8]); 3] =
        [("config.json", b"{}"), ("model.safetensors.index.json", index.as_bytes()), (&long, b"one")];
    let (hub, desk) = (Hub::new(fetching::MODEL, &files), Desk::new());
    desk.fails(&hub, "owner/name", 3, &["x...: expected a name of at most 255 bytes, found 264"]);
    assert!(!desk.snapshot().exists());
}

#[cfg(unix)]
#[test]
fn special_files_in_the_cache_are_not_waited_for() {
    let (hub, desk) = (model(), Desk::new());
    let part = desk.blob(&format!("{}.incomplete", hub.stored("config.json").hash()));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(desk.path("mine"), &part).unwrap();
    fs::write(desk.path("mine"), "mine").unwrap();
    desk.fails(&hub, "owner/name", 3, &[".incomplete: expected a file, found something else"]);
    assert_eq!(fs::read_to_string(desk.path("mine")).unwrap(), "mine");
    fs::remove_file(&part).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&part).status().unwrap();
    assert!(made.success());
    desk.fails(&hub, "owner/name", 3, &[".incomplete: expected a file, found something else"]);
    fs::remove_file(&part).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(desk.path("token")).status().unwrap().success());
    let mut command = desk.command(&hub, "owner/name --token-file token");
    let refused = said(&mut command);
    assert_eq!(refused.code, 3);
    assert!(refused.stderr.contains("token: can't be read: it is a FIFO"), "{}", refused.stderr);
    desk.ok(&hub, "owner/name");
}
