use serde::{Deserialize, Serialize};

use super::compute::Compute;
use super::stage::Stage;

/// How a stage was done, as the record of a run keeps it: what it was asked, and where and how it was computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Made {
    /// What it was asked.
    pub stage: Stage,
    /// Where and how.
    pub compute: Compute,
}

impl Made {
    /// A stage, and where and how it is computed.
    pub fn new(stage: Stage, compute: Compute) -> Self {
        Self { stage, compute }
    }

    /// The same without what changes no result: threads, texts at once, whether it goes on or replaces; and where it is
    /// computed, of a stage that computes with no model.
    pub fn essence(&self) -> Self {
        let compute = match self.stage {
            Stage::Select(_) | Stage::Merge(_) | Stage::Report(_) => Compute::default(),
            _ => Compute { threads: None, ..self.compute },
        };
        Self { stage: self.stage.essence(), compute }
    }

    /// Whether another one gives the same result.
    ///
    /// # Errors
    /// None that options give.
    pub(crate) fn is_as(&self, other: &Self) -> Result<bool, serde_json::Error> {
        // Decimals lose a last digit on their way through a record, so both go that way.
        let recorded = |made: &Self| -> Result<Self, serde_json::Error> {
            serde_json::from_str(&serde_json::to_string(&made.essence())?)
        };
        Ok(recorded(self)? == recorded(other)?)
    }
}
