//! CSV as spreadsheets and libraries write it.

use super::*;

fn csv(bytes: impl AsRef<[u8]>) -> Vec<Example> {
    rows(Format::Csv, bytes, &task("")).unwrap()
}

#[test]
fn a_quote_that_never_closes_is_refused() {
    // Only the text as the last column hides it from the count of fields.
    let bytes = "label,a\n1,fine\n0,\"two\nlines\"\n1,\"good film\n0,bad\n1,fine\n";
    refused(Format::Csv, bytes, &task(""), "line 5: a quote opens a field here and never closes");
    refused(Format::Csv, bytes.replace('\n', "\r\n"), &task(""), "line 5: a quote opens a field here");
    refused(Format::Csv, "label,\"a\n", &task(""), "line 1: a quote opens a field here");
    refused(Format::Csv, "label,a\n1,\"good film", &task(""), "line 2: a quote opens a field here");
    let far = format!("label,a\n{}1,\"x\n0,y\n", "1,a text\n".repeat(50_000));
    refused(Format::Csv, far, &task(""), "line 50002: a quote opens a field here");
}

#[test]
fn a_quote_that_closes_within_another_row_is_refused() {
    let both = "line 2: a quoted field begins here and ends on line 4, where more text stands behind";
    refused(Format::Csv, "label,a\n1,\"good film\n1,fine\n0,\"bad film\n", &task(""), both);
    refused(Format::Csv, "a,label\n\"good film,1\nfine,1\n\"bad film\",0\n", &task(""), both);
    // What stands before it is looked at first.
    refused(Format::Csv, "label,a\n7,x\n1,\"y\n0,\"z\"\n", &task(""), "label 7 is not a class");
    // On one line it is taken as pandas takes it, and the csv module of Python.
    assert_eq!(texts(&csv("label,a\n1,\"good\" film\n0,a \"b\" c\n")), ["good film", "a \"b\" c"]);
}

#[test]
fn a_backslash_before_a_quote_is_refused() {
    // df.write.csv of Spark, which escapes by \ unless told otherwise.
    let spark = "label,a\n1,x\n0,\"he said \\\"no\\\" twice\"\n";
    refused(Format::Csv, spark, &task(""), "line 3: a backslash stands before a quote within quotes");
    // A text that ends with one, as pandas writes it.
    assert_eq!(texts(&csv("label,a\n1,\"C:\\, D:\\\"\n0,\"a \\\"\" b\"\n")), ["C:\\, D:\\", "a \\\" b"]);
}

/// How an editor numbers lines.
#[test]
fn lines_are_counted_as_in_an_editor() {
    let bytes = "a,label\nx,1\n\n\"two\nlines\",0\n\nz,7\n";
    for ends in ["\n", "\r\n"] {
        let bytes = bytes.replace('\n', ends);
        refused(Format::Csv, &bytes, &task(""), "line 7: label 7 is not a class");
        refused(Format::Csv, bytes.replace("z,7", "z"), &task(""), "line 7: expected 2 fields, found 1");
        refused(Format::Csv, bytes.replace(",0", ",8"), &task(""), "line 4: label 8 is not a class");
        refused(Format::Csv, format!("\u{feff}{bytes}"), &task(""), "line 7: label 7 is not a class");
    }
    // Lines of an old Macintosh.
    refused(Format::Csv, "a,label\rx,1\rz,7\r", &task(""), "line 3: label 7 is not a class");
    // Ends of lines within quotes stay as they are.
    assert_eq!(texts(&csv("a,label\r\n\"two\r\nlines\",0\r\n")), ["two\r\nlines"]);
}

#[test]
fn a_task_may_say_what_delimits() {
    // pandas: df.to_csv(sep=";", index=False, quoting=csv.QUOTE_ALL)
    let bytes =
        "\"a\";\"label\";\"n\"\n\"say \"\"hi\"\", ok; now\";\"1\";\"\"\n\"two\r\nlines\";\"0\";\"1.5\"\n";
    let read = rows(Format::Csv, bytes, &task("delimiter = \";\"")).unwrap();
    assert_eq!((texts(&read), labels(&read)), (vec!["say \"hi\", ok; now", "two\r\nlines"], vec![1, 0]));
    for delimiter in [";", "\t", "|"] {
        let bytes = ["n;a;label\n", "1;x, y;1\n"].concat().replace(';', delimiter);
        let keys = format!("delimiter = {delimiter:?}");
        assert_eq!(texts(&rows(Format::Csv, &bytes, &task(&keys)).unwrap()), ["x, y"]);
        let expected = format!("if {delimiter:?} delimits them, the task file must say {keys}");
        refused(Format::Csv, &bytes, &task(""), &format!("found n{delimiter}a{delimiter}label; {expected}"));
        let columns = "format = \"csv\"\nheader = false\ncolumns = [\"n\", \"a\", \"label\"]";
        refused(Format::Csv, bytes.replace(", ", " "), &task(columns), &format!("found 1; {expected}"));
    }
    refused(
        Format::Csv,
        "a,label\nx,1\n",
        &task("delimiter = \";\""),
        "if \",\" delimits them, the task file must say delimiter = \",\"",
    );
    // A column that is missing, without anything that looks like another delimiter.
    let error = rows(Format::Csv, "b\nx\n", &task("")).unwrap_err().to_string();
    assert!(error.ends_with("expected a column \"a\", found b"), "{error}");
}

