//! What programs left in a folder, and what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use skn_artifact::names::file::{CHECKPOINT, INFERENCE_TIME, PREVIOUS_CHECKPOINT, REPORT, SUMMARY};
use skn_artifact::sha256_hex;

use crate::support;

/// Files by name.
pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

pub(crate) fn is_temporary(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|name| name.starts_with(".skn-") && name.ends_with(".tmp"))
}

/// What two folders differ in, if it can be read.
pub(crate) fn shown(names: &[String], a: &Contents, b: &Contents) -> String {
    let text = |of: Option<&Vec<u8>>| {
        of.map_or("nothing".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let mut shown = String::new();
    for name in names.iter().filter(|name| name.ends_with(".json")) {
        let (a, b) = (text(a.get(name)), text(b.get(name)));
        let only =
            |a: &str, b: &str| a.lines().filter(|line| !b.contains(line)).collect::<Vec<_>>().join("\n");
        shown += &format!("\n{name}: only there\n{}\nonly expected\n{}", only(&a, &b), only(&b, &a));
    }
    shown
}

/// The names of what two folders differ in.
pub(crate) fn differing(a: &Contents, b: &Contents) -> Vec<String> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

/// Name and hash of every whole file.
pub(crate) fn passing(place: &Path) -> BTreeSet<(String, String)> {
    let seen = seen(place).into_iter().filter(|(name, _)| !is_temporary(name));
    let mut passing = BTreeSet::new();
    for (name, bytes) in seen {
        if is_record(&name) {
            passing.extend(entries(&bytes).into_iter().map(|entry| (name.clone(), entry)));
        }
        passing.insert((checkpoint(&name), sha256_hex(&bytes)));
    }
    passing
}

pub(crate) fn is_record(name: &str) -> bool {
    name.ends_with("/run.json")
}

/// What a record of a run says: of each stage all but its outputs, and each output with its hash. Of a stage that was done anew and of which
/// some files are left (`STAGE, earlier N`) the files alone: how many are left depends on where the one before was stopped.
pub(crate) fn entries(bytes: &[u8]) -> Vec<String> {
    let mut record: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let mut entries = Vec::new();
    for (entry, stage) in record["stages"].as_object_mut().unwrap() {
        let outputs = stage.as_object_mut().unwrap().remove("outputs").unwrap();
        entries.extend(outputs.as_object().unwrap().iter().map(|(name, hash)| format!("{name} {hash}")));
        if !entry.contains(", earlier ") {
            entries.push(format!("{entry} {stage}"));
        }
    }
    entries
}

/// A checkpoint's name before it was the second-last.
pub(crate) fn checkpoint(name: &str) -> String {
    name.replace(PREVIOUS_CHECKPOINT, CHECKPOINT)
}

/// Name and content of every file of [`seen`] that must be the same wherever a stage was stopped: not the second-last
/// checkpoint.
pub(crate) fn contents(place: &Path) -> Contents {
    let mut found = seen(place);
    found.retain(|name, _| !name.ends_with(PREVIOUS_CHECKPOINT));
    found
}

/// Files that tell times.
const TIMED: [&str; 3] = [INFERENCE_TIME, REPORT, SUMMARY];

/// Name and content of every file that programs made in a folder; of a run's record without command lines, which differ where a
/// stage was begun again, and of no file the times.
pub(crate) fn seen(place: &Path) -> Contents {
    let mut found = Contents::new();
    for folder in ["run", "pruned", "tuned", "two", "figures", "made"] {
        if place.join(folder).is_dir() {
            support::walk(&place.join(folder), &format!("{folder}/"), &mut |name, path| {
                let bytes = fs::read(path).unwrap();
                match name.rsplit('/').next().unwrap() {
                    ".lock" => {}
                    "run.json" => drop(found.insert(name.into(), timeless(name, &bytes))),
                    REPORT => drop(found.insert(name.into(), without_stages(name, &bytes))),
                    INFERENCE_TIME => drop(found.insert(name.into(), untimed(name, &bytes, None))),
                    SUMMARY => drop(found.insert(name.into(), untimed(name, &bytes, Some("ms_per_text")))),
                    _ => drop(found.insert(name.into(), bytes)),
                }
            });
        }
    }
    found
}

fn timeless(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut record: serde_json::Value =
        serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{name}: {error}: {bytes:?}"));
    for stage in record["stages"].as_object_mut().unwrap().values_mut() {
        let stage = stage.as_object_mut().unwrap();
        for varies in ["started", "finished", "seconds", "arguments", "options"] {
            stage.remove(varies);
        }
        stage["settings"].as_object_mut().unwrap().remove("threads");
        // Where the data lay.
        for setting in stage["settings"].as_object_mut().unwrap().values_mut() {
            if let Some(path) = setting.as_str().filter(|path| path.starts_with('/')) {
                *setting = Path::new(path).file_name().unwrap().to_str().into();
            }
        }
        for files in ["inputs", "outputs"] {
            for (name, hash) in stage[files].as_object_mut().unwrap() {
                if TIMED.iter().any(|timed| name.ends_with(timed)) {
                    *hash = "depends on times".into();
                }
            }
        }
        let inputs = stage["inputs"].as_object_mut().unwrap();
        let named = std::mem::take(inputs).into_iter().map(|(name, hash)| match name.starts_with('/') {
            true => (name.rsplit('/').next().unwrap().to_owned(), hash),
            false => (name, hash),
        });
        inputs.extend(named);
        for files in ["inputs", "outputs"] {
            stage[files].as_object_mut().unwrap().retain(|name, _| !name.ends_with(PREVIOUS_CHECKPOINT));
        }
    }
    // Of all of it, so of the times too.
    record.as_object_mut().unwrap().remove("sha256");
    serde_json::to_vec_pretty(&record).unwrap()
}

/// A file of JSON that is whole, without what was timed: one field, or all of its values.
fn untimed(name: &str, bytes: &[u8], field: Option<&str>) -> Vec<u8> {
    let mut value: serde_json::Value =
        serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{name}: {error}: {bytes:?}"));
    let fields = value.as_object_mut().unwrap();
    for (name, value) in fields.iter_mut() {
        if field.is_none_or(|field| field == name) {
            *value = "depends on times".into();
        }
    }
    serde_json::to_vec_pretty(&value).unwrap()
}

/// A report without its table of stages, which has times and command lines.
fn without_stages(name: &str, bytes: &[u8]) -> Vec<u8> {
    let page = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(page.trim_end().ends_with("</html>"), "{name}: {} bytes, not to its end", bytes.len());
    // What a whole chain measured stands in its sentences too.
    if page.contains("ms per text") {
        return b"depends on times".to_vec();
    }
    let (before, after) = page.split_once("<section id=\"run\">").unwrap_or((page, ""));
    let after = after.split_once("</section>").map_or("", |(_, after)| after);
    format!("{before}{after}").into_bytes()
}
