//! `skn-fetch` against a Hub that fails as it likes, killed at any moment, with a cache that others damage: what a
//! fetch reports as here is right, what is visible is right, and the same command against a good Hub completes it.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::cases;
use crate::damage;
use crate::fetching;
use crate::hub;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use damage::{Dice, mutant};
use fetching::{Desk, model};
use hub::{COMMIT, Hub, Manners};

const NAME: &str = "models--owner--name";
/// Cases in CI.
const CI: u64 = 60;
const NAMES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

/// How the Hub behaves in this round: now and then well, else with a fault or two.
fn behave(hub: &Hub, good: &Manners, dice: &mut Dice) {
    hub.now(|hub| {
        *hub = good.clone();
        for _ in 0..dice.below(3) {
            match dice.below(9) {
                0 | 1 => hub.cut = Some(200_000 + dice.below(1_000_000)),
                2 => hub.cut = Some(0),
                3 => hub.contents = dice.below(5),
                4 => hub.damages = true,
                5 => hub.length = [-1, 1, -100_000, 100_000][dice.below(4)],
                6 => hub.ranges = false,
                7 => hub.lists_hashes = false,
                _ => hub.relabels = true,
            }
        }
    });
}

/// All files of a repository's part of the cache, by path.
fn all_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.is_symlink() {
            all_files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Somebody damages, cuts or removes a file of the cache. What was put in place of contents is given back, by path.
fn damage_cache(desk: &Desk, dice: &mut Dice) -> Option<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    all_files(&desk.repository(NAME), &mut files);
    let path = files.get(dice.below(files.len()))?;
    let bytes = fs::read(path).unwrap_or_default();
    if dice.below(4) == 0 {
        fs::remove_file(path).unwrap();
        return None;
    }
    let bytes = mutant(&bytes, dice.below(1 << 30) as u64);
    fs::write(path, &bytes).ok()?;
    Some((fs::canonicalize(path).unwrap(), bytes))
}

/// Runs the program; it may be killed on the way.
fn fetch(desk: &Desk, hub: &Hub, kill: Option<Duration>) -> (ExitStatus, String) {
    let log = fs::File::create(desk.path("log")).unwrap();
    let mut command = desk.command(hub, "owner/name");
    let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    if let Some(after) = kill {
        std::thread::sleep(after);
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    (status, fs::read_to_string(desk.path("log")).unwrap())
}

/// What can be read in the snapshot is what the Hub has, or what somebody put there since.
fn check_visible(desk: &Desk, good: &Manners, put: &BTreeMap<PathBuf, Vec<u8>>) {
    for name in NAMES {
        let Ok(path) = fs::canonicalize(desk.snapshot().join(name)) else { continue };
        let found = fs::read(&path).unwrap();
        let right = &good.files.iter().find(|file| file.name == name).unwrap().bytes;
        assert!(found == *right || put.get(&path) == Some(&found), "{name}: {} bytes are seen", found.len());
    }
}

fn is_whole(desk: &Desk, good: &Manners) -> bool {
    NAMES.iter().all(|name| {
        let right = &good.files.iter().find(|file| file.name == **name).unwrap().bytes;
        fs::read(desk.snapshot().join(name)).is_ok_and(|found| found == *right)
    })
}

fn attack(number: u64) -> String {
    let mut dice = Dice::of(number);
    let (hub, desk) = (model(), Desk::new());
    let good = hub.manners.lock().unwrap().clone();
    let mut put = BTreeMap::new();
    let (mut failed, mut killed, mut damaged) = (0, 0, 0);
    for _ in 0..1 + dice.below(3) {
        behave(&hub, &good, &mut dice);
        let kill = (dice.below(2) == 0).then(|| Duration::from_micros(dice.below(40_000) as u64));
        let (status, said) = fetch(&desk, &hub, kill);
        match status.code() {
            Some(0) => assert!(is_whole(&desk, &good), "it was reported as whole\n{said}"),
            Some(3 | 4) => failed += 1,
            None if kill.is_some() => killed += 1,
            _ => panic!("{status}\n{said}"),
        }
        check_visible(&desk, &good, &put);
        if dice.below(3) == 0 {
            damaged += 1;
            put.extend(damage_cache(&desk, &mut dice));
        }
    }
    hub.now(|hub| *hub = good.clone());
    let (status, said) = fetch(&desk, &hub, None);
    assert!(status.success(), "a good Hub\n{said}");
    assert!(is_whole(&desk, &good), "a good Hub\n{said}");
    let reference = fs::read_to_string(desk.repository(NAME).join("refs/main")).unwrap();
    assert_eq!(reference, COMMIT, "\n{said}");
    let mut files = Vec::new();
    all_files(&desk.repository(NAME), &mut files);
    // A part whose name the Hub made up may be what somebody else is fetching.
    let made_up = "0".repeat(40);
    let is_left = |path: &str| {
        path.contains("unpublished") || path.ends_with(".incomplete") && !path.contains(&made_up)
    };
    let left: Vec<&PathBuf> = files.iter().filter(|path| is_left(&path.to_string_lossy())).collect();
    assert!(left.is_empty(), "left over: {left:?}\n{said}");
    match (damaged, killed, failed) {
        (1.., _, _) => "with a damaged cache",
        (0, 1.., _) => "killed",
        (0, 0, 1..) => "refused first",
        _ => "fetched at once",
    }
    .into()
}

#[test]
fn whole_or_not_there() {
    let went = cases::run("suite", "fetch_attacks::whole_or_not_there", CI, attack);
    assert!(went.len() > 1 || went.values().sum::<u64>() < 20, "all went alike: {went:?}");
}
