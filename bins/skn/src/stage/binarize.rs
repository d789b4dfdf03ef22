//! `skn-binarize`: make two tasks of two classes of a task with three or four.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_artifact::{Overwrite, RunLock, is_there, write_file, write_together};
use skn_data::{Choice, Dataset, SubTask, Task, UNLABELLED, binarize, saved_files};
use skn_program::{Failure, typed_again};
use skn_session::options::Size;
use skn_session::{DryRun, named_task, read_rows};

use crate::cli::{Common, Compat, Dry};
use crate::program::{Call, Stage};

/// Make two data sets of two classes of one with negative, neutral and positive rows: FOLDER/<task>-pn, negative against
/// positive, and FOLDER/<task>-neu, all others against neutral.
///
/// Train, and dev if the task has one, are balanced exactly by a seeded choice; test keeps its distribution. The programs
/// read the folders (--task mnli-pn), and so does Python's datasets.load_from_disk. Where no task of such a name is built in,
/// its description is written beside the folder: FOLDER/<task>-pn.toml, for --task-file.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-binarize", version)]
#[command(mut_arg("dry_run", |flag| flag.help(Dry::WITHOUT_TEXTS)))]
pub struct Binarize {
    /// Task by name
    #[arg(long = "task", visible_alias = "task_type", value_name = "NAME", default_value = "mnli")]
    task: String,

    /// Task described in a TOML file
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    task_file: Option<PathBuf>,

    /// Folder or file of the data set, or owner/name[@revision][:folder] from the local Hugging Face cache
    #[arg(long = "data", visible_alias = "data_path", value_name = "PATH")]
    data: Option<PathBuf>,

    /// Most bytes of text to read, 64 more counted for each row: 500M, 16G [default: 4G]
    #[arg(long, value_name = "SIZE")]
    max_data: Option<Size>,

    /// Folder to write the two folders to
    #[arg(long = "out", visible_alias = "save_to", value_name = "FOLDER")]
    out: PathBuf,

    /// Replace files in folders that exist
    #[arg(long)]
    force: bool,

    /// Seed of the choice of rows
    #[arg(long = "seed", visible_alias = "random_seed", value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Do as the published implementation did: the first rows, one less of each class, test balanced too (paper)
    #[arg(long, value_name = "WHAT")]
    compat: Option<Compat>,

    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    common: Common,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Binarized {
    tasks: Vec<Written>,
}

/// A data set that was written.
#[derive(Clone, Debug, Serialize)]
struct Written {
    task: String,
    folder: PathBuf,
    /// What describes the task, where none of its name is built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    task_file: Option<PathBuf>,
    /// What trains on it.
    command: String,
    /// What classes 0 and 1 are.
    classes: [&'static str; 2],
    /// Rows of classes 0 and 1, by split.
    rows: BTreeMap<String, [usize; 2]>,
}

impl fmt::Display for Binarized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Written { task, folder, classes: [first, second], rows, command, .. }) in
            self.tasks.iter().enumerate()
        {
            let rows: Vec<String> = rows
                .iter()
                .map(|(split, [some, others])| format!("{split} {some} {first}, {others} {second}"))
                .collect();
            let line_break = if number == 0 { "" } else { "\n" };
            write!(f, "{line_break}{task}: {}; in {}", rows.join("; "), folder.display())?;
            write!(f, "; {command}")?;
        }
        Ok(())
    }
}

impl Stage for Binarize {
    const PROGRAM: &'static str = "skn-binarize";
    type Output = Binarized;

    fn common(&self) -> &Common {
        &self.common
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        self.dry.of(|| {
            let began = Instant::now();
            let Made { data_sha256, parts } = self.made(call)?;
            let files = parts.iter().flat_map(|Part { written, files, description }| {
                let of_task = written.task_file.iter().map(|file| (file.clone(), description.len() as u64));
                let of_rows =
                    files.iter().map(|(name, bytes)| (written.folder.join(name), bytes.len() as u64));
                of_rows.chain(of_task).collect::<Vec<_>>()
            });
            let reads = vec![(format!("data {}", self.task()?.name), data_sha256)];
            Ok(DryRun::of_files(&self.out, reads, files.collect(), began.elapsed())?)
        })
    }

