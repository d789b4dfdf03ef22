//! A program's man page.

use anyhow::Result;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// What exit codes mean, of every program (`skn_program::exit_code`).
const EXIT_CODES: [(&str, &str); 9] = [
    ("0", "Done."),
    ("1", "Failed."),
    ("2", "Usage: an unknown task, word or flag, or options that do not fit one another."),
    ("3", "A file is missing, damaged, or not what it should be."),
    ("4", "Not here, and the network did not give it or may not be asked."),
    ("5", "The device can't be had."),
    ("6", "Another program works on the same run."),
    ("130, 143, 138", "Stopped by SIGINT, SIGTERM or SIGUSR1, after a checkpoint where there is one."),
    ("101", "A bug."),
];

/// How it is called, as `--help` says: a list of all flags would tell nobody which are needed.
fn synopsis(program: &Command) -> Roff {
    let usage = program.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim_end();
    let (name, rest) = usage.split_once(' ').unwrap_or((usage, ""));
    let mut section = Roff::new();
    section.control("SH", ["SYNOPSIS"]);
    section.text([bold(name), roman(format!(" {rest}"))]);
    section
}

/// The page of a program in roff, section 1.
///
/// # Errors
/// If it can't be written to memory.
pub fn man_page(program: &Command) -> Result<Vec<u8>> {
    let version = program.get_version().unwrap_or_default();
    let man = Man::new(program.clone()).source(format!("skn {version}")).manual("Programs of skn");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(program).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if program.get_after_help().is_some() || program.get_after_long_help().is_some() {
        man.render_extra_section(&mut page)?;
    }
    let mut rest = Roff::new();
    rest.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        rest.control("TP", []);
        rest.text([bold(code)]);
        rest.text([roman(meaning)]);
    }
    rest.control("SH", ["SEE ALSO"]);
    let names = crate::programs();
    let mut others =
        names.iter().map(Command::get_name).filter(|name| *name != program.get_name()).peekable();
    while let Some(name) = others.next() {
        let end = if others.peek().is_some() { "(1), " } else { "(1)" };
        rest.text([bold(name), roman(end)]);
    }
    rest.to_writer(&mut page)?;
    Ok(page)
}
