//! A run folder as the programs see it: what is in it, and the record of how it came about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use skn_artifact::{
    Overwrite, RunLock, RunRecord, SkillConfig, SplitRecord, StageRecord, TensorBundle, hash_file, write_file,
};

use crate::exit::Failure;
use crate::program::Call;

/// The folder of the best parameters inside a run.
pub(crate) const BEST: &str = "best";

/// The files of a model folder that a pruned run keeps beside its tuned parameters.
pub(crate) const MODEL_FILES: [&str; 8] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// A run that is read: `RUN`, `RUN/best`, or the original's `RUN/best-backbone`.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The folder with the tuned parameters.
    pub(crate) best: PathBuf,
    /// The run around it, if it is one of ours.
    pub(crate) run: Option<PathBuf>,
    /// Its `skn.json`, if it is one of ours.
    pub(crate) config: Option<SkillConfig>,
}

impl Source {
    /// Looks at what `--resume_from` names: a run, its `best` folder, or a folder that PEFT or AdapterHub wrote.
    ///
    /// # Errors
    /// If there is no such folder, or its `skn.json` can't be read.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let backbone = path.file_name().is_some_and(|name| name == "best-backbone") && !path.is_dir();
        let path = if backbone { path.with_file_name(BEST) } else { path.to_path_buf() };
        if !path.is_dir() {
            return Err(Failure::input(format!(
                "{}: no such folder; expected a run or tuned parameters",
                path.display()
            )));
        }
        let inner = path.join(BEST);
        let best = if inner.is_dir() { inner } else { path.clone() };
        let config = match best.join("skn.json") {
            file if file.is_file() => Some(skn_artifact::read_json(&file)?),
            _ => None,
        };
        let run = if best != path {
            Some(path)
        } else {
            config.is_some().then(|| best.parent().map(Path::to_path_buf)).flatten()
        };
        Ok(Self { best, run, config })
    }

    /// Whether the folder holds a whole model, as that of a pruned run does.
    pub(crate) fn holds_model(&self) -> bool {
        self.best.join("config.json").is_file()
    }

    /// Checks that the files beside `skn.json` are those that it was written for.
    ///
    /// # Errors
    /// Names the file that is gone or changed.
    pub(crate) fn check_files(&self) -> Result<()> {
        for (name, expected) in self.config.iter().flat_map(|config| &config.files) {
            let file = self.best.join(name);
            if !file.is_file() {
                return Err(Failure::input(format!(
                    "{}: missing; skn.json beside it lists it",
                    file.display()
                )));
            }
            let found = hash_file(&file)?;
            if found != *expected {
                let file = file.display();
                return Err(Failure::input(format!(
                    "{file}: expected SHA-256 {expected} (skn.json), found {found}"
                )));
            }
        }
        Ok(())
    }

    /// The division of the data that the run was made with, if it has one.
    ///
    /// # Errors
    /// If `split.json` can't be read.
    pub(crate) fn split(&self) -> Result<Option<SplitRecord>> {
        match self.run.as_ref().map(|run| run.join("split.json")) {
            Some(file) if file.is_file() => Ok(Some(skn_artifact::read_json(&file)?)),
            _ => Ok(None),
        }
    }

    /// The backbone that PEFT or AdapterHub noted in `adapter_config.json`.
    pub(crate) fn base_model(&self) -> Option<String> {
        let config: serde_json::Value =
            skn_artifact::read_json(&self.best.join("adapter_config.json")).ok()?;
        let name = config.get("base_model_name_or_path").or_else(|| config.get("model_name"))?;
        name.as_str().filter(|name| !name.is_empty()).map(str::to_string)
    }

    /// The run's own record, if it has one.
    pub(crate) fn record(&self) -> Option<RunRecord> {
        skn_artifact::read_json(&self.record_file()?).ok()
    }

    /// Where that lies.
    pub(crate) fn record_file(&self) -> Option<PathBuf> {
        Some(self.run.as_ref()?.join("run.json")).filter(|file| file.is_file())
    }
}

/// A run that is written: locked for one program, with a record of what was read and written.
///
/// Files are kept until [`Sink::finish`]: a stage that fails half-way leaves what there was before.
pub(crate) struct Sink {
    folder: PathBuf,
    stage: String,
    overwrite: Overwrite,
    inputs: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
    settings: BTreeMap<String, String>,
    /// Files that are made, and not written yet, in the order in which they will be.
    made: Vec<(String, Vec<u8>)>,
    /// Files of earlier calls that would be read as this one's.
    obsolete: Vec<String>,
    arguments: Vec<String>,
    started: (u64, Instant),
    _lock: RunLock,
}

