//! Reading data sets: where the files are, which form they have, and one function per form that gives rows.

mod arrow;
mod csv;
mod json;
mod locate;
mod parquet;
mod row;
mod shards;
mod table;

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use crate::dataset::{Dataset, Example};
use crate::error::{DataError, Result};
use crate::task::{Format, Task};
use locate::{SplitFiles, locate};
use row::Sink;

/// Reads the splits of a data set that a task names, in any of the forms of [`Format`](crate::Format).
///
/// `path` is a folder written by Hugging Face datasets' `save_to_disk`, a folder of `<split>.jsonl`, `.json`,
/// `.csv` or `.parquet` files, or one file or one saved table, which is then the single split `train`. Parquet may also
/// be in shards, `<split>-00000-of-00002.parquet` or `<split>/0000.parquet` and so on, and all Parquet files in one
/// folder below `path`, as in data sets on the Hugging Face Hub: `data`, or one for each configuration, of which there
/// must be one alone or one with the task's name. For a task that needs no data nothing is read.
///
/// Links are followed inside `path` only; in a snapshot of the Hugging Face cache inside its repository's folder.
///
/// The whole of a file is read into memory in this process. The Arrow and Parquet libraries panic on some damaged
/// files; that is caught and becomes an error, after the panic hook has had its say.
///
/// # Errors
///
/// Files that are missing, ambiguous or damaged, and rows that the task cannot use; the message names file, split,
/// row and column.
pub fn read_dataset(path: &Path, task: &Task) -> Result<Dataset> {
    if !task.needs_data() {
        return Ok(Dataset::empty_text());
    }
    let mut dataset = Dataset::default();
    for (split, files) in locate(path, task)? {
        let rows = read_split(&files, &split, task)?;
        dataset.splits.insert(split, rows);
    }
    Ok(dataset)
}

fn read_split(files: &SplitFiles, split: &str, task: &Task) -> Result<Vec<Example>> {
    let mut sink = Sink::new(split, task, files.class_names.clone());
    for path in &files.paths {
        let file = path.display().to_string();
        sink.open(&file);
        rows_into(files.format, read_bytes(path, &file)?.into(), &mut sink)?;
    }
    Ok(sink.rows)
}

/// The rows of one file in memory.
pub(crate) fn rows_of(
    format: Format,
    bytes: &[u8],
    file: &str,
    split: &str,
    task: &Task,
) -> Result<Vec<Example>> {
    let mut sink = Sink::new(split, task, Vec::new());
    sink.open(file);
    rows_into(format, bytes.into(), &mut sink)?;
    Ok(sink.rows)
}

/// The one place that knows which form is read by which function.
fn rows_into(format: Format, bytes: Cow<'_, [u8]>, sink: &mut Sink<'_>) -> Result<()> {
    match format {
        Format::Arrow => arrow::read(&bytes, sink),
        Format::Jsonl => json::read_lines(&bytes, sink),
        Format::Json => json::read_list(&bytes, sink),
        Format::Csv => csv::read(&bytes, sink),
        Format::Parquet => parquet::read(bytes.into_owned().into(), sink),
    }
}

fn read_bytes(path: &Path, file: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| DataError::Io { file: file.to_owned(), source })
}

/// The text of a file; errors call it `file`.
pub(crate) fn read_text(path: &Path, file: &str) -> Result<String> {
    String::from_utf8(read_bytes(path, file)?).map_err(|error| DataError::Malformed {
        file: file.to_owned(),
        place: format!("byte {}", error.utf8_error().valid_up_to()),
        reason: "not UTF-8".to_owned(),
    })
}

#[cfg(test)]
mod tests;
