use std::path::Path;

use serde::Serialize;

use crate::error::Result;
use crate::hash::hash_file;
use crate::look::is_file;
use crate::names::file;
use crate::records::run_record::RunRecord;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Files that are as they were written.
    pub intact: Vec<String>,
    /// Files that are gone.
    pub missing: Vec<String>,
    /// Files whose content is not what was written.
    pub changed: Vec<String>,
    /// Files that were made from a file of the run which has been written anew since, and that file.
    pub outdated: Vec<(String, String)>,
}

impl Verification {
    /// Whether every file is as it was written.
    pub fn is_sound(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty()
    }
}

/// Hashes every file that `run.json` lists, and looks whether each was made from what the run has now. Needs no model
/// and no data.
///
/// # Errors
/// If there is no `run.json`, or a file can't be read.
pub fn verify(run: &Path) -> Result<Verification> {
    let record = RunRecord::read_file(&run.join(file::RUN))?;
    let mut found = Verification::default();
    for (name, expected) in record.stages.values().flat_map(|stage| &stage.outputs) {
        let path = run.join(name);
        let list = if !is_file(&path)? {
            &mut found.missing
        } else if &hash_file(&path)? == expected {
            &mut found.intact
        } else {
            &mut found.changed
        };
        list.push(name.clone());
    }
    found.outdated = record.outdated();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Overwrite, StageRecord, sha256_hex, write_file};

    #[test]
    fn a_changed_and_a_missing_file_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = StageRecord::default();
        for name in ["a", "b", "c"] {
            write_file(&folder.path().join(name), Overwrite::Refuse, name.as_bytes()).unwrap();
            record.outputs.insert(name.into(), sha256_hex(name.as_bytes()));
        }
        RunRecord::update(folder.path(), "probe", record, &[]).unwrap();
        assert!(verify(folder.path()).unwrap().is_sound());
        write_file(&folder.path().join("b"), Overwrite::Replace, b"B").unwrap();
        std::fs::remove_file(folder.path().join("c")).unwrap();
        let found = verify(folder.path()).unwrap();
        assert!(!found.is_sound());
        let one = |name: &str| vec![name.to_owned()];
        assert!(!Verification { changed: one("b"), ..Default::default() }.is_sound());
        assert!(!Verification { missing: one("c"), ..Default::default() }.is_sound());
        assert_eq!(
            (found.intact, found.changed, found.missing),
            (vec!["a".into()], vec!["b".into()], vec!["c".into()])
        );
    }

    #[test]
    fn what_was_made_from_an_older_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |stage: &str, inputs: &[(&str, &str)], output: (&str, &str)| {
            let hashes = |files: &[(&str, &str)]| {
                files.iter().map(|(name, text)| (name.to_string(), sha256_hex(text.as_bytes()))).collect()
            };
            write_file(&folder.path().join(output.0), Overwrite::Replace, output.1.as_bytes()).unwrap();
            let record =
                StageRecord { inputs: hashes(inputs), outputs: hashes(&[output]), ..Default::default() };
            RunRecord::update(folder.path(), stage, record, &[]).unwrap();
        };
        write("train", &[], ("best", "1"));
        write("probe", &[("best", "1")], ("perf", "x"));
        assert_eq!(verify(folder.path()).unwrap().outdated, []);
        write("train", &[("best", "1")], ("best", "2"));
        let found = verify(folder.path()).unwrap();
        assert!(found.is_sound());
        assert_eq!(found.outdated, [("perf".to_string(), "best".to_string())]);
        write("probe", &[("best", "2")], ("perf", "y"));
        assert_eq!(verify(folder.path()).unwrap().outdated, []);
    }
}
