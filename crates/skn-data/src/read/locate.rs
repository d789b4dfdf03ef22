//! Where the files of each split are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::read_bytes;
use super::row::names;
use crate::error::{DataError, Result};
use crate::task::{Format, Task, is_plain_name};

/// The name of the one split of a file or a single saved table.
const ONLY_SPLIT: &str = "train";

/// The files of a split, in the order of their rows.
#[derive(Debug)]
pub(crate) struct SplitFiles {
    pub(crate) format: Format,
    pub(crate) paths: Vec<PathBuf>,
    /// Names of classes 0, 1, .. if the data have them.
    pub(crate) class_names: Vec<String>,
}

impl SplitFiles {
    fn one(format: Format, path: PathBuf) -> Self {
        Self { format, paths: vec![path], class_names: Vec::new() }
    }
}

/// The files of the splits that `task` names.
pub(crate) fn locate(path: &Path, task: &Task) -> Result<Vec<(String, SplitFiles)>> {
    let found = fs::metadata(path).map_err(|source| DataError::Io { file: shown(path), source })?;
    let splits = if found.is_file() {
        vec![(ONLY_SPLIT.to_owned(), SplitFiles::one(format_of_file(path)?, path.to_owned()))]
    } else if path.join("state.json").is_file() {
        vec![(ONLY_SPLIT.to_owned(), saved_table(path, path, task)?)]
    } else {
        in_folder(path, task)?
    };
    for (_, files) in &splits {
        check_format(path, task, files.format)?;
    }
    Ok(splits)
}

/// A task that declares a form would misread another one (DBpedia's classes begin at 1 in CSV, at 0 elsewhere).
fn check_format(path: &Path, task: &Task, found: Format) -> Result<()> {
    match task.format {
        Some(expected) if expected != found => Err(DataError::NotFound {
            place: shown(path),
            expected: format!("{expected} files, as task {} says", task.name),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}

fn format_of_file(path: &Path) -> Result<Format> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "arrow" => Ok(Format::Arrow),
        "jsonl" | "ndjson" => Ok(Format::Jsonl),
        "json" => Ok(Format::Json),
        "csv" => Ok(Format::Csv),
        "parquet" => Ok(Format::Parquet),
        _ => Err(DataError::NotFound {
            place: shown(path),
            expected: "a file named .jsonl, .json, .csv or .arrow".to_owned(),
            found: format!("{extension:?}"),
        }),
    }
}

fn in_folder(root: &Path, task: &Task) -> Result<Vec<(String, SplitFiles)>> {
    let listed = dictionary(root)?;
    let mut splits = Vec::new();
    for split in task.split_names() {
        let table = root.join(split);
        let files = match &listed {
            Some(listed) if !listed.iter().any(|name| name == split) => {
                let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
                return Err(missing_split(root, split, task, &names(&listed)));
            }
            Some(_) => saved_table(root, &table, task)?,
            None if table.join("state.json").is_file() => saved_table(root, &table, task)?,
            None => plain_file(root, split, task)?,
        };
        splits.push((split.to_owned(), files));
    }
    Ok(splits)
}

fn missing_split(root: &Path, split: &str, task: &Task, found: &str) -> DataError {
    DataError::NotFound {
        place: shown(root),
        expected: format!("split {split:?} of task {}", task.name),
        found: found.to_owned(),
    }
}

/// The splits that `dataset_dict.json` lists, if there is one.
fn dictionary(root: &Path) -> Result<Option<Vec<String>>> {
    #[derive(Deserialize)]
    struct Dictionary {
        splits: Vec<String>,
    }
    let path = root.join("dataset_dict.json");
    if !path.is_file() {
        return Ok(None);
    }
    Ok(Some(read_json::<Dictionary>(&inside(root, &path)?)?.splits))
}

/// What `state.json` says of a saved table.
#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files")]
    data_files: Vec<DataFile>,
    #[serde(rename = "_indices_data_files", default)]
    indices: Option<Vec<DataFile>>,
}

#[derive(Deserialize)]
struct DataFile {
    filename: String,
}

