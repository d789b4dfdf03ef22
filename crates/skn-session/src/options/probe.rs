use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use skn_artifact::names::stage;
use skn_model::NeuronSite;
use skn_probing::{Pool, ProbeType, Ranking};
use skn_select::Share;

use super::shard::Shard;
use super::subject::Subject;
use super::text;
use super::tuned::Tuned;

/// Measure how well every feed-forward neuron predicts the label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Probe {
    /// Model, task and data.
    pub subject: Subject,
    /// The tuned parameters.
    pub tuned: Tuned,
    /// What to measure; default `acc`.
    #[serde(with = "text::list")]
    pub probe_type: Vec<ProbeType>,
    /// Which number of a gated FFN's neuron is read; default the product, which alone can be edited and pruned.
    #[serde(with = "text")]
    pub site: NeuronSite,
    /// For `pos`: the neurons.
    #[serde(deserialize_with = "one_or_many")]
    pub pos: Vec<NeuronChoice>,
    /// Whether `pos` keeps the texts too, in a file beside the activations.
    pub with_texts: bool,
    /// Splits to pass over; without train, the averages are read from the run. None are all.
    pub splits: Vec<Split>,
    /// Whether a bit for each neuron, position and text of dev is kept of `acc` and `acc_last`: whether the activation is above
    /// the average. Of more than [`Self::MOST_FIRE_TEXTS`] texts the seed draws so many.
    pub fire_bits: bool,
    /// Whether the averages get the variance over train beside them.
    pub variance: bool,
    /// Rankings of neurons to be made of dev, of the first of `acc`, `acc_last`, `acc_mean` and `acc_max` that is asked for.
    #[serde(with = "text::list")]
    pub rank: Vec<Ranking>,
    /// The column of the data whose numbers the ranking `correlation` correlates activations with, instead of with the classes; default
    /// none.
    pub metric_column: Option<String>,
    /// Shares of each layer's neurons: for each ranking so many of its best are held at their average on test, and as many of chance.
    #[serde(with = "text::list")]
    pub compare: Vec<Share>,
    /// A part of each split, which goes into a folder of its own in the run, to be merged.
    pub shard: Option<Shard>,
    /// Texts at once, at most; changes no result. Default: as many as 2048 rows hold.
    pub batch: Option<NonZeroUsize>,
    /// For `speed`: timed passes over test, after one that is not timed; default 5.
    pub repeats: NonZeroUsize,
    /// The run's folder.
    pub out: PathBuf,
    /// Whether files of the same probes are replaced.
    pub overwrite: bool,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            subject: Subject::default(),
            tuned: Tuned::default(),
            probe_type: vec![ProbeType::Acc],
            site: NeuronSite::Product,
            pos: Vec::new(),
            with_texts: false,
            splits: Vec::new(),
            fire_bits: false,
            variance: false,
            rank: Vec::new(),
            metric_column: None,
            compare: Vec::new(),
            shard: None,
            batch: None,
            repeats: NonZeroUsize::MIN.saturating_add(4),
            out: PathBuf::new(),
            overwrite: false,
        }
    }
}

impl Probe {
    /// The most texts of dev whose fire bits are kept.
    pub const MOST_FIRE_TEXTS: usize = 10_000;
    /// Of how many of the best neurons `top` keeps texts.
    pub const TOP_NEURONS: usize = 10;
    /// The most texts of train, and of dev, that the ranking `l1` reads, drawn by the seed.
    pub const MOST_REGRESSION_TEXTS: usize = 4_096;

    /// Probes a tuned run, into the run itself.
    pub fn of(run: impl Into<PathBuf>, probe_type: &[ProbeType]) -> Self {
        let run = run.into();
        Self { tuned: Tuned::of(run.clone()), probe_type: probe_type.to_vec(), out: run, ..Self::default() }
    }

    /// Whether something is to be measured.
    pub fn asks(&self, probe: ProbeType) -> bool {
        self.probe_type.contains(&probe)
    }

    /// Whether a split is passed over.
    pub fn passes(&self, split: Split) -> bool {
        self.splits.is_empty() || self.splits.contains(&split)
    }

