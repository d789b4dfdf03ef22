//! What options name, before anything large is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skn_artifact::names::file;
use skn_artifact::{ErrorKind, PartRecord, SkillConfig, SplitRecord, did_you_mean, is_file, is_there};
use skn_data::{
    DataError, Dataset, Example, PartIndex, SplitIndex, Splits, StoredRows, StoredSplits, Task, split,
    split_with,
};
use skn_model::ModelFolder;
use skn_probing::{ProbingError, Progress};

use crate::cache::real;
use crate::error::{Result, SessionError};
use crate::fence;
use crate::fits::check_template;
use crate::options::{Size, Subject, TaskChoice, Tuned};
use crate::place::{find_data, find_model};
use crate::provenance;
use crate::session::Session;
use crate::tuned_folder::TunedFolder;

/// The rows that options name, divided.
pub(crate) enum Rows {
    /// In memory.
    Here(Splits),
    Stored(StoredSplits),
}

/// The same before they are divided.
enum Undivided {
    Here(Dataset),
    Stored(StoredRows),
}

/// What options name.
pub(crate) struct Named {
    pub(crate) source: Option<TunedFolder>,
    pub(crate) model: ModelName,
    pub(crate) task: Task,
    /// The same as its file says it: data may call classes by the words of that.
    task_of_data: Task,
    pub(crate) task_file: Option<PathBuf>,
    /// Whether a file says what the task is, or a record does that kept it.
    is_described: bool,
    pub(crate) data: Option<PathBuf>,
    /// The record that names the data, where no option does.
    data_said_by: Option<PathBuf>,
    pub(crate) max_data: Size,
}

impl Named {
    /// Finds what is named.
    ///
    /// The run `torn`, if that is resumed from, need not be one whole ([`TunedFolder::open`]).
    ///
    /// # Errors
    /// If the run or the task is not there, does not fit, or was changed since it was written.
    pub(crate) fn of(subject: &Subject, tuned: &Tuned, torn: Option<&Path>) -> Result<Self> {
        let source = tuned.resume_from.as_deref();
        let source = source.map(|path| TunedFolder::open(path, torn)).transpose()?;
        if tuned.load && source.is_none() {
            return Err(SessionError::usage(
                "option `load` loads tuned parameters: say from where, with option `resume_from` RUN",
            ));
        }
        // A folder that is nothing of the kind should not be asked which model it is of.
        if let Some(source) = source.as_ref().filter(|source| tuned.load && !source.torn) {
            source.check_tuned()?;
        }
        let model = ModelName::of(subject, source.as_ref())?;
        let Found { task, file: task_file, is_described } = find_task(subject, source.as_ref(), &model)?;
        // Before data are read: those of other columns are other data, which says less.
        if let Some(source) = source.as_ref().filter(|_| tuned.load) {
            check_template(source, &task)?;
            if let (Some(file), false) = (&task_file, matches!(subject.task, Some(TaskChoice::File(_)))) {
                check_kept(source, &task, file)?;
            }
        }
        let task_of_data = task.clone();
        let task = with_words(task, subject, tuned, source.as_ref())?;
        let recorded = |setting| source.as_ref().and_then(|source| source.recorded(setting));
        let earlier = || recorded("max_data").and_then(|size| size.parse().ok());
        let max_data = subject.max_data.or_else(earlier).unwrap_or(Size::DATA);
        let config = source.as_ref().and_then(|source| source.config.as_ref());
        let same_task = config.is_none_or(|config| config.task == task.name);
        let of_run = || recorded("data").filter(|_| same_task).map(PathBuf::from);
        let data = subject.data.clone().or_else(of_run);
        let record = source.as_ref().and_then(TunedFolder::record_file);
        let data_said_by = record.filter(|_| subject.data.is_none());
        Ok(Self { source, model, task, task_of_data, task_file, is_described, data, data_said_by, max_data })
    }

    /// The task as a file or a record describes it; nothing of one that the program knows.
    pub(crate) fn described(&self) -> Option<Task> {
        self.is_described.then(|| self.task_of_data.clone())
    }

    /// Reads the data.
    ///
    /// # Errors
    /// If they are not there, damaged, or do not fit the task.
    pub(crate) fn dataset(&self, session: &Session) -> Result<Arc<Dataset>> {
        self.check_said()?;
        said_by(self.data_said_by.as_deref(), "the data are there", "data", || {
            rows(session, &self.task_of_data, self.data.as_deref(), self.max_data)
        })
    }

