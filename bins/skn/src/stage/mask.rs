//! `skn-mask`: perturb skill neurons, and as many random ones.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use skn_artifact::DamageEvidence;
use skn_artifact::names::file;
use skn_program::Failure;
use skn_session::options::{self, EditChoice, NeuronNoise, Perturb};
use skn_session::{DryRun, EditKind, PerturbationResult, Perturbed as Found, Share};

use crate::cli::{AtOnce, Common, Compute, Destination, Dry, Layers, Subject, Tuned};
use crate::next;
use crate::number::{Count, deviation, probability, with_interval};
use crate::program::{Call, Stage};

/// Evaluate the test set while the selected neurons are perturbed, and with --cmp as many random ones.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-mask", version)]
#[command(mut_arg("low", |layer| layer.help("First layer, from 0 [default: 0]")))]
pub struct Mask {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    tuned: Tuned,

    /// Mask files, comma-separated: one result for each (RUN/info/<task>/<share>; or made elsewhere: safetensors with mask or .npy,
    /// bool or uint8 [layers, neurons], CSV with layer,index, JSON [[layer, index], ..])
    #[arg(long = "info_path", value_name = "FILES", value_delimiter = ',', required = true)]
    info_path: Vec<PathBuf>,

    /// What happens to the neurons: gaussian (noise is added), zero, mean
    #[arg(long = "type", value_name = "EDIT", default_value_t = EditKind::Gaussian)]
    edit: EditKind,

    /// Standard deviation of the noise [default: 0.1]
    #[arg(long, value_name = "NUMBER", value_parser = deviation)]
    alpha: Option<f64>,

    /// Whether each text has one noise for all its positions, or each position its own [default: per-text]
    #[arg(long, value_name = "HOW")]
    noise: Option<NoiseFlag>,

    /// For mean: averages (RUN/<task>/train_avg), [L,F] or [L,P,F]
    #[arg(long = "ths_path", value_name = "FILE")]
    ths_path: Option<PathBuf>,

    #[command(flatten)]
    layers: Layers,

    /// The same to as many random neurons of each layer, none of them selected
    #[arg(long = "cmp", visible_alias = "cmp_experiment")]
    cmp: bool,

    /// Draws of random neurons [default: 10]
    #[arg(long, value_name = "N")]
    draws: Option<NonZeroUsize>,

    /// Draws of the noise [default: 1]
    #[arg(long, value_name = "N")]
    repeats: Option<NonZeroUsize>,

    /// With --cmp, as many random neurons once more, each of about the variance of a selected one: variances
    /// (RUN/<task>/train_avg), [L,F] or [L,P,F]
    #[arg(long, value_name = "FILE")]
    matched: Option<PathBuf>,

    /// The masks of --info_path that --matched goes for, comma-separated [default: all]
    #[arg(long = "matched_path", value_name = "FILES", value_delimiter = ',')]
    matched_path: Vec<PathBuf>,

    /// Masks of one class each (skn-select --class), comma-separated: what each does to the texts of each class; of files made
    /// elsewhere one for each class, in the order of the classes
    #[arg(long = "class_path", value_name = "FILES", value_delimiter = ',')]
    class_path: Vec<PathBuf>,

    /// Keep the results beside others of the run, in RUN/sweeps/<name>, which the report shows too [default: in RUN itself]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    at_once: AtOnce,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    common: Common,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum NoiseFlag {
    PerText,
    PerToken,
}

impl From<NoiseFlag> for NeuronNoise {
    fn from(noise: NoiseFlag) -> Self {
        match noise {
            NoiseFlag::PerText => Self::PerText,
            NoiseFlag::PerToken => Self::PerToken,
        }
    }
}

impl Mask {
    /// What the flags ask for.
    ///
    /// # Errors
    /// If the means are missing that `--type mean` needs, or a flag has nothing to act on.
    pub(crate) fn options(&self) -> Result<Perturb> {
        if let Some((flag, of)) = self.flags_without_effect().next() {
            return Err(Failure::usage(format!(
                "--{flag}: goes with {of}, which is not asked for; leave it out"
            )));
        }
        let mut perturb = Perturb::default();
        (perturb.subject, perturb.tuned) = (self.subject.options(), self.tuned.options());
        perturb.masks = self.info_path.clone();
        perturb.edit = self.edit_choice()?;
        perturb.layers = self.layers.options();
        let draws = self.draws.map_or(Perturb::CONTROLS, NonZeroUsize::get);
        perturb.controls = if self.cmp { draws } else { 0 };
        perturb.matched = self.matched.clone().filter(|_| self.cmp);
        perturb.matched_masks = self.matched_path.clone();
        perturb.class_masks = self.class_path.clone();
        (perturb.batch, perturb.name) = (self.at_once.batch, self.name.clone());
        (perturb.out, perturb.overwrite) = (self.destination.out.clone(), self.destination.force);
        Ok(perturb)
    }

