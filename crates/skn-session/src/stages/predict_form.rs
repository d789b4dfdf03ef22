use std::collections::BTreeSet;
use std::fmt::{Display, Write};
use std::sync::Arc;

use serde_json::Value;
use skn_data::{Field, Record};

use super::classify::{Answer, Classifier};
use super::predict::Predicted;
use crate::error::{Result, SessionError};

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerFormat {
    /// A line each: the class's word, its probability and the text, with tabs between; `unsure` or `error` in the place of the word.
    #[default]
    Text,
    /// A JSON object each: what the record has, and the answer.
    Jsonl,
    /// A line each under a line with names, commas between: what the record has, and the answer.
    Csv,
}

/// Writes answers, with what their records have beside the texts, in the records' order.
///
/// JSON Lines and CSV get `predicted_class` (from 0), `predicted_word`, `predicted_label` (where the task says what its classes are
/// called), `probability`, and where they are asked for `probabilities` and `logits`, which are a column for each class in CSV:
/// `probability_0`. Where there is no answer, these are null or empty, and `error` says why, in JSON Lines beside `line`.
#[derive(Debug)]
pub struct AnswerWriter {
    format: AnswerFormat,
    /// Whether probabilities and logits of all classes are written.
    probabilities: bool,
    logits: bool,
    /// Whether what is wrong with a record is written in its place.
    errors: bool,
    classes: usize,
    has_labels: bool,
    /// The columns of the records, once they are known.
    columns: Option<Arc<[String]>>,
    /// Records that are none, which wait for columns.
    waiting: Vec<Predicted>,
    /// Keys of later objects that have no column, which was told.
    told: BTreeSet<String>,
}

impl AnswerWriter {
    /// A writer for the answers of a classifier.
    pub fn new(format: AnswerFormat, classifier: &Classifier<'_>) -> Self {
        let task = classifier.task();
        Self {
            format,
            probabilities: false,
            logits: false,
            errors: false,
            classes: task.classes(),
            has_labels: (0..task.classes()).any(|class| task.label_name(class).is_some()),
            columns: None,
            waiting: Vec::new(),
            told: BTreeSet::new(),
        }
    }

    /// With the probabilities, or the logits, of all classes.
    pub fn with_all(self, probabilities: bool, logits: bool) -> Self {
        Self { probabilities, logits, ..self }
    }

    /// With a line for each record that is none, which says what is wrong.
    pub fn with_errors(self, errors: bool) -> Self {
        Self { errors, ..self }
    }

    /// The lines of some answers, each with its end.
    ///
    /// # Errors
    /// If a record has a column that is called as one of the answer's.
    pub fn lines(&mut self, rows: &[Predicted]) -> Result<String> {
        let (mut out, errors) = (String::new(), self.errors);
        for row in rows.iter().filter(|row| errors || row.answer.is_ok()) {
            match self.format {
                AnswerFormat::Text => text(row, &mut out),
                AnswerFormat::Jsonl => self.json(row, &mut out)?,
                AnswerFormat::Csv => self.csv(row, &mut out)?,
            }
        }
        Ok(out)
    }

