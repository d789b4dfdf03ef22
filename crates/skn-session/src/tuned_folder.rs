//! Tuned parameters that are read: a run's, or a folder of another tool.

use std::path::{Component, Path, PathBuf};

use skn_artifact::names::{file, stage};
use skn_artifact::{
    Foreign, RunRecord, SkillConfig, SplitRecord, Wanted, hash_file, is_file, is_folder, is_link, is_there,
    read_json, within,
};
use skn_data::Task;
use skn_model::{no_tuning, not_a_tuning_folder};

use crate::cache::real;
use crate::error::{Result, SessionError};
use crate::provenance;

/// The stages whose settings say what a run is of, where nobody says which one wrote its tuned parameters: the first of these
/// that it has.
const OF_A_RUN: [&str; 4] = [stage::TRAIN, stage::PRUNE, stage::PROBE, stage::MASK];

/// What is resumed from: `RUN`, `RUN/best`, the original's `RUN/best-backbone`, or a folder that PEFT or AdapterHub wrote.
#[derive(Clone, Debug)]
pub(crate) struct TunedFolder {
    /// The folder with the tuned parameters, or with what says where they are.
    pub(crate) best: PathBuf,
    /// Where the tuned parameters themselves lie: in `best`, or in a folder of their own there.
    pub(crate) tuned: PathBuf,
    /// The run around it, if it is one of ours. A copy of its `best` may lie in it too: see [`Self::own_run`].
    pub(crate) run: Option<PathBuf>,
    /// Whether that has no other `best`.
    owned: bool,
    /// Its `skn.json`, if it is one of ours.
    pub(crate) config: Option<SkillConfig>,
    /// The record of its own run; empty if there is none.
    record: RunRecord,
    /// Whether a training was perhaps stopped while it wrote it.
    pub(crate) torn: bool,
}

impl TunedFolder {
    /// Looks at what is there.
    ///
    /// The run `torn`, if it is that, is one that a training goes on from and writes to, and was perhaps stopped while it wrote:
    /// its files need not fit one another, and none is checked.
    ///
    /// # Errors
    /// If there is no such folder, a file in its place, a link in it leads to nothing, its `skn.json` or the run's record
    /// can't be read, a file was changed or removed since it was written, or the system can't say what is there.
    pub(crate) fn open(path: &Path, torn: Option<&Path>) -> Result<Self> {
        let backbone = path.file_name().is_some_and(|name| name == "best-backbone") && !is_there(path)?;
        let path = if backbone { path.with_file_name(file::BEST) } else { path.to_path_buf() };
        // The parameters alone would be taken for those of the model that they were pruned from.
        let of_model = path.file_name().is_some_and(|name| name == file::TUNED_FOLDER);
        let path = match path.parent() {
            Some(best) if of_model && is_file(&best.join(file::SKILL_CONFIG))? => best.to_path_buf(),
            _ => path,
        };
        skn_hub::follow(&path, &path)?;
        if is_file(&path)? {
            return Err(not_a_tuning_folder(&path).into());
        }
        if !is_folder(&path)? {
            return Err(SessionError::input(format!(
                "{}: no such folder; expected a run or tuned parameters",
                path.display()
            )));
        }
        check_links(&path)?;
        let inner = path.join(file::BEST);
        let around = RunRecord::read(&path)?;
        // One whose tuned parameters were removed is a run too.
        let is_run = is_folder(&inner)? || in_best(&around).next().is_some();
        let best = if is_run { inner } else { path.clone() };
        check_links(&best)?;
        let config: Option<SkillConfig> = match best.join(file::SKILL_CONFIG) {
            file if is_file(&file)? => Some(read_json(&file)?),
            _ => None,
        };
        let is_apart = |name: &String| Path::new(name).starts_with(file::TUNED_FOLDER);
        let apart = config.as_ref().is_some_and(|config| config.files.keys().any(is_apart));
        let tuned = if apart { best.join(file::TUNED_FOLDER) } else { best.clone() };
        check_links(&tuned)?;
        let (run, record) = if is_run {
            (Some(path), around)
        } else {
            match best.parent() {
                Some(run) if config.is_some() || is_best_of(run, &best)? => {
                    // What lies beside the run's `best`, such as a copy of an earlier one, is not what the record is of.
                    let record =
                        if is_best_in(run, &best)? { RunRecord::read(run)? } else { RunRecord::default() };
                    (Some(run.to_path_buf()), record)
                }
                _ => (None, RunRecord::default()),
            }
        };
        let torn = match (torn, &run) {
            (Some(torn), Some(run)) => real(torn)? == real(run)?,
            _ => false,
        };
        let owned = run.as_deref().map(|run| is_best_in(run, &best)).transpose()?.unwrap_or(false);
        let found = Self { best, tuned, run, owned, config, record, torn };
        if !found.torn {
            found.check_files()?;
        }
        Ok(found)
    }

