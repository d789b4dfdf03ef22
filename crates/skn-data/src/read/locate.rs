//! Where the files of each split are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use skn_artifact::{Wanted, did_you_mean, hash_file};

use super::folder::{entries, inside, is_folder, is_there, shown};
use super::table::Info;
use super::{foreign, shards};
use crate::error::{DataError, Result, names};
use crate::format::Format;
use crate::small_file::{is_plain_name, read_bytes, refuse_foreign};
use crate::task::Task;

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
    inside(path, path)?;
    let found = fs::metadata(path).map_err(|source| DataError::Io { file: shown(path), source })?;
    let splits = if !found.is_dir() {
        vec![(ONLY_SPLIT.to_owned(), SplitFiles::one(format_of_file(path)?, path.to_owned()))]
    } else if is_there(&path.join("state.json"))? {
        vec![(ONLY_SPLIT.to_owned(), saved_table(path, path, task)?)]
    } else {
        in_folder(path, task)?
    };
    for (_, files) in &splits {
        check_format(path, task, files.format)?;
    }
    Ok(splits)
}

/// The same task with the splits of the usual names that are at `path`, if it names none.
pub(crate) fn with_splits_in(path: &Path, task: &Task) -> Result<Task> {
    if !is_folder(path)? || is_there(&path.join("state.json"))? {
        return task.with_splits(|_| Ok(false));
    }
    let train = task.with_splits(|_| Ok::<_, DataError>(false))?;
    let listed = dictionary(path, &train)?;
    let folder = match plain_folder(path, &train) {
        // Where no folder has train, what is read next says so.
        Err(DataError::NotFound { .. }) => path.to_owned(),
        // What can't be looked at may have the splits: without them others would be made of train.
        found => found?,
    };
    task.with_splits(|split| match &listed {
        Some(listed) => Ok(listed.iter().any(|name| name == split)),
        None => Ok(is_there(&path.join(split).join("state.json"))?
            || !shards::of(&folder, split, &train)?.is_empty()),
    })
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
    if let Some(format) = Format::of_extension(extension) {
        return Ok(format);
    }
    let found =
        foreign::of_file(path)?.map_or_else(|| format!("{extension:?}"), |found| found.told(Wanted::Data));
    Err(DataError::NotFound {
        place: shown(path),
        expected: "a file named .jsonl, .json, .csv, .tsv, .parquet or .arrow".to_owned(),
        found,
    })
}

fn in_folder(root: &Path, task: &Task) -> Result<Vec<(String, SplitFiles)>> {
    let listed = dictionary(root, task)?;
    let folder = if listed.is_some() { root.to_owned() } else { plain_folder(root, task)? };
    let mut splits = Vec::new();
    for split in task.split_names() {
        let table = root.join(split);
        let files = match &listed {
            Some(listed) if !listed.iter().any(|name| name == split) => {
                let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
                let found = names(&listed) + &hint(split, &listed);
                return Err(missing_split(root, split, task, &found));
            }
            Some(_) => saved_table(root, &table, task)?,
            None if is_there(&table.join("state.json"))? => saved_table(root, &table, task)?,
            None => plain_files(root, &folder, split, task)?,
        };
        splits.push((split.to_owned(), files));
    }
    Ok(splits)
}

/// Which split was probably meant by a name that none has.
fn hint(split: &str, known: &[&str]) -> String {
    let near = did_you_mean(split, known.iter().copied().filter(|known| *known != split));
    near.map_or_else(String::new, |near| format!("; {near}"))
}

fn missing_split(root: &Path, split: &str, task: &Task, found: &str) -> DataError {
    DataError::NotFound {
        place: shown(root),
        expected: format!("split {split:?} of task {}", task.name),
        found: found.to_owned(),
    }
}

/// The splits that `dataset_dict.json` lists, if there is one.
fn dictionary(root: &Path, task: &Task) -> Result<Option<Vec<String>>> {
    #[derive(Deserialize)]
    struct Dictionary {
        splits: Vec<String>,
        /// Of the files, where `skn-binarize` wrote them.
        #[serde(default)]
        sha256: BTreeMap<String, String>,
    }
    let path = root.join("dataset_dict.json");
    if !is_there(&path)? {
        return Ok(None);
    }
    let Dictionary { splits, sha256 } = read_json(&inside(root, &path)?)?;
    for (name, expected) in &sha256 {
        // Who wants test alone may have removed the others.
        let parts = name.split_once('/').filter(|(split, file)| is_plain_name(split) && is_plain_name(file));
        let Some((split, _)) = parts else {
            return Err(DataError::Outside { file: shown(&path), name: name.clone() });
        };
        if !task.split_names().contains(&split) {
            continue;
        }
        let found = hash_file(&inside(root, &root.join(name))?).map_err(|error| DataError::Malformed {
            file: shown(&path),
            place: format!("sha256 of {name:?}"),
            reason: error.to_string(),
        })?;
        if found != *expected {
            return Err(DataError::Malformed {
                file: shown(&path),
                place: format!("sha256 of {name:?}"),
                reason: format!(
                    "expected {expected}, found {found}: the file was changed, or a call that wrote it anew was \
                     killed; make the data set again (skn-binarize --force)"
                ),
            });
        }
    }
    Ok(Some(splits))
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
        paths.push(inside(root, &table.join(filename))?);
    }
    Ok(SplitFiles { format: Format::Arrow, paths, class_names: class_names(root, table, &task.label)? })
}

