//! Passes of a model over a split of data: the place where model, data and statistics meet.
//!
//! - [`evaluate`] answers a split; [`evaluate_with`] does so while hooks look on or edit, and [`evaluate_each`] for many
//!   edits in one pass.
//! - [`averages`] adds up activations over train, [`counts`] compares those of dev or test with the averages. All
//!   probes that are asked for come from one pass over each split; activations are reduced layer by layer as they are
//!   made, never stored.
//! - [`prompt_activations`] and [`speed`] look at an empty text and at the clock.
//! - [`Average`], [`Performance`] and [`Positions`] go into tensor files and come back; shards of a split
//!   merge to the same bytes as the whole.
//!
//! A pass packs texts into micro-batches and gives each to one of its [`Workers`]. Results are the same bits for
//! any number of threads, texts a batch, rows a batch and shards.
//!
//! ```no_run
//! use std::collections::BTreeMap;
//!
//! use skn_data::Encoded;
//! use skn_model::Roberta;
//! use skn_probing::{PassOptions, Pool, ProbeType, Result, Workers, averages, counts, evaluate};
//!
//! # fn probe(model: &Roberta, train: &[Encoded], dev: &[Encoded]) -> Result<()> {
//! let workers = Workers::new(2)?;
//! let options = PassOptions::new(&workers);
//! println!("accuracy {}", evaluate(model, dev, &[33407, 22173], &options)?.accuracy());
//!
//! let averages = averages(model, train, &[ProbeType::Acc, ProbeType::AccMax], &options)?;
//! let thresholds = averages.iter().map(|(&pool, average)| Ok((pool, average.threshold()?)));
//! let thresholds: BTreeMap<_, _> = thresholds.collect::<Result<_>>()?;
//! let counts = counts(model, dev, 2, &thresholds, None, &options)?;
//! let bundle = counts.counts[&Pool::Position].performance()?.to_bundle(&BTreeMap::new())?;
//! # let _ = bundle;
//! # Ok(())
//! # }
//! ```

mod average;
mod count;
mod error;
mod evaluate;
mod pass;
mod performance;
mod positions;
mod probe;
mod prompt;
mod speed;
mod watch;
mod workers;

pub use crate::average::{Average, Metadata, Threshold, averages};
pub use crate::count::{Count, Counts, counts};
pub use crate::error::{ProbingError, Result};
pub use crate::evaluate::{Evaluation, evaluate, evaluate_each, evaluate_with};
pub use crate::pass::PassOptions;
pub use crate::performance::{OneVsRest, Performance};
pub use crate::positions::Positions;
pub use crate::probe::{Pool, ProbeType};
pub use crate::prompt::{prompt_activation_bundle, prompt_activations};
pub use crate::speed::{Speed, speed};
pub use crate::workers::{Progress, Silent, Workers};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
