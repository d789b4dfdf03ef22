//! The tokens that answer for the classes of a task.

use std::path::PathBuf;

use skn_artifact::VerbalizerRecord;
use skn_artifact::names::file;
use skn_data::{DataError, Task, TextEncoder, Verbalizer};

use crate::error::{Result, SessionError};
use crate::tuned_folder::TunedFolder;

/// The words and tokens that tuned parameters were trained to answer with, and the `skn.json` that says so.
pub(crate) struct Recorded {
    file: PathBuf,
    verbalizer: VerbalizerRecord,
}

impl Recorded {
    /// Those of tuned parameters, if they are of this task.
    pub(crate) fn of(source: &TunedFolder, task: &Task) -> Option<Self> {
        let config = source.config.as_ref().filter(|config| config.task == task.name)?;
        Some(Self { file: source.best.join(file::SKILL_CONFIG), verbalizer: config.verbalizer.clone() })
    }

    fn wrong(&self, reason: impl std::fmt::Display) -> SessionError {
        SessionError::input(format!("{}: verbalizer: {reason}", self.file.display()))
    }

    /// Checks that the words still have the tokens that they had.
    fn check(&self, found: &Verbalizer, model: &str) -> Result<()> {
        if self.verbalizer.ids.len() != found.ids.len() {
            let (ids, words) = (self.verbalizer.ids.len(), found.ids.len());
            return Err(self.wrong(format!("expected a token for each of {words} words, found {ids}")));
        }
        let mut each = found.words.iter().zip(self.verbalizer.ids.iter().zip(&found.ids));
        match each.find(|(_, (recorded, id))| recorded != id) {
            None => Ok(()),
            Some((word, (recorded, id))) => Err(self.wrong(format!(
                "expected token {recorded} for the word {word:?}, as in training, found {id} with the tokenizer of \
                 {model}; has one of them changed since?"
            ))),
        }
    }
}

/// The tokens that answer a task with a model, by its name. `recorded` is where its words were taken from, if from tuned
/// parameters.
///
/// # Errors
/// If a word has no token, two have the same one, or not those of the record.
pub(crate) fn answers(
    encoder: &TextEncoder,
    model: &str,
    task: &Task,
    recorded: Option<&Recorded>,
) -> Result<Verbalizer> {
    let verbalizer = encoder.verbalizer(&task.labels).map_err(|error| match (error, recorded) {
        (DataError::SharedToken { id, .. }, _) if encoder.names_of(id).len() > 1 => {
            let names: Vec<String> = encoder.names_of(id).iter().map(|name| format!("{name:?}")).collect();
            SessionError::input(format!(
                "{model}: the tokenizer gives {} the same id, {id}; expected one token for each id",
                names.join(" and ")
            ))
        }
        (error, Some(recorded)) => SessionError::input(format!("{}: {error}", recorded.file.display())),
        (error @ DataError::SharedToken { .. }, None) => {
            SessionError::usage(format!("{error}; option `words` gives other words, in class order"))
        }
        (error, None) => error.into(),
    })?;
    recorded.map_or(Ok(()), |recorded| recorded.check(&verbalizer, model))?;
    for (word, token) in verbalizer.cut_words() {
        tracing::warn!("label word `{word}` is several tokens; its first, `{token}`, answers for it");
    }
    Ok(verbalizer)
}
