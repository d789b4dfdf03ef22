use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Command, Parser, ValueEnum};
use skn_artifact::visible;

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
    let mut matches = command.try_get_matches_from_mut(line).map_err(in_plain_words)?;
    P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Ends the program as clap does: help and version go to standard output. What is wrong goes to standard error as any other
/// error does, with the program's name before it and the control characters of the user's words spelled out.
pub fn refuse(program: &str, error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        error.exit();
    }
    let said = error.to_string();
    // Nobody can be told where that takes nothing.
    write!(std::io::stderr().lock(), "{program}: {}", visible(&said)).ok();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// What Rust's own parsers of numbers say, and what a user is told.
const PLAIN: [(&str, &str); 6] = [
    ("invalid digit found in string", "expected a whole number"),
    ("cannot parse integer from empty string", "expected a whole number"),
    ("number too large to fit in target type", "expected a smaller number"),
    ("number would be zero for non-zero type", "expected at least 1"),
    ("invalid float literal", "expected a number"),
    ("cannot parse float from empty string", "expected a number"),
];

fn in_plain_words(error: clap::Error) -> clap::Error {
    let said = error.to_string();
    let Some((foreign, plain)) = PLAIN.iter().find(|(foreign, _)| said.contains(foreign)) else {
        return error;
    };
    let said = said.replace(foreign, plain);
    clap::Error::raw(error.kind(), said.strip_prefix("error: ").unwrap_or(&said))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that counts.
    #[derive(Parser, Debug)]
    struct Counting {
        #[arg(long)]
        count: Option<std::num::NonZeroUsize>,
        #[arg(long)]
        rate: Option<f64>,
    }

    #[test]
    fn numbers_that_are_none_are_told_in_plain_words() {
        let told = |line: &str| parse::<Counting>(line.split(' ')).unwrap_err().to_string();
        let ends = "\n\nFor more information, try '--help'.\n";
        for (line, expected) in [
            ("c --count many", "invalid value 'many' for '--count <COUNT>': expected a whole number"),
            ("c --count 0", "invalid value '0' for '--count <COUNT>': expected at least 1"),
            ("c --count 99999999999999999999", "expected a smaller number"),
            ("c --rate fast", "invalid value 'fast' for '--rate <RATE>': expected a number"),
        ] {
            let said = told(line);
            assert!(
                said.starts_with("error: invalid value") && said.ends_with(&format!("{expected}{ends}")),
                "{said}"
            );
        }
    }
}