/// A table written by `save_to_disk`; `root` is the folder that the user gave.
fn saved_table(root: &Path, table: &Path, task: &Task) -> Result<SplitFiles> {
    let state_path = inside(root, &table.join("state.json"))?;
    let state: State = read_json(&state_path)?;
    if state.indices.is_some_and(|indices| !indices.is_empty()) {
        return Err(DataError::Malformed {
            file: shown(&state_path),
            place: "_indices_data_files".to_owned(),
            reason: "the rows are chosen by an index, which is not read; in Python, save the data set again after \
                     .flatten_indices()"
                .to_owned(),
        });
    }
    let mut paths = Vec::new();
    for DataFile { filename } in &state.data_files {
        if !is_plain_name(filename) {
            return Err(DataError::Outside { file: shown(&state_path), name: filename.clone() });
        }
        let path = table.join(filename);
        // An empty split may be written without its one file.
        if path.exists() || state.data_files.len() > 1 {
            paths.push(inside(root, &path)?);
        }
    }
    Ok(SplitFiles { format: Format::Arrow, paths, class_names: class_names(root, table, &task.label)? })
}

/// The names of the classes, where `dataset_info.json` says that the label column is a `ClassLabel`.
fn class_names(root: &Path, table: &Path, label: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Info {
        features: Option<serde_json::Map<String, serde_json::Value>>,
    }
    let path = table.join("dataset_info.json");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let info: Info = read_json(&inside(root, &path)?)?;
    let names = info.features.as_ref().and_then(|features| features.get(label)?.get("names")?.as_array());
    Ok(names.into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect())
}

/// The one file `<split>.jsonl`, `.json` or `.csv` of a folder.
fn plain_file(root: &Path, split: &str, task: &Task) -> Result<SplitFiles> {
    let forms = [("jsonl", Format::Jsonl), ("json", Format::Json), ("csv", Format::Csv)];
    let allowed = |format: Format| task.format.is_none_or(|only| only == format);
    let mut found: Vec<(Format, PathBuf)> = forms
        .iter()
        .map(|(extension, format)| (*format, root.join(format!("{split}.{extension}"))))
        .filter(|(format, path)| allowed(*format) && path.is_file())
        .collect();
    match (found.pop(), found.pop()) {
        (Some((format, path)), None) => Ok(SplitFiles::one(format, inside(root, &path)?)),
        (Some((_, path)), Some((_, other))) => Err(DataError::NotFound {
            place: shown(root),
            expected: format!("one file of split {split:?}"),
            found: format!("{} and {}", shown(&other), shown(&path)),
        }),
        (None, _) => Err(no_file(root, split, task)?),
    }
}

/// Nothing readable is there for a split: says what is there.
fn no_file(root: &Path, split: &str, task: &Task) -> Result<DataError> {
    let entries = entries(root)?;
    let is_parquet = |name: &&String| {
        name.ends_with(".parquet")
            && (name.starts_with(&format!("{split}-")) || name.starts_with(&format!("{split}.")))
    };
    if let Some(name) = entries.iter().find(is_parquet) {
        return Ok(DataError::Unsupported {
            file: shown(&root.join(name)),
            format: "Parquet",
            hint: PARQUET_HINT,
        });
    }
    let found: Vec<&str> = entries.iter().map(String::as_str).collect();
    let wanted =
        format!("split {split:?} of task {} ({split}/state.json, {split}.jsonl, .json or .csv)", task.name);
    Ok(DataError::NotFound { place: shown(root), expected: wanted, found: names(&found) })
}

/// How to make something readable of Parquet files.
pub(crate) const PARQUET_HINT: &str = "convert it, in Python: \
    datasets.load_dataset(\"parquet\", data_files={\"train\": .., ..}).save_to_disk(..)";

/// The names in a folder, sorted.
fn entries(folder: &Path) -> Result<BTreeSet<String>> {
    let wrong = |source| DataError::Io { file: shown(folder), source };
    let entries = fs::read_dir(folder).map_err(wrong)?;
    entries.map(|entry| Ok(entry.map_err(wrong)?.file_name().to_string_lossy().into_owned())).collect()
}

/// `path` itself, if it lies inside `root` also when symbolic links are followed.
fn inside(root: &Path, path: &Path) -> Result<PathBuf> {
    let real =
        |path: &Path| fs::canonicalize(path).map_err(|source| DataError::Io { file: shown(path), source });
    if real(path)?.starts_with(real(root)?) {
        return Ok(path.to_owned());
    }
    Err(DataError::Outside { file: shown(root), name: shown(path) })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = shown(path);
    serde_json::from_slice(&read_bytes(path, &file)?).map_err(|error| DataError::Malformed {
        file,
        place: format!("line {}", error.line()),
        reason: error.to_string(),
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