    /// Whether the folder holds a whole model, as that of a pruned run does.
    ///
    /// # Errors
    /// If the system can't say.
    pub(crate) fn holds_model(&self) -> Result<bool> {
        Ok(is_file(&self.best.join(file::CONFIG))?)
    }

    /// Checks that there are tuned parameters, whatever they are.
    ///
    /// # Errors
    /// If there are none, nor anything that says what they were.
    pub(crate) fn check_tuned(&self) -> Result<()> {
        if self.config.is_some() {
            return Ok(());
        }
        for name in file::TUNED {
            if is_file(&self.tuned.join(name))? {
                return Ok(());
            }
        }
        let around = RunRecord::read(&self.best)?;
        if !around.stages.is_empty() {
            return Err(SessionError::input(format!(
                "{}: a run in which nothing was tuned ({}); skn-train tunes, and a model as it is goes by option `model` in place of \
                 option `resume_from`",
                self.best.display(),
                around.stages.keys().map(String::as_str).collect::<Vec<_>>().join("; ")
            )));
        }
        Err(no_tuning(&self.tuned).into())
    }

    /// Checks that the files beside `skn.json` are those that it was written for, and those that the run's record lists.
    ///
    /// # Errors
    /// Names the file that is gone or changed.
    fn check_files(&self) -> Result<()> {
        provenance::is_there(&self.best.join(file::SKILL_CONFIG))?;
        for (name, expected) in self.config.iter().flat_map(|config| &config.files) {
            if !is_plain(name) {
                return Err(SessionError::input(format!(
                    "{}: files: expected names of files beside it, found {name:?}",
                    self.best.join(file::SKILL_CONFIG).display()
                )));
            }
            let file = self.best.join(name);
            if !is_file(&file)? {
                return Err(SessionError::input(format!(
                    "{}: missing; skn.json beside it lists it",
                    file.display()
                )));
            }
            let found = hash_file(&file)?;
            if found != *expected {
                if let Some(foreign) =
                    Foreign::of_file(&file).filter(|foreign| *foreign != Foreign::Safetensors)
                {
                    let told = foreign.told(Wanted::Tensors);
                    return Err(SessionError::input(format!(
                        "{}: expected tensors, found {told}",
                        file.display()
                    )));
                }
                let file = file.display();
                return Err(SessionError::input(format!(
                    "{file}: expected SHA-256 {expected} (skn.json), found {found}"
                )));
            }
        }
        let of_skill_config =
            |name: &&str| self.config.as_ref().is_some_and(|config| config.files.contains_key(*name));
        for name in in_best(&self.record).filter(|name| !of_skill_config(name)) {
            provenance::is_there(&self.best.join(name))?;
        }
        // What lies beside a run's model is read with it, whoever put it there.
        if self.config.is_some() && self.holds_model()? {
            for file in file::MODEL.iter().filter(|name| !of_skill_config(name)) {
                let file = self.best.join(file);
                if is_file(&file)? {
                    provenance::check(&file)?;
                }
            }
        }
        Ok(())
    }

    /// The division of the data that the run was made with, if it has one.
    ///
    /// # Errors
    /// If `split.json` can't be read.
    pub(crate) fn split(&self) -> Result<Option<SplitRecord>> {
        match self.run.as_ref().map(|run| run.join(file::SPLIT)) {
            Some(file) if provenance::is_there(&file)? => Ok(Some(read_json(&file)?)),
            _ => Ok(None),
        }
    }

    /// The backbone that PEFT or AdapterHub noted in `adapter_config.json`, if there is one.
    ///
    /// # Errors
    /// If the file is there and can't be read.
    pub(crate) fn base_model(&self) -> Result<Option<String>> {
        let file = self.tuned.join(file::ADAPTER_CONFIG);
        if !is_file(&file)? {
            return Ok(None);
        }
        let config: serde_json::Value = read_json(&file)?;
        let name = config.get("base_model_name_or_path").or_else(|| config.get("model_name"));
        Ok(name.and_then(|name| name.as_str()).filter(|name| !name.is_empty()).map(str::to_string))
    }

    /// The run whose `best` it is. A folder elsewhere, such as a copy of a `best`, is of none.
    pub(crate) fn own_run(&self) -> Option<&Path> {
        self.run.as_deref().filter(|_| self.owned)
    }