    fn edit_choice(&self) -> Result<EditChoice> {
        match (self.edit, &self.ths_path) {
            (EditKind::Mean, None) => {
                Err(Failure::usage("--type mean: expected --ths_path FILE with the means, found none"))
            }
            (EditKind::Mean, Some(averages)) => Ok(EditChoice::Mean { averages: averages.clone() }),
            (EditKind::Zero, _) => Ok(EditChoice::Zero),
            (EditKind::Gaussian, _) => Ok(EditChoice::Gaussian {
                alpha: self.alpha.unwrap_or(options::EditChoice::ALPHA),
                noise: self.noise.map(Into::into).unwrap_or_default(),
                repeats: self.repeats.unwrap_or(NonZeroUsize::MIN),
            }),
        }
    }

    /// Flags that are given and have nothing to act on, with what they go with.
    fn flags_without_effect(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let gaussian = self.edit == EditKind::Gaussian;
        [
            (self.alpha.is_some() && !gaussian, "alpha", "--type gaussian"),
            (self.noise.is_some() && !gaussian, "noise", "--type gaussian"),
            (self.repeats.is_some() && !gaussian, "repeats", "--type gaussian"),
            (self.ths_path.is_some() && self.edit != EditKind::Mean, "ths_path", "--type mean"),
            (self.draws.is_some() && !self.cmp, "draws", "--cmp"),
            (self.matched.is_some() && !self.cmp, "matched", "--cmp"),
            (!self.matched_path.is_empty() && self.matched.is_none(), "matched_path", "--matched"),
        ]
        .into_iter()
        .filter_map(|(idle, flag, of)| idle.then_some((flag, of)))
    }
}

/// What perturbing did.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Masked {
    found: Found,
    /// Where the results lie: the run's folder, or one in it that has their name.
    #[serde(skip)]
    folder: PathBuf,
}

impl From<Found> for Masked {
    /// Of results without a name.
    fn from(found: Found) -> Self {
        Self { folder: folder(&found.run, None), found }
    }
}

/// Where results lie in a run, those of a sweep by its name.
fn folder(run: &Path, sweep: Option<&str>) -> PathBuf {
    sweep.map_or_else(|| run.to_path_buf(), |sweep| run.join(file::SWEEPS).join(sweep))
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { skill, random, matched, classes, .. } = &self.found;
        for (place, result) in skill.iter().enumerate() {
            let PerturbationResult { task, metric, unperturbed, neurons, .. } = result;
            write!(f, "{}{task}: {metric} {unperturbed:.4} on test;", if place > 0 { "\n" } else { "" })?;
            write!(f, " {} on the {} ({})", edit(result), which(result), places(neurons))?;
            write!(f, ": {}", with_interval(result.mean, result.interval))?;
            if let Some(random) = random.get(place) {
                write!(f, "; on as many random ones: {}", with_interval(random.mean, random.interval))?;
                write!(f, ", {}{}", Count(random.draws.len(), "draw"), control(random))?;
            }
            if let Some(matched) = matched.iter().find(|matched| matched.mask_sha256 == result.mask_sha256) {
                write!(f, "; on random ones that vary as much: ")?;
                write!(f, "{}", with_interval(matched.mean, matched.interval))?;
                let ratio = matched.variance_ratio.map(|ratio| {
                    format!(" (their variance {ratio:.2} times that of the {})", extreme(matched))
                });
                write!(f, "{}{}", ratio.unwrap_or_default(), control(matched))?;
            }
        }
        for result in classes {
            let class = result.class.unwrap_or_default();
            write!(f, "\n{}: {} on the {}", result.task, edit(result), which(result))?;
            write!(f, " for class {class}: accuracy by class")?;
            for class in 0..result.by_class.as_ref().map_or(0, |found| found.rows.len()) {
                let found = result.by_class.as_ref().and_then(|found| found.accuracy(class));
                let separator = if class > 0 { "," } else { "" };
                match found {
                    Some([before, after]) => write!(f, "{separator} {class}: {before:.4} -> {after:.4}")?,
                    None => write!(f, "{separator} {class}: no texts")?,
                }
            }
        }
        write!(f, "; in {}", self.folder.display())
    }
}

/// Which neurons those of a mask are: by its name the best of a share or of a rate of false discoveries, or the worst, with what ranked
/// them; else those that somebody chose.
fn which(result: &PerturbationResult) -> String {
    let PerturbationResult { mask, ranking, .. } = result;
    let is_share = mask.parse::<Share>().is_ok() || mask.starts_with("fdr-");
    let by = ranking.as_ref().map_or_else(String::new, |ranking| format!(" by {ranking}"));
    if is_share { format!("{mask} {} neurons{by}", extreme(result)) } else { format!("neurons of {mask}") }
}

