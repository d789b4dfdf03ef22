use std::path::{Path, PathBuf};

use skn_artifact::names::{file, key, rank};
use skn_artifact::{TensorFile, resolve};
use skn_model::{NeuronSite, Tuning};
use skn_select::{MadeRanking, Mask};

use crate::base::Base;
use crate::error::{Result, SessionError};
use crate::provenance;
use crate::stages::selected::ranked_by;

/// A mask file.
pub(super) struct MaskFile {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// What it holds.
    pub(super) mask: Mask,
    /// The hash of the tuned parameters that it was selected with, if that were one.
    tuning: Option<String>,
    /// The name of the task that it was selected for.
    pub(super) task: Option<String>,
    /// The class that it was selected for, if it was one alone.
    class: Option<String>,
    /// The ranking that it was made by, if not by the predictivity of counts.
    pub(super) ranking: Option<String>,
    /// What ranked it, in words, if it is of a share and says so.
    pub(super) ranked: Option<String>,
    /// Whether it marks the worst neurons.
    pub(super) lowest: bool,
    /// Whether another program made it: it marks neurons, and says nothing of the others.
    is_made: bool,
    /// Whether its ranks are those of a ranking, of every neuron.
    ranks_all: bool,
}

impl MaskFile {
    /// Reads a mask, with or without its extension, and checks that it is one of the model. It is what selecting made, or what
    /// [`MadeRanking::marks`] takes.
    ///
    /// # Errors
    /// If it is missing, damaged, or of another shape than the model.
    pub(super) fn read(path: &Path, base: &Base<'_>) -> Result<Self> {
        let path = resolve(path, "safetensors")?;
        let config = &base.model.config;
        if is_list(&path) {
            provenance::check_list(&path)?;
            let mask = MadeRanking::marks(&path, &config.intermediate_sizes)?;
            tell_all(&path, &mask, &config.intermediate_sizes);
            let (tuning, task, class, ranking) = (None, None, None, None);
            return Ok(Self {
                path,
                mask,
                tuning,
                task,
                class,
                ranking,
                ranked: None,
                lowest: false,
                is_made: true,
                ranks_all: false,
            });
        }
        provenance::check(&path)?;
        let file = TensorFile::read(&path)?;
        let is_made =
            !file.metadata().contains_key(key::KIND) && file.contains("mask") && !file.contains("rank");
        let mask = match is_made {
            true => MadeRanking::marks(&path, &config.intermediate_sizes)?,
            false => Mask::read(&file)?,
        };
        let (expected, found) = ([config.layers(), config.widest()], [mask.layers(), mask.width()]);
        if expected == found {
            check_model(&file, base)?;
            check_site(&file, NeuronSite::Product)?;
            check_widths(&file, base)?;
            let tuning = file.metadata().get(key::TUNING).cloned();
            let task = file.metadata().get(key::TASK).cloned();
            let class = file.metadata().get(key::CLASS).cloned();
            let ranking = file.metadata().get(rank::RANKING).cloned().filter(|_| !is_made);
            let ranked = ranked_by(file.metadata()).filter(|_| !is_made);
            let lowest = file.metadata().get(key::ORDER).is_some_and(|order| order == key::LOWEST);
            let ranks_all = !is_made && !file.metadata().contains_key(key::UNRANKED);
            return Ok(Self { path, mask, tuning, task, class, ranking, ranked, lowest, is_made, ranks_all });
        }
        let model = &base.identity.id;
        Err(SessionError::input(format!(
            "{}: tensor `mask`: expected {expected:?} as layers and neurons of model {model}, found {found:?}",
            path.display()
        )))
    }

    /// Says where a mask comes from other tuned parameters than these: neurons of one prompt tried on another are an
    /// experiment, or a mistake.
    pub(super) fn tell_other_tuning(&self, tuning: &Tuning) -> Result<()> {
        let now = tuning.sha256()?;
        if self.tuning.as_ref().is_some_and(|found| *found != now) {
            tracing::warn!(
                "{}: selected with other tuned parameters than these ({now})",
                self.path.display()
            );
        }
        Ok(())
    }

    /// Refuses to fill up the neurons of a layer by the ranks of a mask that has none.
    ///
    /// # Errors
    /// If another program made it, or it was selected by marks or by a list of some neurons.
    pub(super) fn expect_ranks(&self, option: &str) -> Result<()> {
        match self.ranks_all {
            true => Ok(()),
            false => Err(SessionError::usage(format!(
                "option `{option}`: fills layers up by rank, and {} marks neurons and ranks no others; leave the option out",
                self.path.display()
            ))),
        }
    }

