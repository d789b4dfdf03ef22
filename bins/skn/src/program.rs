//! What every program does around its stage.

use std::fmt::Display;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use crate::cli::{Common, rewrite_short_pairs};
use crate::console::{Console, print};
use crate::exit::{Failure, report};

/// A stage of the chain: its arguments, and what it does.
pub trait Stage: Parser {
    /// The program's name.
    const PROGRAM: &'static str;

    /// What it found, as a person or (`--json`) a program reads it.
    type Output: Display + Serialize;

    /// The flags that every program has.
    fn common(&self) -> &Common;

    /// Does it.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    fn run(&self, console: &Console) -> anyhow::Result<Self::Output>;
}

/// Parses the command line, runs the stage, prints what it found, and says how it ended.
pub fn program<S: Stage>() -> ExitCode {
    let arguments = S::parse_from(rewrite_short_pairs(std::env::args_os()));
    let run = || {
        let console = Console::new(arguments.common())?;
        let output = arguments.run(&console).map_err(|error| match console.signal() {
            // Whatever the work said when it was told to stop, the signal is why.
            Some(signal) => error.context(Failure::signal(signal, format!("stopped by signal {signal}"))),
            None => error,
        })?;
        show(&output, arguments.common())
    };
    report(S::PROGRAM, run())
}

fn show(output: &(impl Display + Serialize), common: &Common) -> anyhow::Result<()> {
    let text = if common.json { serde_json::to_string_pretty(output)? } else { output.to_string() };
    Ok(print(&text)?)
}
