//! Where the files of a split may be, whatever their form.

use super::*;

/// What a file of the name holds: one row, whose text is the name.
fn content(name: &str) -> Vec<u8> {
    let short = name.replace('/', " ");
    let text = match name.rsplit('.').next().unwrap() {
        "csv" => format!("a,label\n{short},1\n"),
        "tsv" => format!("a\tlabel\n{short}\t1\n"),
        "jsonl" | "json" => format!("{{\"a\": \"{short}\", \"label\": 1}}\n"),
        "parquet" => {
            let text: ArrayRef = Arc::new(StringArray::from(vec![short]));
            let columns = vec![("a", text), ("label", Arc::new(Int64Array::from(vec![1])) as ArrayRef)];
            return parquet_of(columns, None, Compression::SNAPPY);
        }
        _ => "other".to_owned(),
    };
    text.into_bytes()
}

fn folder_of(names: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in names {
        let path = folder.path().join(name);
        put(path, content(name));
    }
    folder
}

fn both() -> Task {
    task("splits.test = \"test\"")
}

/// The files from which the rows of a split came, in their order.
#[track_caller]
fn read_files(names: &[&str], split: &str) -> Vec<String> {
    let folder = folder_of(names);
    let data = read_dataset(folder.path(), &both()).unwrap();
    data.splits[split].iter().map(|row| row.text.as_str().to_owned()).collect()
}

#[track_caller]
fn refused_with(names: &[&str], expected: &str) {
    let message = message_of(folder_of(names).path(), &both());
    assert!(message.contains(expected), "{message}");
}

const FORMS: [&str; 5] = ["csv", "tsv", "jsonl", "json", "parquet"];

#[test]
fn each_layout_of_the_hub_has_each_form() {
    for form in FORMS {
        for (before, after) in
            [("", ""), ("data/", ""), ("", "-00000-of-00001"), ("data/", "-00000-of-00001"), ("t/", "/0000")]
        {
            let [train, test] = ["train", "test"].map(|split| format!("{before}{split}{after}.{form}"));
            let names = [train.as_str(), &test, "README.md", ".git/config.json", "data/notes/x.txt"];
            assert_eq!(read_files(&names, "train"), [train.replace('/', " ")]);
            assert_eq!(read_files(&names, "test"), [test.replace('/', " ")]);
        }
    }
}

#[test]
fn shards_of_each_form_are_read_in_order_and_must_be_whole() {
    for form in FORMS {
        let shards = [0, 1, 2].map(|n| format!("train-0000{n}-of-00003.{form}"));
        let [a, b, c] = shards.each_ref().map(String::as_str);
        let test = format!("test.{form}");
        assert_eq!(read_files(&[c, a, b, &test], "train"), [a, b, c]);
        refused_with(
            &[a, c, &test],
            "expected all 3 shards and no other file of split \"train\", found train-00000",
        );
        refused_with(&[a, &format!("train.{form}"), &test], "expected all 3 shards");
    }
    // Beside Parquet alone other files begin with the split's name.
    assert_eq!(
        read_files(&["train.csv", "train-notes.json", "train-old.csv", "test.csv"], "train"),
        ["train.csv"]
    );
    refused_with(&["train.csv", "train.tsv", "test.csv"], "expected one file of split \"train\", found");
}

#[test]
fn folders_of_spark_are_splits() {
    // df.write.parquet("train"), .csv("train", header=True), .json("train")
    let part = |split: &str, n: usize, end: &str| {
        format!("{split}/part-0000{n}-5b1f9f0e-8a56-4c0e-9b0f-3f1e7f0d2a11-c000.{end}")
    };
    for end in ["snappy.parquet", "gz.parquet", "csv", "json"] {
        let [first, third, test] = [part("train", 0, end), part("train", 2, end), part("test", 0, end)];
        let check = format!("train/.part-00000.{end}.crc");
        let names = [
            &third,
            &first,
            &test,
            &check,
            "train/_SUCCESS",
            "train/_committed_1.json",
            "train/_started_1.csv",
        ];
        // Parts without rows are not written.
        assert_eq!(read_files(&names, "train"), [first.replace('/', " "), third.replace('/', " ")], "{end}");
        let below = names.map(|name| format!("data/{name}"));
        let below = below.each_ref().map(String::as_str);
        assert_eq!(read_files(&below, "test"), [format!("data {}", test.replace('/', " "))]);
    }
    // Dask and pyarrow.dataset.write_dataset don't write zeros before the number.
    let names = ["train/part.10.parquet", "train/part.9.parquet", "test/part-0.parquet"];
    assert_eq!(read_files(&names, "train"), ["train part.9.parquet", "train part.10.parquet"]);
    assert_eq!(read_files(&["train/data.csv", "test/test.csv"], "train"), ["train data.csv"]);
}

#[test]
fn a_folder_of_a_split_holds_nothing_else() {
    let part = "train/part-00000-c000.csv";
    refused_with(
        &[part, "train/more.csv", "test.csv"],
        "train: expected one file, or files named part-*.csv alone,",
    );
    refused_with(
        &["train/a.csv", "train/b.csv", "test.csv"],
        "train: expected one file, or files named part-*.csv",
    );
    refused_with(&[part, "train/part-00001.json", "test.csv"], "expected one file of split \"train\", found");
    refused_with(&["train/0000.csv", "train/0002.csv", "test.csv"], "expected 0000.csv, 0001.csv and so on");
    refused_with(&["train/train.csv", "train/x.csv", "test.csv"], "expected train.csv or its shards alone");
    refused_with(
        &[part, "train/_temporary/0/part-00001-c000.csv", "test.csv"],
        "expected the files of a job that has ended, without _temporary, of split \"train\"",
    );
    // A folder that only bears the name of a split.
    refused_with(&["train/train.csv", "train/test.csv", "test.csv"], "expected split \"train\" of task t");
    refused_with(&["train/notes.txt", "test.csv"], "train: expected split \"train\" of task t");
    // A task that insists on a form does not see the others.
    let folder = folder_of(&[part, "train/x.json"]);
    let csv = task("format = \"csv\"");
    assert_eq!(
        texts(&read_dataset(folder.path(), &csv).unwrap().splits["train"]),
        ["train part-00000-c000.csv"]
    );
}

#[test]
fn of_several_folders_the_one_with_the_splits_is_read() {
    let names = ["notes/x.json", "data/train.csv", "data/test.csv"];
    assert_eq!(read_files(&names, "test"), ["data test.csv"]);
    refused_with(
        &["a/train.csv", "b/train.csv"],
        "expected one configuration; give the path of its folder, found 2: a, b",
    );
    assert_eq!(read_files(&["a/train.csv", "t/train.csv", "t/test.csv"], "train"), ["t train.csv"]);
    refused_with(&["data/other.csv"], "data: expected split \"train\"");
}

/// What stands in a folder is of another form than the task insists on: that is said, and nothing of what is missing.
#[test]
fn another_form_than_the_task_s_is_named() {
    let folder = TempDir::new().unwrap();
    put(folder.path().join("train.parquet"), small_parquet());
    let message = message_of(folder.path(), &task("format = \"csv\""));
    assert!(message.contains("expected csv files, as task t says, found parquet"), "{message}");
}