    /// What is left to write when all answers were given.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub fn finish(&mut self) -> Result<String> {
        let mut out = String::new();
        if !self.waiting.is_empty() {
            self.head(&Vec::new().into(), 1, &mut out)?;
        }
        Ok(out)
    }

    /// The names that answers are written under.
    fn names(&self) -> Vec<String> {
        let mut names = vec!["predicted_class".to_owned(), "predicted_word".to_owned()];
        names.extend(self.has_labels.then(|| "predicted_label".to_owned()));
        names.push("probability".to_owned());
        let is_json = self.format == AnswerFormat::Jsonl;
        for (asked, one, all) in
            [(self.probabilities, "probability", "probabilities"), (self.logits, "logit", "logits")]
        {
            match (asked, is_json) {
                (true, true) => names.push(all.to_owned()),
                (true, false) => names.extend((0..self.classes).map(|class| format!("{one}_{class}"))),
                (false, _) => {}
            }
        }
        // In CSV it stands in the error.
        names.extend((self.errors && is_json).then(|| "line".to_owned()));
        names.extend(self.errors.then(|| "error".to_owned()));
        names
    }

    fn check_columns(&self, columns: &[String], line: u64) -> Result<()> {
        match self.names().iter().find(|name| columns.contains(name)) {
            Some(name) => Err(SessionError::input(format!(
                "line {line}: it has a column {name:?}, under which the answer is written; rename it"
            ))),
            None => Ok(()),
        }
    }

    fn json(&self, row: &Predicted, out: &mut String) -> Result<()> {
        let mut whole = match &row.record {
            Some(record) => {
                self.check_columns(&record.columns, row.line)?;
                object(record)
            }
            None => String::new(),
        };
        let mut add = |name: &str, value: &dyn Display| {
            let separator = if whole.is_empty() { '{' } else { ',' };
            let space = if separator == ',' { " " } else { "" };
            // Writing to a string does not fail.
            write!(whole, "{separator}{space}{}: {value}", Value::from(name)).unwrap_or_default();
        };
        match &row.answer {
            Ok(answer) => {
                let sure = !answer.unsure;
                add("predicted_class", &Value::from(sure.then_some(answer.class)));
                add("predicted_word", &Value::from(sure.then_some(answer.word.as_str())));
                if self.has_labels {
                    add("predicted_label", &Value::from(answer.label.as_deref().filter(|_| sure)));
                }
                add("probability", &Value::from(answer.probabilities[answer.class]));
                if self.probabilities {
                    add("probabilities", &Value::from(answer.probabilities.clone()));
                }
                if self.logits {
                    // As the numbers of 32 bits that they are.
                    let logits: Vec<String> = answer.logits.iter().map(ToString::to_string).collect();
                    add("logits", &format_args!("[{}]", logits.join(",")));
                }
            }
            Err(reason) => {
                for name in self.names().iter().filter(|name| !["line", "error"].contains(&name.as_str())) {
                    add(name, &Value::Null);
                }
                add("line", &row.line);
                add("error", &Value::from(reason.as_str()));
            }
        }
        out.push_str(&whole);
        out.push_str("}\n");
        Ok(())
    }

    fn csv(&mut self, row: &Predicted, out: &mut String) -> Result<()> {
        let Some(columns) = self.columns.clone() else {
            match &row.record {
                Some(record) => {
                    let columns = Arc::clone(&record.columns);
                    self.head(&columns, row.line, out)?;
                    self.csv_row(row, &columns, out);
                }
                None => self.waiting.push(row.clone()),
            }
            return Ok(());
        };
        self.csv_row(row, &columns, out);
        Ok(())
    }

    /// The line with names, and what waited for it.
    fn head(&mut self, columns: &Arc<[String]>, line: u64, out: &mut String) -> Result<()> {
        self.check_columns(columns, line)?;
        let cells: Vec<String> = columns.iter().cloned().chain(self.names()).collect();
        push_line(&cells, out);
        self.columns = Some(Arc::clone(columns));
        for row in std::mem::take(&mut self.waiting) {
            self.csv_row(&row, columns, out);
        }
        Ok(())
    }

    fn csv_row(&mut self, row: &Predicted, columns: &[String], out: &mut String) {
        let keys = row.record.iter().flat_map(|record| record.columns.iter());
        for key in keys.filter(|key| !columns.contains(key)) {
            if self.told.insert(key.clone()) {
                tracing::warn!(
                    "line {}: the key {key:?} is not one of the first record's, which are the columns of CSV; it is left out",
                    row.line
                );
            }
        }
        let of_record = |column: &String| match row.record.as_ref().and_then(|record| record.get(column)) {
            Some(Field::Text(text) | Field::Json(text)) => text.clone(),
            Some(Field::Null) | None => String::new(),
        };
        let mut cells: Vec<String> = columns.iter().map(of_record).collect();
        // Of tables with two columns of one name each has its own.
        if let Some(record) = row.record.as_ref().filter(|record| *record.columns == *columns) {
            for (cell, field) in cells.iter_mut().zip(&record.fields) {
                match field {
                    Field::Text(text) | Field::Json(text) => cell.clone_from(text),
                    Field::Null => cell.clear(),
                }
            }
        }
        let answered = row.answer.as_ref().ok();
        let sure = answered.filter(|answer| !answer.unsure);
        let cell = |value: Option<String>| value.unwrap_or_default();
        cells.push(cell(sure.map(|answer| answer.class.to_string())));
        cells.push(cell(sure.map(|answer| answer.word.clone())));
        if self.has_labels {
            cells.push(cell(sure.and_then(|answer| answer.label.clone())));
        }
        let decimals = |value: f64| format!("{value:.6}");
        cells.push(cell(answered.map(|answer| decimals(answer.probabilities[answer.class]))));
        let mut all = |asked: bool, value: &dyn Fn(&Answer, usize) -> String| {
            let of_class = |class| cell(answered.map(|answer| value(answer, class)));
            cells.extend((0..self.classes).filter(|_| asked).map(of_class));
        };
        all(self.probabilities, &|answer, class| decimals(answer.probabilities[class]));
        all(self.logits, &|answer, class| answer.logits[class].to_string());
        if self.errors {
            cells.push(
                row.answer
                    .as_ref()
                    .err()
                    .map(|reason| format!("line {}: {reason}", row.line))
                    .unwrap_or_default(),
            );
        }
        push_line(&cells, out);
    }
}

/// `word`, `0.9000`, `text`, with tabs between.
fn text(row: &Predicted, out: &mut String) {
    // A line each: a text of several lines is written as one.
    let shown = || row.texts.join("\t").replace(['\n', '\r'], " ");
    let written = match &row.answer {
        Ok(answer) => {
            let word = if answer.unsure { "unsure" } else { answer.word.as_str() };
            writeln!(out, "{word}\t{:.4}\t{}", answer.probabilities[answer.class], shown())
        }
        Err(reason) => writeln!(out, "error\t\tline {}: {reason}", row.line),
    };
    // Writing to a string does not fail.
    written.unwrap_or_default();
}

/// A record as a JSON object, without its closing brace: as it was written, if it was one.
fn object(record: &Record) -> String {
    if let Some(open) = record.object.as_deref().and_then(|object| object.strip_suffix('}')) {
        // Of one without keys nothing is left, to which something is added behind the brace.
        return if record.columns.is_empty() { String::new() } else { open.trim_end().to_owned() };
    }
    let mut whole = String::new();
    for (name, field) in record.columns.iter().zip(&record.fields) {
        let value = match field {
            Field::Text(text) => Value::from(text.as_str()).to_string(),
            Field::Json(json) => json.clone(),
            Field::Null => "null".to_owned(),
        };
        whole += if whole.is_empty() { "{" } else { ", " };
        whole += &format!("{}: {value}", Value::from(name.as_str()));
    }
    whole
}

fn push_line(cells: &[String], out: &mut String) {
    for (place, cell) in cells.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(cell);
        }
    }
    out.push('\n');
}
