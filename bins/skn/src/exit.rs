//! From the library crates' errors to exit codes.

use skn_artifact::ArtifactError;
use skn_data::DataError;
use skn_model::ModelError;
use skn_perturb::PerturbError;
use skn_probing::ProbingError;
use skn_report::ReportError;
use skn_select::SelectError;
use skn_tune::TuneError;

pub(crate) use skn_program::Failure;

/// The exit code of an error: that of the innermost cause which has one, else 1.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    let known = |cause: &(dyn std::error::Error + 'static)| {
        None.or_else(|| cause.downcast_ref::<Failure>().map(Failure::exit_code))
            .or_else(|| cause.downcast_ref::<ArtifactError>().map(ArtifactError::exit_code))
            .or_else(|| cause.downcast_ref::<DataError>().map(DataError::exit_code))
            .or_else(|| cause.downcast_ref::<ModelError>().map(ModelError::exit_code))
            .or_else(|| cause.downcast_ref::<ProbingError>().map(ProbingError::exit_code))
            .or_else(|| cause.downcast_ref::<PerturbError>().map(PerturbError::exit_code))
            .or_else(|| cause.downcast_ref::<ReportError>().map(ReportError::exit_code))
            .or_else(|| cause.downcast_ref::<SelectError>().map(SelectError::exit_code))
            .or_else(|| cause.downcast_ref::<TuneError>().map(TuneError::exit_code))
    };
    error.chain().filter_map(known).last().unwrap_or(1)
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
