use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::subject::{Subject, TaskChoice};

/// Find what the neurons of a model tell as it is: nothing is tuned, perturbed or pruned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Untuned {
    /// Model, task and data; default: the demo and its first task.
    pub subject: Subject,
    /// The run's folder; default `runs/<model>-<task>`.
    pub out: Option<PathBuf>,
    /// Whether what earlier runs left there is replaced.
    pub overwrite: bool,
    /// Whether to go on where an earlier run stopped.
    pub resume: bool,
}

impl Untuned {
    /// The name of the model.
    pub fn model(&self) -> &str {
        self.subject.model.as_deref().unwrap_or(Chain::MODEL)
    }

    /// The run's folder.
    pub fn folder(&self) -> PathBuf {
        self.chain().folder()
    }

    /// The model, the task and the data, with what is left open decided.
    pub(crate) fn whole_subject(&self) -> Subject {
        let task: TaskChoice = self.chain().task();
        Subject { model: Some(self.model().into()), task: Some(task), ..self.subject.clone() }
    }

    /// A chain on the same, which has the same defaults.
    fn chain(&self) -> Chain {
        Chain { subject: self.subject.clone(), out: self.out.clone(), ..Chain::default() }
    }
}
