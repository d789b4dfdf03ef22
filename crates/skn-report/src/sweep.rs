//! What perturbing neurons found: the results that lie in the run itself, and those of each named sweep (`skn-mask --name`).

use std::fs;
use std::path::{Path, PathBuf};

use skn_artifact::names::file;
use skn_artifact::{ArtifactError, PerturbationResult, is_folder};

use crate::error::Result;
use crate::figure::Figure;
use crate::reading::perturbations;

/// The results of one perturbing: a result for each mask, of each kind of neurons.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    /// Its name; what lies in the run itself has none.
    pub(crate) name: Option<String>,
    /// `mask_perf.json`.
    pub(crate) skill: Vec<PerturbationResult>,
    /// `cmp_perf.json`.
    pub(crate) random: Vec<PerturbationResult>,
    /// `matched_perf.json`.
    pub(crate) matched: Vec<PerturbationResult>,
    /// `class_perf.json`.
    pub(crate) classes: Vec<PerturbationResult>,
}

impl Sweep {
    /// What lies in the run itself.
    pub(crate) fn own(run: &Path) -> Result<Self> {
        Self::read(run, None)
    }

    /// The named ones, in the order of their names.
    pub(crate) fn named(run: &Path) -> Result<Vec<Self>> {
        let folder = run.join(file::SWEEPS);
        if !is_folder(&folder)? {
            return Ok(Vec::new());
        }
        let io = |source| ArtifactError::Io { file: folder.clone(), operation: "read", source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io)? {
            // Another name is nobody's who perturbs.
            names.extend(
                entry.map_err(io)?.file_name().into_string().ok().filter(|name| file::is_sweep(name)),
            );
        }
        names.sort();
        let mut sweeps = Vec::new();
        for name in names {
            let sweep = Self::read(run, Some(name))?;
            if !sweep.is_empty() {
                sweeps.push(sweep);
            }
        }
        Ok(sweeps)
    }

    fn read(run: &Path, name: Option<String>) -> Result<Self> {
        let of = |file: &str| perturbations(&place(run, name.as_deref(), file));
        let (skill, random) = (of(file::SKILL)?, of(file::RANDOM)?);
        let (matched, classes) = (of(file::MATCHED)?, of(file::CLASSES)?);
        Ok(Self { name, skill, random, matched, classes })
    }

    /// The files that it is read from, if they are there.
    pub(crate) fn files(&self, run: &Path) -> [PathBuf; 4] {
        [file::SKILL, file::RANDOM, file::MATCHED, file::CLASSES]
            .map(|file| place(run, self.name.as_deref(), file))
    }

    pub(crate) fn is_empty(&self) -> bool {
        [&self.skill, &self.random, &self.matched, &self.classes].iter().all(|results| results.is_empty())
    }

    /// The HTML id of its section.
    pub(crate) fn id(&self) -> String {
        self.name.as_ref().map_or_else(|| "perturbation".to_owned(), |name| format!("sweep-{name}"))
    }

    /// What a figure or a table of it is called: of a sweep with its name before it, which no task's figure has.
    pub(crate) fn figure(&self, figure: &str) -> String {
        self.name.as_ref().map_or_else(|| figure.to_owned(), |name| format!("sweep-{name}-{figure}"))
    }

    /// A figure of a sweep says whose it is. Its title is the same, for a name may be longer than a figure is wide.
    pub(crate) fn say(&self, mut figure: Figure) -> Figure {
        if let Some(name) = &self.name {
            figure.caption = format!("Sweep {name}. {}", figure.caption);
            figure.label = format!("{}: {name}", figure.label);
        }
        figure
    }
}

/// Where results of a name lie in a run.
fn place(run: &Path, sweep: Option<&str>, name: &str) -> PathBuf {
    run.join(sweep.map_or_else(|| name.to_owned(), |sweep| file::in_sweep(sweep, name)))
}