    /// Refuses a run whose record is gone where it alone could say where its data are.
    fn check_said(&self) -> Result<()> {
        let known =
            self.data.is_some() || !self.task.needs_data() || skn_demo::task_files(&self.task.name).is_some();
        let Some(source) = self.source.as_ref().filter(|_| !known) else { return Ok(()) };
        match (source.own_run(), source.record_file()) {
            (Some(run), None) => Err(SessionError::input(format!(
                "{}: no such file, so that nothing says where the rows of task {} are; expected option `data` PATH (a folder or a file \
                 with its rows)",
                run.join(file::RUN).display(),
                self.task.name
            ))),
            _ => Ok(()),
        }
    }

    /// Reads the data, and divides them as the run did that is resumed from, else by the seed.
    ///
    /// # Errors
    /// If the data are not there, damaged, or do not fit the task or the run's division.
    pub(crate) fn splits(&self, session: &Session, seed: u64) -> Result<Splits> {
        self.divided(self.dataset(session)?, seed)
    }

    /// The same, of data that were read.
    ///
    /// # Errors
    /// If they do not fit the task or the run's division.
    pub(crate) fn divided(&self, dataset: Arc<Dataset>, seed: u64) -> Result<Splits> {
        let dataset = Arc::unwrap_or_clone(dataset);
        let splits = self.earlier().and_then(|earlier| match earlier {
            Some(index) => Ok(split_with(dataset, &index)?),
            None => Ok(split(dataset, &self.task, seed)?),
        });
        let splits = splits.map_err(|error| self.indivisible(error))?;
        self.tell_division(&splits.source, &splits.unlabelled);
        Ok(splits)
    }

    /// As [`Self::splits`], but that many rows do not stay in memory: they lie in a file without a name that takes room in this folder.
    ///
    /// # Errors
    /// As [`Self::splits`]; if the file can't be written.
    pub(crate) fn stored(&self, session: &Session, seed: u64, folder: &Path) -> Result<Rows> {
        self.check_said()?;
        let (task, most) = (&self.task_of_data, self.max_data);
        let found = said_by(self.data_said_by.as_deref(), "the data are there", "data", || {
            Ok(match find(task, self.data.as_deref())? {
                Some(data) => {
                    Undivided::Stored(fence::store_dataset(&data, task, most.0, folder, session.progress())?)
                }
                None => Undivided::Here(read_found(task, None, most, session.progress())?),
            })
        })?;
        let rows = match found {
            Undivided::Here(dataset) => return self.divided(Arc::new(dataset), seed).map(Rows::Here),
            Undivided::Stored(rows) => rows,
        };
        // Who was told to stop while they were read and hashed does not begin to divide them.
        if session.progress().cancelled() {
            return Err(ProbingError::Cancelled.into());
        }
        let earlier = self.earlier().map_err(|error| self.indivisible(error))?;
        let splits = match earlier {
            // Somebody has put them in another order, which costs memory.
            Some(index)
                if [&index.train, &index.dev, &index.test].iter().any(|part| !part.rows.ascends()) =>
            {
                return self.divided(Arc::new(rows.dataset()?), seed).map(Rows::Here);
            }
            Some(index) => StoredSplits::with(rows, index),
            None => StoredSplits::new(rows, &self.task, seed),
        };
        let splits = splits.map_err(|error| self.indivisible(error.into()))?;
        self.tell_division(splits.source(), splits.unlabelled());
        Ok(Rows::Stored(splits))
    }

    /// How the run that is resumed from divided the data of this task, if it did.
    fn earlier(&self) -> Result<Option<SplitIndex>> {
        let record = self.source.as_ref().map(TunedFolder::split).transpose()?.flatten();
        let part = |part: PartRecord| PartIndex { split: part.source, rows: part.rows };
        Ok(record.filter(|record| record.task == self.task.name).map(|record| {
            let SplitRecord { data_sha256, train, dev, test, .. } = record;
            SplitIndex { data_sha256, train: part(train), dev: part(dev), test: part(test) }
        }))
    }

    fn indivisible(&self, error: SessionError) -> SessionError {
        match &self.data {
            // A disk that is full is no fault of the data.
            Some(data) if error.kind() != ErrorKind::Failed => {
                error.within(format!("{} can't be divided into train, dev and test", data.display()))
            }
            _ => error,
        }
    }

