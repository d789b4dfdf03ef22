//! `skn-report`: draw what a run found.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_session::Reported as Found;
use skn_session::options::DrawReport;

use crate::cli::Common;
use crate::program::{Call, Stage};

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

impl Report {
    /// What the flags ask for.
    pub(crate) fn options(&self) -> DrawReport {
        let mut report = DrawReport::new(&self.run);
        (report.figures, report.overwrite) = (self.figures.clone(), self.force);
        report
    }
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Reported(Found);

impl From<Found> for Reported {
    fn from(found: Found) -> Self {
        Self(found)
    }
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} figures in {}", self.0.figures.len(), self.0.page.display())
    }
}

impl Stage for Report {
    const PROGRAM: &'static str = "skn-report";
    type Output = Reported;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, call: &Call) -> Result<Reported> {
        Ok(Reported(call.session_without_model()?.report(&self.options())?))
    }
}
