use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int8Array, Int64Array, NullArray,
    StringArray, UInt64Array,
};
use parquet::basic::Compression;
use tempfile::TempDir;

use crate::format::Format;
use crate::read::read_dataset;
use crate::read::tests::{labels, message_of, parquet_of, refused, rows, save_table, stream, tables, task};
use crate::{Choice, Dataset, SubTask, Task, binarize};

const STARS: &str = "[label_map]\n1 = 0\n2 = 0\n4 = 1\n5 = 1\n";

/// What datasets write beside a table whose label is a `ClassLabel`.
fn info(names: &[&str]) -> String {
    serde_json::json!({"features": {"label": {"_type": "ClassLabel", "names": names}}}).to_string()
}

/// Rows without texts of interest, with these labels.
fn table(label: ArrayRef) -> Vec<(&'static str, ArrayRef)> {
    let texts: Vec<String> = (0..label.len()).map(|row| row.to_string()).collect();
    vec![("a", Arc::new(StringArray::from(texts)) as ArrayRef), ("label", label)]
}

fn integers(labels: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(labels.to_vec()))
}

/// A folder as `DatasetDict.save_to_disk` writes it: each split with its labels and their names.
fn saved(splits: &[(&str, &[&str], &[i64])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (split, names, labels) in splits {
        let files = [("data-00000-of-00001.arrow", stream(table(integers(labels))))];
        save_table(&folder.path().join(split), &info(names), &files);
    }
    folder
}

/// The rows of a Parquet file of one split, as `Dataset.to_parquet` writes a `ClassLabel`.
fn named(names: &[&str], labels: &[i64], task: &Task) -> crate::Result<Vec<i64>> {
    let huggingface = format!("{{\"info\": {}}}", info(names));
    let bytes = parquet_of(table(integers(labels)), Some(&huggingface), Compression::SNAPPY);
    rows(Format::Parquet, bytes, task).map(|rows| super::tests::labels(&rows))
}

fn three(more: &str) -> Task {
    let keys = "name = \"t\"\ntext = [\"a\"]\nlabels = [\"negative\", \"neutral\", \"positive\"]\nsplits = {train = \"train\", test = \"test\"}\n";
    Task::from_toml(&format!("{keys}{more}"), "t.toml").unwrap()
}

fn split_labels(data: &Dataset, split: &str) -> Vec<i64> {
    labels(&data.splits[split])
}

#[test]
fn splits_that_were_encoded_alone_go_by_their_names() {
    // `class_encode_column` on each split: test has no neutral rows.
    let folder = saved(&[
        ("train", &["negative", "neutral", "positive"], &[0, 1, 2]),
        ("test", &["negative", "positive"], &[0, 1, -1]),
    ]);
    let own = Task { labels: ["bad", "so so", "good"].map(String::from).to_vec(), ..three("") };
    for task in [three(""), own] {
        let data = read_dataset(folder.path(), &task).unwrap();
        assert_eq!(split_labels(&data, "train"), [0, 1, 2]);
        assert_eq!(split_labels(&data, "test"), [0, 2, -1]);
    }
    // A name that train doesn't have.
    let folder =
        saved(&[("train", &["neg", "pos"], &[0, 1]), ("test", &["mixed", "neg", "pos"], &[0, 1, 2])]);
    let two = task("splits.test = \"test\"");
    let message = message_of(folder.path(), &two);
    assert!(
        message.contains("its classes are mixed, neg, pos, but in the data read before it they are neg, pos"),
        "{message}"
    );
}

#[test]
fn numbers_as_names_are_compared_between_splits() {
    // Test, class-encoded alone, lacks three: its 1 is the name 4.
    let folder = saved(&[("train", &["1", "3", "4"], &[0, 1, 2]), ("test", &["1", "4"], &[0, 1])]);
    let data = read_dataset(folder.path(), &three("")).unwrap();
    assert_eq!((split_labels(&data, "train"), split_labels(&data, "test")), (vec![0, 1, 2], vec![0, 2]));
    // Names that are the task's own numbers.
    assert_eq!(named(&["0", "2"], &[0, 1], &three("")).unwrap(), [0, 2]);
    assert_eq!(named(&["LABEL_1", "LABEL_0"], &[0, 1], &task("")).unwrap(), [1, 0]);
}

#[test]
fn a_map_means_names_where_there_are_names() {
    let drop = task(&format!("other_labels = \"drop\"\n{STARS}"));
    let stars = ["1", "2", "3", "4", "5"];
    assert_eq!(named(&stars, &[0, 1, 2, 3, 4, -1], &drop).unwrap(), [0, 0, -1, 1, 1, -1]);
    let error = named(&stars, &[2], &task(STARS)).unwrap_err().to_string();
    assert!(error.contains("expected one of the labels 1, 2, 4, 5, found the number 2"), "{error}");
    // Names in words, in another order than their numbers.
    let words = task("[label_map]\nneg = 0\npos = 1\n");
    assert_eq!(named(&["pos", "neg"], &[0, 1], &words).unwrap(), [1, 0]);
    // A map of numbers, beside names that it does not speak of.
    assert_eq!(named(&["neg", "pos"], &[0, 1], &task("[label_map]\n0 = 1\n1 = 0\n")).unwrap(), [1, 0]);
}

#[test]
fn built_in_tasks_know_their_classes() {
    let mnli = Task { text: vec!["a".into()], ..Task::builtin("mnli").unwrap() };
    // The alphabet's order, as `class_encode_column` gives it.
    assert_eq!(named(&["contradiction", "entailment", "neutral"], &[0, 1, 2], &mnli).unwrap(), [2, 0, 1]);
    let sst2 = Task { text: vec!["a".into()], ..Task::builtin("sst2").unwrap() };
    assert_eq!(named(&["Positive", "neg"], &[0, 1], &sst2).unwrap(), [1, 0]);
    assert_eq!(named(&["0", "1"], &[0, 1], &sst2).unwrap(), [0, 1]);
    let error = named(&["spam", "ham"], &[0, 1], &sst2).unwrap_err().to_string();
    assert!(
        error.contains(
            "the data call their classes spam, ham; task sst2 calls its negative or neg, positive or pos"
        ) && error.contains("`names` in a task file"),
        "{error}"
    );
    // Its words are negative and positive, but the data's are those of another sub-task.
    let neutral = Task { text: vec!["a".into()], ..Task::builtin("mnli-neu").unwrap() };
    assert!(named(&["negative", "positive"], &[0, 1], &neutral).is_err());
    assert_eq!(named(&["neutral", "other"], &[0, 1], &neutral).unwrap(), [1, 0]);
    let news = Task { text: vec!["a".into()], ..Task::builtin("ag_news_s").unwrap() };
    assert_eq!(
        named(&["Business", "Sci/Tech", "Sports", "World"], &[0, 1, 2, 3], &news).unwrap(),
        [-1, -1, 1, 0]
    );
    assert_eq!(labels(&rows(Format::Csv, "a,label\nx,0\ny,1\nz,3\n", &news).unwrap()), [0, 1, -1]);
}

#[test]
fn names_that_can_be_no_classes_are_refused() {
    // The words of the task, but in part.
    let error = named(&["neutral", "negative", "glad"], &[0, 1, 2], &three("")).unwrap_err().to_string();
    assert!(
        error.contains(
            "call their classes neutral, negative, glad; task t calls its negative, neutral, positive"
        ),
        "{error}"
    );
    // Fewer names than classes, none of which is known: nobody can say which is missing.
    assert!(named(&["x", "y"], &[0, 1], &three("")).is_err());
    // Names of the task's own, in the data's order; of more names than classes the last are none.
    assert_eq!(named(&["x", "y", "z"], &[2, 0], &three("")).unwrap(), [2, 0]);
    assert_eq!(named(&["x", "y", "z"], &[1, 0], &task("")).unwrap(), [1, 0]);
    let error = named(&["x", "y", "z"], &[2], &task("")).unwrap_err().to_string();
    assert!(error.contains("expected a class number or one of x, y, z, found the number 2"), "{error}");
    assert!(
        named(&["x", "x"], &[0], &task(""))
            .unwrap_err()
            .to_string()
            .contains("two of its classes are called \"x\"")
    );
    // A number beyond the names.
    let error = named(&["bad", "good"], &[2], &task("")).unwrap_err().to_string();
    assert!(error.contains("expected a class number or one of bad, good, found the number 2"), "{error}");
}

#[test]
fn names_of_a_task_file() {
    let stars = task("names = [[\"1\", \"2\"], [\"4\", \"5\"]]");
    assert_eq!(labels(&rows(Format::Csv, "a,label\nv,1\nw,5\n", &stars).unwrap()), [0, 1]);
    assert_eq!(
        labels(&rows(Format::Jsonl, "{\"a\":\"\",\"label\":2}\n{\"a\":\"\",\"label\":4.0}", &stars).unwrap()),
        [0, 1]
    );
    refused(Format::Csv, "a,label\nv,3\n", &stars, "expected a class number, or one of 1 or 2, 4 or 5");
    assert_eq!(named(&["5", "1"], &[0, 1], &stars).unwrap(), [1, 0]);
    let bools = task("names = [\"true\", \"false\"]");
    assert_eq!(labels(&rows(Format::Jsonl, "{\"a\":\"\",\"label\":true}", &bools).unwrap()), [0]);
    assert_eq!(labels(&rows(Format::Csv, "a,label\nx,true\ny,False\n", &bools).unwrap()), [0, 1]);
}

/// The labels of CSV, JSON Lines and both tables of Arrow, of the same numbers.
fn in_every_form(numbers: &[i64], task: &Task) -> Vec<Result<Vec<i64>, String>> {
    let csv: String = numbers.iter().map(|number| format!("x,{number}\n")).collect();
    let lines: String =
        numbers.iter().map(|number| format!("{{\"a\":\"x\",\"label\":{number}}}\n")).collect();
    let text = [(Format::Csv, format!("a,label\n{csv}").into_bytes()), (Format::Jsonl, lines.into_bytes())];
    let forms = text.into_iter().chain(tables(table(integers(numbers))));
    forms
        .map(|(form, bytes)| {
            rows(form, bytes, task).map(|rows| labels(&rows)).map_err(|error| error.to_string())
        })
        .collect()
}

#[test]
fn the_same_numbers_mean_the_same_in_every_form() {
    type Case<'c> = (&'c str, &'c [i64], Option<&'c [i64]>);
    let cases: [Case<'_>; 8] = [
        ("", &[-1, 0, 1], Some(&[-1, 0, 1])),
        ("[label_map]\n0 = 0\n1 = 1\n", &[-1, 0, 1], Some(&[-1, 0, 1])),
        ("names = [\"1\", \"2\"]", &[-1, 1, 2], Some(&[-1, 0, 1])),
        // -1 may be a class.
        ("[label_map]\n-1 = 0\n1 = 1\n", &[-1, 1], Some(&[0, 1])),
        ("names = [\"-1\", \"1\"]", &[-1, 1], Some(&[0, 1])),
        ("names = [\"-2\", \"2\"]", &[-2, -1, 2], Some(&[0, -1, 1])),
        // Where names are numbers, a number that is none of them is no place.
        ("names = [\"1\", \"2\"]", &[0, 1], None),
        ("[label_map]\n1 = 0\n2 = 1\n", &[-1, 3], None),
    ];
    for (more, numbers, expected) in cases {
        for found in in_every_form(numbers, &task(more)) {
            assert_eq!(found.ok().as_deref(), expected, "{more} {numbers:?}");
        }
    }
}