    /// Tells which rows are none of a part, and which part is not what the task says.
    fn tell_division(&self, source: &SplitIndex, unlabelled: &BTreeMap<String, u64>) {
        let (test, asked) = (&source.test.split, self.task.splits.test.as_deref());
        if asked.is_some_and(|asked| asked != test) && self.task.splits.dev.is_some() {
            let asked = asked.unwrap_or_default();
            tracing::info!(
                "split {asked} has no labels: {test} is the test set, and a fifth of train is dev"
            );
        }
        for (split, rows) in unlabelled {
            tracing::info!(
                "split {split}: rows left out that have no label, or one that the task does not use: {rows}"
            );
        }
    }
}

impl Named {
    /// The numbers that a part of the data has in a column, in the order of its rows, which are `examples`. The data are read once more,
    /// as rows keep their texts alone.
    ///
    /// # Errors
    /// If there is no such column, a cell of it is no number, or the data are no longer those of the part.
    pub(crate) fn numbers(
        &self,
        session: &Session,
        column: &str,
        part: &PartIndex,
        examples: &[Example],
    ) -> Result<Vec<f64>> {
        let task = self.task_of_data.numbers_of(column, &part.split);
        let found = find(&task, self.data.as_deref())?;
        let dataset = read_found(&task, found.as_deref(), self.max_data, session.progress())
            .map_err(|error| error.within(format!("option `metric_column` {column}")))?;
        let rows = dataset.splits.get(&part.split).map_or(&[][..], Vec::as_slice);
        let number = |(row, example): (u32, &Example)| {
            let found = rows.get(row as usize).filter(|found| found.label == example.label)?;
            found.text.as_str().parse().ok()
        };
        let numbers: Option<Vec<f64>> = part.rows.iter().zip(examples).map(number).collect();
        numbers.filter(|numbers| numbers.len() == examples.len()).ok_or_else(|| {
            SessionError::input(format!(
                "option `metric_column` {column}: split {}: the data changed while they were read",
                part.split
            ))
        })
    }
}

/// A model by name, and where it was named.
pub(crate) struct ModelName {
    /// As it was named.
    pub(crate) name: String,
    /// A pruned run's folder is the model, and keeps the name of what it was pruned from.
    inside: Option<(PathBuf, Option<String>)>,
    /// Who names it, where no option does.
    said_by: Option<String>,
}

impl ModelName {
    fn of(subject: &Subject, source: Option<&TunedFolder>) -> Result<Self> {
        let plain = |name: String| Self { name, inside: None, said_by: None };
        if let Some(name) = &subject.model {
            return Ok(plain(name.clone()));
        }
        let Some(source) = source else { return Ok(plain(Subject::MODEL.into())) };
        if source.holds_model()? {
            let id = source.config.as_ref().map(|config| config.model.id.clone());
            let inside = Some((source.best.clone(), id));
            return Ok(Self { name: source.best.display().to_string(), inside, said_by: None });
        }
        if let (Some(name), Some(record)) = (source.recorded("model"), source.record_file()) {
            let record = record.display();
            let said = format!("{record} says that the model is there; option `model` says otherwise");
            return Ok(Self { said_by: Some(said), ..plain(name) });
        }
        if let Some(SkillConfig { model, .. }) = &source.config {
            let said = format!(
                "{}: the model that this was tuned on is not beside it: {} (SHA-256 {}); option `model` says where that is",
                source.best.join(file::SKILL_CONFIG).display(),
                model.id,
                model.sha256
            );
            return Ok(Self { said_by: Some(said), ..plain(model.id.clone()) });
        }
        Ok(plain(source.base_model()?.unwrap_or_else(|| Subject::MODEL.into())))
    }

    /// Its folder.
    ///
    /// # Errors
    /// If it is nowhere.
    pub(crate) fn folder(&self) -> Result<ModelFolder> {
        match &self.inside {
            None => {
                let folder = find_model(&self.name).map_err(|error| match &self.said_by {
                    Some(said) => error.within(said.clone()),
                    None => error,
                })?;
                check_folder(&folder)?;
                Ok(folder)
            }
            // What is resumed from was checked.
            Some((folder, None)) => Ok(ModelFolder::open(folder)?),
            Some((folder, Some(id))) => Ok(ModelFolder::open(folder)?.with_id(id)),
        }
    }

    /// Whether the model lies in what is resumed from, as a pruned run's does.
    pub(crate) fn is_of_source(&self) -> bool {
        self.inside.is_some()
    }

    /// Whether it is the demo, or was pruned from it.
    pub(crate) fn is_demo(&self) -> bool {
        self.name == Subject::DEMO || matches!(&self.inside, Some((_, Some(id))) if id == Subject::DEMO)
    }
}

