//! From errors to exit codes.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;
use skn_artifact::{ErrorKind, visible};

use crate::cli::Common;
use crate::console::{Console, STOPPING, print, print_json};

/// An error that the programs themselves find, with its exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The command line asks for something that does not exist or does not fit: exit code 2.
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        Self { code: 2, message: message.into() }.into()
    }

    /// A file is missing or is not what it should be: exit code 3.
    pub fn input(message: impl Into<String>) -> anyhow::Error {
        Self { code: 3, message: message.into() }.into()
    }

    /// Something is not here, and the network did not give it or may not be asked: exit code 4.
    pub fn offline(message: impl Into<String>) -> anyhow::Error {
        Self { code: 4, message: message.into() }.into()
    }

    /// The device can't be had: exit code 5.
    pub fn device(message: impl Into<String>) -> anyhow::Error {
        Self { code: 5, message: message.into() }.into()
    }

    /// Another program works on the same thing: exit code 6.
    pub fn locked(message: impl Into<String>) -> anyhow::Error {
        Self { code: 6, message: message.into() }.into()
    }

    /// The system refuses what it usually does not: exit code 1.
    pub fn failed(message: impl Into<String>) -> anyhow::Error {
        Self { code: 1, message: message.into() }.into()
    }

    /// What another process found, with its exit code.
    pub fn coded(code: u8, message: impl Into<String>) -> anyhow::Error {
        Self { code, message: message.into() }.into()
    }

    /// A signal stopped the work: exit code 128 + its number, whatever the work said of it.
    pub fn signal(signal: usize, said: &anyhow::Error) -> anyhow::Error {
        let known = STOPPING.iter().find(|(number, _)| usize::try_from(*number) == Ok(signal));
        let name = known.map_or("a signal", |(_, name)| name);
        let message = format!("stopped by {name}: {}", innermost(said));
        Self { code: 128u8.saturating_add(signal as u8), message }.into()
    }

    /// The exit code of a program that fails with this.
    pub fn exit_code(&self) -> u8 {
        self.code
    }
}

/// The exit code of a program that fails with an error of this kind.
pub fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => 2,
        ErrorKind::Input => 3,
        ErrorKind::NotHere => 4,
        ErrorKind::Device => 5,
        ErrorKind::Locked => 6,
        ErrorKind::Interrupted => 130,
        _ => 1,
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

/// Prints what a program found, for a person or (`--json`) a program.
///
/// # Errors
/// Why the work failed; if a signal came, that it was the signal.
pub fn conclude(
    console: &Console,
    common: &Common,
    result: anyhow::Result<impl fmt::Display + Serialize>,
) -> anyhow::Result<()> {
    let output = or_signal(console, result)?;
    match common.json {
        true => print_json(&serde_json::to_string_pretty(&output)?)?,
        false => match output.to_string() {
            // It was printed on the way.
            text if text.is_empty() => {}
            text => print(&text)?,
        },
    }
    Ok(())
}

/// The same, but that nothing is printed: where another process prints what they found together.
///
/// # Errors
/// As [`conclude`].
pub fn conclude_silently<T>(console: &Console, result: anyhow::Result<T>) -> anyhow::Result<()> {
    or_signal(console, result).map(drop)
}

fn or_signal<T>(console: &Console, result: anyhow::Result<T>) -> anyhow::Result<T> {
    match (result, console.signal()) {
        // Whatever the work said when it was told to stop, the signal is why.
        (Err(error), Some(signal)) => Err(Failure::signal(signal, &error)),
        (result, _) => result,
    }
}

/// Prints an error with its causes and turns it into the program's exit code, which `code` knows.
pub fn report(program: &str, code: fn(&anyhow::Error) -> u8, result: anyhow::Result<()>) -> ExitCode {
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
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{}\n", visible(&message)).as_bytes());
    ExitCode::from(code(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_128_and_its_number() {
        let code = |error: &anyhow::Error| error.downcast_ref::<Failure>().unwrap().exit_code();
        let stopped = anyhow::anyhow!("a checkpoint of step 5 is written");
        assert_eq!(code(&Failure::signal(2, &stopped)), 130);
        let error = Failure::signal(15, &stopped);
        assert_eq!(code(&error), 143);
        assert_eq!(error.to_string(), "stopped by SIGTERM: a checkpoint of step 5 is written");
        #[cfg(target_os = "linux")]
        {
            let error = Failure::signal(10, &stopped);
            assert_eq!(code(&error), 138);
            assert_eq!(error.to_string(), "stopped by SIGUSR1: a checkpoint of step 5 is written");
        }
    }
}
