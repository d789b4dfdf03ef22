use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::Compression;
use ::parquet::file::properties::WriterProperties;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int8Array, Int64Array,
    LargeStringArray, RecordBatch, StringArray, UInt16Array,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Schema;
use proptest::prelude::*;
use tempfile::TempDir;

use super::memory::rows_of;
use super::*;
use crate::{Example, UNLABELLED, golden, part_hash};

mod foreign;
mod layouts;
mod objects;
mod packed;
mod separated;

/// A task of one text and two classes, with more lines in its file.
pub(super) fn task(more: &str) -> Task {
    let keys = "name = \"t\"\ntext = [\"a\"]\nlabels = [\"bad\", \"good\"]\nsplits.train = \"train\"\n";
    Task::from_toml(&format!("{keys}{more}"), "t.toml").unwrap()
}

fn pair_task() -> Task {
    let mut task = task("");
    task.text.push("b".into());
    task
}

pub(super) fn rows(format: Format, bytes: impl AsRef<[u8]>, task: &Task) -> Result<Vec<Example>> {
    rows_of(format, bytes.as_ref(), "f", "train", task)
}

#[track_caller]
pub(super) fn refused(format: Format, bytes: impl AsRef<[u8]>, task: &Task, expected: &str) {
    let error = rows(format, bytes, task).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with('f') && message.contains("split train"), "{message}");
    assert!(message.contains(expected), "{message}");
}

pub(super) fn labels(rows: &[Example]) -> Vec<i64> {
    rows.iter().map(|row| row.label).collect()
}

fn texts(rows: &[Example]) -> Vec<&str> {
    rows.iter().map(|row| row.text.as_str()).collect()
}

/// An Arrow stream of one batch.
pub(super) fn stream(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// A Parquet file of one batch, as Hugging Face datasets write it: `huggingface` is what they put beside the schema.
pub(super) fn parquet_of(
    columns: Vec<(&str, ArrayRef)>,
    huggingface: Option<&str>,
    compression: Compression,
) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let metadata = huggingface.map(|json| ("huggingface".to_owned(), json.to_owned()));
    let metadata = metadata.into_iter().collect::<HashMap<_, _>>();
    let schema = Arc::new(Schema::new_with_metadata(batch.schema().fields().clone(), metadata));
    let batch = batch.with_schema(schema.clone()).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// The same table in both forms that come from Arrow.
pub(super) fn tables(columns: Vec<(&str, ArrayRef)>) -> [(Format, Vec<u8>); 2] {
    let parquet = parquet_of(columns.clone(), None, Compression::SNAPPY);
    [(Format::Arrow, stream(columns)), (Format::Parquet, parquet)]
}

/// Two rows, `x` of class 1 and `y` of class 0.
fn small_parquet() -> Vec<u8> {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 0]));
    parquet_of(vec![("a", two_texts()), ("label", numbers)], None, Compression::SNAPPY)
}

fn two_texts() -> ArrayRef {
    Arc::new(StringArray::from(vec!["x", "y"]))
}

