//! `skn-manual FOLDER`: see [`skn_manual`].

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use skn_program::{parse, print, refuse};

/// Write the programs' completions for shells and their man pages.
#[derive(Parser)]
#[command(name = "skn-manual", version)]
struct Manual {
    /// Folder to write to: completions/ and man/; what is there by these names is replaced
    #[arg(value_name = "FOLDER", required_unless_present = "reference")]
    folder: Option<PathBuf>,

    /// Print the reference of all flags in Markdown
    #[arg(long, conflicts_with = "folder")]
    reference: bool,
}

fn main() -> ExitCode {
    let manual: Manual = match parse(std::env::args_os()) {
        Ok(manual) => manual,
        Err(error) => return refuse("skn-manual", &error),
    };
    skn_program::report("skn-manual", |_| 1, run(&manual))
}

fn run(manual: &Manual) -> Result<()> {
    let said = match &manual.folder {
        None => skn_manual::reference(),
        Some(folder) => {
            let files = skn_manual::write_manual(folder)?;
            format!("{}: {} files", folder.display(), files.len())
        }
    };
    Ok(print(said.trim_end())?)
}
