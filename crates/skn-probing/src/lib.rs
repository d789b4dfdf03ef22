//! Passes of a model over a split of data: the place where model, data and statistics meet.
//!
//! - [`evaluate`] answers a split; [`evaluate_with`] does so while hooks look on or edit, and [`evaluate_each`] for many
//!   edits in one pass.
//! - [`collect`] gives activations to any number of [`Statistic`]s in one pass, layer by layer as they are made, never stored;
//!   [`averages`] adds them up over train, [`counts`] compares those of dev or test with the averages.
//! - [`prompt_activations`] and [`speed`] look at an empty text and at the clock.
//! - What statistics come to are [`Record`]s, such as [`Average`], [`Performance`] and [`Positions`]: they go into tensor files
//!   and come back by their kind ([`Kinds`]); shards of a split merge to the same bytes as the whole.
//!
//! A pass packs texts into micro-batches and gives each to one of its [`Workers`]. Results are the same bits for
//! any number of threads, texts a batch, rows a batch and shards.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use candle_core::{Device, Tensor};
//! use skn_data::Encoded;
//! use skn_model::{Config, Gradients, LanguageModel, Tuning, Weights, shapes};
//! use skn_probing::{PassOptions, Pool, ProbeType, Result, Workers, averages, counts, evaluate};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A model of random weights: 2 layers of 16 neurons, behind a prompt of 4 rows, the `<mask>` row counted.
//! let config = Config::new(20, [8, 2, 16, 2], 34)?;
//! let random = |(name, shape)| Ok((name, Tensor::randn(0f32, 0.5, shape, &Device::Cpu)?));
//! let tensors = shapes(&config).into_iter().map(random).collect::<skn_model::Result<_>>()?;
//! let weights = Weights::from_tensors(&config, tensors)?;
//! let model = LanguageModel::new(&config, &weights, &Tuning::new_prompt(&config, 4, 0)?, 3, Gradients::Nothing)?;
//!
//! // Texts of one word between `<s>` and `</s>`; the words 10, 11, .. take turns to mean class 0 and class 1.
//! let text = |row| {
//!     let ids = vec![0, 10 + row as u32, 2];
//!     Encoded { second: ids.len(), ids: ids.into(), label: row as usize % 2, row }
//! };
//! let (train, dev): (Vec<Encoded>, Vec<Encoded>) = ((0..8).map(text).collect(), (0..6).map(text).collect());
//!
//! let workers = Workers::new(2)?;
//! let options = PassOptions::new(&workers);
//! println!("accuracy {}", evaluate(&model, &dev, &[6, 7], &options)?.accuracy()); // a token for each class
//!
//! let averages = averages(&model, &train, &[ProbeType::Acc, ProbeType::AccMax], &options)?;
//! let thresholds = averages.iter().map(|(&pool, average)| Ok((pool, average.threshold()?)));
//! let thresholds: BTreeMap<_, _> = thresholds.collect::<Result<_>>()?;
//! let counts = counts(&model, &dev, 2, &thresholds, None, &options)?;
//! let performance = counts.counts[&Pool::Position].performance()?;
//! assert_eq!((performance.dims(), performance.total()), (&[2, 4, 16][..], 6));
//! let bundle = performance.to_bundle(&BTreeMap::new())?; // for a file
//! assert_eq!(bundle.tensors()["accuracy"].shape(), [2, 4, 16]);
//! # Ok(())
//! # }
//! ```

mod average;
mod bits;
mod blocks;
mod collect;
mod count;
mod error;
mod evaluate;
mod fire;
mod gradient;
mod group;
mod kinds;
mod pass;
mod picked;
mod positions;
mod probe;
mod prompt;
mod range;
mod rank;
mod record;
mod shared;
mod speed;
mod statistic;
mod threshold;
mod top;
mod watch;
mod workers;

pub use crate::average::{Average, averages};
pub use crate::collect::collect;
pub use crate::count::{Count, Counts, counts};
pub use crate::error::{ProbingError, Result};
pub use crate::evaluate::{Evaluation, evaluate, evaluate_each, evaluate_with};
pub use crate::fire::{FireRecord, Fires, Sample};
pub use crate::gradient::collect_gradients;
pub use crate::group::{Alone, Group};
pub use crate::kinds::Kinds;
pub use crate::pass::PassOptions;
pub use crate::positions::{Capture, Positions};
pub use crate::probe::ProbeType;
pub use crate::prompt::{prompt_activation_bundle, prompt_activations};
pub use crate::range::Range;
pub use crate::rank::{Rank, RankRecord, Ranked, Ranking, l1};
pub use crate::record::{Metadata, Record, described, other};
pub use crate::speed::{Speed, speed};
pub use crate::statistic::{BatchTexts, Block, Row, SlopeOf, Slopes, Statistic, TakeBlocks, part};
pub use crate::threshold::{Threshold, check_averages};
pub use crate::top::Top;
pub use crate::workers::{Progress, Silent, Work, Workers};
pub use skn_counts::{NeuronPlace, Performance, Pool, TopTexts};
pub use skn_kernels::{
    ColumnBins, ColumnCounts, ColumnMoments, ColumnNumbers, ColumnShares, ColumnSums, ColumnTotals, Misfit,
    MomentTotals, RowGroups, RowNumbers, pack_above, pick_columns,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