/// From which end of the ranking neurons were taken.
fn extreme(result: &PerturbationResult) -> &'static str {
    if result.lowest { "worst" } else { "best" }
}

/// How many neurons each layer has of those that are perturbed.
fn places(neurons: &[usize]) -> String {
    let of_layers: Vec<usize> = neurons.iter().copied().filter(|neurons| *neurons > 0).collect();
    let (least, most) = (of_layers.iter().min().copied(), of_layers.iter().max().copied().unwrap_or(0));
    let layers = Count(of_layers.len(), "layer");
    match (of_layers.len() == neurons.len(), least == Some(most)) {
        (true, true) => format!("{most} a layer"),
        (false, true) => format!("{most} in {}{layers}", if of_layers.len() > 1 { "each of " } else { "" }),
        _ => format!("{} in {layers}", of_layers.iter().sum::<usize>()),
    }
}

/// What is done to the neurons.
fn edit(result: &PerturbationResult) -> String {
    let alpha = result.alpha.map_or_else(String::new, |alpha| format!(" alpha {alpha}"));
    format!("{}{alpha}", result.edit)
}

/// How the selected neurons compare with random ones on the same texts.
fn control(random: &PerturbationResult) -> String {
    let Some(DamageEvidence {
        comparisons,
        mcnemar_median_p,
        mcnemar_below_05,
        sign_flip_p,
        difference,
        difference_interval,
        rank_p,
        ..
    }) = &random.evidence
    else {
        return String::new();
    };
    let difference = with_interval(*difference, *difference_interval);
    format!(
        "; right answers, {} less random: {difference}, sign flips p {sign_flip_p:.4}, rank p {rank_p:.4}, McNemar p below \
         0.05 in {mcnemar_below_05} of {comparisons}, median {}",
        extreme(random),
        probability(*mcnemar_median_p)
    )
}

impl Stage for Mask {
    const PROGRAM: &'static str = "skn-mask";
    const IN_GROUP: bool = true;
    type Output = Masked;

    fn common(&self) -> &Common {
        &self.common
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        call.dry_run(self.dry, self.compute.options(), || Ok(self.options()?.into()))
    }

    fn next(&self, found: &Masked) -> Option<Vec<String>> {
        Some(next::after_mask(&found.found.run))
    }

    fn run(&self, call: &Call) -> Result<Masked> {
        let session = call.session(self.compute.options())?;
        let found = session.perturb(&self.options()?)?;
        Ok(Masked { folder: folder(&found.run, self.name.as_deref()), found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_results_is_told() {
        let told = |sweep| folder(Path::new("runs/a"), sweep).display().to_string();
        assert_eq!([None, Some("zero")].map(told), ["runs/a", "runs/a/sweeps/zero"]);
    }

    fn result(mask: &str) -> PerturbationResult {
        let value = serde_json::json!({
            "task": "sentiment", "metric": "accuracy", "rows": 480, "edit": "zero", "alpha": null, "noise": null, "mask": mask,
            "mask_sha256": "ab", "low_layer": 0, "high_layer": 1, "neurons": [3], "unperturbed": 0.9, "draws": [0.5], "mean": 0.5,
            "std": 0.0, "interval": [0.4, 0.6],
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_ranked_neurons_and_from_which_end_is_told() {
        let worst = PerturbationResult { lowest: true, ..result("0.1") };
        let random = PerturbationResult { ranking: Some("random".into()), ..result("0.1") };
        let list = PerturbationResult { ranking: Some("mine".into()), ..result("mine") };
        let told = [&worst, &random, &list].map(which);
        assert_eq!(told, ["0.1 worst neurons", "0.1 best neurons by random", "neurons of mine"]);
        // Which older versions' results don't say.
        let said = [&worst, &result("0.1")].map(|result| serde_json::to_value(result).unwrap());
        assert_eq!(said.map(|said| said.get("lowest").cloned()), [Some(true.into()), None]);
    }

    #[test]
    fn neurons_of_a_list_are_not_called_the_best() {
        let told = ["0.1", "0", "fdr-0.05", "mine", "0.1-of-mine"].map(|mask| which(&result(mask)));
        let expected = [
            "0.1 best neurons",
            "0 best neurons",
            "fdr-0.05 best neurons",
            "neurons of mine",
            "neurons of 0.1-of-mine",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn neurons_are_counted_where_they_are() {
        for (neurons, expected) in [
            (&[3, 3, 3, 3][..], "3 a layer"),
            (&[0, 3, 0, 0], "3 in 1 layer"),
            (&[0, 3, 3, 0], "3 in each of 2 layers"),
            (&[1, 3, 0, 7], "11 in 3 layers"),
            (&[0, 0], "0 in 0 layers"),
        ] {
            assert_eq!(places(neurons), expected);
        }
    }
}
