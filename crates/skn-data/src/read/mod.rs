//! Reading data sets: where the files are, which form they have, and one function per form that gives rows.

// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

mod arrow;
mod cell;
mod classes;
mod collector;
pub(crate) mod csv;
pub(crate) mod encoding;
mod folder;
pub(crate) mod foreign;
pub(crate) mod json;
mod known;
mod locate;
mod memory;
mod parquet;
mod row_decoder;
mod shards;
pub(crate) mod table;

use std::io::BufReader;
use std::path::Path;

use skn_artifact::open_regular;

use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::format::Format;
use crate::rows::Receiver;
use crate::task::Task;
use classes::Reference;
use collector::Collector;
use locate::{SplitFiles, locate, with_splits_in};
use row_decoder::RowDecoder;

/// Reads the splits of a data set that a task names, in any of the forms of [`Format`](crate::Format).
///
/// `path` is a folder written by Hugging Face datasets' `save_to_disk`, a folder of `<split>.jsonl`, `.json`, `.csv`,
/// `.tsv` or `.parquet` files, or one file or one saved table, which is then the single split `train`. A split may also be in
/// shards, `<split>-00000-of-00002.parquet` and so on, or be a folder of its own: `<split>/0000.parquet`,
/// `<split>/part-00000-...parquet`. All of this may be in one folder below `path`, as in data sets on the Hugging Face Hub:
/// `data`, or one for each configuration, of which there must be one alone or one with the task's name. For a task that
/// needs no data nothing is read.
///
/// Links are followed wherever they lead; in a snapshot of the Hugging Face cache inside its repository's folder.
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
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("train.csv");
/// std::fs::write(&file, "sentence,label\na dull song,0\nso good,1\n")?;
/// let mut longest = Longest::default();
/// read_dataset_to(&file, &Task::builtin("sst2")?, &mut longest)?;
/// assert_eq!(longest.0, "a dull song".len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As for [`read_dataset`], or an error of the receiver.
pub fn read_dataset_to(path: &Path, task: &Task, receiver: &mut impl Receiver) -> Result<()> {
    let mut reference = Reference::default();
    let task = &with_splits_in(path, task)?;
    for (split, files) in locate(path, task)? {
        let decoder = RowDecoder::new(&split, task, files.class_names.clone(), &mut reference, receiver)?;
        read_split(&files, decoder)?;
    }
    Ok(())
}

fn read_split(files: &SplitFiles, mut decoder: RowDecoder<'_>) -> Result<()> {
    for path in &files.paths {
        let name = path.display().to_string();
        let wrong = |source| DataError::Io { file: name.clone(), source };
        let mut file = open_regular(path).map_err(wrong)?;
        decoder.open(&name, file.metadata().map_err(wrong)?.len())?;
        let start = foreign::start_of(&mut file).map_err(wrong)?;
        foreign::refuse(&start, files.format, &decoder)?;
        match files.format {
            Format::Arrow => arrow::read(BufReader::new(file), &mut decoder)?,
            Format::Jsonl | Format::Json => {
                json::read(files.format, BufReader::with_capacity(BUFFER, file), &mut decoder)?
            }
            Format::Csv => csv::read(BufReader::with_capacity(BUFFER, file), &mut decoder)?,
            Format::Parquet => parquet::read(file, &mut decoder)?,
        }
    }
    Ok(())
}

/// Bytes of a text file that are read at once.
const BUFFER: usize = 1 << 16;

#[cfg(test)]
mod tests;