/// Words that are numbers, or truth values, are what labels say, in every form.
#[test]
fn words_that_are_numbers() {
    let words = |words: &str| {
        let keys = "name = \"t\"\ntext = [\"a\"]\nsplits.train = \"train\"\n";
        Task::from_toml(&format!("{keys}labels = [{words}]\n"), "t.toml").unwrap()
    };
    let stars = words("\"1\", \"2\", \"3\", \"4\", \"5\"");
    for found in in_every_form(&[1, 2, 3, 4, -1], &stars) {
        assert_eq!(found.unwrap(), [0, 1, 2, 3, -1]);
    }
    assert!(in_every_form(&[0], &stars).iter().all(Result::is_err));
    for found in in_every_form(&[0, 1], &words("\"1\", \"0\"")) {
        assert_eq!(found.unwrap(), [1, 0]);
    }
    let task = words("\"True\", \"False\"");
    assert_eq!(labels(&rows(Format::Jsonl, "{\"a\":\"\",\"label\":true}", &task).unwrap()), [0]);
    assert_eq!(labels(&rows(Format::Csv, "a,label\nx,True\n", &task).unwrap()), [0]);
    // Names that are truth values mean these.
    assert_eq!(named(&["True", "False"], &[0, 1], &super::super::tests::task("")).unwrap(), [1, 0]);
    // Halves and whole floats of a map, as they are written.
    let halves = super::super::tests::task("[label_map]\n\"0.5\" = 0\n\"1.0\" = 1\n");
    assert_eq!(labels(&rows(Format::Csv, "a,label\nx,0.5\ny,1.0\n", &halves).unwrap()), [0, 1]);
    for (form, bytes) in tables(table(Arc::new(Float64Array::from(vec![0.5, 1.0])))) {
        assert_eq!(labels(&rows(form, bytes, &halves).unwrap()), [0, 1]);
    }
}

