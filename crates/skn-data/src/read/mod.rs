//! Reading data sets: where the files are, which form they have, and one function per form that gives rows.

mod arrow;
mod csv;
mod foreign;
mod json;
mod locate;
mod parquet;
mod row;
mod shards;
mod table;

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use crate::dataset::{Dataset, Example};
use crate::error::{DataError, Result};
use crate::rows::{Collector, Receiver};
use crate::task::{Format, Task};
use locate::{SplitFiles, locate};
use row::Sink;

/// A JSON or TOML file that says how data lie is not longer.
const MOST_BESIDE: u64 = 64 << 20;

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
/// Files are read in this process, piece by piece: CSV and JSON row by row, Arrow by record batch, Parquet by page. The
/// Arrow and Parquet libraries panic on some damaged files; that is caught and becomes an error, after the panic hook has
/// had its say. They may also ask for more memory than there is, which ends the process. A program that reads other
/// people's files does that in a process of its own, under limits, with [`read_dataset_to`] and [`RowWriter`], as the
/// programs of skn do.
///
/// [`RowWriter`]: crate::RowWriter
///
/// # Errors
///
/// Files that are missing, ambiguous or damaged, and rows that the task cannot use; the message names file, split,
/// row and column.
pub fn read_dataset(path: &Path, task: &Task) -> Result<Dataset> {
    if !task.needs_data() {
        return Ok(Dataset::empty_text());
    }
    let mut collector = Collector::default();
    read_dataset_to(path, task, &mut collector)?;
    Ok(collector.finish())
}

/// Reads as [`read_dataset`] does, but hands each row to `receiver` and keeps none. Memory is then bounded by the longest
/// line, record batch or page.
///
/// ```
/// use std::path::Path;
///
/// use skn_data::{Receiver, Result, Row, Task, read_dataset_to};
///
/// #[derive(Default)]
/// struct Longest(usize);
///
/// impl Receiver for Longest {
///     fn split(&mut self, _name: &str) -> Result<()> {
///         Ok(())
///     }
///
///     fn row(&mut self, row: Row<'_>) -> Result<()> {
///         self.0 = self.0.max(row.text.len());
///         Ok(())
///     }
/// }
///
/// let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/data/csv/test.csv");
/// let mut longest = Longest::default();
/// read_dataset_to(Path::new(file), &Task::builtin("sst2")?, &mut longest)?;
/// assert!(longest.0 > 10);
/// # Ok::<(), skn_data::DataError>(())
/// ```
///
/// # Errors
///
/// As for [`read_dataset`], or an error of the receiver.
pub fn read_dataset_to(path: &Path, task: &Task, receiver: &mut impl Receiver) -> Result<()> {
    for (split, files) in locate(path, task)? {
        read_split(&files, &split, task, receiver)?;
    }
    Ok(())
}

fn read_split(files: &SplitFiles, split: &str, task: &Task, receiver: &mut dyn Receiver) -> Result<()> {
    let mut sink = Sink::new(split, task, files.class_names.clone(), receiver)?;
    for path in &files.paths {
        let name = path.display().to_string();
        let wrong = |source| DataError::Io { file: name.clone(), source };
        let mut file = File::open(path).map_err(wrong)?;
        sink.open(&name, file.metadata().map_err(wrong)?.len())?;
        let mut start = Vec::new();
        file.by_ref().take(foreign::LOOKED_AT).read_to_end(&mut start).map_err(wrong)?;
        file.rewind().map_err(wrong)?;
        foreign::refuse(&start, files.format, &sink)?;
        match files.format {
            Format::Arrow => arrow::read(BufReader::new(file), &mut sink)?,
            Format::Jsonl => json::read_lines(BufReader::with_capacity(BUFFER, file), &mut sink)?,
            Format::Json => json::read_list(BufReader::with_capacity(BUFFER, file), &mut sink)?,
            Format::Csv => csv::read(file, &mut sink)?,
            Format::Parquet => parquet::read(file, &mut sink)?,
        }
    }
    Ok(())
}

/// Bytes of a text file that are read at once.
const BUFFER: usize = 1 << 16;

/// The rows of one file in memory.
pub(crate) fn rows_of(
    format: Format,
    bytes: &[u8],
    file: &str,
    split: &str,
    task: &Task,
) -> Result<Vec<Example>> {
    let mut collector = Collector::default();
    let mut sink = Sink::new(split, task, Vec::new(), &mut collector)?;
    sink.open(file, bytes.len() as u64)?;
    foreign::refuse(bytes, format, &sink)?;
    match format {
        Format::Arrow => arrow::read(Cursor::new(bytes), &mut sink)?,
        Format::Jsonl => json::read_lines(bytes, &mut sink)?,
        Format::Json => json::read_list(bytes, &mut sink)?,
        Format::Csv => csv::read(bytes, &mut sink)?,
        Format::Parquet => parquet::read(bytes::Bytes::copy_from_slice(bytes), &mut sink)?,
    }
    Ok(collector.finish().splits.remove(split).unwrap_or_default())
}

/// The bytes of a file that says how data lie.
fn read_bytes(path: &Path, file: &str) -> Result<Vec<u8>> {
    let wrong = |source| DataError::Io { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(wrong)?.take(MOST_BESIDE + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > MOST_BESIDE {
        return Err(DataError::Malformed {
            file: file.to_owned(),
            place: format!("byte {MOST_BESIDE}"),
            reason: "expected the end of the file; no file of this kind is longer".to_owned(),
        });
    }
    Ok(bytes)
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