/// The names of the classes, where `dataset_info.json` says that the label column is a `ClassLabel`.
fn class_names(root: &Path, table: &Path, label: &str) -> Result<Vec<String>> {
    let path = table.join("dataset_info.json");
    if !is_there(&path)? {
        return Ok(Vec::new());
    }
    Ok(read_json::<Info>(&inside(root, &path)?)?.class_names(label))
}

/// The folder of the files that bear the names of splits: `root`, or if none is there the one folder below it that has
/// some, as in data sets on the Hugging Face Hub; of several, the one with the task's name.
fn plain_folder(root: &Path, task: &Task) -> Result<PathBuf> {
    for split in task.split_names() {
        if !shards::of(root, split, task)?.is_empty() {
            return Ok(root.to_owned());
        }
    }
    match shards::folders(root, task)?.as_slice() {
        [] => Ok(root.to_owned()),
        [only] => inside(root, &root.join(only)),
        several if several.contains(&task.name) => inside(root, &root.join(&task.name)),
        several => Err(DataError::NotFound {
            place: shown(root),
            expected: "one configuration; give the path of its folder".to_owned(),
            found: format!(
                "{}: {}",
                several.len(),
                names(&several.iter().map(String::as_str).collect::<Vec<_>>())
            ),
        }),
    }
}

/// The files of a split in a folder within `root`, in the one form that is there.
fn plain_files(root: &Path, folder: &Path, split: &str, task: &Task) -> Result<SplitFiles> {
    let mut found = shards::of(folder, split, task)?;
    match (found.pop(), found.pop()) {
        (Some((format, paths)), None) => {
            let paths = paths.iter().map(|path| inside(root, path)).collect::<Result<_>>()?;
            Ok(SplitFiles { format, paths, class_names: Vec::new() })
        }
        (Some((_, paths)), Some((_, others))) => {
            let two: Vec<String> =
                [&others, &paths].into_iter().flat_map(|all| all.first()).map(|path| shown(path)).collect();
            Err(DataError::NotFound {
                place: shown(folder),
                expected: format!("one file of split {split:?}"),
                found: two.join(" and "),
            })
        }
        (None, _) => {
            let any = Task { format: None, ..task.clone() };
            if let (Some(_), [(found, _), ..]) = (task.format, &shards::of(folder, split, &any)?[..]) {
                check_format(folder, task, *found)?;
            }
            // It may be a folder's name, and that a link.
            skn_hub::follow(root, &folder.join(split))?;
            Err(no_file(folder, split, task)?)
        }
    }
}

/// Nothing readable is there for a split: says what is there.
fn no_file(folder: &Path, split: &str, task: &Task) -> Result<DataError> {
    let below = folder.join(split);
    let place = if is_folder(&below)? { below } else { folder.to_owned() };
    let there = entries(&place)?;
    let there: Vec<&str> = there.iter().map(String::as_str).collect();
    let stems: Vec<&str> = there.iter().filter_map(|name| name.split('.').next()).collect();
    let mut found = names(&there) + &hint(split, &stems);
    if let Some(other) = foreign_file(folder, split)? {
        found = format!("{found}; {other}");
    }
    let expected = format!(
        "split {split:?} of task {} ({split}/state.json, {split}.jsonl, .json, .csv, .tsv or .parquet, \
         {split}-00000-of-00001.parquet, {split}/0000.parquet, {split}/part-*.parquet)",
        task.name
    );
    Ok(DataError::NotFound { place: shown(&place), expected, found })
}

/// What a file is that bears the name of a split and is not read, such as `train.csv.gz`.
fn foreign_file(folder: &Path, split: &str) -> Result<Option<String>> {
    for name in entries(folder)? {
        let path = folder.join(&name);
        let is_of_split = name.strip_prefix(split).is_some_and(|rest| rest.starts_with('.'));
        // What can't be opened is no use to anybody here.
        let known = if is_of_split { foreign::of_file(&path).unwrap_or_default() } else { None };
        if let Some(known) = known {
            return Ok(Some(format!("{name} is {}", known.told(Wanted::Data))));
        }
    }
    Ok(None)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = shown(path);
    let bytes = read_bytes(path, &file)?;
    refuse_foreign(&bytes, &file)?;
    serde_json::from_slice(&bytes).map_err(|error| DataError::Malformed {
        file,
        place: format!("line {}", error.line()),
        reason: error.to_string(),
    })
}