/// Names in one split, in another order than the task's, and bare numbers in the other: nobody can say what these are.
#[test]
fn numbers_beside_names_in_another_order_are_refused() {
    let folder = TempDir::new().unwrap();
    let huggingface = format!("{{\"info\": {}}}", info(&["neutral", "negative", "positive"]));
    let named = parquet_of(table(integers(&[0, 1, 2])), Some(&huggingface), Compression::SNAPPY);
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("train.parquet", &named);
    write("test.csv", b"a,label\nx,0\n");
    let message = message_of(folder.path(), &three(""));
    assert!(
        message.contains("expected a class by its name") && message.contains("neutral, negative, positive"),
        "{message}"
    );
    write("test.csv", b"a,label\nx,neutral\ny,-1\n");
    assert_eq!(split_labels(&read_dataset(folder.path(), &three("")).unwrap(), "test"), [1, -1]);
    // The other way round.
    for name in ["train.parquet", "test.csv"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    write("train.csv", b"a,label\nx,0\n");
    write("test.parquet", &named);
    let message = message_of(folder.path(), &three(""));
    assert!(message.contains("in another order than the task's"), "{message}");
}

#[test]
fn a_map_of_numbers_needs_one_order_of_names() {
    let task = task("splits.test = \"test\"\n[label_map]\n0 = 1\n1 = 0\n");
    let folder = saved(&[("train", &["neg", "pos"], &[0, 1]), ("test", &["pos", "neg"], &[0, 1])]);
    let message = message_of(folder.path(), &task);
    assert!(
        message.contains("it numbers its class \"pos\" 0, but the data read before it number that 1"),
        "{message}"
    );
    let folder = saved(&[("train", &["neg", "pos"], &[0, 1]), ("test", &["neg", "pos"], &[0, -1])]);
    assert_eq!(split_labels(&read_dataset(folder.path(), &task).unwrap(), "test"), [1, -1]);
}

#[test]
fn what_is_missing_has_no_label() {
    let task = task("splits.test = \"test\"");
    let csv = "a,label\nx,1\ny,\nz,  \n";
    assert_eq!(labels(&rows(Format::Csv, csv, &task).unwrap()), [1, -1, -1]);
    let lines = "{\"a\":\"x\",\"label\":null}\n{\"a\":\"y\"}\n{\"a\":\"z\",\"label\":0}\n";
    assert_eq!(labels(&rows(Format::Jsonl, lines, &task).unwrap()), [-1, -1, 0]);
    // pandas' float column with a gap, a dictionary with a null, a column of nothing.
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(f64::NAN)]));
    let words: DictionaryArray<Int32Type> = vec![Some("good"), None, Some("")].into_iter().collect();
    for label in [floats, Arc::new(words)] {
        for (form, bytes) in tables(table(label)) {
            assert_eq!(labels(&rows(form, bytes, &task).unwrap()), [1, -1, -1], "{form}");
        }
    }
    let nothing = stream(table(Arc::new(NullArray::new(2))));
    assert_eq!(labels(&rows(Format::Arrow, nothing, &task).unwrap()), [-1, -1]);
}