/// A model may lie in a run too, as a pruned one does: then it must be what was written.
fn check_folder(folder: &ModelFolder) -> Result<()> {
    if folder.is_embedded() {
        return Ok(());
    }
    let mut files = Vec::new();
    for name in file::MODEL {
        let path = folder.place().join(name);
        if is_file(&path)? {
            files.push((provenance::check_listed(&path)?, path));
        }
    }
    // A folder of a user's own lists none.
    if files.iter().any(|(listed, _)| *listed) {
        let others = files.iter().filter(|(listed, _)| !listed);
        others.into_iter().try_for_each(|(_, path)| provenance::check(path))?;
    }
    Ok(())
}

/// Does something with what an earlier record names, and says in an error which record that was and what option to use.
fn said_by<T>(
    record: Option<&Path>,
    what: &str,
    option: &str,
    action: impl FnOnce() -> Result<T>,
) -> Result<T> {
    action().map_err(|error| match record {
        // Another option changes nothing about a disk that is full.
        Some(record) if error.kind() != ErrorKind::Failed => {
            error.within(format!("{} says that {what}; option `{option}` says otherwise", record.display()))
        }
        _ => error,
    })
}

/// A task that was found.
struct Found {
    task: Task,
    file: Option<PathBuf>,
    is_described: bool,
}

impl Found {
    fn of_file(task: Task, file: PathBuf) -> Self {
        Self { task, file: Some(file), is_described: true }
    }

    fn known(task: Task) -> Self {
        Self { task, file: None, is_described: false }
    }
}

fn find_task(subject: &Subject, source: Option<&TunedFolder>, model: &ModelName) -> Result<Found> {
    let name = match &subject.task {
        Some(TaskChoice::File(file)) => return Ok(Found::of_file(Task::read(file)?, file.clone())),
        Some(TaskChoice::Named(name)) => Some(name),
        None => None,
    };
    let same_task = |config: &&SkillConfig| name.is_none_or(|task| *task == config.task);
    let of_run = source.and_then(|source| source.config.as_ref()).filter(same_task);
    let recorded_file = || source.and_then(|source| source.recorded("task_file")).map(PathBuf::from);
    let kept = of_run.and(source).map(TunedFolder::described_task).transpose()?.flatten();
    let recorded = of_run.and_then(|_| recorded_file());
    let recorded = match (recorded, kept) {
        // Its file is elsewhere or gone, but the tuned parameters know what it said.
        (None, Some(task)) => return Ok(Found { task, file: None, is_described: true }),
        (Some(file), Some(task)) if !is_there(&file)? => {
            return Ok(Found { task, file: None, is_described: true });
        }
        (recorded, _) => recorded,
    };
    if let Some(file) = recorded {
        let record = source.and_then(TunedFolder::record_file);
        let task = said_by(record.as_deref(), "the task is described there", "task_file", || {
            Ok(Task::read(&file)?)
        })?;
        return Ok(Found::of_file(task, file));
    }
    let default = if model.is_demo() { skn_demo::TASKS[0] } else { Subject::TASK };
    if let (None, Some(config), Some(source)) = (name, of_run, source) {
        return match named_task(&config.task) {
            Err(SessionError::Usage(_)) => Err(undescribed(source, &config.task)),
            task => Ok(Found::known(task?)),
        };
    }
    Ok(Found::known(named_task(name.map_or(default, String::as_str))?))
}

/// Checks that a task's file, which a run's record names, still says of texts and classes what it said when the
/// parameters were tuned. How data lie and how answers are scored, it may say otherwise now.
fn check_kept(source: &TunedFolder, now: &Task, file: &Path) -> Result<()> {
    let Some(kept) = source.described_task()?.filter(|kept| kept.name == now.name) else { return Ok(()) };
    let of = |task: &Task| {
        [
            ("text", format!("{:?}", task.text)),
            ("labels", format!("{:?}", task.labels)),
            ("names", format!("{:?}", task.names)),
            ("label_names", format!("{:?}", task.label_names)),
            ("label_map", format!("{:?}", task.label_map)),
        ]
    };
    match of(&kept).into_iter().zip(of(now)).find(|(kept, now)| kept != now) {
        None => Ok(()),
        Some(((field, kept), (_, now))) => Err(SessionError::input(format!(
            "{}: {field}: expected {kept}, as {} has kept it from the training, found {now}; option `task_file` {} takes it as it is",
            file.display(),
            source.best.join(file::SKILL_CONFIG).display(),
            file.display()
        ))),
    }
}

