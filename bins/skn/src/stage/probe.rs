//! `skn-probe`: how well every neuron predicts the label.

use std::fmt;
use std::num::NonZeroUsize;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use skn_artifact::InferencePerformance;
use skn_session::options::{self, NeuronChoice};
use skn_session::{BestPredictor, DryRun, NeuronSite, ProbeType, Probed as Found, Ranking, ScoreRule, Share};

use crate::cli::{AtOnce, Common, Compute, Destination, Dry, Subject, Tuned};
use crate::next;
use crate::number::{Count, with_interval};
use crate::program::{Call, Stage};
use crate::shard::{ShardFlag, spelled_out};

/// Measure how well every feed-forward neuron predicts the label.
///
/// One pass over each split gives all probes that are asked for: average activations over train, then on dev and test
/// how often `activation > average` tells the label. Results are the same bytes for any number of threads and shards.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-probe", version)]
pub struct Probe {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    tuned: Tuned,

    /// Probes, comma-separated: acc, acc_mean, acc_max, acc_last, pos, top, prompt_act, speed. pos keeps the activations of one neuron,
    /// top the texts of dev that excite the best neurons most, in RUN/<task>/dev_top, of counts that are there
    #[arg(long = "probe_type", value_name = "PROBES", value_delimiter = ',', default_values_t = options::Probe::default().probe_type)]
    probe_type: Vec<ProbeType>,

    /// Which number of a gated FFN's neuron is read: product, which alone can be perturbed and pruned, or one of its factors,
    /// gate (after its activation) or up
    #[arg(long, value_name = "SITE", default_value_t = options::Probe::default().site)]
    site: NeuronSite,

    /// For pos: a neuron, as layer,index from 0; or best, that of RUN/<task>/dev_perf (of a model without a prompt, whose
    /// activations at the last token are kept, of dev_last_perf). May be repeated
    #[arg(long, value_name = "LAYER,NEURON")]
    pos: Vec<NeuronChoice>,

    /// For pos: keep the texts too, in RUN/<task>/pos_<split>/texts.jsonl, in the order of the activations
    #[arg(long)]
    with_texts: bool,

    /// Splits to pass over; without train, the averages are read from the run [default: all]
    #[arg(long, value_name = "SPLITS", value_delimiter = ',')]
    splits: Vec<SplitFlag>,

    /// Keep of each neuron, position and text of dev whether the activation is above the average, for acc and acc_last, in
    /// RUN/<task>/dev_fire; of more than 10000 texts so many are drawn
    #[arg(long)]
    fire_bits: bool,

    /// Keep each neuron's variance over train beside its average
    #[arg(long)]
    variance: bool,

    /// Rankings of neurons to make of dev, comma-separated: predictivity, auc, mean_difference, correlation, lape, cett, random; and with
    /// passes of their own taylor, gradient, integrated_gradients, l1; in RUN/<task>/rank. For skn-select --score auc, auc keeps its areas of
    /// test too
    #[arg(long, value_name = "RANKINGS", value_delimiter = ',')]
    rank: Vec<Ranking>,

    /// With --rank correlation: the column of the data whose numbers activations are correlated with [default: the classes]
    #[arg(long = "metric-column", value_name = "NAME")]
    metric_column: Option<String>,

    /// Compare the rankings: hold these shares of each layer's neurons, the best of each ranking, at their average on test
    #[arg(long, value_name = "SHARES", value_delimiter = ',')]
    compare: Vec<Share>,

    /// A part of each split, as 2/8; written to RUN/shards, for skn-merge. auto: the part of the job that runs this, a task of a job
    /// array of Slurm or a pod of an indexed Job of Kubernetes (with SKN_SHARDS, how many parts there are)
    #[arg(long, value_name = "I/N")]
    shard: Option<ShardFlag>,

    #[command(flatten)]
    at_once: AtOnce,