    /// Where the run's own record lies, if it has one.
    pub(crate) fn record_file(&self) -> Option<PathBuf> {
        let run = self.run.as_ref().filter(|_| !self.record.stages.is_empty());
        run.map(|run| run.join(file::RUN))
    }

    /// A setting of the stage that says what the run is of. What that one did not set, no other stage says: its texts were
    /// not cut if one probe of the run cut them.
    pub(crate) fn recorded(&self, setting: &str) -> Option<String> {
        let config = format!("{}/{}", file::BEST, file::SKILL_CONFIG);
        let of_best = || self.record.stages.values().find(|stage| stage.outputs.contains_key(&config));
        let first = |name: &&str| {
            let mut stages = self.record.stages.iter();
            stages.find(|(entry, _)| stage::is(entry, name)).map(|(_, stage)| stage)
        };
        match of_best().or_else(|| OF_A_RUN.iter().find_map(first)) {
            Some(stage) => stage.settings.get(setting).cloned(),
            // Away from its run it has what `skn.json` says.
            None => self.config.as_ref()?.texts.settings.get(setting).cloned(),
        }
    }

    /// The task as `skn.json` describes it, if it does.
    ///
    /// # Errors
    /// If that is no task.
    pub(crate) fn described_task(&self) -> Result<Option<Task>> {
        let Some(task) = self.config.as_ref().and_then(|config| config.texts.task.clone()) else {
            return Ok(None);
        };
        let file = self.best.join(file::SKILL_CONFIG);
        let task = Task::from_json(task, &file.display().to_string())?;
        Ok(Some(task))
    }
}

/// The files that stages of a run wrote into its `best`, by their names there.
fn in_best(record: &RunRecord) -> impl Iterator<Item = &str> {
    let outputs = record.stages.values().flat_map(|stage| stage.outputs.keys());
    outputs.filter_map(|name| name.strip_prefix(file::BEST)?.strip_prefix('/'))
}

/// Whether a folder is the `best` of a run, by the run's record.
fn is_best_of(run: &Path, folder: &Path) -> Result<bool> {
    Ok(folder.file_name().is_some_and(|name| name == file::BEST)
        && in_best(&RunRecord::read(run)?).next().is_some())
}

/// Whether a folder is the `best` of a run, by where it lies.
fn is_best_in(run: &Path, folder: &Path) -> Result<bool> {
    Ok(real(&run.join(file::BEST))? == real(folder)?)
}

/// Whether it is the name of a file, or of one in the folder of tuned parameters, and leads nowhere else.
fn is_plain(name: &str) -> bool {
    let apart = name.strip_prefix(file::TUNED_FOLDER).and_then(|name| name.strip_prefix('/'));
    let name = apart.unwrap_or(name);
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

/// Refuses a folder with a link to nothing: a record or a description that seems not to be there would change what the rest
/// means.
fn check_links(folder: &Path) -> Result<()> {
    for path in within(folder)? {
        let is_read = path.extension().is_some_and(|end| end == "json" || end == "safetensors");
        let is_best = path.file_name().is_some_and(|name| name == file::BEST);
        if (is_read || is_best) && is_link(&path)? {
            skn_hub::follow(folder, &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skn_artifact::{Overwrite, sha256_hex, write_file};

    /// `skn.json` is a file like any other that somebody sends: what it lists lies beside it.
    #[test]
    fn a_list_of_files_that_leads_out_is_refused() {
        let desk = tempfile::tempdir().unwrap();
        let best = desk.path().join("tuned");
        write_file(&desk.path().join("outside"), Overwrite::Refuse, b"theirs").unwrap();
        let outside = desk.path().join("outside").display().to_string();
        for name in [
            "../outside",
            "./../outside",
            "tuned/../outside",
            "tuned//etc",
            "tuned/",
            &outside,
            "x/../../outside",
            "",
            "..",
        ] {
            let config = serde_json::json!({
                "method": "RobertaPrompt", "prompt_size": 2, "task": "sst2", "metric": "accuracy", "dev_score": 0.5,
                "verbalizer": {"words": [], "ids": []}, "model": {"id": "m", "sha256": "00"}, "step": 3,
                "files": {name: sha256_hex(b"theirs")},
            });
            write_file(&best.join("skn.json"), Overwrite::Replace, config.to_string().as_bytes()).unwrap();
            let error = TunedFolder::open(&best, None).err().unwrap().to_string();
            let expected = format!("skn.json: files: expected names of files beside it, found {name:?}");
            assert!(error.contains(&expected), "{error}");
        }
    }
}
