use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skn_artifact::names::file;
use skn_artifact::{
    ArtifactError, ModelIdentity, Overwrite, SkillConfig, TextsRecord, VerbalizerRecord, hash_file, is_file,
    read_json, sha256_hex, write_file, write_json,
};
use skn_model::LanguageModel;

use crate::checkpoint::State;
use crate::error::{Result, TuneError};

/// Where a training is kept, and what its files say of it.
///
/// The folder gets `best/` (tuned parameters and `skn.json`), `last/` (checkpoints) and `metrics.jsonl`. Files of an
/// earlier training there are replaced: whether that is wanted, the caller has asked.
#[derive(Clone, Debug)]
pub struct TrainRun {
    /// The run's folder.
    pub folder: PathBuf,
    /// Go on from the folder's last checkpoint, or from the start if it has none; otherwise begin anew.
    pub resume: bool,
    /// The tuning method by the original's name: `RobertaPrompt`, ..
    pub method: String,
    /// The task's name.
    pub task: String,
    /// SHA-256 of the task's template, if it has one; a resume must match it.
    pub template_sha256: Option<String>,
    /// How the task's texts are read, cut and joined, as `skn.json` keeps it.
    pub texts: TextsRecord,
    /// The backbone.
    pub model: ModelIdentity,
    /// The token of each class; it decides what is trained and scored.
    pub verbalizer: VerbalizerRecord,
    /// Row 0 of a saved prompt: the embedding of `<mask>`.
    pub mask_embedding: Vec<f32>,
    /// SHA-256 of the data set; a resume must match it.
    pub data_sha256: String,
    /// SHA-256 of the tokenizer; a resume must match it.
    pub tokenizer_sha256: String,
    /// What the parameters begin with: a resume must match it.
    pub begins: Beginning,
    /// Files that the caller has put into `best/` (a pruned backbone), by name with their SHA-256; `skn.json` lists
    /// them too.
    pub companions: BTreeMap<String, String>,
    /// Whether the tuned parameters get a folder of their own in `best/`, as beside a model that transformers loads.
    pub apart: bool,
}

/// What a training's parameters begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Beginning {
    /// New ones, which the seed decides.
    New,
    /// What an earlier training left, in another folder.
    Loaded,
    /// What an earlier training left in this folder. This one replaces them, so a resume can't tell which they were; but a
    /// finished training does not pass for one that goes on from its best.
    OwnBest,
}

/// The parameters to save as the best so far.
pub(crate) struct Best<'a> {
    pub(crate) model: &'a LanguageModel,
    pub(crate) metric: &'static str,
    pub(crate) score: f64,
    pub(crate) step: u64,
}

impl TrainRun {
    /// The file that gets a line at each evaluation.
    pub fn metrics(&self) -> PathBuf {
        self.folder.join(file::METRICS)
    }

    /// The folder of the best parameters.
    pub fn best(&self) -> PathBuf {
        self.folder.join(file::BEST)
    }

    /// The folder of the checkpoints.
    pub fn last(&self) -> PathBuf {
        self.folder.join(file::LAST)
    }

    /// Writes `best/`, `skn.json` last: until then its hashes do not fit, and the folder is known to be torn. Gives back the
    /// SHA-256 of that.
    pub(crate) fn save_best(&self, best: &Best<'_>) -> Result<String> {
        let folder = self.best();
        let mut files =
            best.model.tuning()?.files(best.model.config(), &self.model.id, &self.mask_embedding)?;
        if self.apart {
            files.iter_mut().for_each(|(name, _)| *name = file::in_tuned_folder(name));
        }
        remove_others(&folder, &files)?;
        let mut hashes = self.companions.clone();
        for (name, bytes) in &files {
            write_file(&folder.join(name), Overwrite::Replace, bytes)?;
            hashes.insert(name.clone(), sha256_hex(bytes));
        }
        let config = SkillConfig {
            method: self.method.clone(),
            prompt_size: best.model.prompt_rows(),
            prompt_place: best.model.prompt_place().map(|place| place.name().to_owned()),
            verbalizer: self.verbalizer.clone(),
            task: self.task.clone(),
            template_sha256: self.template_sha256.clone(),
            texts: self.texts.clone(),
            model: self.model.clone(),
            metric: best.metric.to_owned(),
            dev_score: best.score,
            step: best.step,
            files: hashes,
        };
        let config_file = folder.join(file::SKILL_CONFIG);
        write_json(&config_file, Overwrite::Replace, &config)?;
        Ok(hash_file(&config_file)?)
    }

    /// Refuses early what [`Self::check_best`] would refuse at the end: a record of best parameters that are not those of the
    /// `state`, nor of a later evaluation, which a resume comes to again.
    pub(crate) fn check_resumed(&self, state: &State) -> Result<()> {
        let Some(expected) = &state.best_sha256 else { return Ok(()) };
        let file = self.best().join(file::SKILL_CONFIG);
        if !is_file(&file)? {
            return Err(self.not_the_best(file, state, expected, "no such file"));
        }
        let found = hash_file(&file)?;
        if found == *expected {
            return Ok(());
        }
        let step = read_json::<SkillConfig>(&file)?.step;
        let comes_again = step > state.step || (step == state.step && state.evaluated < step);
        if comes_again { Ok(()) } else { Err(self.not_the_best(file, state, expected, found)) }
    }

    /// Checks that `best/` holds what was best by the `state` of a training that was resumed and is done.
    pub(crate) fn check_best(&self, state: &State) -> Result<()> {
        let Some(expected) = &state.best_sha256 else { return Ok(()) };
        let folder = self.best();
        let check = |file: PathBuf, expected: &str| {
            if !is_file(&file)? {
                return Err(self.not_the_best(file, state, expected, "no such file"));
            }
            let found = hash_file(&file)?;
            if found == expected { Ok(()) } else { Err(self.not_the_best(file, state, expected, found)) }
        };
        let config_file = folder.join(file::SKILL_CONFIG);
        check(config_file.clone(), expected)?;
        let config: SkillConfig = read_json(&config_file)?;
        config.files.iter().try_for_each(|(name, expected)| check(folder.join(name), expected))
    }

    fn not_the_best(
        &self,
        file: PathBuf,
        state: &State,
        expected: &str,
        found: impl Into<String>,
    ) -> TuneError {
        let source = ArtifactError::Format {
            file,
            place: format!("the best parameters, of step {}", state.best_step),
            expected: format!("SHA-256 {expected}"),
            found: found.into(),
        };
        TuneError::Beside { source, checkpoint: self.last().join(file::CHECKPOINT), step: state.step }
    }
}

/// Removes what another tuning method has left in the folder: a folder of two tunings can't be read.
fn remove_others(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    for name in file::tuned_in_best().filter(|name| files.iter().all(|(written, _)| written != name)) {
        let file = folder.join(name);
        match std::fs::remove_file(&file) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(ArtifactError::Io { file, operation: "remove", source }.into());
            }
            _ => {}
        }
    }
    Ok(())
}
