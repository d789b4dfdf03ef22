//! Is a stage of a chain done, and everything as it was?

use std::path::{Path, PathBuf};

use skn_artifact::names::{file, input};
use skn_artifact::{StageRecord, hash_file, is_file};

use crate::division;
use crate::error::{Result, SessionError};
use crate::options::{Subject, Tuned};
use crate::session::Session;
use crate::setup::Setup;

/// What became of a stage that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Everything is as it was.
    AsItWas,
    /// A file that it wrote is gone or was changed: it was perhaps stopped while it was done again.
    Changed,
    /// Its files are those that it wrote, but one that it read is gone or was changed since: a run that was being replaced when
    /// it was stopped has some of each.
    Outdated,
}

impl State {
    /// That of a stage in a folder.
    ///
    /// # Errors
    /// If a file can't be read.
    pub(crate) fn of(folder: &Path, stage: &StageRecord) -> Result<Self> {
        for (name, expected) in &stage.outputs {
            let file = folder.join(name);
            if !is_file(&file)? || hash_file(&file)? != *expected {
                return Ok(Self::Changed);
            }
        }
        for (name, expected) in &stage.inputs {
            // Those are no files.
            if name.starts_with(division::DATA) || name.starts_with(input::MODEL) {
                continue;
            }
            let (inside, outside) = (folder.join(name), PathBuf::from(name));
            let file = if is_file(&inside)? { inside } else { outside };
            if !is_file(&file)? || hash_file(&file)? != *expected {
                return Ok(Self::Outdated);
            }
        }
        Ok(Self::AsItWas)
    }
}

/// The data and the model that a chain goes on with, by their names in the record of a stage, with their hashes.
pub(crate) struct Now {
    data: (String, String),
    model: (String, String),
}

impl Now {
    /// Reads both. The session keeps them for the stages.
    ///
    /// # Errors
    /// If they are not there, damaged, or do not fit.
    pub(crate) fn read(session: &Session, subject: &Subject) -> Result<Self> {
        // Stages say what they need of a model; of one without a head some can be done.
        let setup = Setup::load_encoder(session, subject, &Tuned::default())?;
        Ok(Self { data: setup.data_read(), model: setup.base.model_read() })
    }

    /// Refuses to take a stage for done whose data were others, or whose model: of one that computed with the model of an earlier
    /// stage (`own_model`) that is an input like any other.
    ///
    /// # Errors
    /// Names the stage, and what was another.
    pub(crate) fn check(
        &self,
        folder: &Path,
        entry: &str,
        stage: &StageRecord,
        own_model: bool,
    ) -> Result<()> {
        let compared = [Some(&self.data), (!own_model).then_some(&self.model)];
        for (what, found) in compared.into_iter().flatten() {
            if let Some(expected) = stage.inputs.get(what).filter(|expected| *expected != found) {
                return Err(SessionError::input(format!(
                    "{}: stage {entry}: {what}: expected SHA-256 {expected}, as when it was done, found {found}; a chain is resumed \
                     with the data and the model that it began with: option `overwrite` begins anew, option `out` RUN writes elsewhere",
                    folder.join(file::RUN).display()
                )));
            }
        }
        Ok(())
    }
}
