//! `skn-prune`: keep the skill neurons, fold the others away.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use skn_artifact::names::file;
use skn_session::options::{self, Fold};
use skn_session::{DryRun, Pruned as Found};

use crate::cli::{Common, Compute, Destination, Dry, Layers, Subject};
use crate::next;
use crate::program::{Call, Stage};

/// Prune a tuned model to its skill neurons.
///
/// In the layers from --low_layer on the selected neurons stay; every other one is held at its mean activation, which is
/// folded into the output bias. RUN/best becomes a model folder with the tuned parameters in it: every program takes it
/// with --resume_from RUN, or alone with --model RUN/best.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-prune", version)]
#[command(mut_arg("low", |layer| layer.help("First layer to prune, from 0 [default: a quarter of the layers stays whole, 3 of 12]")))]
pub struct Prune {
    #[command(flatten)]
    subject: Subject,

    /// Run or folder with the tuned parameters
    #[arg(long = "resume_from", value_name = "RUN", required = true)]
    resume_from: PathBuf,

    /// Mask file: the neurons that stay (RUN/info/<task>/0.02; or made elsewhere: safetensors with mask or .npy, bool or uint8 [layers,
    /// neurons], CSV with layer,index, JSON [[layer, index], ..])
    #[arg(long = "info_path", value_name = "FILE")]
    info_path: PathBuf,

    /// Averages (RUN/<task>/train_avg), [L,F] or [L,P,F]: what the others are held at
    #[arg(long = "ths_path", value_name = "FILE")]
    ths_path: PathBuf,

    /// Where an average is taken that is folded into a bias: over the prompt's positions, as published; or as near to each
    /// layer's own rows as one bias allows
    #[arg(long, value_name = "HOW", default_value = "prompt")]
    fold: FoldFlag,

    /// For --fold per-position-group: averages over texts [default: train_mean_avg beside --ths_path]
    #[arg(long = "text_ths_path", value_name = "FILE")]
    text_ths_path: Option<PathBuf>,

    #[command(flatten)]
    layers: Layers,

    /// Round the neurons that stay up to a multiple of this, filling up by rank: 64 is as fast as 61
    #[arg(long, value_name = "N", default_value = "1")]
    round_width: NonZeroUsize,

    /// Write the same function at full width, for programs that know no pruned models
    #[arg(long)]
    dense: bool,

    /// Keep as many neurons in every layer as in the one with the most, filling up by rank, so that transformers loads the small
    /// model without code of skn's; no layer stays whole
    #[arg(long, conflicts_with = "dense")]
    uniform: bool,

    /// Put the <mask> row before a loaded prompt that does not start with it
    #[arg(long)]
    prepend_mask: bool,

    /// Answer with the label words although a classifier was saved with the tuned parameters
    #[arg(long)]
    verbalizer: bool,

    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    common: Common,
}

/// Which average activation stands for a removed neuron.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum FoldFlag {
    /// The mean over prompt positions
    Prompt,
    /// In the last layer, which computes the answer's row alone, the mean at that row; elsewhere the mean over prompt and
    /// text rows, each as often as a text of train has it
    PerPositionGroup,
}

impl From<FoldFlag> for Fold {
    fn from(fold: FoldFlag) -> Self {
        match fold {
            FoldFlag::Prompt => Self::Prompt,
            FoldFlag::PerPositionGroup => Self::PerPositionGroup,
        }
    }
}

impl Prune {
    /// What the flags ask for.
    pub(crate) fn options(&self) -> options::Prune {
        let out = &self.destination.out;
        let mut prune = options::Prune::of(&self.resume_from, &self.info_path, &self.ths_path, out);
        prune.subject = self.subject.options();
        (prune.fold, prune.text_averages) = (self.fold.into(), self.text_ths_path.clone());
        (prune.layers, prune.round_width) = (self.layers.options(), self.round_width);
        (prune.dense, prune.uniform, prune.prepend_mask) = (self.dense, self.uniform, self.prepend_mask);
        (prune.verbalizer, prune.overwrite) = (self.verbalizer, self.destination.force);
        prune
    }
}

/// What pruning did.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Pruned(Found);

impl From<Found> for Pruned {
    fn from(found: Found) -> Self {
        Self(found)
    }
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { model, low_layer, high_layer, full_width, metric, .. } = &self.0;
        let [full, pruned] = self.0.parameters.map(|count| count as f64 / 1e6);
        let kept = &self.0.widths[*low_layer..*high_layer];
        let (least, most) = (kept.iter().min().unwrap_or(&0), kept.iter().max().unwrap_or(&0));
        let kept = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let last = high_layer - 1;
        let layers = match *low_layer == last {
            true => format!("layer {last}"),
            false => format!("layers {low_layer} to {last}"),
        };
        write!(f, "pruned {layers} of {model} to {kept} of {full_width} neurons: ")?;
        if self.0.dense {
            write!(f, "written at full width")?;
        } else {
            write!(f, "{full:.3} M -> {pruned:.3} M parameters ({:.1} %)", 100.0 * pruned / full)?;
        }
        if self.0.uniform {
            write!(f, ", one width for transformers")?;
        }
        let [before, after] = self.0.dev_score;
        write!(f, "; {metric} {before:.4} -> {after:.4} on dev")?;
        let [before, after] = self.0.ms_per_text;
        write!(f, "; {before:.3} -> {after:.3} ms a text; model in {}", self.0.run.join(file::BEST).display())
    }
}

impl Stage for Prune {
    const PROGRAM: &'static str = "skn-prune";
    type Output = Pruned;

    fn common(&self) -> &Common {
        &self.common
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        call.dry_run(self.dry, self.compute.options(), || Ok(self.options().into()))
    }

    fn next(&self, found: &Pruned) -> Option<Vec<String>> {
        Some(next::after_prune(&found.0.run))
    }

    fn run(&self, call: &Call) -> Result<Pruned> {
        let session = call.session(self.compute.options())?;
        Ok(Pruned(session.prune(&self.options())?))
    }
}