/// What is wrong with a run of a task of the user's own, whose record is gone or is that of another run.
fn undescribed(source: &TunedFolder, task: &str) -> SessionError {
    let run = source.run.as_deref().unwrap_or(&source.best);
    SessionError::input(format!(
        "{}: its task is {task}, which is not built in, and {} does not say where it is described; option `task_file` FILE does",
        source.best.join(file::SKILL_CONFIG).display(),
        run.join(file::RUN).display()
    ))
}

/// A task of the demo, or one that is built in.
///
/// # Errors
/// If there is none of this name.
pub fn named_task(name: &str) -> Result<Task> {
    if let Some(files) = skn_demo::task_files(name) {
        return Ok(Task::from_toml(files.description, &format!("(demo)/{name}.toml"))?);
    }
    match Task::builtin(name) {
        Err(error @ DataError::UnknownTask { .. }) => {
            // Those of the demo are as likely to be meant as those that are built in.
            let near = did_you_mean(name, Task::names().chain(skn_demo::TASKS));
            let said =
                near.map_or_else(|| error.to_string(), |near| format!("unknown task {name:?}; {near}"));
            Err(SessionError::usage(format!(
                "{said}; tasks of the demo: {}; or option `task_file` FILE.toml",
                skn_demo::TASKS.join(", ")
            )))
        }
        task => Ok(task?),
    }
}

/// The task with the words that answer it: those given, those of the tuned parameters that are loaded, or its own.
fn with_words(task: Task, subject: &Subject, tuned: &Tuned, source: Option<&TunedFolder>) -> Result<Task> {
    let loaded = source.and_then(|source| source.config.as_ref()).filter(|_| tuned.load);
    let loaded =
        loaded.filter(|config| config.task == task.name).map(|config| config.verbalizer.words.clone());
    let words = match (&subject.words, loaded) {
        (Some(given), Some(loaded)) if *given != loaded => {
            let (given, loaded) = (given.join(","), loaded.join(","));
            tracing::warn!("option `words` {given}: the tuned parameters were trained to answer {loaded}");
            subject.words.clone()
        }
        (Some(given), _) => Some(given.clone()),
        (None, Some(loaded)) => Some(loaded),
        (None, None) => subject.paper.then(|| task.paper_words()),
    };
    let of_record = subject.words.is_none().then(|| source.filter(|_| tuned.load)).flatten();
    Ok(match words {
        Some(words) => task.with_words(words).map_err(|error| match of_record {
            Some(source) => wrong_record(source, error),
            None => error.into(),
        })?,
        None => task,
    })
}

/// What does not fit of the words in `skn.json`.
fn wrong_record(source: &TunedFolder, error: impl Display) -> SessionError {
    SessionError::input(format!("{}: verbalizer: {error}", source.best.join(file::SKILL_CONFIG).display()))
}

/// The rows of a task, as the session has them or reads them now.
fn rows(session: &Session, task: &Task, data: Option<&Path>, most: Size) -> Result<Arc<Dataset>> {
    let found = find(task, data)?;
    let place = found.as_deref().map(real).transpose()?.unwrap_or_default();
    session.cache.data(&place, task, most, || read_found(task, found.as_deref(), most, session.progress()))
}

/// The rows of a task: from `data` (a path, or a data set of the local Hugging Face cache), or those that a task of the demo
/// brings. `most` is the most bytes of text, 64 more counted for each row.
///
/// # Errors
/// If there are none, or the task can't use them.
pub fn read_rows(task: &Task, data: Option<&Path>, most: Size, progress: &dyn Progress) -> Result<Dataset> {
    read_found(task, find(task, data)?.as_deref(), most, progress)
}

/// Where the rows of a task are, if an option says so and the task needs any.
fn find<'d>(task: &Task, data: Option<&'d Path>) -> Result<Option<Cow<'d, Path>>> {
    data.filter(|_| task.needs_data()).map(find_data).transpose()
}

/// As [`read_rows`], of data that were found.
fn read_found(task: &Task, data: Option<&Path>, most: Size, progress: &dyn Progress) -> Result<Dataset> {
    if !task.needs_data() {
        return Ok(Dataset::empty_text());
    }
    if let Some(data) = data {
        return fence::read_dataset(data, task, most.0, progress);
    }
    match skn_demo::task_files(&task.name) {
        Some(files) => Ok(Dataset::from_jsonl(&files.splits, task)?),
        None => Err(SessionError::usage(format!(
            "task {}: expected option `data` PATH (a folder or a file with its rows), found none; \
             the tasks {} of the demo bring theirs",
            task.name,
            skn_demo::TASKS.join(", ")
        ))),
    }
}
