use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::error::{ArtifactError, Result};
use crate::file::{MAX_JSON, Overwrite, parse_json, write_file};
use crate::hash::sha256_hex;
use crate::link::refuse_link;
use crate::names::file;
use crate::regular::read_regular;

/// `RUN/run.json`: how everything in the run came about, by stage.
///
/// The file ends with a hash of itself, for no other file could say that its settings and hashes are those that were written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
// A name that is not known is perhaps `sha256`, damaged: then nobody would look at the hash.
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RunRecord {
    /// The last run of each stage.
    pub stages: BTreeMap<String, StageRecord>,
    /// SHA-256 of the file as it is with [`NO_HASH`] in this place. Records of version 0.1.0 and before have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// Stands for the hash of a record while that is made.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// How one stage came about; an entry of `run.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The program's arguments.
    pub arguments: Vec<String>,
    /// What it was asked, in the form of whoever wrote it; records of version 0.1.0 and before have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<serde_json::Value>,
    /// The program's version.
    pub version: String,
    /// Unix seconds at the start.
    pub started: u64,
    /// Unix seconds at the end.
    pub finished: u64,
    /// Seconds between.
    pub seconds: f64,
    /// What was decided from arguments and environment.
    pub settings: BTreeMap<String, String>,
    /// What was read, with its hash.
    pub inputs: BTreeMap<String, String>,
    /// What was written, by its path in the run, with its SHA-256.
    pub outputs: BTreeMap<String, String>,
}

/// Between a stage's name and a number, where a record is not its last.
const EARLIER: &str = ", earlier ";

impl RunRecord {
    /// Files that were made from a file of the run which has been written anew since, each with that file.
    pub fn outdated(&self) -> Vec<(String, String)> {
        let now: BTreeMap<&String, &String> = self.stages.values().flat_map(|stage| &stage.outputs).collect();
        let mut found = Vec::new();
        for stage in self.stages.values() {
            let older = stage.inputs.iter().find(|(name, hash)| {
                // A stage that goes on from what it writes has read what it replaced.
                !stage.outputs.contains_key(*name) && now.get(name).is_some_and(|now| now != hash)
            });
            let Some((input, _)) = older else { continue };
            found.extend(stage.outputs.keys().map(|output| (output.clone(), input.clone())));
        }
        found
    }

    /// The record of a run; empty if it has none yet.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join(file::RUN);
        // What can't be looked at is not absent.
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ArtifactError::Io { file: path, operation: "read", source }),
            Ok(_) => Self::read_file(&path),
        }
    }

    /// Reads a record. What it lists as written lies in the run: other programs remove, replace and read these files.
    pub(super) fn read_file(path: &Path) -> Result<Self> {
        let bytes = read_regular(path, MAX_JSON).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => ArtifactError::Missing { file: path.into(), hint: String::new() },
            _ => ArtifactError::Io { file: path.into(), operation: "read", source },
        })?;
        let mut record: Self = parse_json(path, &bytes, "the documented JSON")?;
        if let Some(expected) = record.sha256.take() {
            check_hash(path, &bytes, &expected)?;
        }
        let inside = |name: &str| {
            let mut parts = Path::new(name).components();
            !name.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        for (stage, entry) in &record.stages {
            if let Some(name) = entry.outputs.keys().find(|name| !inside(name)) {
                return Err(ArtifactError::Format {
                    file: path.into(),
                    place: format!("stage {stage}: outputs"),
                    expected: "names of files in the run".into(),
                    found: name.clone(),
                });
            }
        }
        Ok(record)
    }

    /// Puts a stage's record into `run.json`. An output that this stage has written anew is taken from the records of
    /// earlier stages, and so is what it has `removed`. An earlier record of the same stage stays, as `STAGE, earlier N`,
    /// while files of it are left.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn update(run: &Path, stage: &str, record: StageRecord, removed: &[String]) -> Result<()> {
        let mut all = Self::read(run)?;
        for earlier in all.stages.values_mut() {
            earlier.outputs.retain(|path, _| !record.outputs.contains_key(path) && !removed.contains(path));
        }
        if let Some(earlier) = all.stages.insert(stage.into(), record)
            && !earlier.outputs.is_empty()
        {
            let names = (1..).map(|number| format!("{stage}{EARLIER}{number}"));
            let free = names.into_iter().find(|name| !all.stages.contains_key(name));
            all.stages.extend(free.map(|name| (name, earlier)));
        }
        all.stages.retain(|name, stage| !name.contains(EARLIER) || !stage.outputs.is_empty());
        all.write(run)
    }

    /// Removes what other stages left than those of the entries `kept`: their files and their records. Files that no record
    /// lists stay. No times are compared: a clock may be set back while a program runs.
    ///
    /// # Errors
    /// If the record can't be read or written, or a file can't be removed.
    pub fn forget_but(run: &Path, kept: &BTreeSet<String>) -> Result<Vec<String>> {
        let mut all = Self::read(run)?;
        let (left, others) = all.stages.into_iter().partition(|(entry, _)| kept.contains(entry));
        all.stages = left;
        let others: BTreeMap<String, StageRecord> = others;
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let is_kept = |name: &String| all.stages.values().any(|stage| stage.outputs.contains_key(name));
        let names = others.into_values().flat_map(|stage| stage.outputs.into_keys());
        let names: Vec<String> = names.filter(|name| !is_kept(name)).collect();
        for name in &names {
            refuse_link(run, Path::new(name))?;
            let file = run.join(name);
            match std::fs::remove_file(&file) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ArtifactError::Io { file, operation: "remove", source });
                }
                _ => {}
            }
            // Folders that are empty now go too; the first that is not ends it.
            let folders = file.ancestors().skip(1).take_while(|folder| *folder != run);
            for folder in folders {
                if std::fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
        all.write(run)?;
        Ok(names)
    }

    fn write(mut self, run: &Path) -> Result<()> {
        let path = run.join(file::RUN);
        self.sha256 = Some(NO_HASH.into());
        let text = serde_json::to_string_pretty(&self);
        let mut text = text
            .map_err(|error| ArtifactError::format(&path, "value", "something that JSON can say", error))?;
        text.push('\n');
        let hash = sha256_hex(text.as_bytes());
        // The last field, so the last place.
        if let Some(place) = text.rfind(NO_HASH) {
            text.replace_range(place..place + NO_HASH.len(), &hash);
        }
        write_file(&path, Overwrite::Replace, text.as_bytes())
    }
}

