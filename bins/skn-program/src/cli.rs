use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{Args, Command, Parser, ValueEnum};

/// Flags of every program.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    /// How to show progress, on stderr
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub progress: ProgressKind,

    /// Say more (repeat for more)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Say only what went wrong
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// How progress is shown.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressKind {
    /// A bar on a terminal, lines elsewhere
    Auto,
    /// A bar
    Bar,
    /// A line now and then
    Log,
    /// Nothing
    None,
}

/// Reads a command line, its first word included. Every flag of several words is known with `-` and with `_` between
/// them: the published programs have `_`, others `-`.
///
/// # Errors
/// If it can't be read; or asks for help or the version, which clap has as errors too.
pub fn parse<P: Parser>(
    line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> clap::error::Result<P> {
    let mut command = spelled_either_way(P::command());
    let mut matches = command.try_get_matches_from_mut(line)?;
    P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

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
        // clap wants names that live as long as the program does. It parses one line; skn-run a dozen.
        let argument = argument.aliases(others.into_iter().map(|name| &*name.leak()));
        if takes_value { argument.allow_negative_numbers(true) } else { argument }
    })
}