impl Sink {
    /// Locks the folder for this program.
    ///
    /// # Errors
    /// If another program holds it, or it can't be made.
    pub(crate) fn open(call: &Call<'_>, folder: &Path, stage: &str, force: bool) -> Result<Self> {
        let lock = RunLock::acquire(folder, stage)?;
        Ok(Self {
            folder: folder.into(),
            stage: stage.into(),
            overwrite: if force { Overwrite::Replace } else { Overwrite::Refuse },
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            settings: BTreeMap::new(),
            made: Vec::new(),
            obsolete: Vec::new(),
            arguments: call.arguments.clone(),
            started: (unix_seconds(), Instant::now()),
            _lock: lock,
        })
    }

    /// The run's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Refuses early what would be refused at the end, so that no work is lost.
    ///
    /// # Errors
    /// Names the first file that exists and may not be replaced.
    pub(crate) fn check_free(&self, names: &[impl AsRef<Path>]) -> Result<()> {
        let taken = names.iter().map(|name| self.folder.join(name.as_ref())).find(|path| path.exists());
        match taken {
            Some(path) if self.overwrite == Overwrite::Refuse => Err(Failure::input(format!(
                "{}: exists; --force replaces it, --out RUN writes elsewhere",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Notes a file that was read: by its path in the run if it is one of the run's.
    ///
    /// # Errors
    /// If it can't be read again to be hashed.
    pub(crate) fn read(&mut self, path: &Path) -> Result<()> {
        if path.is_file() {
            let inside = || {
                let path = path.canonicalize().ok()?;
                Some(path.strip_prefix(self.folder.canonicalize().ok()?).ok()?.to_path_buf())
            };
            let name = inside().unwrap_or_else(|| path.to_path_buf());
            self.inputs.insert(name.display().to_string(), hash_file(path)?);
        }
        Ok(())
    }

    /// Notes something that was read, with the hash of its content.
    pub(crate) fn read_as(&mut self, what: impl Into<String>, sha256: impl Into<String>) {
        self.inputs.insert(what.into(), sha256.into());
    }

    /// Notes a setting.
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        self.settings.insert(name.into(), value.to_string());
    }

    /// Makes tensors the content of `name` in the run.
    ///
    /// # Errors
    /// If the file exists and may not be replaced.
    pub(crate) fn tensors(&mut self, name: &str, bundle: &TensorBundle) -> Result<()> {
        self.bytes(name, bundle.to_bytes()?)
    }

    /// Makes JSON the content of `name` in the run.
    ///
    /// # Errors
    /// As [`Self::tensors`].
    pub(crate) fn json(&mut self, name: &str, value: &impl serde::Serialize) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(value)?;
        bytes.push(b'\n');
        self.bytes(name, bytes)
    }

    /// Makes bytes the content of `name` in the run.
    ///
    /// # Errors
    /// As [`Self::tensors`].
    pub(crate) fn bytes(&mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Result<()> {
        self.check_free(&[name])?;
        self.made.push((name.into(), bytes.into()));
        Ok(())
    }

    /// A file of the run that is to go when this stage's are written.
    pub(crate) fn remove(&mut self, name: &str) {
        self.obsolete.push(name.into());
    }

    /// Writes what was made so far.
    ///
    /// # Errors
    /// If a file can't be written.
    pub(crate) fn flush(&mut self) -> Result<()> {
        for (name, bytes) in std::mem::take(&mut self.made) {
            write_file(&self.folder.join(&name), self.overwrite, &bytes)?;
            self.outputs.insert(name, skn_artifact::sha256_hex(&bytes));
        }
        for name in &self.obsolete {
            let path = self.folder.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("{}: can't remove", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes a file of the run that a library wrote.
    ///
    /// # Errors
    /// If it can't be read to be hashed.
    pub(crate) fn wrote(&mut self, name: &str) -> Result<()> {
        let hash = hash_file(&self.folder.join(name))?;
        self.outputs.insert(name.into(), hash);
        Ok(())
    }

    /// Notes every file of a folder of the run that a library wrote; no folder, no files.
    ///
    /// # Errors
    /// If one can't be read to be hashed.
    pub(crate) fn wrote_all(&mut self, folder: &str) -> Result<()> {
        let path = self.folder.join(folder);
        let Ok(entries) = std::fs::read_dir(&path) else { return Ok(()) };
        for entry in entries {
            let entry = entry.with_context(|| path.display().to_string())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_file() && !name.starts_with('.') {
                self.wrote(&format!("{folder}/{name}"))?;
            }
        }
        Ok(())
    }

    /// Ends the stage: writes what it made, and its record into `run.json`.
    ///
    /// # Errors
    /// If something can't be written.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush()?;
        let record = StageRecord {
            arguments: self.arguments,
            version: env!("CARGO_PKG_VERSION").into(),
            started: self.started.0,
            finished: unix_seconds(),
            seconds: self.started.1.elapsed().as_secs_f64(),
            settings: self.settings,
            inputs: self.inputs,
            outputs: self.outputs,
        };
        RunRecord::update(&self.folder, &self.stage, record, &self.obsolete)?;
        Ok(())
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
