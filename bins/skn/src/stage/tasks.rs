//! `skn-tasks`: which tasks are there?

use std::fmt;

use anyhow::Result;
use clap::Parser;
use comfy_table::{Table, presets};
use serde::Serialize;
use skn_data::{SplitNames, Task};
use skn_session::named_task;

use crate::cli::Common;
use crate::program::{Call, Stage};

/// List the tasks that --task knows: the demo's, which bring their data, and those that are built in.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-tasks", version)]
pub struct Tasks {
    #[command(flatten)]
    common: Common,
}

/// The tasks.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Listed {
    tasks: Vec<Entry>,
}

/// A task.
#[derive(Clone, Debug, Serialize)]
struct Entry {
    name: String,
    /// Whether it is the demo's, with its data.
    demo: bool,
    /// The columns of the text.
    text: Vec<String>,
    /// The column of the label.
    label: String,
    /// The words that answer the classes, in class order.
    words: Vec<String>,
    metric: &'static str,
    splits: SplitNames,
}

impl Entry {
    fn new(name: &str) -> Result<Self> {
        let Task { name, text, label, labels: words, metric, splits, .. } = named_task(name)?;
        let demo = skn_demo::task_files(&name).is_some();
        Ok(Self { name, demo, text, label, words, metric: metric.name(), splits })
    }

    fn cells(&self) -> [String; 5] {
        let Self { name, text, label, words, metric, .. } = self;
        let columns = if text.is_empty() { String::new() } else { format!("{}; {label}", text.join(", ")) };
        let name = if self.demo { format!("{name} (demo)") } else { name.clone() };
        [name, columns, format!("{}: {}", words.len(), words.join(", ")), (*metric).into(), self.splits()]
    }

    /// Which splits are train, dev and test, those parts that come from train left out.
    fn splits(&self) -> String {
        let SplitNames { train, dev, test } = &self.splits;
        let parts = [("train", Some(train)), ("dev", dev.as_ref()), ("test", test.as_ref())];
        let shown = parts.into_iter().filter_map(|(part, split)| match split {
            Some(split) if split.is_empty() => None,
            Some(split) if split == part => Some(split.clone()),
            Some(split) => Some(format!("{part} = {split}")),
            None => None,
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["task", "text; label", "classes: words", "metric", "splits"]);
        for task in &self.tasks {
            table.add_row(task.cells());
        }
        write!(f, "{table}\nWithout dev, 20 % of train are dev; without test too, 10 % each.")
    }
}

impl Stage for Tasks {
    const PROGRAM: &'static str = "skn-tasks";
    type Output = Listed;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, _: &Call) -> Result<Listed> {
        let names = skn_demo::TASKS.into_iter().chain(Task::names());
        Ok(Listed { tasks: names.map(Entry::new).collect::<Result<_>>()? })
    }
}
