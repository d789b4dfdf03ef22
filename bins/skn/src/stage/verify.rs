//! `skn-verify`: are the files of a run what its stages wrote?

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_artifact::names::file;
use skn_artifact::{Verification, verify};
use skn_program::{Failure, print_json};

use crate::cli::Common;
use crate::program::{Call, Stage};

/// Check every file of a run against the hash that the stage which wrote it noted in run.json.
///
/// Needs no model and no data. A file that is missing or changed makes the exit code 3, with --json too. A file that was made from another
/// one of the run, which has been written anew since (averages of a prompt that was tuned further), is told.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-verify", version)]
pub struct Verify {
    /// The run's folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    run: PathBuf,
    #[serde(flatten)]
    found: Verification,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: all {} files are as they were written", self.run.display(), self.found.intact.len())?;
        for (file, input) in &self.found.outdated {
            write!(f, "\n{file}: made from {input} as it was before it was written anew")?;
        }
        Ok(())
    }
}

impl Stage for Verify {
    const PROGRAM: &'static str = "skn-verify";
    type Output = Verified;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, _: &Call) -> Result<Verified> {
        let run = self.run.as_path();
        let verified = Verified { run: run.into(), found: verify(run)? };
        if verified.found.is_sound() {
            return Ok(verified);
        }
        // Who reads it by a program wants to know which files, whatever the exit code says.
        if self.common.json {
            print_json(&serde_json::to_string_pretty(&verified)?)?;
        }
        let found = &verified.found;
        let list = |what: &str, files: &[String]| match files {
            [] => None,
            files => Some(format!("{what}: {}", files.join(", "))),
        };
        let outdated: Vec<String> =
            found.outdated.iter().map(|(file, input)| format!("{file} (from {input})")).collect();
        let wrong: Vec<String> = [
            list("missing", &found.missing),
            list("changed", &found.changed),
            list("made from what has been written anew since", &outdated),
        ]
        .into_iter()
        .flatten()
        .collect();
        // The record itself may be what was exchanged.
        Err(Failure::input(format!("{}: {}", run.join(file::RUN).display(), wrong.join("; "))))
    }
}
