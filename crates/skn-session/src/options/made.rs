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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Probe, Subject, Train};

    /// Records of earlier programs always say a method.
    #[test]
    fn a_method_that_goes_without_saying_is_the_same() {
        let train = Made::new(Train::new(Subject::demo("sentiment"), "run").into(), Compute::default());
        let probe = Made::new(Probe::of("run", &[]).into(), Compute::default());
        for (made, stage, method, same) in [
            (&train, "train", "RobertaPrompt", true),
            (&train, "train", "RobertaBias", false),
            // What is loaded is of one method, whatever is said.
            (&probe, "probe", "RobertaPrompt", true),
            (&probe, "probe", "RobertaBias", true),
        ] {
            let mut said = serde_json::to_value(made).unwrap();
            assert!(said["stage"][stage]["tuned"]["method"].is_null(), "{said}");
            said["stage"][stage]["tuned"]["method"] = method.into();
            let said: Made = serde_json::from_value(said).unwrap();
            assert_eq!(said.is_as(made).unwrap(), same, "{stage} {method}");
        }
    }
}