/// Writes a file, and the folders above it.
fn put(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Writes what `save_to_disk` writes for one split.
pub(super) fn save_table(folder: &Path, info: &str, files: &[(&str, Vec<u8>)]) {
    fs::create_dir_all(folder).unwrap();
    let names: Vec<String> = files.iter().map(|(name, _)| format!("{{\"filename\": \"{name}\"}}")).collect();
    let state = format!("{{\"_data_files\": [{}], \"_fingerprint\": \"x\"}}", names.join(", "));
    fs::write(folder.join("state.json"), state).unwrap();
    fs::write(folder.join("dataset_info.json"), info).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

pub(super) fn message_of(path: &Path, task: &Task) -> String {
    let error = read_dataset(path, task).unwrap_err();
    error.to_string()
}

mod forms {
    use super::*;

    #[test]
    fn all_golden_forms_give_the_same_rows() {
        let arrow = golden::dataset("arrow");
        let sizes: Vec<usize> =
            ["train", "validation", "test"].iter().map(|split| arrow.splits[*split].len()).collect();
        assert_eq!(sizes, [192, 72, 80]);
        for form in ["jsonl", "csv", "parquet"] {
            let other = golden::dataset(form);
            assert_eq!(other, arrow, "{form}");
            assert_eq!(other.sha256(), arrow.sha256());
        }
    }

    #[test]
    fn a_file_is_one_split() {
        let data = read_dataset(&golden::path("data/csv/test.csv"), &golden::task()).unwrap();
        assert_eq!(data.splits.keys().collect::<Vec<_>>(), ["train"]);
        assert_eq!(part_hash(&data.splits["train"]), part_hash(&golden::dataset("arrow").splits["test"]));
        let file = golden::path("data/parquet/test-00000-of-00001.parquet");
        assert_eq!(read_dataset(&file, &golden::task()).unwrap(), data);
    }

    #[test]
    fn a_saved_table_is_one_split() {
        let data = read_dataset(&golden::path("data/arrow/test"), &golden::task()).unwrap();
        assert_eq!(data.splits["train"], golden::dataset("arrow").splits["test"]);
    }

    #[test]
    fn a_task_without_data_reads_nothing() {
        let data = read_dataset(Path::new("no such folder"), &Task::builtin("empty").unwrap()).unwrap();
        assert_eq!(data, Dataset::empty_text());
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        assert!(message_of(&path.join("none"), &golden::task()).contains("none: no such file or folder"));
        fs::write(path.join("train.jsonl"), "").unwrap();
        let message = message_of(path, &golden::task());
        assert!(message.contains("expected split \"validation\" of task sst2"), "{message}");
        assert!(message.contains("found train.jsonl"), "{message}");
        fs::write(path.join("train.csv"), "").unwrap();
        assert!(message_of(path, &golden::task()).contains("expected one file of split \"train\", found"));
        fs::write(path.join("notes.txt"), "").unwrap();
        assert!(
            message_of(&path.join("notes.txt"), &golden::task()).contains("expected a file named .jsonl")
        );
    }

    #[test]
    fn a_task_may_insist_on_its_form() {
        let folder = TempDir::new().unwrap();
        for split in ["train", "test"] {
            fs::write(
                folder.path().join(format!("{split}.csv")),
                "14,\"A title\",\"Said \"\"so\"\"\"\n1,B,c\n",
            )
            .unwrap();
            fs::write(folder.path().join(format!("{split}.jsonl")), "").unwrap();
        }
        let data = read_dataset(folder.path(), &Task::builtin("dbpedia").unwrap()).unwrap();
        assert_eq!(labels(&data.splits["test"]), [13, 0]);
        assert_eq!(texts(&data.splits["test"]), ["Said \"so\"", "c"]);
        let data = read_dataset(folder.path(), &Task::builtin("dbpedia_s").unwrap()).unwrap();
        assert_eq!(labels(&data.splits["test"]), [-1, 0]);

        let message = message_of(&golden::path("data/arrow/test"), &Task::builtin("dbpedia").unwrap());
        assert!(message.contains("expected csv files, as task dbpedia says, found arrow"), "{message}");
    }
}

mod saved {
    use super::*;

    #[test]
    fn several_files_and_class_names() {
        let folder = TempDir::new().unwrap();
        let labels_as_text: ArrayRef = Arc::new(StringArray::from(vec!["good", "bad"]));
        let numbers: ArrayRef = Arc::new(Int8Array::from(vec![1, -1]));
        let info = r#"{"features": {"label": {"_type": "ClassLabel", "names": ["bad", "good"]}}}"#;
        let files = [
            ("0.arrow", stream(vec![("a", two_texts()), ("label", labels_as_text)])),
            ("1.arrow", stream(vec![("label", numbers), ("a", two_texts())])),
        ];
        save_table(folder.path(), info, &files);
        let data = read_dataset(folder.path(), &task("")).unwrap();
        assert_eq!(labels(&data.splits["train"]), [1, 0, 1, -1]);
        assert_eq!(texts(&data.splits["train"]), ["x", "y", "x", "y"]);
    }

    #[test]
    fn rows_count_over_all_files() {
        let folder = TempDir::new().unwrap();
        let batch = |last| {
            let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, last]));
            stream(vec![("a", two_texts()), ("label", numbers)])
        };
        save_table(folder.path(), "{}", &[("0.arrow", batch(0)), ("1.arrow", batch(7))]);
        let message = message_of(folder.path(), &task(""));
        assert!(message.contains("1.arrow, split train, row 3: label 7 is not a class"), "{message}");
        assert!(message.contains("the task has 2 (0 .. 1)"), "{message}");
    }

    #[test]
    fn an_empty_split_has_no_file_and_one_that_is_listed_must_not_be_missing() {
        let folder = TempDir::new().unwrap();
        // What datasets 5.2 writes for a split without rows.
        save_table(folder.path(), "{}", &[]);
        assert!(read_dataset(folder.path(), &task("")).unwrap().splits["train"].is_empty());
        save_table(folder.path(), "{}", &[("0.arrow", Vec::new())]);
        fs::remove_file(folder.path().join("0.arrow")).unwrap();
        assert!(message_of(folder.path(), &task("")).contains("0.arrow"));
    }

    #[test]
    fn one_of_several_files_must_not_be_missing() {
        let folder = TempDir::new().unwrap();
        save_table(folder.path(), "{}", &[("0.arrow", Vec::new()), ("1.arrow", Vec::new())]);
        fs::remove_file(folder.path().join("1.arrow")).unwrap();
        assert!(message_of(folder.path(), &task("")).contains("1.arrow: no such file or folder"));
    }

    #[test]
    fn an_index_is_refused() {
        let folder = TempDir::new().unwrap();
        let state = r#"{"_data_files": [], "_indices_data_files": [{"filename": "indices.arrow"}]}"#;
        fs::write(folder.path().join("state.json"), state).unwrap();
        let message = message_of(folder.path(), &task(""));
        assert!(
            message.contains("state.json, _indices_data_files:") && message.contains("flatten_indices"),
            "{message}"
        );
    }

    #[test]
    fn split_names_must_be_listed() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("dataset_dict.json"), r#"{"splits": ["test", "unsupervised"]}"#)
            .unwrap();
        let message = message_of(folder.path(), &task(""));
        assert!(
            message.contains("expected split \"train\" of task t, found test, unsupervised"),
            "{message}"
        );
        fs::write(folder.path().join("dataset_dict.json"), "{\n]").unwrap();
        assert!(message_of(folder.path(), &task("")).contains("dataset_dict.json, line 2"));
    }

    #[test]
    fn nothing_outside_the_folder_is_read() {
        for name in ["../x.arrow", "/x.arrow", "..", "", "a\\u0000b", "c:x", "a\\\\b"] {
            let folder = TempDir::new().unwrap();
            save_table(folder.path(), "{}", &[]);
            let state = format!("{{\"_data_files\": [{{\"filename\": \"{name}\"}}]}}");
            fs::write(folder.path().join("state.json"), state).unwrap();
            assert!(message_of(folder.path(), &task("")).contains("leads out of the folder"), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_where_the_user_lets_them() {
        let (folder, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let real = disk.path().join("0123");
        fs::write(&real, "{\"a\": \"x\", \"label\": 1}").unwrap();
        let link = folder.path().join("train.jsonl");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        // A folder with it, the link itself, and a link to the folder.
        let other = disk.path().join("mine");
        std::os::unix::fs::symlink(folder.path(), &other).unwrap();
        for path in [folder.path(), &link, &other] {
            let read = read_dataset(path, &task("")).unwrap();
            assert_eq!(texts(&read.splits["train"]), ["x"], "{}", path.display());
        }
        fs::remove_file(&real).unwrap();
        let expected = format!("{}: a link to {}, which", link.display(), real.display());
        for path in [folder.path(), &link] {
            assert!(message_of(path, &task("")).starts_with(&expected));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_saved_table_may_be_on_another_disk() {
        let (folder, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let info = r#"{"features": {"label": {"_type": "ClassLabel", "names": ["bad", "good"]}}}"#;
        let words: ArrayRef = Arc::new(StringArray::from(vec!["good", "bad"]));
        save_table(disk.path(), info, &[("0.arrow", stream(vec![("a", two_texts()), ("label", words)]))]);
        fs::write(folder.path().join("dataset_dict.json"), r#"{"splits": ["train"]}"#).unwrap();
        std::os::unix::fs::symlink(disk.path(), folder.path().join("train")).unwrap();
        assert_eq!(labels(&read_dataset(folder.path(), &task("")).unwrap().splits["train"]), [1, 0]);
        // Without the names of the classes the labels would mean something else.
        let info = disk.path().join("dataset_info.json");
        fs::remove_file(&info).unwrap();
        std::os::unix::fs::symlink("nowhere.json", &info).unwrap();
        let message = message_of(folder.path(), &task(""));
        assert!(message.contains("dataset_info.json: a link to nowhere.json, which"), "{message}");
        // Nor is it absent where it is no file.
        fs::remove_file(&info).unwrap();
        fs::create_dir(&info).unwrap();
        let message = message_of(folder.path(), &task(""));
        assert!(message.contains("dataset_info.json: ") && message.contains("a folder"), "{message}");
        fs::remove_file(folder.path().join("train")).unwrap();
        std::os::unix::fs::symlink("/nowhere/train", folder.path().join("train")).unwrap();
        let message = message_of(folder.path(), &task(""));
        assert!(message.contains("train: a link to /nowhere/train, which"), "{message}");
        fs::remove_file(folder.path().join("dataset_dict.json")).unwrap();
        let message = message_of(folder.path(), &task(""));
        assert!(message.contains("train: a link to /nowhere/train, which"), "{message}");
    }
}

/// What Arrow and Parquet files have in common.
mod arrow_tables {
    use super::*;

    #[track_caller]
    fn check(texts_column: ArrayRef, label_column: ArrayRef) {
        for (form, bytes) in
            tables(vec![("label", label_column), ("other", two_texts()), ("a", texts_column)])
        {
            let rows = rows(form, bytes, &task("")).unwrap();
            assert_eq!((texts(&rows), labels(&rows)), (vec!["x", "y"], vec![1, 0]), "{form}");
        }
    }

    #[track_caller]
    fn refused_in_both(columns: Vec<(&str, ArrayRef)>, expected: &str) {
        for (form, bytes) in tables(columns) {
            refused(form, bytes, &task(""), expected);
        }
    }

    #[test]
    fn every_type_that_is_met() {
        check(two_texts(), Arc::new(Int64Array::from(vec![1, 0])));
        check(Arc::new(LargeStringArray::from(vec!["x", "y"])), Arc::new(Int8Array::from(vec![1, 0])));
        let dictionary: DictionaryArray<Int32Type> = vec!["x", "y"].into_iter().collect();
        check(Arc::new(dictionary), Arc::new(BooleanArray::from(vec![true, false])));
        check(two_texts(), Arc::new(UInt16Array::from(vec![1, 0])));
        check(two_texts(), Arc::new(StringArray::from(vec!["1", "0"])));
    }

    #[test]
    fn unlabelled_rows() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![-1, 1]));
        for (form, bytes) in tables(vec![("a", two_texts()), ("label", numbers)]) {
            assert_eq!(labels(&rows(form, bytes, &task("")).unwrap()), [UNLABELLED, 1]);
        }
    }

    #[test]
    fn a_null_is_named() {
        let some: ArrayRef = Arc::new(StringArray::from(vec![None, Some("y")]));
        let columns = vec![("a", some), ("label", Arc::new(Int64Array::from(vec![1, 0])) as ArrayRef)];
        refused_in_both(columns, "row 0, column \"a\": expected a text, found a null");
    }

    #[test]
    fn columns_are_checked() {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 0.0]));
        let days: ArrayRef = Arc::new(Date32Array::from(vec![1, 0]));
        let expected = "column \"label\": expected numbers, booleans or strings, found Date32";
        refused_in_both(vec![("a", two_texts()), ("label", days)], expected);
        let expected = "column \"a\": expected strings, found Float64";
        refused_in_both(vec![("a", numbers), ("label", two_texts())], expected);
        refused_in_both(vec![("b", two_texts())], "expected a column \"a\", found b");
    }

    #[test]
    fn classes_may_be_named_beside_the_schema() {
        let columns =
            vec![("a", two_texts()), ("label", Arc::new(StringArray::from(vec!["yes", "no"])) as _)];
        let info = r#"{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}}}"#;
        let named = parquet_of(columns.clone(), Some(info), Compression::SNAPPY);
        assert_eq!(labels(&rows(Format::Parquet, named, &task("")).unwrap()), [1, 0]);
        for info in [None, Some("{}"), Some("damaged"), Some(r#"{"info": {"features": {"label": 1}}}"#)] {
            let bytes = parquet_of(columns.clone(), info, Compression::SNAPPY);
            refused(Format::Parquet, bytes, &task(""), "row 0, column \"label\": expected a class number");
        }
    }
}

mod parquet_files {
    use super::*;

    /// Writes files of two rows each, `x` and `y`.
    fn folder_of(names: &[&str]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, small_parquet()).unwrap();
        }
        folder
    }

    #[test]
    fn every_layout_of_the_hub() {
        let splits =
            ["train", "test"].map(|split| move |before: &str, after: &str| format!("{before}{split}{after}"));
        for (before, after) in [
            ("", ".parquet"),
            ("", "-00000-of-00001.parquet"),
            ("", "-00000-of-00001-0123456789abcdef.parquet"),
            ("data/", "-00000-of-00001.parquet"),
            ("plain_text/", "-0.parquet"),
            ("", "/0000.parquet"),
            ("plain_text/", "/0000.parquet"),
        ] {
            let names = splits.each_ref().map(|name| name(before, after));
            let folder = folder_of(&names.each_ref().map(String::as_str));
            fs::write(folder.path().join("dataset_infos.json"), "{}").unwrap();
            fs::create_dir(folder.path().join("notes")).unwrap();
            let data = read_dataset(folder.path(), &task("splits.test = \"test\"")).unwrap();
            assert_eq!(data.splits.keys().collect::<Vec<_>>(), ["test", "train"]);
            assert_eq!(labels(&data.splits["test"]), [1, 0]);
        }
    }

    #[test]
    fn shards_are_read_in_order() {
        let numbered =
            ["train-00000-of-00003.parquet", "train-00001-of-00003.parquet", "train-00002-of-00003.parquet"];
        for names in [numbered, ["train-a1.parquet", "train-a2.parquet", "train-a10.parquet"]] {
            let folder = TempDir::new().unwrap();
            for (class, name) in names.iter().enumerate().rev() {
                let numbers: ArrayRef = Arc::new(Int64Array::from(vec![class as i64 - 1]));
                let text: ArrayRef = Arc::new(StringArray::from(vec![*name]));
                let bytes = parquet_of(vec![("a", text), ("label", numbers)], None, Compression::SNAPPY);
                fs::write(folder.path().join(name), bytes).unwrap();
            }
            let data = read_dataset(folder.path(), &task("")).unwrap();
            assert_eq!(
                (texts(&data.splits["train"]), labels(&data.splits["train"])),
                (names.to_vec(), vec![-1, 0, 1])
            );
        }
    }

    #[test]
    fn shards_that_are_missing_or_too_many_are_refused() {
        let check = |names: &[&str], expected: &str| {
            let message = message_of(folder_of(names).path(), &task(""));
            assert!(message.contains(expected) && message.contains(names[0]), "{message}");
        };
        let all = "expected all 2 shards and no other file of split \"train\", found train-0";
        check(&["train-00001-of-00002.parquet"], all);
        check(&["train-00000-of-00002.parquet", "train-00001-of-00003.parquet"], all);
        check(&["train-00000-of-00002.parquet", "train-copy.parquet"], "expected all 2 shards");
        check(&["train-00000-of-99999999999.parquet"], "expected all 99999999999 shards");
        check(&["train-0.parquet", "train.parquet"], "expected one file, or shards, of split \"train\"");
    }

    #[test]
    fn one_configuration_is_read_and_several_are_listed() {
        let folder = folder_of(&["mnli/train-0.parquet", "qnli/train-0.parquet"]);
        let message = message_of(folder.path(), &task(""));
        assert!(
            message.contains("expected one configuration; give the path of its folder, found 2: mnli, qnli")
        );
        assert_eq!(read_dataset(&folder.path().join("mnli"), &task("")).unwrap().splits["train"].len(), 2);

        let message = message_of(folder_of(&["mnli/test-0.parquet"]).path(), &task(""));
        assert!(
            message.contains("mnli: expected split \"train\"") && message.contains("found test-0.parquet")
        );
        // What is in the folder itself comes first.
        let folder = folder_of(&["train.parquet", "a/train.parquet", "b/train.parquet"]);
        assert_eq!(read_dataset(folder.path(), &task("")).unwrap().splits["train"].len(), 2);
    }

    #[test]
    fn of_several_configurations_the_one_of_the_task_is_read() {
        let folder = folder_of(&["mnli/train-0.parquet", "t/train-0.parquet"]);
        assert_eq!(read_dataset(folder.path(), &task("")).unwrap().splits["train"].len(), 2);
    }

    /// Such as `lost+found` where a disk begins. A link to itself can't be looked at by root either.
    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_looked_at_matters_where_another_would_be_taken_for_it() {
        let folder = folder_of(&["t/train-0.parquet", "s/train-0.parquet"]);
        let lost = |name: &str| {
            let link = folder.path().join(name);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&link, &link).unwrap();
        };
        lost("lost+found");
        lost("shut/train");
        assert_eq!(read_dataset(folder.path(), &task("")).unwrap().splits["train"].len(), 2);
        fs::remove_dir_all(folder.path().join("t")).unwrap();
        for name in ["lost+found", "shut"] {
            let message = message_of(folder.path(), &task(""));
            assert!(message.contains(name), "{message}");
            assert!(message.contains("cannot be read: "), "{message}");
            assert!(message.ends_with("; give the path of one configuration"), "{message}");
            let path = folder.path().join(name);
            fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).unwrap();
        }
        // What lies deeper only decides which folder is named.
        lost("s/below/x.csv");
        fs::remove_file(folder.path().join("s/train-0.parquet")).unwrap();
        fs::write(folder.path().join("s/other.csv"), "").unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        lost("deep/below");
        let message = message_of(folder.path(), &task(""));
        assert!(message.contains("s: expected split \"train\""), "{message}");
    }

    #[test]
    fn a_folder_for_each_split_as_the_hub_converts() {
        let folder = folder_of(&["default/train/0000.parquet", "default/train/0001.parquet"]);
        for path in [folder.path(), &folder.path().join("default")] {
            assert_eq!(read_dataset(path, &task("")).unwrap().splits["train"].len(), 4);
        }
        fs::rename(
            folder.path().join("default/train/0001.parquet"),
            folder.path().join("default/train/0002.parquet"),
        )
        .unwrap();
        let message = message_of(folder.path(), &task(""));
        assert!(message.contains("train: expected 0000.parquet, 0001.parquet and so on"), "{message}");
        assert!(message.contains("found 0000.parquet, 0002.parquet"), "{message}");
        // What the Hub converted only in part does not count as the split.
        let message = message_of(folder_of(&["default/partial-train/0000.parquet"]).path(), &task(""));
        assert!(message.contains("found partial-train"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn links_of_a_cache_lead_to_its_contents_and_no_further() {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("datasets--owner--name");
        let snapshot = repository.join("snapshots/0123abcd");
        for folder in [&repository.join("blobs"), &snapshot.join("t")] {
            fs::create_dir_all(folder).unwrap();
        }
        for content in [repository.join("blobs/1"), cache.path().join("outside")] {
            fs::write(content, small_parquet()).unwrap();
        }
        let link = snapshot.join("t/train.parquet");
        std::os::unix::fs::symlink("../../../blobs/1", &link).unwrap();
        for path in [&snapshot, &snapshot.join("t")] {
            assert_eq!(read_dataset(path, &task("")).unwrap().splits["train"].len(), 2);
        }
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("../../../../outside", &link).unwrap();
        assert!(message_of(&snapshot, &task("")).contains("leads out of its repository's folder"));
        assert!(message_of(&snapshot.join("t"), &task("")).contains("leads out of its repository's folder"));
        // What a user makes of it is the user's.
        let mine = cache.path().join("mine");
        fs::rename(&repository, &mine).unwrap();
        assert_eq!(
            read_dataset(&mine.join("snapshots/0123abcd"), &task("")).unwrap().splits["train"].len(),
            2
        );
    }

    /// Contents are removed to save space, and a copy may lack them: the links stay.
    #[cfg(unix)]
    #[test]
    fn a_content_that_is_gone_is_fetched_again() {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = cache.path().join("datasets--owner--name/snapshots/0123abcd");
        fs::create_dir_all(&snapshot).unwrap();
        for name in ["train.csv", "train-00000-of-00001.parquet"] {
            let link = snapshot.join(name);
            std::os::unix::fs::symlink("../../blobs/1", &link).unwrap();
            let message = message_of(&snapshot, &task(""));
            let parts = [
                format!("{name}: a link to ../../blobs/1, which"),
                "`skn-fetch --dataset owner/name --revision 0123abcd".to_owned(),
            ];
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
            fs::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_cut_short_is_refused() {
        let bytes = small_parquet();
        for length in 0..bytes.len() {
            refused(Format::Parquet, &bytes[..length], &task(""), "split train, ");
        }
        refused(Format::Parquet, [&bytes[..], b"x"].concat(), &task(""), "footer");
        refused(Format::Parquet, b"ARROW1 or anything else", &task(""), "footer");
    }
}

mod arrow_streams {
    use super::*;

    #[test]
    fn a_stream_that_is_cut_short_is_refused() {
        let bytes = stream(vec![("a", two_texts()), ("label", Arc::new(Int64Array::from(vec![1, 0])))]);
        for length in 0..bytes.len() {
            refused(Format::Arrow, &bytes[..length], &task(""), "byte ");
        }
        // 8 bytes say that it ends; what is gone before is of the last body.
        for gone in [9, 20] {
            let part = "expected a body of ";
            refused(Format::Arrow, &bytes[..bytes.len() - gone], &task(""), part);
        }
        refused(Format::Arrow, [&bytes[..], b"x"].concat(), &task(""), "expected the end, found more bytes");
        refused(Format::Arrow, b"PAR1 or anything else", &task(""), "expected arrow, found a Parquet file");
        refused(Format::Arrow, b"PAX1 or anything else", &task(""), "not an Arrow stream");
    }

    #[test]
    fn absurd_lengths_are_refused_before_memory_is_asked_for() {
        let mut bytes = stream(vec![("a", two_texts()), ("label", Arc::new(Int64Array::from(vec![1, 0])))]);
        bytes[4..8].copy_from_slice(&i32::MAX.to_le_bytes());
        refused(Format::Arrow, bytes, &task(""), "byte 0: the file ends within the stream");
    }
}

/// Changes a bit of every byte up to `most`, and of the last as many, and reads what comes out.
fn flip_bits(form: Format, file: &str, most: usize) {
    let bytes = golden::bytes(file);
    // Panics of the library are caught; their messages are of no use here.
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = 0;
    for place in (0..bytes.len().min(most)).chain(bytes.len().saturating_sub(most)..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        failed += usize::from(rows(form, damaged, &golden::task()).is_err());
    }
    let _ = std::panic::take_hook();
    assert!(failed > 100, "{failed} of the mutants were noticed");
}

#[test]
fn flipped_bits_give_rows_or_an_error() {
    flip_bits(Format::Arrow, "data/arrow/validation/data-00000-of-00001.arrow", 1500);
    flip_bits(Format::Parquet, "data/parquet/validation-00000-of-00001.parquet", 1500);
}

mod json_files {
    use super::*;

    #[test]
    fn lines() {
        let bytes = "\u{feff}{\"label\": 1, \"a\": \"so \\\"good\\\" \\u00e9\", \"idx\": [{\"a\": 1}]}\r\n\n{\"a\":\"\",\"label\":false}";
        let rows = rows(Format::Jsonl, bytes, &task("")).unwrap();
        assert_eq!((texts(&rows), labels(&rows)), (vec!["so \"good\" é", ""], vec![1, 0]));
    }

    #[test]
    fn lists() {
        let bytes = "[{\"a\": \"x\", \"label\": 1},\n {\"a\": \"y\", \"label\": -1}]\n";
        let list = rows(Format::Json, bytes, &task("")).unwrap();
        assert_eq!((texts(&list), labels(&list)), (vec!["x", "y"], vec![1, -1]));
        // JSON Lines under the other name.
        assert_eq!(rows(Format::Json, "{\"a\": \"x\", \"label\": 1}\n", &task("")).unwrap(), list[..1]);
    }

    #[test]
    fn pairs() {
        let rows = rows(Format::Jsonl, "{\"b\": \"2\", \"label\": 0, \"a\": \"1\"}", &pair_task()).unwrap();
        assert_eq!((rows[0].text.as_str(), rows[0].pair.as_deref()), ("1", Some("2")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let task = task("");
        let line = |line: &str| format!("{{\"a\": \"x\", \"label\": 1}}\n{line}\n");
        refused(
            Format::Jsonl,
            line("{\"a\": 3, \"label\": 1}"),
            &task,
            "line 2, column \"a\": expected a text, found the number 3",
        );
        refused(
            Format::Jsonl,
            line("{\"a\": \"x\", \"label\": []}"),
            &task,
            "expected a class, found a list",
        );
        refused(Format::Jsonl, line("{\"a\": \"x\", \"label\": 1.5}"), &task, "found the number 1.5");
        refused(Format::Jsonl, line("{\"a\": \"x\", \"label\": \"fine\"}"), &task, "found the text \"fine\"");
        refused(Format::Jsonl, line("{\"a\": \"x\", \"label\": 2}"), &task, "line 2: label 2 is not a class");
        refused(Format::Jsonl, line("{\"a\": null, \"label\": 1}"), &task, "found a null");
        refused(Format::Jsonl, line("{\"a\": [], \"label\": 1}"), &task, "found a list");
        refused(Format::Jsonl, line("{\"a\": \"x\", "), &task, "line 2: byte 11: the end of the text");
        let twice = "{\"a\": \"x\", \"a\": \"y\", \"label\": 1}";
        refused(Format::Jsonl, line(twice), &task, "line 2: byte 14: the key \"a\" is there twice");
        refused(Format::Json, format!("[{twice}]"), &task, "line 1: byte 16: the key \"a\" is there twice");
        let twice = line("{\"a\": \"x\", \"label\": null, \"label\": 1}");
        refused(Format::Jsonl, twice, &task, "the key \"label\" is there twice");
        let others = line("{\"n\": 1, \"a\": \"y\", \"n\": 2, \"label\": 0}");
        assert_eq!(texts(&rows(Format::Jsonl, others, &task).unwrap()), ["x", "y"]);
        refused(Format::Jsonl, line("[1]"), &task, "expected an object with the keys a, label");
        refused(Format::Jsonl, line("{} {}"), &task, "line 2: byte 4: trailing characters");
        refused(Format::Json, "[{\"a\": \"x\", \"label\": 1}, {\"a\": {}}]", &task, "row 1, column \"a\"");
        refused(
            Format::Json,
            "[{\"a\": \"x\", \"label\": 1}\n",
            &task,
            "line 2: byte 0: the end of the text",
        );
        refused(Format::Json, "3", &task, "expected a list of objects");
        refused(Format::Jsonl, "[".repeat(100_000), &task, "line 1");
    }
}

mod csv_files {
    use super::*;

    #[test]
    fn quotes_line_breaks_and_marks() {
        let bytes = "\u{feff}label,a\r\n1,\"one, \"\"two\"\"\nthree\"\r\n 0 ,é\r\n";
        let rows = rows(Format::Csv, bytes, &task("")).unwrap();
        assert_eq!((texts(&rows), labels(&rows)), (vec!["one, \"two\"\nthree", "é"], vec![1, 0]));
    }

    #[test]
    fn without_a_header() {
        let task = task("format = \"csv\"\nheader = false\ncolumns = [\"label\", \"title\", \"a\"]");
        let read = rows(Format::Csv, "1,t,x\n0,u,y\n", &task).unwrap();
        assert_eq!((texts(&read), labels(&read)), (vec!["x", "y"], vec![1, 0]));
        refused(Format::Csv, "1,x\n", &task, "line 1: expected 3 fields, found 2");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let task = task("");
        refused(Format::Csv, "a,label\nx,1\ny\n", &task, "line 3: expected 2 fields, found 1");
        refused(Format::Csv, "a,label\n\"x\ny\",1\nz,4\n", &task, "line 4: label 4 is not a class");
        refused(Format::Csv, "a,label\nx,one\n", &task, "line 2, column \"label\": expected a class number");
        refused(Format::Csv, b"a,label\nx,1\n\xff,1\n", &task, "line 3: field 0 is not UTF-8");
        refused(Format::Csv, "a,class\nx,1\n", &task, "expected a column \"label\", found a, class");
        refused(Format::Csv, "a,label,a\nx,1,y\n", &task, "two columns are named \"a\"");
        refused(Format::Csv, "", &task, "expected a column \"a\", found none");
    }
}

mod labels_of_tasks {
    use super::*;

    #[test]
    fn maps() {
        let bytes = "a,label\nv,4\nw,0\nx,yes\ny,-1\n";
        let map = "[label_map]\n0 = 0\n4 = 1\nyes = 1";
        assert_eq!(labels(&rows(Format::Csv, bytes, &task(map)).unwrap()), [1, 0, 1, -1]);
        refused(
            Format::Csv,
            "a,label\nx,2\n",
            &task(map),
            "expected one of the labels 0, 4, yes, found the text \"2\"",
        );
        let drop = task(&format!("other_labels = \"drop\"\n{map}"));
        assert_eq!(labels(&rows(Format::Csv, "a,label\nx,2\ny,4\n", &drop).unwrap()), [-1, 1]);
    }

    #[test]
    fn labels_are_classes_or_none() {
        for label in [-2, 2, i64::MIN, i64::MAX] {
            refused(
                Format::Csv,
                format!("a,label\nx,{label}\n"),
                &task(""),
                &format!("label {label} is not a class"),
            );
        }
        refused(
            Format::Jsonl,
            "{\"a\": \"\", \"label\": 18446744073709551615}",
            &task(""),
            "the number 18446744073709551615",
        );
    }
}

mod properties {
    use super::*;

    fn row() -> impl Strategy<Value = Example> {
        let text = prop_oneof![
            any::<String>(),
            "[\",\\n\\r ;\\\\é\u{1F600}x]{0,12}",
            Just(String::new()),
            (1usize..70_000).prop_map(|length| "ab ".repeat(length)),
        ];
        (text, any::<String>(), -1i64..2).prop_map(|(text, pair, label)| Example {
            text: text.into(),
            pair: Some(pair.into()),
            more: Box::default(),
            label,
        })
    }

    fn csv_of(rows: &[Example]) -> Vec<u8> {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(["a", "label", "b"]).unwrap();
        for row in rows {
            writer
                .write_record([&row.text, row.label.to_string().as_str(), row.pair.as_ref().unwrap()])
                .unwrap();
        }
        writer.into_inner().unwrap()
    }

    fn json_of(rows: &[Example]) -> Vec<serde_json::Value> {
        let row = |row: &Example| serde_json::json!({"a": row.text, "b": row.pair, "label": row.label});
        rows.iter().map(row).collect()
    }

    fn columns_of(rows: &[Example]) -> Vec<(&str, ArrayRef)> {
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.text)));
        let pair: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.pair.as_ref())));
        let label: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.label)));
        vec![("a", text), ("b", pair), ("label", label)]
    }

    /// In every form: a text of a megabyte, one of a megabyte of what must be quoted, of characters of four bytes, none.
    #[test]
    fn a_megabyte_and_nothing() {
        let texts =
            ["so good ".repeat(1 << 17), "\"\n,\\\r\t".repeat(180_000), "🙂".repeat(1 << 18), String::new()];
        let pairs = ["", "é", "\u{0}\u{10ffff}\u{feff}", " "];
        let row = |(text, pair): (&String, &str)| Example {
            text: text.as_str().into(),
            pair: Some(pair.into()),
            more: Box::default(),
            label: 1,
        };
        let written: Vec<Example> = texts.iter().zip(pairs).map(row).collect();
        check_all_forms(&written).unwrap();
    }

    fn check_all_forms(written: &[Example]) -> Result<(), TestCaseError> {
        let task = pair_task();
        let json = json_of(written);
        let lines: Vec<String> = json.iter().map(ToString::to_string).collect();
        let read = |format, bytes: &[u8]| rows(format, bytes, &task).unwrap();
        prop_assert!(read(Format::Csv, &csv_of(written)) == written, "csv");
        prop_assert!(read(Format::Jsonl, lines.join("\n").as_bytes()) == written, "jsonl");
        let list = serde_json::to_string_pretty(&json).unwrap();
        prop_assert!(read(Format::Json, list.as_bytes()) == written, "json");
        for (form, bytes) in tables(columns_of(written)) {
            prop_assert!(read(form, &bytes) == written, "{form}");
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_written_is_read_from_every_form(written in prop::collection::vec(row(), 1..8)) {
            check_all_forms(&written)?;
        }

        #[test]
        fn what_is_sent_through_a_pipe_arrives(written in prop::collection::vec(row(), 0..20)) {
            let mut pipe = Vec::new();
            let mut writer = crate::RowWriter::new(&mut pipe);
            writer.split("train").unwrap();
            for row in &written {
                writer.row(crate::Row {
                        text: &row.text,
                        pair: row.pair.as_deref(),
                        more: &[],
                        label: row.label,
                    }).unwrap();
            }
            writer.finish().unwrap();
            let read = crate::RowReader::new(&pipe[..], &pair_task(), u64::MAX).read().unwrap();
            prop_assert_eq!(&read.splits["train"], &written);
        }

        #[test]
        fn any_bytes_give_rows_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for format in [Format::Arrow, Format::Jsonl, Format::Json, Format::Csv, Format::Parquet] {
                let _ = rows(format, &bytes, &task(""));
            }
        }
    }
}