#[test]
fn a_split_without_the_column_is_told_and_train_must_have_it() {
    let task = task("splits.test = \"test\"");
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("train.csv"), "a,label\nx,1\n").unwrap();
    std::fs::write(folder.path().join("test.csv"), "id,a\n1,x\n").unwrap();
    assert_eq!(split_labels(&read_dataset(folder.path(), &task).unwrap(), "test"), [-1]);
    std::fs::remove_file(folder.path().join("test.csv")).unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let bytes = parquet_of(vec![("a", texts)], None, Compression::SNAPPY);
    std::fs::write(folder.path().join("test.parquet"), bytes).unwrap();
    assert_eq!(split_labels(&read_dataset(folder.path(), &task).unwrap(), "test"), [-1]);
    std::fs::write(folder.path().join("train.csv"), "a,stars\nx,1\n").unwrap();
    assert!(message_of(folder.path(), &task).contains("expected a column \"label\", found a, stars"));
}

#[test]
fn truth_values_are_the_same_in_every_form() {
    let truth: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    let forms = || {
        let lines = b"{\"a\":\"\",\"label\":true}\n{\"a\":\"\",\"label\":false}".to_vec();
        let csv = b"a,label\nx,True\ny,False\n".to_vec();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["TRUE", "false"]));
        let [arrow, parquet] = tables(table(truth.clone()));
        [
            (Format::Jsonl, lines),
            (Format::Csv, csv),
            arrow,
            parquet,
            tables(table(texts)).into_iter().next().unwrap(),
        ]
    };
    for (map, expected) in [
        ("", [1, 0]),
        ("[label_map]\ntrue = 0\nfalse = 1\n", [0, 1]),
        ("[label_map]\n1 = 0\n0 = 1\n", [0, 1]),
    ] {
        for (form, bytes) in forms() {
            assert_eq!(labels(&rows(form, bytes, &task(map)).unwrap()), expected, "{form} {map}");
        }
    }
}

