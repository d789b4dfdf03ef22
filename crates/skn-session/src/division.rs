//! `split.json` of a run: which rows its files were made of.

use skn_artifact::names::file;
use skn_artifact::{RunRecord, SplitRecord, is_file, read_json};

use crate::error::{Result, SessionError};
use crate::provenance;
use crate::run_writer::RunWriter;

/// How the name begins that the data of a task have among a stage's inputs.
pub(crate) const DATA: &str = "data of ";

/// Writes the division of the data. A run that has one keeps it, unless `replace` says that this stage decides. A stage of
/// another task keeps it too.
///
/// # Errors
/// If other stages of the run were done on other rows of the same task: their files and this one's would be compared. If the file
/// was changed since it was written, may not be replaced, or can't be written.
pub(crate) fn keep(writer: &mut RunWriter, record: &SplitRecord, replace: bool) -> Result<()> {
    if !writer.writes() {
        return Ok(());
    }
    let path = writer.folder().join(file::SPLIT);
    if !is_file(&path)? {
        return writer.json(file::SPLIT, record);
    }
    // What is there an earlier stage of the chain would have replaced.
    let replace = replace || writer.rehearses_chain();
    let run = RunRecord::read(writer.folder())?;
    let lists = |name: &str| {
        let mut others = run.stages.iter().filter(|(entry, _)| *entry != writer.entry());
        others.find(|(_, stage)| stage.outputs.contains_key(name)).map(|(entry, _)| entry.clone())
    };
    let listed = lists(file::SPLIT);
    // What this stage alone has listed it does anew: one that was killed at it may have left another than it noted.
    if !replace && listed.is_some() {
        provenance::check_listed(&path)?;
    }
    let found: SplitRecord = read_json(&path)?;
    if found == *record {
        // A stage that was killed may have left it before it was recorded.
        return if replace || listed.is_none() { writer.wrote(file::SPLIT) } else { Ok(()) };
    }
    if replace {
        return writer.json(file::SPLIT, record);
    }
    if found.task != record.task {
        return Ok(());
    }
    if is_same(&found, record) {
        // Made with another seed by what this replaces; that one would stand beside files of this one's.
        return if listed.is_none() && writer.replaces() { writer.json(file::SPLIT, record) } else { Ok(()) };
    }
    let data = format!("{DATA}{}", record.task);
    let of_rows = || {
        let mut others = run.stages.iter().filter(|(entry, _)| *entry != writer.entry());
        others.find(|(_, stage)| stage.inputs.contains_key(&data)).map(|(entry, _)| entry.clone())
    };
    match listed.or_else(of_rows) {
        Some(entry) => Err(SessionError::input(format!(
            "{}: expected the rows of {} that this stage takes (data of SHA-256 {}), found others (data of SHA-256 {}), which stage \
             {entry} took: results of both can't be compared; option `out` RUN writes elsewhere",
            path.display(),
            record.task,
            record.data_sha256,
            found.data_sha256
        ))),
        None => writer.json(file::SPLIT, record),
    }
}

/// Whether the rows are the same, whatever seed chose them.
fn is_same(a: &SplitRecord, b: &SplitRecord) -> bool {
    let rows = |of: &SplitRecord| SplitRecord { seed: 0, ..of.clone() };
    rows(a) == rows(b)
}
