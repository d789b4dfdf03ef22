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

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skn_artifact::did_you_mean;
use skn_artifact::names::file::{LONGEST_TASK, is_taken};

use crate::builtin;
use crate::error::{DataError, Result};
use crate::format::Format;
use crate::metric::Metric;
use crate::small_file::{is_plain_name, read_text};
use crate::spellings::{one_or_several, spellings};
use crate::task_syntax::syntax_error;
use crate::text_template::TextTemplate;

/// A text classification task: where its texts and labels stand, which words answer it and how it is scored.
///
/// A task is a TOML file; those of the method's evaluation are built in.
///
/// ```
/// use skn_data::Task;
///
/// let task = Task::builtin("sst2")?;
/// assert_eq!(task.text, ["sentence"]);
/// assert_eq!(task.labels, ["negative", "positive"]);
/// assert_eq!(task.splits.test.as_deref(), Some("validation"));
/// # Ok::<(), skn_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Task {
    /// Its name, which is also the name of its folder within a run.
    pub name: String,
    /// The columns of the text: one, or two for a pair of texts; a task file may say one without a list. None: those of the template,
    /// or without one the one empty text of task `empty`.
    #[serde(default, deserialize_with = "one_or_several")]
    pub text: Vec<String>,
    /// What a row says to the model, instead of its text or pair of texts alone: any columns, and what stands around them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TextTemplate>,
    /// The column of the label.
    #[serde(default = "label_column")]
    pub label: String,
    /// The words of the verbalizer in class order, tokenised as they are written. None where nothing answers: then `names` or
    /// `label_map` say which classes there are.
    #[serde(default)]
    pub labels: Vec<String>,
    /// What data call the classes, in class order, each with all its spellings: a name or a list of names in the task file. Where
    /// data name their classes, their labels go by these names, and others are refused. Without any, the words of `labels` are
    /// tried, then the data's own order is taken.
    #[serde(default, deserialize_with = "spellings", skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Vec<String>>,
    /// What answers call the classes, in class order: names of the user's own, for people and for tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label_names: Vec<String>,
    /// How predictions are scored. Accuracy unless given.
    #[serde(default)]
    pub metric: Metric,
    /// Which splits of the data are train, dev and test. Not said: those of the usual names that the data have, `train`,
    /// `validation`, `dev` or `valid`, and `test`.
    #[serde(default, skip_serializing_if = "SplitNames::are_unsaid")]
    pub splits: SplitNames,
    /// Classes of files whose labels are not 0 .. C-1: label as it is written, class. Where data name their classes, a label is
    /// its name, if the map has any of the names. Empty: labels are classes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub label_map: BTreeMap<String, usize>,
    /// What happens to rows whose label `label_map` does not name. An error unless given.
    #[serde(default)]
    pub other_labels: OtherLabels,
    /// The only form that the data may have. Any unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Whether CSV files begin with the names of their columns. They do unless given.
    #[serde(default = "header")]
    pub header: bool,
    /// The names of the columns of CSV files without a header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// What delimits the values of CSV files, a character of ASCII. Unless given, a comma, and a tab in files named `.tsv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Whether the one column of the text is one of numbers: see [`Task::numbers_of`]. No task file says it.
    #[serde(skip)]
    pub(crate) numbers: bool,
}

/// The splits of a data set that are train, dev and test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitNames {
    /// The split to train on. Empty where no split is named, and for a task without data.
    #[serde(default)]
    pub train: String,
    /// The split to choose checkpoints and neurons on; without one, a part of train.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// The split to report on; without one, a part of train.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
}

/// What the split to train on is usually called ..
const TRAIN: &str = "train";
/// .. that to choose by, the first of these that is there ..
const DEV: [&str; 3] = ["validation", "dev", "valid"];
/// .. and that to report on.
const TEST: &str = "test";

impl SplitNames {
    /// Whether no split is named.
    pub(crate) fn are_unsaid(&self) -> bool {
        self.train.is_empty() && self.dev.is_none() && self.test.is_none()
    }