#[test]
fn dictionaries_and_floats_are_read_by_value() {
    // `astype("category")` of integers in pandas: indexes of 8 bits into 64.
    let keys = Int8Array::from(vec![Some(1), Some(0), None]);
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 0]));
    let category = DictionaryArray::<Int8Type>::try_new(keys, values).unwrap();
    for (form, bytes) in tables(table(Arc::new(category))) {
        assert_eq!(labels(&rows(form, bytes, &task("")).unwrap()), [0, 1, -1], "{form}");
    }
    // A category of truth values, which Parquet's library reads as bits alone.
    let values: ArrayRef = Arc::new(BooleanArray::from(vec![false, true]));
    let category = DictionaryArray::<Int8Type>::try_new(Int8Array::from(vec![1, 0, 1]), values).unwrap();
    let stream = stream(table(Arc::new(category)));
    assert_eq!(labels(&rows(Format::Arrow, stream, &task("")).unwrap()), [1, 0, 1]);
    let bytes = include_bytes!("category_of_bool.parquet");
    assert_eq!(labels(&rows(Format::Parquet, bytes, &task("")).unwrap()), [1, 0, 1, 0]);
    for (form, bytes) in tables(table(Arc::new(Float32Array::from(vec![1.0, 0.0, -1.0])))) {
        assert_eq!(labels(&rows(form, bytes, &task("")).unwrap()), [1, 0, -1], "{form}");
    }
    assert_eq!(labels(&rows(Format::Csv, "a,label\nx,1.0\ny,0.0\n", &task("")).unwrap()), [1, 0]);
    assert_eq!(labels(&rows(Format::Csv, "a,label\nx,4.0\n", &task(STARS)).unwrap()), [1]);
    refused(Format::Jsonl, "{\"a\":\"\",\"label\":0.5}", &task(""), "found the number 0.5");
    refused(Format::Csv, "a,label\nx,0.5\n", &task(""), "found the text \"0.5\"");
    // Not a null, which a cast would make of it.
    for (form, bytes) in tables(table(Arc::new(UInt64Array::from(vec![u64::MAX])))) {
        assert!(rows(form, bytes, &task("")).is_err(), "{form}");
    }
}

#[test]
fn labels_may_be_the_words_that_answer() {
    let sst2 = Task { text: vec!["a".into()], ..Task::builtin("sst2").unwrap() };
    assert_eq!(
        labels(&rows(Format::Csv, "a,label\nx,negative\ny,Positive\nz,0\n", &sst2).unwrap()),
        [0, 1, 0]
    );
    assert_eq!(labels(&rows(Format::Jsonl, "{\"a\":\"\",\"label\":\"good\"}", &task("")).unwrap()), [1]);
    refused(Format::Csv, "a,label\nx,fine\n", &task(""), "expected a class number, or one of bad, good");
}

/// MNLI class-encoded in the alphabet's order: its sub-task of negative and positive rows has no neutral one.
#[test]
fn sub_tasks_go_by_names() {
    let names = ["contradiction", "entailment", "neutral"];
    let folder = TempDir::new().unwrap();
    for split in ["train", "validation_matched"] {
        let labels = integers(&[0, 1, 2, 2, 1, 0]);
        let texts: ArrayRef = Arc::new(StringArray::from(names.map(|name| [name; 2]).concat()));
        // Its text says what each row is, in the order of the labels.
        let said: ArrayRef =
            Arc::new(StringArray::from([0, 1, 2, 2, 1, 0].map(|class| names[class]).to_vec()));
        let columns = vec![("premise", said), ("hypothesis", texts), ("label", labels)];
        let table = folder.path().join(split);
        save_table(&table, &info(&names), &[("data-00000-of-00001.arrow", stream(columns))]);
    }
    let mnli = Task::builtin("mnli").unwrap();
    let data = read_dataset(folder.path(), &mnli).unwrap();
    let made = binarize(&data, &mnli, SubTask::NegativePositive, Choice::Seeded(0)).unwrap();
    let rows = &made.splits["validation_matched"];
    let said: Vec<(&str, i64)> = rows.iter().map(|row| (row.text.as_str(), row.label)).collect();
    assert_eq!(said, [("contradiction", 0), ("entailment", 1), ("entailment", 1), ("contradiction", 0)]);
}
