use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use skn_artifact::{Overwrite, StageRecord, sha256_hex, write_file};

use super::*;

#[test]
fn a_report_misses_what_it_shows_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (run, mut outputs) = (folder.path(), BTreeMap::new());
    let (shown, others) = (
        ["mask_perf.json", "sst2/pos_dev/1,2.safetensors", "best/skn.json"],
        [
            "sweeps/zero/mask_perf.json",
            "sst2/pos_dev/texts.jsonl",
            "sst2/pos_test/texts.jsonl",
            "last/x",
            "info/sst2/0.1",
        ],
    );
    for name in shown.iter().chain(&others) {
        write_file(&run.join(name), Overwrite::Refuse, b"as written").unwrap();
        outputs.insert((*name).to_owned(), sha256_hex(b"as written"));
    }
    RunRecord::update(run, "mask", StageRecord { outputs, ..Default::default() }, &[]).unwrap();
    for name in others {
        fs::remove_file(run.join(name)).unwrap();
        check_run(run).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in shown {
        fs::remove_file(run.join(name)).unwrap();
        let message = check_run(run).unwrap_err().to_string();
        assert!(message.contains("missing: ") && message.contains(name), "{message}");
    }
}

/// A run with one file, and the file.
fn run() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let file = run.join("sst2/train_avg.safetensors");
    write_file(&file, Overwrite::Refuse, b"as written").unwrap();
    let outputs = BTreeMap::from([("sst2/train_avg.safetensors".into(), sha256_hex(b"as written"))]);
    RunRecord::update(&run, "probe acc", StageRecord { outputs, ..Default::default() }, &[]).unwrap();
    (folder, file)
}

#[test]
fn a_link_in_a_files_place_is_that_file() {
    let (folder, file) = run();
    let moved = folder.path().join("elsewhere");
    fs::rename(&file, &moved).unwrap();
    symlink(&moved, &file).unwrap();
    assert!(check_listed(&file).unwrap(), "it was moved to a larger disk");
    fs::write(&moved, "changed").unwrap();
    let message = check_listed(&file).unwrap_err().to_string();
    assert!(message.contains("as stage probe acc wrote it"), "{message}");
    // So is one of its folder.
    fs::remove_file(&file).unwrap();
    fs::create_dir(folder.path().join("other")).unwrap();
    fs::rename(&moved, folder.path().join("other/train_avg.safetensors")).unwrap();
    fs::remove_dir(file.parent().unwrap()).unwrap();
    symlink(folder.path().join("other"), file.parent().unwrap()).unwrap();
    check_listed(&file).unwrap_err();
}

#[test]
fn a_link_into_a_run_is_the_runs_file() {
    let (folder, file) = run();
    let link = folder.path().join("link");
    symlink(&file, &link).unwrap();
    assert!(check_listed(&link).unwrap());
    fs::write(&file, "changed").unwrap();
    check_listed(&link).unwrap_err();
    fs::remove_file(&file).unwrap();
    assert!(is_there(&file).is_err(), "it is listed");
}