    /// For speed: timed passes over test, after one that is not timed [default: 5]
    #[arg(long, value_name = "N")]
    repeats: Option<NonZeroUsize>,

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
enum SplitFlag {
    Train,
    Dev,
    Test,
}

impl From<SplitFlag> for options::Split {
    fn from(split: SplitFlag) -> Self {
        match split {
            SplitFlag::Train => Self::Train,
            SplitFlag::Dev => Self::Dev,
            SplitFlag::Test => Self::Test,
        }
    }
}

impl Probe {
    /// What the flags ask for. Flags that have nothing to act on are told.
    ///
    /// # Errors
    /// If the shard is that of the job that runs this, and none does.
    pub(crate) fn options(&self) -> Result<options::Probe> {
        let mut probe = options::Probe::default();
        (probe.subject, probe.tuned) = (self.subject.options(), self.tuned.options());
        probe.probe_type = self.probe_type.clone();
        (probe.site, probe.pos, probe.with_texts) = (self.site, self.pos.clone(), self.with_texts);
        probe.splits = self.splits.iter().copied().map(Into::into).collect();
        (probe.fire_bits, probe.variance) = (self.fire_bits, self.variance);
        (probe.rank, probe.compare) = (self.rank.clone(), self.compare.clone());
        probe.metric_column = self.metric_column.clone();
        (probe.shard, probe.batch) = (self.shard.map(ShardFlag::meant).transpose()?, self.at_once.batch);
        probe.repeats = self.repeats.unwrap_or(probe.repeats);
        (probe.out, probe.overwrite) = (self.destination.out.clone(), self.destination.force);
        if self.repeats.is_some() && !probe.asks(ProbeType::Speed) {
            tracing::warn!("--repeats: goes with --probe_type speed; it changes nothing");
        }
        Ok(probe)
    }
}

/// What a probe found.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Probed(Found);

impl From<Found> for Probed {
    fn from(found: Found) -> Self {
        Self(found)
    }
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { layers, positions, neurons, site, model, task, .. } = &self.0;
        write!(f, "probed {layers} layers x ")?;
        if *positions > 0 {
            write!(f, "{positions} positions x ")?;
        }
        let site = site
            .filter(|site| *site != "product")
            .map_or_else(String::new, |site| format!(" (their {site})"));
        write!(f, "{neurons} neurons{site} of {model} on {task}")?;
        for best in self.0.best.iter().chain(&self.0.best_last) {
            let BestPredictor { layer, index, position, probe, class, score, dev, test, .. } = best;
            write!(f, "; best neuron: layer {layer}, index {index} ")?;
            match position {
                Some(position) => write!(f, "at position {position}")?,
                None => write!(f, "by {probe}")?,
            }
            if let Some(class) = class {
                write!(f, " for class {class} against the rest")?;
            }
            // Of more classes it always is.
            let balanced = *score == ScoreRule::Balanced && class.is_none();
            write!(f, ", {}predictivity {dev:.4} on dev", if balanced { "balanced " } else { "" })?;
            if let Some(test) = test {
                write!(f, ", {test:.4} on test")?;
            }
        }
        if let (Some(inference), Some(time)) = (&self.0.inference, &self.0.time) {
            let InferencePerformance { metric, test_score, interval, rows, parameters, .. } = inference;
            write!(f, "; {metric} {} on {rows} rows of test", with_interval(*test_score, *interval))?;
            write!(f, "; {:.3} ms a text, {:.0} tokens/s", time.ms_per_text, time.tokens_per_second)?;
            match time.seconds.len() {
                1 => write!(f, " (one pass, ")?,
                passes => write!(f, " (median of {passes} passes, ")?,
            }
            write!(f, "{})", Count(time.threads, "thread"))?;
            write!(f, ", {:.2} M parameters", *parameters as f64 / 1e6)?;
        }
        write!(f, "; {} in {}", Count(self.0.files.len(), "file"), self.0.run.display())
    }
}

impl Stage for Probe {
    const PROGRAM: &'static str = "skn-probe";
    const IN_GROUP: bool = true;
    type Output = Probed;

    fn common(&self) -> &Common {
        &self.common
    }

    fn is_a_part(&self) -> bool {
        self.shard.is_some()
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        call.dry_run(self.dry, self.compute.options(), || Ok(self.options()?.into()))
    }

    fn next(&self, found: &Probed) -> Option<Vec<String>> {
        next::after_counts(&found.0.run, &found.0.files).filter(|_| self.shard.is_none())
    }

    fn run(&self, call: &Call) -> Result<Probed> {
        let options = self.options()?;
        let mut session = call.session(self.compute.options())?;
        if let Some(shard) = options.shard {
            let typed = spelled_out(&call.arguments, shard);
            session = session.with_description(move |_| typed.clone());
        }
        Ok(Probed(session.probe(&options)?))
    }
}
