//! From errors to exit codes.

use std::fmt;
use std::process::ExitCode;

use skn_artifact::ArtifactError;
use skn_data::DataError;
use skn_model::ModelError;
use skn_perturb::PerturbError;
use skn_probing::ProbingError;
use skn_report::ReportError;
use skn_select::SelectError;
use skn_tune::TuneError;

/// An error that the programs themselves find, with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The command line asks for something that does not exist or does not fit: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
        Self { code: 2, message: message.into() }.into()
    }

    /// A file is missing or is not what it should be: exit code 3.
    pub(crate) fn input(message: impl Into<String>) -> anyhow::Error {
        Self { code: 3, message: message.into() }.into()
    }

    /// Something is not here and may not be fetched: exit code 4.
    pub(crate) fn offline(message: impl Into<String>) -> anyhow::Error {
        Self { code: 4, message: message.into() }.into()
    }

    /// The device can't be had: exit code 5.
    pub(crate) fn device(message: impl Into<String>) -> anyhow::Error {
        Self { code: 5, message: message.into() }.into()
    }

    /// A signal stopped the work: exit code 128 + its number, whatever the work said of it.
    pub(crate) fn signal(signal: usize, said: &anyhow::Error) -> anyhow::Error {
        let name = match signal {
            2 => "SIGINT",
            15 => "SIGTERM",
            _ => "a signal",
        };
        let message = format!("stopped by {name}: {}", innermost(said));
        Self { code: 128u8.saturating_add(signal as u8), message }.into()
    }
}

fn innermost(error: &anyhow::Error) -> String {
    error.root_cause().to_string()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of an error: that of the innermost cause which has one, else 1.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    let known = |cause: &(dyn std::error::Error + 'static)| {
        None.or_else(|| cause.downcast_ref::<Failure>().map(|error| error.code))
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

/// Prints an error with its causes and turns it into the program's exit code.
pub(crate) fn report(program: &str, result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut message = format!("{program}: error: {error}");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        // A transparent cause repeats what its wrapper said.
        let cause = cause.to_string();
        if !said.contains(&cause) {
            message += &format!("\n  because: {cause}");
            said = cause;
        }
    }
    // Nothing is left to do if stderr is gone.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{message}\n").as_bytes());
    ExitCode::from(code(&error))
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
        let stopped = anyhow::anyhow!("a checkpoint of step 5 is written");
        assert_eq!(code(&Failure::signal(2, &stopped)), 130);
        let error = Failure::signal(15, &stopped);
        assert_eq!(code(&error), 143);
        assert_eq!(error.to_string(), "stopped by SIGTERM: a checkpoint of step 5 is written");
    }
}
