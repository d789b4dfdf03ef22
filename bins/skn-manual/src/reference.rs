//! The reference of all flags, in Markdown.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, Args, Command};
use skn_program::Common;

const HEAD: &str = "\
# Programs and their flags

Made from the programs themselves: `SKN_UPDATE=1 cargo test -p skn-manual` writes this file anew, and a test compares it.
`--help` of a program says the same.

Every flag of several words is known with `-` and with `_` between them. Where two names stand in a line, the second is that of the
published programs.
";

/// All programs, one section each: what it does, how it is called, its flags with defaults and values.
pub fn reference() -> String {
    let programs = crate::programs();
    let mut page = HEAD.to_owned();
    page.push_str("\n| program | what it does |\n|---|---|\n");
    for program in &programs {
        let about = program.get_about().map(ToString::to_string).unwrap_or_default();
        let name = program.get_name();
        page += &format!("| [`{name}`](#{name}) | {} |\n", cell(&about));
    }
    page += "\n## Flags of every program\n\n";
    let common = Common::augment_args(Command::new("common"));
    let shared: BTreeSet<String> = common.get_arguments().map(|flag| flag.get_id().to_string()).collect();
    let rows = common.get_arguments().map(row).collect::<String>();
    page += &format!("{COLUMNS}{rows}| `-h`, `--help` | | Help: `-h` in short |\n");
    page += "| `-V`, `--version` | | The version; with `-v` also how it was built, and for which processor it computes |\n";
    for mut program in programs {
        page += &section(&mut program, &shared);
    }
    page
}

const COLUMNS: &str = "| flag | default | what it does |\n|---|---|---|\n";

fn section(program: &mut Command, shared: &BTreeSet<String>) -> String {
    let usage = program.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim_end();
    let about = program.get_long_about().or_else(|| program.get_about());
    let about = about.map(|about| prose(&about.to_string())).unwrap_or_default();
    let mut text = format!("\n## {}\n\n{about}\n\n```sh\n{usage}\n```\n\n", program.get_name());
    let own = |flag: &&Arg| !flag.is_hide_set() && !shared.contains(flag.get_id().as_str());
    let flags: Vec<&Arg> = program.get_arguments().filter(own).filter(|flag| !is_built_in(flag)).collect();
    if flags.is_empty() {
        text += "No flags of its own.\n";
    } else {
        text += COLUMNS;
        text.extend(flags.into_iter().map(row));
    }
    if let Some(after) = program.get_after_help() {
        text += &format!("\n{}\n", prose(&after.to_string()));
    }
    text
}

fn is_built_in(flag: &Arg) -> bool {
    matches!(
        flag.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    )
}

/// A flag's line in the table.
fn row(flag: &Arg) -> String {
    let values = flag.get_action().takes_values().then(|| {
        let names = flag.get_value_names().unwrap_or_default();
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    });
    let mut names: Vec<String> = flag.get_short().into_iter().map(|short| format!("`-{short}`")).collect();
    names.extend(flag.get_long().map(|long| format!("`--{long}`")));
    names.extend(flag.get_visible_aliases().unwrap_or_default().iter().map(|name| format!("`--{name}`")));
    let call = match (names.is_empty(), values) {
        (true, values) => format!("`{}`", values.unwrap_or_else(|| flag.get_id().to_string())),
        (false, Some(values)) => format!("{} `{values}`", names.join(", ")),
        (false, None) => names.join(", "),
    };
    let defaults: Vec<String> =
        flag.get_default_values().iter().map(|value| value.to_string_lossy().into()).collect();
    let default = match (flag.is_required_set(), defaults.is_empty() || !flag.get_action().takes_values()) {
        (true, _) => "required".to_owned(),
        (false, true) => String::new(),
        (false, false) => format!("`{}`", defaults.join(" ")),
    };
    let help = flag.get_long_help().or_else(|| flag.get_help()).map(ToString::to_string).unwrap_or_default();
    format!("| {} | {} | {}{} |\n", cell(&call), cell(&default), cell(&help), possible(flag))
}

/// The values that a flag may have, where these are listed.
fn possible(flag: &Arg) -> String {
    let shown = |value: &clap::builder::PossibleValue| {
        let help = value.get_help().map(|help| format!(" ({})", cell(&help.to_string()))).unwrap_or_default();
        format!("`{}`{help}", value.get_name())
    };
    if !flag.get_action().takes_values() || flag.is_hide_possible_values_set() {
        return String::new();
    }
    let values = flag.get_possible_values();
    let values: Vec<String> = values.iter().filter(|value| !value.is_hide_set()).map(shown).collect();
    if values.is_empty() { String::new() } else { format!("<br>Values: {}", values.join("; ")) }
}

/// Text of a help as Markdown: what stands in angle brackets is no tag, and a line's end no end.
fn prose(help: &str) -> String {
    help.replace('<', "\\<").replace('*', "\\*")
}

/// The same on one line, in a table.
fn cell(text: &str) -> String {
    let in_code = text.starts_with('`');
    let one_line = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let one_line = one_line.collect::<Vec<_>>().join("<br>").replace('|', "\\|");
    if in_code { one_line } else { escape_tags(&one_line) }
}

/// `<mask>` stands for itself, and so does a star; the breaks that [`cell`] made stay.
fn escape_tags(text: &str) -> String {
    text.split("<br>").map(prose).collect::<Vec<_>>().join("<br>")
}
