//! `skn-report`: draw what a run found.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_artifact::{Overwrite, write_file};
use skn_report::Report as Page;

use crate::cli::Common;
use crate::exit::Failure;
use crate::program::{Call, Stage};
use crate::run::Sink;

/// Write the report of a run: RUN/report.html, one page that needs nothing else.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-report", version)]
pub struct Report {
    /// The run's folder
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// Replace files that exist
    #[arg(long)]
    force: bool,

    /// Write each figure to this folder too, as SVG
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,

    #[command(flatten)]
    common: Common,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Reported {
    page: PathBuf,
    figures: Vec<String>,
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} figures in {}", self.figures.len(), self.page.display())
    }
}

impl Stage for Report {
    const PROGRAM: &'static str = "skn-report";
    type Output = Reported;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, call: &Call<'_>) -> Result<Reported> {
        let run = self.run.as_path();
        let page = Page::read(run)?;
        let mut sink = Sink::open(call, run, "report", self.force)?;
        let folder_is_a_file = self.figures.as_ref().filter(|folder| folder.exists() && !folder.is_dir());
        if let Some(file) = folder_is_a_file {
            return Err(Failure::input(format!(
                "--figures {}: expected a folder, found a file",
                file.display()
            )));
        }
        sink.bytes("report.html", page.html())?;
        sink.finish()?;
        let figures = page.figures();
        let overwrite = if self.force { Overwrite::Replace } else { Overwrite::Refuse };
        for (name, svg) in self
            .figures
            .iter()
            .flat_map(|folder| figures.iter().map(move |figure| (folder.join(&figure.0), &figure.1)))
        {
            write_file(&name.with_extension("svg"), overwrite, svg.as_bytes())?;
        }
        Ok(Reported {
            page: run.join("report.html"),
            figures: figures.into_iter().map(|(name, _)| name).collect(),
        })
    }
}