/// Checks a record's bytes against the hash that stands in them.
fn check_hash(path: &Path, bytes: &[u8], expected: &str) -> Result<()> {
    let text = String::from_utf8_lossy(bytes);
    let found = match text.rsplit_once(expected) {
        Some((before, after)) if expected.len() == NO_HASH.len() => {
            sha256_hex([before, NO_HASH, after].concat().as_bytes())
        }
        _ => sha256_hex(bytes),
    };
    if found == expected {
        return Ok(());
    }
    Err(ArtifactError::Format {
        file: path.into(),
        place: "content".into(),
        expected: format!("SHA-256 {expected}, as it was written"),
        found: format!(
            "{found}; it was changed since, so what it says of the run can't be relied on: put back what was written, or \
             remove it, and do the stages again"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sha256_hex, verify, write_file};

    #[test]
    fn a_stage_that_writes_a_file_anew_owns_it() {
        let folder = tempfile::tempdir().unwrap();
        for (stage, content) in [("train", "1"), ("retrain", "2")] {
            write_file(&folder.path().join("x"), Overwrite::Replace, content.as_bytes()).unwrap();
            let outputs = BTreeMap::from([("x".to_string(), sha256_hex(content.as_bytes()))]);
            RunRecord::update(folder.path(), stage, StageRecord { outputs, ..Default::default() }, &[])
                .unwrap();
        }
        assert_eq!(verify(folder.path()).unwrap().intact, ["x"]);
    }

    #[test]
    fn a_second_call_of_a_stage_leaves_the_first_ones_files_listed() {
        let folder = tempfile::tempdir().unwrap();
        for (names, content) in [(["a", "b"], "1"), (["b", "c"], "2"), (["a", "c"], "3")] {
            let mut record = StageRecord::default();
            for name in names {
                write_file(&folder.path().join(name), Overwrite::Replace, content.as_bytes()).unwrap();
                record.outputs.insert(name.into(), sha256_hex(content.as_bytes()));
            }
            RunRecord::update(folder.path(), "probe acc", record, &[]).unwrap();
        }
        let stages: Vec<String> = RunRecord::read(folder.path()).unwrap().stages.into_keys().collect();
        assert_eq!(stages, ["probe acc", "probe acc, earlier 2"], "of the first call nothing is left");
        let mut found = verify(folder.path()).unwrap();
        found.intact.sort();
        std::fs::remove_file(folder.path().join("b")).unwrap();
        RunRecord::update(folder.path(), "mask", StageRecord::default(), &["b".into()]).unwrap();
        assert_eq!(verify(folder.path()).unwrap().missing, [""; 0], "it was removed on purpose");
        assert_eq!((found.intact, found.missing.len()), (vec!["a".into(), "b".into(), "c".into()], 0));
    }

    #[test]
    fn what_other_stages_left_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        // The last one was done when the clock had been set back.
        for (stage, started, file) in [("a", 5, "old/x"), ("b", 7, "info/old/y"), ("c", 3, "info/new/z")] {
            write_file(&run.join(file), Overwrite::Refuse, stage.as_bytes()).unwrap();
            let outputs = BTreeMap::from([(file.to_string(), sha256_hex(stage.as_bytes()))]);
            RunRecord::update(run, stage, StageRecord { started, outputs, ..Default::default() }, &[])
                .unwrap();
        }
        write_file(&run.join("old/notes.txt"), Overwrite::Refuse, b"mine").unwrap();
        let kept = BTreeSet::from(["c".to_string(), "d".to_string()]);
        assert_eq!(RunRecord::forget_but(run, &kept).unwrap(), ["old/x", "info/old/y"]);
        assert!(!run.join("old/x").exists() && run.join("old/notes.txt").exists());
        assert!(!run.join("info/old").exists() && run.join("info/new/z").exists());
        assert_eq!(verify(run).unwrap().intact, ["info/new/z"]);
    }

    #[test]
    fn what_can_not_be_removed_is_told_and_stays_listed() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        let outputs =
            BTreeMap::from([("x".to_string(), "00".to_string()), ("gone".to_string(), "00".to_string())]);
        RunRecord::update(run, "probe", StageRecord { outputs, ..Default::default() }, &[]).unwrap();
        std::fs::create_dir_all(run.join("x/below")).unwrap();
        let message = RunRecord::forget_but(run, &BTreeSet::new()).unwrap_err().to_string();
        assert!(message.contains("x: can't remove: "), "{message}");
        assert_eq!(RunRecord::read(run).unwrap().stages.len(), 1);
        std::fs::remove_dir_all(run.join("x")).unwrap();
        assert_eq!(RunRecord::forget_but(run, &BTreeSet::new()).unwrap(), ["gone", "x"]);
        assert!(RunRecord::read(run).unwrap().stages.is_empty());
    }

    #[test]
    fn a_record_that_was_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (run, path) = (folder.path(), folder.path().join(file::RUN));
        let settings = BTreeMap::from([("max_length".to_string(), "20".to_string())]);
        let record = StageRecord { settings, seconds: 0.1 + 0.2, ..Default::default() };
        RunRecord::update(run, "train", record.clone(), &[]).unwrap();
        RunRecord::update(run, "probe", record.clone(), &[]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let stages = RunRecord::read(run).unwrap().stages;
        assert_eq!(stages.into_values().collect::<Vec<_>>(), [record.clone(), record]);
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 7);
            std::fs::write(&path, &bytes).unwrap();
            let message = RunRecord::read(run).unwrap_err().to_string();
            assert!(message.contains("run.json"), "byte {place}: {message}");
        }
        // One of an older version says nothing of itself.
        let mut older: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        older.as_object_mut().unwrap().remove("sha256");
        std::fs::write(&path, older.to_string()).unwrap();
        assert_eq!(RunRecord::read(run).unwrap().stages.len(), 2);
    }

    #[test]
    fn a_record_reaches_no_file_outside_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let (run, victim) = (folder.path().join("run"), folder.path().join("victim"));
        std::fs::create_dir(&run).unwrap();
        std::fs::write(&victim, "mine").unwrap();
        for name in
            ["../victim".to_string(), victim.display().to_string(), "a/../../victim".into(), String::new()]
        {
            let record = serde_json::json!({"stages": {"probe": {
                "arguments": [], "version": "1", "started": 0, "finished": 0, "seconds": 0.0,
                "settings": {}, "inputs": {}, "outputs": {name.clone(): "00"},
            }}});
            std::fs::write(run.join(file::RUN), record.to_string()).unwrap();
            for error in [
                RunRecord::forget_but(&run, &BTreeSet::new()).map(drop).unwrap_err(),
                verify(&run).map(drop).unwrap_err(),
            ] {
                assert!(error.to_string().contains("names of files in the run"), "{name}: {error}");
            }
        }
        assert!(victim.exists());
    }
}