#[test]
fn who_named_no_task_is_told_of_it() {
    let error = |task: &Task| rows(Format::Csv, "review,stars\nx,up\n", task).unwrap_err().to_string();
    let hint = "task sst2 reads that column, a task file says which columns yours are";
    let sst2 = Task::builtin("sst2").unwrap();
    let said = error(&sst2);
    let expected = format!("expected a column \"sentence\", found review, stars; {hint}");
    assert!(said.ends_with(&expected), "{said}");
    // The column of a metric is not the task's.
    let said = error(&sst2.numbers_of("length", "train"));
    assert!(said.ends_with("expected a column \"length\", found review, stars"), "{said}");
}

/// Keeps what readers tell.
#[derive(Default)]
struct Told {
    notes: Vec<String>,
    texts: Vec<String>,
}

impl Receiver for Told {
    fn split(&mut self, _name: &str) -> Result<()> {
        Ok(())
    }

    fn note(&mut self, message: &str) -> Result<()> {
        self.notes.push(message.to_owned());
        Ok(())
    }

    fn row(&mut self, row: crate::Row<'_>) -> Result<()> {
        self.texts.push(row.text.to_owned());
        Ok(())
    }
}

fn told(name: &str, bytes: &str, task: &Task) -> Result<Told> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join(name);
    put(&file, bytes);
    let mut told = Told::default();
    read_dataset_to(&file, task, &mut told)?;
    Ok(told)
}

#[test]
fn the_line_of_excel_is_followed_and_told() {
    for start in ["sep=;\r\n", "\u{feff}SEP=;\n"] {
        let read = told("x.csv", &format!("{start}a;label\r\nx, y;1\r\n"), &task("")).unwrap();
        assert_eq!(read.texts, ["x, y"]);
        assert_eq!(read.notes.len(), 1);
        assert!(
            read.notes[0].ends_with("x.csv, split train: its first line says that ';' delimits the values"),
            "{:?}",
            read.notes
        );
    }
    refused(Format::Csv, "sep=;\r\na;label\r\nx;7\r\n", &task(""), "line 3: label 7");
    let contrary = "line 1: expected sep=|, as the task's delimiter says, found sep=;";
    refused(Format::Csv, "sep=;\na;label\nx;1\n", &task("delimiter = \"|\""), contrary);
    assert_eq!(told("x.csv", "sep=;\na;label\nx;1\n", &task("delimiter = \";\"")).unwrap().texts, ["x"]);
    refused(Format::Csv, "sep=x\nax\n", &task(""), "line 1: expected a delimiter behind sep=");
    // A column of that name is none of Excel's lines.
    assert_eq!(told("x.csv", "sep=,a,label\n1,x,1\n", &task("")).unwrap().texts, ["x"]);
}

#[test]
fn tsv_files_are_read_by_tabs() {
    // pandas: df.to_csv("x.tsv", sep="\t", index=False, encoding="utf-8-sig")
    let bytes = "\u{feff}a\tlabel\tn\n\"say \"\"hi\"\", ok\"\t1\t\n\"two\r\nlines\"\t0\t1.5\n";
    for name in ["x.tsv", "x.TSV"] {
        let read = told(name, bytes, &task("")).unwrap();
        assert_eq!(read.texts, ["say \"hi\", ok", "two\r\nlines"]);
        assert_eq!(read.notes, [""; 0]);
    }
    assert!(told("x.csv", bytes, &task("")).is_err());
    assert_eq!(told("x.tsv", "a;label\nx\ty;1\n", &task("delimiter = \";\"")).unwrap().texts, ["x\ty"]);
}

#[test]
fn other_encodings_are_named() {
    // "café" as Excel on Windows saves it, and "привет" in Windows-1251.
    let western = "line 3: field 0 is not UTF-8 (byte 0xE9); it is probably in Windows-1252 (Latin-1): convert it with \
                   `iconv -f WINDOWS-1252 -t UTF-8`";
    refused(Format::Csv, b"a,label\r\nx,1\r\ncaf\xe9,1\r\n", &task(""), western);
    refused(Format::Csv, b"caf\xe9,a,label\n", &task(""), "line 1: field 0 is not UTF-8");
    let cyrillic = b"a,label\n\xef\xf0\xe8\xe2\xe5\xf2,1\n";
    refused(Format::Csv, cyrillic, &task(""), "such as GB18030 or WINDOWS-1251");
}
