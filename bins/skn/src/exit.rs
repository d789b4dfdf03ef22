//! From errors to exit codes.

use std::error::Error;

use skn_artifact::{ArtifactError, ErrorKind};
use skn_counts::CountsError;
use skn_data::DataError;
use skn_model::ModelError;
use skn_perturb::PerturbError;
use skn_probing::ProbingError;
pub(crate) use skn_program::{Failure, exit_code};
use skn_report::ReportError;
use skn_select::SelectError;
use skn_tune::TuneError;

/// The exit code of an error: that of the innermost cause which has one, else 1.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    let known = |cause: &(dyn Error + 'static)| {
        let failure = cause.downcast_ref::<Failure>().map(Failure::exit_code);
        failure.or_else(|| kind(cause).map(exit_code))
    };
    error.chain().filter_map(known).last().unwrap_or(1)
}

/// The kind of an error, if it is one of the library crates'.
fn kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    None.or_else(|| error.downcast_ref().map(ArtifactError::kind))
        .or_else(|| error.downcast_ref().map(CountsError::kind))
        .or_else(|| error.downcast_ref().map(DataError::kind))
        .or_else(|| error.downcast_ref().map(ModelError::kind))
        .or_else(|| error.downcast_ref().map(PerturbError::kind))
        .or_else(|| error.downcast_ref().map(ProbingError::kind))
        .or_else(|| error.downcast_ref().map(ReportError::kind))
        .or_else(|| error.downcast_ref().map(SelectError::kind))
        .or_else(|| error.downcast_ref().map(TuneError::kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_innermost_known_cause_decides() {
        let wrapped = Err::<(), _>(Failure::input("no such file")).context("while reading").unwrap_err();
        assert_eq!(code(&wrapped), 3);
        assert_eq!(code(&anyhow::anyhow!("anything")), 1);
    }
}
