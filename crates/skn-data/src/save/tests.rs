use std::fs;

use tempfile::TempDir;

use super::*;
use crate::task::SplitNames;
use crate::{golden, read_dataset};

fn write(files: &[(String, Vec<u8>)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

#[test]
fn what_is_saved_is_read() {
    let (data, task) = (golden::dataset("jsonl"), golden::task());
    let files = saved_files(&data, &task, &["negative", "positive"]).unwrap();
    assert_eq!(read_dataset(write(&files).path(), &task).unwrap(), data);
    assert_eq!(files, saved_files(&data, &task, &["negative", "positive"]).unwrap());
    let dictionary = files.last().unwrap();
    let dictionary: Value = serde_json::from_slice(&dictionary.1).unwrap();
    assert_eq!(dictionary["splits"], serde_json::json!(["train", "validation", "test"]));
}

/// A call that writes a data set anew may be killed when some files are new.
#[test]
fn files_of_two_calls_are_no_data_set() {
    let (mut data, task) = (golden::dataset("jsonl"), golden::task());
    let old = saved_files(&data, &task, &["negative", "positive"]).unwrap();
    data.splits.values_mut().for_each(|rows| rows.truncate(5));
    let new = saved_files(&data, &task, &["negative", "positive"]).unwrap();
    for count in 1..old.len() {
        let mixed: Vec<_> = new[..count].iter().chain(&old[count..]).cloned().collect();
        let found = read_dataset(write(&mixed).path(), &task);
        let message = found.map(drop).unwrap_err().to_string();
        assert!(message.contains("dataset_dict.json") && message.contains("sha256 of"), "{message}");
    }
    // What the task does not ask for may be gone.
    let alone = Task { splits: SplitNames { dev: None, ..task.splits.clone() }, ..task };
    let folder = write(&new);
    fs::remove_dir_all(folder.path().join("validation")).unwrap();
    assert_eq!(read_dataset(folder.path(), &alone).unwrap().splits.len(), 2);
    fs::remove_file(folder.path().join("train/dataset_info.json")).unwrap();
    let message = read_dataset(folder.path(), &alone).map(drop).unwrap_err().to_string();
    assert!(message.contains("dataset_info.json"), "{message}");
}

#[test]
fn pairs_more_than_one_batch_and_empty_splits() {
    let task = Task::builtin("mnli").unwrap();
    let row = |row: usize| Example {
        text: format!("p {row}").into(),
        pair: Some("h".into()),
        more: Box::default(),
        label: row as i64 % 3,
    };
    let rows: Vec<Example> = (0..BATCH_ROWS * 2 + 1).map(row).collect();
    let splits = [("train".to_owned(), rows), ("validation_matched".to_owned(), Vec::new())].into();
    let data = Dataset { splits };
    let files = saved_files(&data, &task, &["entailment", "neutral", "contradiction"]).unwrap();
    assert_eq!(read_dataset(write(&files).path(), &task).unwrap(), data);
}

#[test]
fn the_records_have_the_keys_of_those_that_python_writes() {
    let task = golden::task();
    let files = saved_files(&golden::dataset("csv"), &task, &["negative", "positive"]).unwrap();
    let ours = |name: &str| {
        let (_, bytes) = files.iter().find(|(file, _)| file == name).unwrap();
        serde_json::from_slice::<serde_json::Value>(bytes).unwrap()
    };
    let theirs = |name: &str| {
        serde_json::from_slice::<serde_json::Value>(&golden::bytes(&format!("data/arrow/{name}"))).unwrap()
    };
    assert_eq!(ours("train/dataset_info.json"), theirs("train/dataset_info.json"));
    let keys = |state: Value| state.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(ours("train/state.json")), keys(theirs("train/state.json")));
    assert_eq!(ours("test/state.json")["_data_files"], theirs("test/state.json")["_data_files"]);
}

#[test]
fn a_pair_that_is_missing_is_named() {
    let task = Task::builtin("mnli").unwrap();
    let rows = vec![Example { text: "alone".into(), pair: None, more: Box::default(), label: 0 }];
    let data = Dataset { splits: [("train".to_owned(), rows)].into() };
    let error = saved_files(&data, &task, &[]).unwrap_err();
    assert_eq!(error.to_string(), "row 0: expected a text in each column, found fewer");
}
