//! `skn-report`: draw what a run found.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_program::Failure;
use skn_session::options::{CompareRuns, DrawReport};
use skn_session::{DryRun, Reported as Found};

use crate::cli::{Common, Dry};
use crate::program::{Call, Stage};

/// Write the report of a run: RUN/report.html, one page that needs nothing else; or of several runs side by side.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-report", version)]
#[command(mut_arg("dry_run", |flag| flag.help(Dry::WITHOUT_TEXTS)))]
pub struct Report {
    /// The run's folder; several are compared, on the page that --out names
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,

    /// The page of several runs
    #[arg(long, value_name = "PAGE")]
    out: Option<PathBuf>,

    /// Replace files that exist
    #[arg(long)]
    force: bool,

    /// Write each figure to this folder too, as SVG
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,

    /// Write what each figure shows, and what tests say of perturbed neurons, to this folder too, as CSV: a table for each, a row an
    /// observation. With --json the same tables stand in what is printed
    #[arg(long, value_name = "FOLDER")]
    csv: Option<PathBuf>,

    /// Draw this neuron's activations by class, where skn-probe --probe_type pos kept them; may be repeated
    #[arg(long = "neuron", value_name = "LAYER,INDEX", value_parser = neuron)]
    neurons: Vec<(usize, usize)>,

    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    common: Common,
}

impl Report {
    /// What the flags ask for.
    pub(crate) fn options(&self) -> DrawReport {
        let mut report = DrawReport::new(self.runs.first().cloned().unwrap_or_default());
        (report.figures, report.overwrite) = (self.figures.clone(), self.force);
        (report.csv, report.neurons) = (self.csv.clone(), self.neurons.clone());
        report
    }

    /// What is asked of several runs; nothing of one.
    ///
    /// # Errors
    /// If flags do not go with one run, or with several.
    fn compared(&self) -> Result<Option<CompareRuns>> {
        let compared = match (self.runs.as_slice(), &self.out) {
            ([_], None) => return Ok(None),
            ([_], Some(_)) => {
                return Err(Failure::usage(
                    "--out: goes with several runs; the page of one is RUN/report.html",
                ));
            }
            (_, None) => {
                return Err(Failure::usage(
                    "several runs: expected --out PAGE, which they are compared on, found none",
                ));
            }
            (runs, Some(page)) => {
                let mut compared = CompareRuns::new(runs.to_vec(), page);
                (compared.figures, compared.csv) = (self.figures.clone(), self.csv.clone());
                compared.overwrite = self.force;
                compared
            }
        };
        if !self.neurons.is_empty() {
            return Err(Failure::usage("--neuron: goes with one run"));
        }
        Ok(Some(compared))
    }
}

/// A layer and an index, from 0.
fn neuron(text: &str) -> Result<(usize, usize), String> {
    let numbers =
        text.split_once(',').and_then(|(layer, index)| Some((layer.parse().ok()?, index.parse().ok()?)));
    numbers.ok_or_else(|| "expected a layer and an index, as 9,1893".into())
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
        for (layer, index) in &self.0.without_activations {
            writeln!(
                f,
                "neuron {layer},{index}: no activations here; skn-probe --probe_type pos --pos {layer},{index} makes them"
            )?;
        }
        write!(f, "{} in {}", figures(self.0.figures.len()), self.0.page.display())
    }
}

fn figures(count: usize) -> String {
    if count == 1 { "1 figure".into() } else { format!("{count} figures") }
}

impl Stage for Report {
    const PROGRAM: &'static str = "skn-report";
    type Output = Reported;

    fn common(&self) -> &Common {
        &self.common
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        self.dry.of(|| {
            let session = call.session_without_model()?;
            Ok(match self.compared()? {
                None => session.dry_run(&self.options().into())?,
                Some(compared) => session.dry_compare(&compared)?,
            })
        })
    }

    fn run(&self, call: &Call) -> Result<Reported> {
        let session = call.session_without_model()?;
        Ok(Reported(match self.compared()? {
            None => session.report(&self.options())?,
            Some(compared) => session.compare(&compared)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_figure_is_no_figures() {
        assert_eq!([0, 1, 2].map(figures), ["0 figures", "1 figure", "2 figures"]);
    }
}
