//! What every program does around its stage.

use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;
use skn_program::{conclude, parse, report};

use crate::cli::{Common, rewrite_short_pairs};
use crate::console::Console;
use crate::exit::{Failure, code};
use crate::fence;

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
    fn run(&self, call: &Call<'_>) -> anyhow::Result<Self::Output>;
}

/// A stage's surroundings.
pub struct Call<'a> {
    /// Where it says how far it is.
    pub console: &'a Console,
    /// Its arguments as they were typed, for the record.
    pub arguments: Vec<String>,
}

/// Parses the command line, runs the stage, prints what it found, and says how it ended.
pub fn program<S: Stage>() -> ExitCode {
    program_of::<S>(std::env::args_os())
}

/// The same, of another command line than the program's own, its first word included.
pub fn program_of<S: Stage>(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    if let Some(code) = fence::enter() {
        return code;
    }
    skn_model::keep_candle_on_calling_thread();
    skn_model::keep_freed_memory();
    let line = rewrite_short_pairs(line);
    let stage: S = parse(&line).unwrap_or_else(|error| error.exit());
    let run = || {
        let console = Console::new(stage.common())?;
        let result = stage.run(&Call { console: &console, arguments: typed(&line) });
        conclude(&console, stage.common(), result)
    };
    report(S::PROGRAM, code, run())
}

/// Runs a stage inside another program, as if `arguments` had been typed behind its name.
///
/// # Errors
/// If they can't be parsed, or the stage fails.
pub fn run_stage<S: Stage>(console: &Console, arguments: &[String]) -> anyhow::Result<S::Output> {
    let line: Vec<String> =
        std::iter::once(S::PROGRAM.to_string()).chain(arguments.iter().cloned()).collect();
    let stage: S = parse(&line).map_err(|error| Failure::usage(error.to_string()))?;
    stage.run(&Call { console, arguments: arguments.to_vec() })
}

fn typed(line: &[OsString]) -> Vec<String> {
    line.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}