    /// Whether texts of a split go through the model: it is passed over, and by something that is asked for. `l1` reads train anyway.
    pub(crate) fn reads(&self, split: Split) -> bool {
        let takes = self.pools().next().is_some();
        let counts = takes || self.asks(ProbeType::Pos);
        match split {
            Split::Train => (takes && self.passes(split)) || self.rank.contains(&Ranking::L1),
            Split::Dev => (counts || self.asks(ProbeType::Top)) && self.passes(split),
            Split::Test => (counts || self.asks(ProbeType::Speed)) && self.passes(split),
        }
    }

    /// Whether texts of a split are answered, which is done of all of them at once.
    pub(crate) fn answers(&self, split: &str) -> bool {
        split == Split::Test.name() && (self.asks(ProbeType::Speed) || !self.compare.is_empty())
    }

    /// Whether the texts of a split themselves are kept, or some of them.
    pub(crate) fn says(&self, split: Split) -> bool {
        (self.with_texts || self.asks(ProbeType::Top) && split == Split::Dev) && self.reads(split)
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = Pool> {
        self.probe_type.iter().filter_map(|probe| probe.pool())
    }

    /// What is taken of a text where fire bits are kept.
    pub(crate) fn fire_pools(&self) -> impl Iterator<Item = Pool> {
        self.pools().filter(|pool| matches!(pool, Pool::Position | Pool::Last))
    }

    /// What is taken of a text where neurons are ranked.
    pub(crate) fn rank_pool(&self) -> Option<Pool> {
        let order = [Pool::Position, Pool::Last, Pool::Mean, Pool::Max];
        order.into_iter().find(|pool| self.pools().any(|asked| asked == *pool))
    }

    /// The same, if neurons are ranked.
    pub(crate) fn ranks(&self) -> Option<Pool> {
        self.rank_pool().filter(|_| !self.rank.is_empty())
    }

    /// Whether averages get variances, which rankings need.
    pub(crate) fn with_variance(&self) -> bool {
        self.variance || !self.rank.is_empty()
    }

    /// The splits to count on.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &'static str> {
        [Split::Dev, Split::Test].into_iter().filter(|&split| self.passes(split)).map(Split::name)
    }

    /// Each set of probes has an entry of its own in the run's record.
    pub(crate) fn entry(&self) -> String {
        let names: Vec<&str> = self.probe_type.iter().map(|probe| probe.name()).collect();
        let splits: Vec<&str> = self.splits.iter().map(|split| split.name()).collect();
        stage::probe(&names, &splits)
    }
}

/// Earlier records have one, or none.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<NeuronChoice>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Many(Vec<NeuronChoice>),
        One(NeuronChoice),
    }
    Ok(match Option::<Said>::deserialize(from)? {
        None => Vec::new(),
        Some(Said::One(one)) => vec![one],
        Some(Said::Many(many)) => many,
    })
}

/// The neuron whose activations `pos` keeps: `9,1893`, or `best`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NeuronChoice {
    /// The best of the counts that the run has.
    Best,
    /// By layer and index, from 0.
    At(usize, usize),
}

impl FromStr for NeuronChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = || {
            let (layer, index) = text.split_once(',')?;
            Some(Self::At(layer.trim().parse().ok()?, index.trim().parse().ok()?))
        };
        match text {
            "best" => Ok(Self::Best),
            _ => {
                at().ok_or_else(|| "expected two numbers, layer,index from 0, such as 9,1893; or best".into())
            }
        }
    }
}

impl fmt::Display for NeuronChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::At(layer, index) => write!(f, "{layer},{index}"),
        }
    }
}

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Split {
    /// What is trained on, and averaged over.
    Train,
    /// What is chosen by.
    Dev,
    /// What is reported.
    Test,
}

impl Split {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_records_have_one_neuron_or_none() {
        for (said, expected) in [
            ("{}", vec![]),
            ("{\"pos\": null}", vec![]),
            ("{\"pos\": \"best\"}", vec![NeuronChoice::Best]),
            ("{\"pos\": {\"at\": [9, 1893]}}", vec![NeuronChoice::At(9, 1893)]),
            ("{\"pos\": [\"best\", {\"at\": [0, 1]}]}", vec![NeuronChoice::Best, NeuronChoice::At(0, 1)]),
        ] {
            let probe: Probe = serde_json::from_str(said).unwrap();
            assert_eq!(probe.pos, expected, "{said}");
            let again: Probe = serde_json::from_str(&serde_json::to_string(&probe).unwrap()).unwrap();
            assert_eq!(again, probe);
        }
    }
}