    /// Those of the usual names that data have, by what `has` says. The only one beside train is what is reported on, and a part
    /// of train is dev.
    pub(crate) fn among<E>(mut has: impl FnMut(&str) -> Result<bool, E>) -> Result<Self, E> {
        let mut dev = None;
        for name in DEV {
            if dev.is_none() && has(name)? {
                dev = Some(name.to_owned());
            }
        }
        let test = has(TEST)?.then(|| TEST.to_owned());
        Ok(match test {
            None => Self { train: TRAIN.to_owned(), dev: None, test: dev },
            test => Self { train: TRAIN.to_owned(), dev, test },
        })
    }
}

/// What happens to rows whose label a task's `label_map` does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OtherLabels {
    /// They are an error.
    #[default]
    Error,
    /// They are not used, like rows without a label.
    Drop,
}

/// More classes than this are a mistake.
const MOST_CLASSES: usize = 100_000;

fn label_column() -> String {
    "label".to_owned()
}

fn header() -> bool {
    true
}

impl Task {
    /// The names of the built-in tasks, sorted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        builtin::TASKS.iter().map(|(name, _)| *name)
    }

    /// A built-in task.
    ///
    /// # Errors
    ///
    /// [`DataError::UnknownTask`], with the names that look alike.
    pub fn builtin(name: &str) -> Result<Self> {
        match builtin::find(name) {
            Some(text) => Self::from_toml(text, name),
            None => {
                let hint = did_you_mean(name, Self::names()).unwrap_or_else(builtin::hint);
                Err(DataError::UnknownTask { name: name.to_owned(), hint })
            }
        }
    }

    /// Reads a task file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or see [`Task::from_toml`].
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        Self::from_toml(&read_text(path, &file)?, &file)
    }

    /// A task from the text of its file; `file` is the name that errors give it.
    ///
    /// # Errors
    ///
    /// [`DataError::TaskFile`] for anything that is not a task: TOML syntax, unknown keys, and values that
    /// contradict each other.
    pub fn from_toml(text: &str, file: &str) -> Result<Self> {
        let task: Self = toml::from_str(text).map_err(|error| syntax_error(text, file, &error))?;
        // A task without a text is one that says so.
        task.check_text_is_said(text).and_then(|()| task.check()).map_err(|(field, expected, found)| {
            DataError::TaskFile {
                file: file.to_owned(),
                field: field.to_owned(),
                expected: expected.to_owned(),
                found,
            }
        })?;
        Ok(task)
    }

    /// A task as a record keeps it, which is checked like a file; `file` is the name that errors give it.
    ///
    /// # Errors
    ///
    /// [`DataError::TaskFile`], as for [`Task::from_toml`].
    pub fn from_json(value: serde_json::Value, file: &str) -> Result<Self> {
        let wrong = |field: &str, expected: &str, found: String| DataError::TaskFile {
            file: file.to_owned(),
            field: field.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let task: Self =
            serde_json::from_value(value).map_err(|error| wrong("task", "a task", error.to_string()))?;
        task.check().map_err(|(field, expected, found)| wrong(field, expected, found))?;
        Ok(task)
    }

    /// The text of a file that describes it.
    ///
    /// # Errors
    ///
    /// [`DataError::TaskFile`] if TOML can't say it.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| DataError::TaskFile {
            file: format!("{}.toml", self.name),
            field: "task".to_owned(),
            expected: "what TOML can say".to_owned(),
            found: error.to_string(),
        })
    }

    /// The number of classes: of the words that answer, else of the names, else of what labels are mapped to.
    pub fn classes(&self) -> usize {
        let mapped = || self.label_map.values().max().map_or(0, |highest| highest.saturating_add(1));
        match (self.labels.len(), self.names.len()) {
            (0, 0) => mapped(),
            (0, named) => named,
            (words, _) => words,
        }
    }

    /// The same task with the splits of the usual names that `has` says are there, if it names none.
    pub(crate) fn with_splits<E>(&self, has: impl FnMut(&str) -> Result<bool, E>) -> Result<Self, E> {
        if !self.needs_data() || !self.splits.are_unsaid() {
            return Ok(self.clone());
        }
        Ok(Self { splits: SplitNames::among(has)?, ..self.clone() })
    }

    /// Whether the task reads data; task `empty` does not.
    pub fn needs_data(&self) -> bool {
        !self.text.is_empty() || self.template.is_some()
    }

    /// The columns whose texts a row has: those that the template names, in the order in which it does; without one those of
    /// `text`.
    pub fn text_columns(&self) -> &[String] {
        self.template.as_ref().map_or(&self.text, TextTemplate::columns)
    }

    /// What the user calls a class: `label_names`, else what data call it (the first of its `names`, or the one label that
    /// `label_map` maps to it); nothing where the task says neither.
    ///
    /// ```
    /// let text = r#"
    /// name = "reviews"
    /// text = ["review"]
    /// labels = ["bad", "good"]
    /// label_map = { down = 0, up = 1, top = 1 }
    /// splits.train = "train"
    /// "#;
    /// let task = skn_data::Task::from_toml(text, "reviews.toml")?;
    /// assert_eq!((task.label_name(0), task.label_name(1)), (Some("down"), None));
    /// # Ok::<(), skn_data::DataError>(())
    /// ```
    pub fn label_name(&self, class: usize) -> Option<&str> {
        let named = || self.names.get(class)?.first().map(String::as_str);
        let mapped = || {
            let mut labels = self.label_map.iter().filter(|(_, of)| **of == class).map(|(label, _)| label);
            labels.next().filter(|_| labels.next().is_none()).map(String::as_str)
        };
        self.label_names.get(class).map(String::as_str).or_else(named).or_else(mapped)
    }

    /// The verbalizer words of the published implementation (`--compat paper`), which go by the number of classes;
    /// the task's own for other numbers than two to four.
    pub fn paper_words(&self) -> Vec<String> {
        let words: &[&str] = match self.classes() {
            2 => &["negative", "positive"],
            3 => &["negative", "neutral", "positive"],
            4 => &["conflict", "negative", "neutral", "positive"],
            _ => return self.labels.clone(),
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// The same task with other verbalizer words (`--verb`), in class order.
    ///
    /// # Errors
    ///
    /// [`DataError::WordCount`] unless there is one word for each class.
    pub fn with_words(self, words: Vec<String>) -> Result<Self> {
        if words.len() != self.classes() {
            return Err(DataError::WordCount {
                expected: self.classes(),
                found: words.len(),
                words: words.join(", "),
                task: self.name,
            });
        }
        Ok(Self { labels: words, ..self })
    }

    /// The task that reads a column of numbers in a row's text's place, of one split of the same data. Its rows are those of the split, in
    /// their order; a row's text is the number, as Rust writes it, and that of a row without a label `0.0`.
    ///
    /// ```
    /// use skn_data::{Dataset, Task};
    ///
    /// let task = Task::builtin("sst2")?.numbers_of("length", "train");
    /// let rows = b"{\"sentence\": \"good\", \"label\": 1, \"length\": 4}\n{\"label\": 0, \"length\": \"2.50\"}\n";
    /// let read = Dataset::from_jsonl(&[("train", rows)], &task)?;
    /// let texts: Vec<&str> = read.splits["train"].iter().map(|row| row.text.as_str()).collect();
    /// assert_eq!(texts, ["4.0", "2.5"]);
    /// # Ok::<(), skn_data::DataError>(())
    /// ```
    #[must_use]
    pub fn numbers_of(&self, column: &str, split: &str) -> Self {
        Self {
            text: vec![column.to_owned()],
            template: None,
            splits: SplitNames { train: split.to_owned(), dev: None, test: None },
            numbers: true,
            ..self.clone()
        }
    }

    /// Whether it is one of [`Task::numbers_of`], which its serialised form does not say.
    pub fn reads_numbers(&self) -> bool {
        self.numbers
    }

    /// The same task, as one of [`Task::numbers_of`] or not: for who has it from its serialised form.
    #[must_use]
    pub fn reading_numbers(self, numbers: bool) -> Self {
        Self { numbers, ..self }
    }

    /// The names of the splits that the task reads, each once, train first; of one that names none, all that it may read.
    pub(crate) fn split_names(&self) -> Vec<&str> {
        if self.needs_data() && self.splits.are_unsaid() {
            return [TRAIN].into_iter().chain(DEV).chain([TEST]).collect();
        }
        let mut names = vec![self.splits.train.as_str()];
        for name in self.splits.dev.iter().chain(&self.splits.test) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// Whether the file says which columns texts are in, or that there are none.
    fn check_text_is_said(&self, file: &str) -> Result<(), Wrong> {
        let said = self.needs_data()
            || toml::from_str(file).is_ok_and(|table: toml::Table| table.contains_key("text"));
        if said {
            Ok(())
        } else {
            Err(("text", "columns, or a template that names some", "neither".to_owned()))
        }
    }

    /// The first value that cannot be: its field, what may stand there, what does.
    fn check(&self) -> Result<(), Wrong> {
        self.check_name()?;
        self.check_labels()?;
        self.check_delimiter()?;
        self.check_columns()?;
        self.check_splits()
    }

    fn check_name(&self) -> Result<(), Wrong> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(allowed) {
            return Err((
                "name",
                "letters, digits, '_', '-' and '.' (it names a folder)",
                format!("{:?}", self.name),
            ));
        }
        if is_taken(&self.name) {
            return Err((
                "name",
                "one that no file or folder of a run has (it names a folder there)",
                format!("{:?}", self.name),
            ));
        }
        if self.name.len() > LONGEST_TASK {
            let start: String = self.name.chars().take(20).collect();
            let found = format!("{} (it begins with {start:?})", self.name.len());
            return Err(("name", "at most 100 characters (it names a folder)", found));
        }
        Ok(())
    }

    fn check_labels(&self) -> Result<(), Wrong> {
        if self.labels.is_empty() && self.classes() < 2 {
            let expected = "a word for each class; or, where nothing answers, names or a label_map of at least two classes";
            return Err(("labels", expected, "none".to_owned()));
        }
        if self.labels.len() == 1 {
            return Err(("labels", "at least two words", format!("{:?}", self.labels)));
        }
        if self.classes() > MOST_CLASSES {
            let found = format!("{} of them", self.classes());
            return Err(("label_map", "at most 100000 classes", found));
        }
        if let Some(class) = self.labels.iter().position(|word| word.trim().is_empty()) {
            return Err(("labels", "a word for each class", format!("no word for class {class}")));
        }
        self.check_names_of_classes()?;
        self.check_label_names()?;
        if let Some((label, class)) = self.label_map.iter().find(|(_, class)| **class >= self.classes()) {
            return Err(("label_map", "classes below the number of labels", format!("{label} = {class}")));
        }
        if self.other_labels == OtherLabels::Drop && self.label_map.is_empty() {
            return Err(("other_labels", "a label_map to go with \"drop\"", "none".to_owned()));
        }
        Ok(())
    }

    fn check_label_names(&self) -> Result<(), Wrong> {
        let names = &self.label_names;
        if !names.is_empty() && names.len() != self.classes() {
            let found = format!("{} for {} classes", names.len(), self.classes());
            return Err(("label_names", "a name for each class", found));
        }
        let twice =
            names.iter().enumerate().find(|(place, name)| names.iter().take(*place).any(|n| n == *name));
        match names.iter().position(|name| name.trim().is_empty()) {
            Some(class) => {
                Err(("label_names", "names with a letter", format!("an empty one of class {class}")))
            }
            None => match twice {
                Some((_, name)) => Err(("label_names", "each name once", format!("{name:?} twice"))),
                None => Ok(()),
            },
        }
    }

    fn check_names_of_classes(&self) -> Result<(), Wrong> {
        if self.names.is_empty() {
            return Ok(());
        }
        if self.names.len() != self.classes() {
            let found = format!("{} for {} classes", self.names.len(), self.classes());
            return Err(("names", "a name, or a list of names, for each class", found));
        }
        let mut seen = BTreeMap::new();
        for (class, name) in
            self.names.iter().enumerate().flat_map(|(class, of)| of.iter().map(move |name| (class, name)))
        {
            match seen.insert(name.trim(), class) {
                _ if name.trim().is_empty() => {
                    return Err(("names", "names with a letter", format!("an empty one of class {class}")));
                }
                Some(other) if other != class => {
                    return Err((
                        "names",
                        "each name once",
                        format!("{name:?} for classes {other} and {class}"),
                    ));
                }
                _ => {}
            }
        }
        match self.names.iter().position(Vec::is_empty) {
            Some(class) => Err(("names", "a name for each class", format!("none for class {class}"))),
            None => Ok(()),
        }
    }

    fn check_delimiter(&self) -> Result<(), Wrong> {
        let Some(delimiter) = self.delimiter else { return Ok(()) };
        if !may_delimit(delimiter) {
            return Err((
                "delimiter",
                "a tab, a blank or a sign of ASCII, and no quote",
                format!("{delimiter:?}"),
            ));
        }
        match self.format {
            None | Some(Format::Csv) => Ok(()),
            Some(other) => {
                Err(("delimiter", "it for CSV files alone", format!("format = \"{other}\" beside it")))
            }
        }
    }

    fn check_columns(&self) -> Result<(), Wrong> {
        if self.text.len() > 2 {
            return Err(("text", "one or two columns", format!("{:?}", self.text)));
        }
        if self.text.contains(&self.label) {
            return Err(("text", "other columns than the label's", format!("{:?}", self.text)));
        }
        self.check_template()?;
        if self.header != self.columns.is_empty() {
            return Err((
                "columns",
                "names of columns exactly if header = false",
                format!("{:?}", self.columns),
            ));
        }
        if self.header {
            return Ok(());
        }
        if self.format != Some(Format::Csv) {
            return Err(("header", "format = \"csv\" beside it", "another format or none".to_owned()));
        }
        match self.text_columns().iter().chain([&self.label]).find(|name| !self.columns.contains(name)) {
            Some(name) => Err(("columns", "the columns of text and label", format!("no {name:?}"))),
            None => Ok(()),
        }
    }

    fn check_template(&self) -> Result<(), Wrong> {
        let columns = self.text_columns();
        if self.template.is_some() && columns.contains(&self.label) {
            return Err(("template", "other columns than the label's", format!("{:?}", self.label)));
        }
        match self.text.iter().find(|name| !columns.contains(name)) {
            Some(name) => Err((
                "text",
                "only columns that the template names, or no text beside it",
                format!("{name:?}"),
            )),
            None => Ok(()),
        }
    }

    fn check_splits(&self) -> Result<(), Wrong> {
        let SplitNames { train, dev, test } = &self.splits;
        if !self.needs_data() || self.splits.are_unsaid() {
            return Ok(());
        }
        if train.is_empty() {
            return Err(("splits", "the split to train on, or no splits", format!("{:?}", self.splits)));
        }
        if dev.is_some() && test.is_none() {
            return Err(("splits", "a test split beside dev", format!("dev = {dev:?} alone")));
        }
        for name in [Some(train), dev.as_ref(), test.as_ref()].into_iter().flatten() {
            if !is_plain_name(name) {
                return Err(("splits", "names of splits without any path", format!("{name:?}")));
            }
        }
        if self.split_names().len() != 1 + dev.iter().count() + test.iter().count() {
            return Err(("splits", "three different splits", "one split twice".to_owned()));
        }
        Ok(())
    }
}

/// Whether a character may stand between the values of a CSV file.
pub(crate) fn may_delimit(letter: char) -> bool {
    letter.is_ascii_punctuation() && letter != '"' || matches!(letter, '\t' | ' ')
}

/// A wrong value in a task file: field, expected, found.
type Wrong = (&'static str, &'static str, String);

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str =
        "name = \"t\"\ntext = [\"a\"]\nlabels = [\"bad\", \"good\"]\n[splits]\ntrain = \"train\"\n";

    #[track_caller]
    fn refused(text: &str, message: &str) {
        let error = Task::from_toml(text, "t.toml").unwrap_err().to_string();
        assert!(error.starts_with("t.toml: "), "{error}");
        assert!(error.contains(message), "{error}");
    }

    #[test]
    fn every_builtin_task_is_a_task_of_its_name() {
        for name in Task::names() {
            let task = Task::builtin(name).unwrap();
            assert_eq!(task.name, name);
            assert_eq!(task.needs_data(), name != "empty");
        }
        assert_eq!(Task::names().count(), 24);
    }

    #[test]
    fn words_and_metrics_of_the_method() {
        assert_eq!(Task::builtin("mnli").unwrap().labels, ["positive", "neutral", "negative"]);
        assert_eq!(Task::builtin("qnli").unwrap().labels, ["positive", "negative"]);
        assert_eq!(Task::builtin("cola").unwrap().metric, Metric::Mcc);
        assert_eq!(Task::builtin("qqp").unwrap().metric, Metric::AccuracyF1);
        let dbpedia = Task::builtin("dbpedia").unwrap();
        assert_eq!((dbpedia.classes(), dbpedia.label_map["14"], dbpedia.header), (14, 13, false));
        assert_eq!(Task::builtin("dbpedia_s").unwrap().other_labels, OtherLabels::Drop);
    }

    #[test]
    fn paper_words_go_by_the_number_of_classes() {
        assert_eq!(Task::builtin("qnli").unwrap().paper_words(), ["negative", "positive"]);
        assert_eq!(Task::builtin("mnli").unwrap().paper_words(), ["negative", "neutral", "positive"]);
        assert_eq!(Task::builtin("ag_news").unwrap().paper_words()[0], "conflict");
        assert_eq!(Task::builtin("dbpedia").unwrap().paper_words().len(), 14);
    }

    #[test]
    fn unknown_tasks_name_near_ones() {
        let error = Task::builtin("sst").unwrap_err();
        assert_eq!(error.to_string(), "unknown task \"sst\"; did you mean sst2");
    }

    #[test]
    fn defaults() {
        let task = Task::from_toml(TASK, "t.toml").unwrap();
        assert_eq!((task.label.as_str(), task.metric, task.header), ("label", Metric::Accuracy, true));
        assert_eq!(task.splits.test, None);
    }

    #[test]
    fn one_column_needs_no_list() {
        let said = Task::from_toml(&TASK.replace("[\"a\"]", "\"a\""), "t.toml").unwrap();
        assert_eq!(said, Task::from_toml(TASK, "t.toml").unwrap());
        assert_eq!(said.text, ["a"]);
        refused(&TASK.replace("[\"a\"]", "7"), "line 2, text: expected a task, found ");
        refused(&TASK.replace("[\"a\"]", "7"), "a column, or a list of columns");
    }

    #[test]
    fn contradictions_are_refused() {
        refused(&TASK.replace("\"good\"", "\"\""), "labels: expected a word for each class");
        refused(&TASK.replace(", \"good\"", ""), "labels: expected at least two words");
        refused(&TASK.replace("[\"a\"]", "[\"a\", \"b\", \"c\"]"), "text: expected one or two columns");
        refused(&TASK.replace("[\"a\"]", "[\"label\"]"), "text: expected other columns");
        refused(&TASK.replace("\"t\"", "\"../t\""), "name: expected letters");
        refused(&TASK.replace("\"train\"", "\"../train\""), "splits: expected names of splits");
        refused(&format!("{TASK}dev = \"dev\"\n"), "splits: expected a test split");
        refused(&format!("{TASK}test = \"train\"\n"), "splits: expected three different splits");
        refused(&format!("{TASK}[label_map]\n1 = 2\n"), "label_map: expected classes below");
        refused(&format!("header = false\n{TASK}"), "columns: expected names");
        let columns = "header = false\ncolumns = [\"a\"]\n";
        refused(&format!("{columns}{TASK}"), "header: expected format = \"csv\"");
        refused(&format!("format = \"csv\"\n{columns}{TASK}"), "columns: expected the columns of text");
        refused(
            &format!("names = [\"a\"]\n{TASK}"),
            "names: expected a name, or a list of names, for each class",
        );
        refused(&format!("names = [\"a\", [\"b\", \"a\"]]\n{TASK}"), "names: expected each name once");
        refused(&format!("names = [\"a\", []]\n{TASK}"), "names: expected a name for each class");
        refused(&format!("names = [\"a\", \" \"]\n{TASK}"), "names: expected names with a letter");
        refused(&format!("label_names = [\"a\"]\n{TASK}"), "label_names: expected a name for each class");
        refused(
            &format!("label_names = [\"a\", \" \"]\n{TASK}"),
            "label_names: expected names with a letter",
        );
        refused(&format!("label_names = [\"a\", \"a\"]\n{TASK}"), "label_names: expected each name once");
        refused(&format!("other_labels = \"drop\"\n{TASK}"), "other_labels: expected a label_map");
        for delimiter in ["\"", "\n", "é", "x"] {
            refused(
                &format!("delimiter = {delimiter:?}\n{TASK}"),
                "delimiter: expected a tab, a blank or a sign",
            );
        }
        refused(&format!("delimiter = \";;\"\n{TASK}"), "line 1");
        let columns =
            "format = \"csv\"\nheader = false\ncolumns = [\"a\", \"label\"]\ntemplate = \"{a}{c}\"\n";
        refused(
            &format!("{columns}{TASK}"),
            "columns: expected the columns of text and label, found no \"c\"",
        );
        refused(&format!("format = \"json\"\ndelimiter = \";\"\n{TASK}"), "delimiter: expected it for CSV");
    }

    #[test]
    fn a_template_takes_the_place_of_text() {
        let with = |template: &str, text: &str| {
            TASK.replace("text = [\"a\"]", &format!("{text}template = {template:?}"))
        };
        let task = Task::from_toml(&with("{b}: {a}{b}", ""), "t.toml").unwrap();
        assert!(task.needs_data());
        assert_eq!((task.text_columns(), task.text.len()), (&["b".to_owned(), "a".to_owned()][..], 0));
        assert_eq!(
            Task::from_toml(&with("{b}: {a}", "text = [\"a\"]\n"), "t.toml").unwrap().text_columns(),
            ["b", "a"]
        );
        let written = task.to_toml().unwrap();
        assert_eq!(Task::from_toml(&written, "t.toml").unwrap(), task);
        let kept = serde_json::to_value(&task).unwrap();
        assert_eq!(Task::from_json(kept.clone(), "skn.json").unwrap(), task);
        let mut other = kept;
        other["name"] = "../t".into();
        let error = Task::from_json(other, "skn.json").unwrap_err().to_string();
        assert!(error.starts_with("skn.json: name: expected letters"), "{error}");
        refused(&with("{b}", "text = [\"a\"]\n"), "text: expected only columns that the template names");
        refused(
            &with("{a}{label}", ""),
            "template: expected other columns than the label's, found \"label\"",
        );
        refused(&with("{a", ""), "line 2: expected a task, found a template in which a { is never closed");
        refused(&with("Good?", ""), "line 2: expected a task, found a template that names no column");
        refused(&TASK.replace("text = [\"a\"]", ""), "text: expected columns, or a template that names some");
        assert!(!Task::from_toml(&TASK.replace("[\"a\"]", "[]"), "t.toml").unwrap().needs_data());
    }

    #[test]
    fn a_class_is_called_what_the_user_calls_it() {
        let name = |more: &str| {
            let task = Task::from_toml(&format!("{more}\n{TASK}"), "t.toml").unwrap();
            [0, 1, 2].map(|class| task.label_name(class).map(str::to_owned))
        };
        let said = |names: [&str; 2]| [Some(names[0].to_owned()), Some(names[1].to_owned()), None];
        assert_eq!(name(""), [None, None, None]);
        assert_eq!(name("names = [[\"down\", \"no\"], \"up\"]"), said(["down", "up"]));
        assert_eq!(name("label_map = { no = 0, yes = 1 }"), said(["no", "yes"]));
        let all = "label_names = [\"Bad\", \"Good\"]\nnames = [\"down\", \"up\"]\nlabel_map = { no = 0 }";
        assert_eq!(name(all), said(["Bad", "Good"]));
    }

    #[test]
    fn syntax_errors_name_the_line() {
        refused(&TASK.replace("[splits]", "[splits"), "line 4");
        refused(&TASK.replace("labels", "lables"), "lables");
        refused("metric = \"speed\"\n", "line 1");
    }

    #[test]
    fn a_file_of_a_windows_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        let write =
            |bytes: &[u8]| skn_artifact::write_file(&path, skn_artifact::Overwrite::Replace, bytes).unwrap();
        write(format!("\u{feff}{TASK}").as_bytes());
        assert_eq!(Task::read(&path).unwrap().name, "t");
        let utf16: Vec<u8> = TASK.encode_utf16().flat_map(u16::to_le_bytes).collect();
        write(&utf16);
        let error = Task::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("t.toml, byte 0: expected text, found text in UTF-16; convert it with `iconv"),
            "{error}"
        );
    }

    #[test]
    fn as_many_words_as_classes() {
        let task = Task::builtin("sst2").unwrap();
        let error = task.clone().with_words(vec!["good".into()]).unwrap_err();
        assert!(error.to_string().contains("each of the 2 classes of task sst2, found 1: good"), "{error}");
        assert_eq!(task.with_words(vec![" bad".into(), " good".into()]).unwrap().labels, [" bad", " good"]);
    }
}