    /// The class, of so many, that it alone was selected for. One that another program made says none: of as many such files as there are
    /// classes each is of the class of its `place`.
    ///
    /// # Errors
    /// If it says none, or one that the task lacks.
    pub(super) fn of_class(&self, place: usize, files: usize, classes: usize) -> Result<usize> {
        if self.is_made && self.class.is_none() && files == classes {
            return Ok(place);
        }
        let class = self.class.as_ref().and_then(|class| class.parse().ok());
        class.filter(|&class| class < classes).ok_or_else(|| {
            let found = self.class.as_deref().unwrap_or("none");
            SessionError::input(format!(
                "option `class_masks` {}: metadata {}: expected a class, 0 to {}, found {found}; \
                 skn-select --class makes masks of one, and of files made elsewhere there must be one for each class, in their order",
                self.path.display(),
                key::CLASS,
                classes - 1
            ))
        })
    }

    /// Its name without extension, which is its share.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        file::stem(&name).to_string()
    }
}

/// Refuses a file that was made with another backbone: its neurons are not these, whatever its shape.
///
/// # Errors
/// If it was.
pub(super) fn check_model(file: &TensorFile, base: &Base<'_>) -> Result<()> {
    let expected = &base.identity.sha256;
    match file.metadata().get(key::MODEL) {
        Some(found) if found != expected => Err(SessionError::input(format!(
            "{}: metadata {}: expected {expected}, that of model {}, found {found}",
            file.path().display(),
            key::MODEL,
            base.identity.id
        ))),
        _ => check_template(file, base),
    }
}

/// Whether a file is one of those that other programs write: CSV, JSON, or an array of NumPy.
pub(super) fn is_list(path: &Path) -> bool {
    let is = |form: &&str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(form));
    ["csv", "json", "npy"].iter().any(is)
}

/// Says where a list marks every neuron, as a run's own `neurons.csv` does: it was probably meant as a ranking.
fn tell_all(path: &Path, mask: &Mask, widths: &[usize]) {
    if widths.iter().enumerate().all(|(layer, &width)| mask.selected(layer, width) == width) {
        tracing::warn!(
            "{}: marks every neuron of the model; of a table of all of them keep the lines that are meant",
            path.display()
        );
    }
}

/// Refuses a file that was made with texts in another template: they are other texts.
///
/// # Errors
/// If it was.
pub(super) fn check_template(file: &TensorFile, base: &Base<'_>) -> Result<()> {
    // What says of no model how it was made says of no template that there was none.
    let metadata = file.metadata();
    let (expected, found) = (base.template_sha256(), metadata.get(key::TEMPLATE));
    if found == expected.as_ref() || found.is_none() && !metadata.contains_key(key::MODEL) {
        return Ok(());
    }
    let said = |hash: Option<&String>| hash.map_or("none", String::as_str).to_owned();
    Err(SessionError::input(format!(
        "{}: metadata {}: expected {}, the template of task {}, found {}",
        file.path().display(),
        key::TEMPLATE,
        said(expected.as_ref()),
        base.task.name,
        said(found)
    )))
}

/// Refuses a file in which neurons were read at another site. One that says none is of the product, as all were once.
///
/// # Errors
/// If they were.
pub(super) fn check_site(file: &TensorFile, expected: NeuronSite) -> Result<()> {
    let found = file.metadata().get(key::SITE).map_or(NeuronSite::Product.name(), String::as_str);
    if found == expected.name() {
        return Ok(());
    }
    let why = match expected {
        NeuronSite::Product => ", which alone can be edited or pruned",
        _ => ", as option `site` says",
    };
    Err(SessionError::input(format!(
        "{}: metadata {}: expected {expected}{why}, found {found}; probe again",
        file.path().display(),
        key::SITE
    )))
}

/// Refuses a file of a model whose layers are of other widths: beyond its own a layer has no neurons.
fn check_widths(file: &TensorFile, base: &Base<'_>) -> Result<()> {
    let expected = key::widths_text(&base.model.config.intermediate_sizes);
    match file.metadata().get(key::WIDTHS) {
        Some(found) if *found != expected => Err(SessionError::input(format!(
            "{}: metadata {}: expected {expected}, the layers of model {}, found {found}",
            file.path().display(),
            key::WIDTHS,
            base.identity.id
        ))),
        _ => Ok(()),
    }
}
