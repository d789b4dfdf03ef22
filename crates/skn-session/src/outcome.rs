use crate::error::{Result, SessionError};
use crate::options::Stage;
use crate::session::Session;
use crate::stages::{Evaluated, Merged, Perturbed, Probed, Pruned, Reported, Selected, Trained};

/// What a stage came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Of [`Session::train`].
    Trained(Trained),
    /// Of [`Session::probe`].
    Probed(Box<Probed>),
    /// Of [`Session::merge`].
    Merged(Merged),
    /// Of [`Session::select`].
    Selected(Selected),
    /// Of [`Session::perturb`].
    Perturbed(Perturbed),
    /// Of [`Session::prune`].
    Pruned(Pruned),
    /// Of [`Session::evaluate`].
    Evaluated(Box<Evaluated>),
    /// Of [`Session::report`].
    Reported(Reported),
}

impl Session {
    /// Does a stage, whichever it is.
    ///
    /// # Errors
    /// As the stage's own call; of a chain, which has a call of its own.
    pub fn run(&self, stage: &Stage) -> Result<Outcome> {
        Ok(match stage {
            Stage::Train(options) => Outcome::Trained(self.train(options)?),
            Stage::Probe(options) => Outcome::Probed(Box::new(self.probe(options)?)),
            Stage::Merge(options) => Outcome::Merged(self.merge(options)?),
            Stage::Select(options) => Outcome::Selected(self.select(options)?),
            Stage::Perturb(options) => Outcome::Perturbed(self.perturb(options)?),
            Stage::Prune(options) => Outcome::Pruned(self.prune(options)?),
            Stage::Evaluate(options) => Outcome::Evaluated(Box::new(self.evaluate(options)?)),
            Stage::Report(options) => Outcome::Reported(self.report(options)?),
            Stage::Chain(_) | Stage::Untuned(_) | Stage::Experiment(_) => {
                return Err(SessionError::usage("a chain is done by its own call"));
            }
        })
    }
}