    fn run(&self, call: &Call) -> Result<Binarized> {
        let Made { parts, .. } = self.made(call)?;
        // Two that write there at once would leave some files of each.
        let _lock = RunLock::acquire(&self.out, Self::PROGRAM)?;
        for Part { written, files, description } in &parts {
            write_together(&written.folder, self.overwrite(), files)?;
            if let Some(file) = &written.task_file {
                write_file(file, self.overwrite(), description.as_bytes())?;
            }
        }
        Ok(Binarized { tasks: parts.into_iter().map(|part| part.written).collect() })
    }
}

/// What is made before anything is written.
struct Made {
    data_sha256: String,
    parts: Vec<Part>,
}

/// A data set that is made.
struct Part {
    written: Written,
    /// Its files, by their names in its folder.
    files: Vec<(String, Vec<u8>)>,
    /// What describes its task.
    description: String,
}

impl Binarize {
    fn task(&self) -> Result<Task> {
        Ok(match &self.task_file {
            Some(file) => Task::read(file)?,
            None => named_task(&self.task)?,
        })
    }

    fn made(&self, call: &Call) -> Result<Made> {
        let task = self.task()?;
        let sub_tasks = SubTask::ALL.map(|part| part.of(&task).map(|sub_task| (part, sub_task)));
        let sub_tasks = sub_tasks.into_iter().collect::<Result<Vec<_>, _>>()?;
        let folder = |sub_task: &Task| self.out.join(&sub_task.name);
        let own_files = sub_tasks.iter().filter_map(|(_, sub_task)| self.own_file(sub_task));
        for taken in sub_tasks.iter().map(|(_, sub_task)| folder(sub_task)).chain(own_files) {
            if !self.force && is_there(&taken)? {
                let taken = taken.display();
                return Err(Failure::input(format!(
                    "{taken}: exists; --force replaces its files, --out FOLDER writes elsewhere"
                )));
            }
        }
        let most = self.max_data.unwrap_or(Size::DATA);
        let dataset = read_rows(&task, self.data.as_deref(), most, &*call.console)?;
        let choice = match self.compat {
            Some(Compat::Paper) => Choice::Published,
            None => Choice::Seeded(self.seed),
        };
        let parts = sub_tasks.into_iter().map(|(part, sub_task)| {
            let rows = binarize(&dataset, &task, part, choice)?;
            let files = saved_files(&rows, &sub_task, &part.class_names())?;
            let written = Written {
                task: sub_task.name.clone(),
                command: self.command(&sub_task, &folder(&sub_task)),
                task_file: self.own_file(&sub_task),
                folder: folder(&sub_task),
                classes: part.class_names(),
                rows: counted(&rows),
            };
            Ok(Part { written, files, description: sub_task.to_toml()? })
        });
        Ok(Made { data_sha256: dataset.sha256(), parts: parts.collect::<Result<_>>()? })
    }

    fn overwrite(&self) -> Overwrite {
        if self.force { Overwrite::Replace } else { Overwrite::Refuse }
    }

    /// The file that describes a task that is not built in as it is.
    fn own_file(&self, task: &Task) -> Option<PathBuf> {
        let is_known = named_task(&task.name).is_ok_and(|known| known == *task);
        (!is_known).then(|| self.out.join(format!("{}.toml", task.name)))
    }

    /// What trains on a task's rows.
    fn command(&self, task: &Task, folder: &Path) -> String {
        let (file, folder) = (self.own_file(task), folder.display().to_string());
        let file = file.map(|file| file.display().to_string());
        let of_task = match &file {
            Some(file) => ["--task-file", file],
            None => ["--task", &task.name],
        };
        let run = format!("runs/{}", task.name);
        typed_again(["skn-train"].into_iter().chain(of_task).chain(["--data", &folder, "--out", &run]))
    }
}

/// Rows of classes 0 and 1, by split.
fn counted(dataset: &Dataset) -> BTreeMap<String, [usize; 2]> {
    let count = |rows: &[skn_data::Example]| {
        let mut counts = [0; 2];
        for row in rows.iter().filter(|row| row.label != UNLABELLED) {
            counts[usize::from(row.label == 1)] += 1;
        }
        counts
    };
    dataset.splits.iter().map(|(split, rows)| (split.clone(), count(rows))).collect()
}
