//! What every program does around its stage.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

use clap::{Command, Parser};
use serde::Serialize;
use skn_program::{conclude, report};

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
    if let Some(code) = fence::enter() {
        return code;
    }
    let line = rewrite_short_pairs(std::env::args_os());
    let stage = parse::<S>(&line);
    let run = || {
        let console = Console::new(stage.common())?;
        let result = stage.run(&Call { console: &console, arguments: typed(&line) });
        conclude(&console, stage.common(), result)
    };
    report(S::PROGRAM, code, run())
}

/// Reads a command line; what can't be read, or asks for help, ends the program.
fn parse<S: Stage>(line: &[OsString]) -> S {
    let mut command = spelled_either_way(S::command());
    let matches = command.try_get_matches_from_mut(line).unwrap_or_else(|error| error.exit());
    S::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// The original spells flags with `_`, other programs with `-`: every flag of several words is known by both.
fn spelled_either_way(command: Command) -> Command {
    command.mut_args(|argument| {
        let names: BTreeSet<String> = argument
            .get_long()
            .into_iter()
            .chain(argument.get_all_aliases().unwrap_or_default())
            .map(String::from)
            .collect();
        let both = names.iter().flat_map(|name| [name.replace('-', "_"), name.replace('_', "-")]);
        let others: BTreeSet<String> = both.filter(|name| !names.contains(name)).collect();
        // So that a number below 0 is told from a flag, and its range named.
        let takes_value = argument.get_action().takes_values();
        // Flags live as long as the program does, which parses once.
        let argument = argument.aliases(others.into_iter().map(|name| &*name.leak()));
        if takes_value { argument.allow_negative_numbers(true) } else { argument }
    })
}

/// Runs a stage inside another program, as if `arguments` had been typed behind its name.
///
/// # Errors
/// If they can't be parsed, or the stage fails.
pub fn run_stage<S: Stage>(console: &Console, arguments: &[String]) -> anyhow::Result<S::Output> {
    let line: Vec<String> =
        std::iter::once(S::PROGRAM.to_string()).chain(arguments.iter().cloned()).collect();
    let stage = S::try_parse_from(&line).map_err(|error| Failure::usage(error.to_string()))?;
    stage.run(&Call { console, arguments: arguments.to_vec() })
}

fn typed(line: &[OsString]) -> Vec<String> {
    line.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}
