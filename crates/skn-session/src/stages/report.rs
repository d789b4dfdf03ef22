use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use skn_artifact::names::{file, stage};
use skn_artifact::{Overwrite, is_folder, is_there};
use skn_report::{Comparison, Report, Table};

use crate::error::{Result, SessionError};
use crate::options::{CompareRuns, DrawReport};
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
    /// What each figure shows, under its name; and what tests say of perturbed neurons.
    pub tables: BTreeMap<String, Table>,
    /// Neurons that were asked for whose activations the run does not have: layer and index.
    pub without_activations: Vec<(usize, usize)>,
}

impl Session {
    /// Draws what a run found: `report.html` in it, one page that needs nothing else.
    ///
    /// # Errors
    /// If there is no run, a file of it is damaged, or there is a page that may not be replaced.
    pub fn report(&self, options: &DrawReport) -> Result<Reported> {
        let run = options.run.as_path();
        provenance::check_run(run)?;
        let report = Report::with_neurons(run, &options.neurons)?;
        provenance::tell_unlisted(run, report.files())?;
        if !report.outdated().is_empty() {
            let older = report.outdated().iter().map(|(name, from)| format!("{name} (from {from})"));
            let older: Vec<String> = older.collect();
            tracing::warn!(
                "{}: the page mixes states of the run, as it says: older than what they were made from are {}",
                run.display(),
                older.join(", ")
            );
        }
        let mut writer = RunWriter::open(self, options.clone(), run, stage::REPORT, options.overwrite)?;
        check_folder("figures", options.figures.as_deref())?;
        check_folder("csv", options.csv.as_deref())?;
        writer.bytes(file::REPORT, report.html())?;
        report.files().iter().try_for_each(|path| writer.read(path))?;
        let (figures, tables) = (report.figures(), report.tables());
        let beside = Beside {
            session: self,
            overwrite: overwrite(options.overwrite),
            of_figures: options.figures.as_deref(),
            of_tables: options.csv.as_deref(),
        };
        // A rehearsal ends where the run is finished.
        if self.rehearsal().is_some() {
            beside.write(&figures, &tables)?;
        }
        writer.finish()?;
        beside.write(&figures, &tables)?;
        let figures = figures.into_iter().map(|(name, _)| name).collect();
        let without_activations = report.without_activations();
        Ok(Reported { page: run.join(file::REPORT), figures, tables, without_activations })
    }
}

impl Session {
    /// Draws several runs side by side: one page that needs nothing else. The runs stay as they are.
    ///
    /// # Errors
    /// If there are fewer than two runs, one is not there or damaged, or there is a page that may not be replaced.
    pub fn compare(&self, options: &CompareRuns) -> Result<Reported> {
        if options.runs.len() < 2 {
            let found = options.runs.len();
            return Err(SessionError::usage(format!("option `runs`: expected at least two, found {found}")));
        }
        options.runs.iter().try_for_each(|run| provenance::check_run(run))?;
        let runs: Vec<&Path> = options.runs.iter().map(PathBuf::as_path).collect();
        let found = Comparison::read(&runs)?;
        check_folder("figures", options.figures.as_deref())?;
        check_folder("csv", options.csv.as_deref())?;
        let overwrite = overwrite(options.overwrite);
        self.write_beside(&options.out, overwrite, found.html.as_bytes())?;
        let figures: Vec<(String, String)> = found.figures.into_iter().collect();
        let tables = found.tables;
        let (of_figures, of_tables) = (options.figures.as_deref(), options.csv.as_deref());
        Beside { session: self, overwrite, of_figures, of_tables }.write(&figures, &tables)?;
        if let Some(mut writer) = RunWriter::without_run(self) {
            found.files.iter().try_for_each(|path| writer.read(path))?;
            writer.finish()?;
        }
        let figures = figures.into_iter().map(|(name, _)| name).collect();
        Ok(Reported { page: options.out.clone(), figures, tables, without_activations: Vec::new() })
    }
}

fn overwrite(asked: bool) -> Overwrite {
    if asked { Overwrite::Replace } else { Overwrite::Refuse }
}

/// Figures as SVG and tables as CSV, where there is a folder for them.
struct Beside<'a> {
    session: &'a Session,
    overwrite: Overwrite,
    of_figures: Option<&'a Path>,
    of_tables: Option<&'a Path>,
}

impl Beside<'_> {
    fn write(&self, figures: &[(String, String)], tables: &BTreeMap<String, Table>) -> Result<()> {
        let write =
            |path: PathBuf, text: &str| self.session.write_beside(&path, self.overwrite, text.as_bytes());
        if let Some(folder) = self.of_figures {
            for (name, svg) in figures {
                // A name may have a dot.
                write(folder.join(format!("{name}.svg")), svg)?;
            }
        }
        if let Some(folder) = self.of_tables {
            for (name, table) in tables {
                write(folder.join(format!("{name}.csv")), &table.csv())?;
            }
        }
        Ok(())
    }
}

/// Refuses what is there and is no folder.
///
/// # Errors
/// If it is something else.
fn check_folder(option: &str, folder: Option<&Path>) -> Result<()> {
    match folder {
        Some(found) if is_there(found)? && !is_folder(found)? => Err(SessionError::input(format!(
            "option `{option}` {}: expected a folder, found a file",
            found.display()
        ))),
        _ => Ok(()),
    }
}
