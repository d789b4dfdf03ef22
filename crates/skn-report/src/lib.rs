//! The report of a run folder: one HTML page that needs nothing else, with its figures as SVG.
//!
//! [`Report::read`] takes what is in the folder; every part is optional, and a part that is absent is named on the page
//! with the program that makes it. The page has no scripts, follows the reader's choice of light or dark, and prints
//! black on white. The same folder always gives the same bytes.
//!
//! ```
//! use skn_artifact::{MetricRecord, Overwrite, write_file};
//! use skn_report::Report;
//!
//! # let folder = tempfile::tempdir()?;
//! # let run = folder.path();
//! let line = r#"{"step":100,"epoch":1,"train_loss":0.41,"metric":"accuracy","dev_score":0.9,"dev_loss":0.3,
//!     "learning_rate":0.0008,"gradient_norm":0.7,"best":true}"#.replace('\n', "") + "\n";
//! write_file(&run.join("metrics.jsonl"), Overwrite::Refuse, line.as_bytes())?;
//! let report = Report::read(run)?;
//! assert!(report.html().starts_with("<!DOCTYPE html>"));
//! assert_eq!(report.figures()[0].0, "training-loss");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod axis;
mod blocks;
mod chance;
mod chart;
mod classes;
mod damage;
mod dev_and_test;
mod draw;
mod error;
mod evidence;
mod figure;
mod glossary;
mod histograms;
mod maps;
mod neurons;
mod number;
mod page;
mod parts;
mod perturbed;
mod pooling;
mod predictivity;
mod probe;
mod rankings;
mod reading;
mod result;
mod scoring;
mod several;
mod several_perturbed;
mod speed;
mod stages;
mod sweep;
mod table;
mod task;
mod top_texts;
mod training;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use crate::chart::{Chart, Drawn, Line, Look, Page, Point, Section};
pub use crate::classes::suffers_most;
pub use crate::error::{ReportError, Result};
use crate::figure::Figure;
pub use crate::number::points;
use crate::parts::Parts;
pub use crate::several::Comparison;
pub use crate::table::Table;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The report of a run folder.
#[derive(Clone, Debug)]
pub struct Report {
    parts: Parts,
    figures: Vec<Figure>,
    files: Vec<PathBuf>,
}

impl Report {
    /// Reads what a run folder has and draws it. Nothing is written.
    ///
    /// # Errors
    /// If there is no such folder, it holds nothing of a run, or a file in it is not of its form.
    pub fn read(run: &Path) -> Result<Self> {
        Self::with_neurons(run, &[])
    }

    /// As [`Self::read`], with the activations by class of these neurons, each a layer and an index, from 0. Where the run does
    /// not have a neuron's activations the page says which command makes them.
    ///
    /// # Errors
    /// As [`Self::read`], or if a neuron is not among those that were probed.
    pub fn with_neurons(run: &Path, neurons: &[(usize, usize)]) -> Result<Self> {
        let parts = Parts::read(run, neurons)?;
        let figures = draw::figures(&parts);
        let files = parts.files(run)?;
        Ok(Self { parts, figures, files })
    }

    /// The neurons that were asked for whose activations the run does not have: layer and index.
    pub fn without_activations(&self) -> Vec<(usize, usize)> {
        let asked = self.parts.tasks.iter().flat_map(|task| &task.asked);
        asked.filter(|asked| asked.found.is_none()).map(|asked| (asked.layer, asked.index)).collect()
    }

    /// The files that it was drawn from, beside `run.json`.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Those of the files that were made before a file of the run that they are made from was written anew, each with that one: the page
    /// mixes states of the run then, and says so.
    pub fn outdated(&self) -> &[(String, String)] {
        &self.parts.outdated
    }

    /// The page, complete: no other file is needed to show it.
    pub fn html(&self) -> String {
        page::render(&self.parts, &self.figures)
    }

    /// The figures in the order of the page: a name (`summary`, `training-loss`, `<task>-predictivity`, ..) and an SVG
    /// document that stands alone.
    pub fn figures(&self) -> Vec<(String, String)> {
        self.figures.iter().map(|figure| (figure.name.clone(), figure.standalone())).collect()
    }

    /// What each figure shows, under the figure's name; and what tests say of perturbed neurons, under `perturbation-evidence` and, of a
    /// named sweep, `sweep-<name>-perturbation-evidence`.
    pub fn tables(&self) -> BTreeMap<String, Table> {
        let shown = self.figures.iter().map(|figure| (figure.name.clone(), figure.table.clone()));
        shown.chain(self.parts.perturbed().filter_map(damage::evidence_table)).collect()
    }
}
