use std::path::PathBuf;

use serde::Serialize;
use skn_artifact::names::{file, stage};
use skn_artifact::{Overwrite, is_folder, is_there, write_file};
use skn_report::Report;

use crate::error::{Result, SessionError};
use crate::options::DrawReport;
use crate::provenance;
use crate::run_writer::RunWriter;
use crate::session::Session;

/// What was drawn.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Reported {
    /// The page.
    pub page: PathBuf,
    /// The names of its figures.
    pub figures: Vec<String>,
}

impl Session {
    /// Draws what a run found: `report.html` in it, one page that needs nothing else.
    ///
    /// # Errors
    /// If there is no run, a file of it is damaged, or there is a page that may not be replaced.
    pub fn report(&self, options: &DrawReport) -> Result<Reported> {
        let run = options.run.as_path();
        provenance::check_run(run)?;
        let report = Report::read(run)?;
        provenance::tell_unlisted(run, report.files())?;
        let mut writer = RunWriter::open(self, options.clone(), run, stage::REPORT, options.overwrite)?;
        if let Some(file) = &options.figures
            && is_there(file)?
            && !is_folder(file)?
        {
            return Err(SessionError::input(format!(
                "option `figures` {}: expected a folder, found a file",
                file.display()
            )));
        }
        writer.bytes(file::REPORT, report.html())?;
        report.files().iter().try_for_each(|path| writer.read(path))?;
        writer.finish()?;
        let figures = report.figures();
        let overwrite = if options.overwrite { Overwrite::Replace } else { Overwrite::Refuse };
        if let Some(folder) = &options.figures {
            for (name, svg) in &figures {
                write_file(&folder.join(name).with_extension("svg"), overwrite, svg.as_bytes())?;
            }
        }
        let figures = figures.into_iter().map(|(name, _)| name).collect();
        Ok(Reported { page: run.join(file::REPORT), figures })
    }
}
