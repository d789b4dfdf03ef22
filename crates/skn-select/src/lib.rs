//! Ranking of neurons by predictivity, and masks of the best of them.
//!
//! - [`Performance`] (of `skn-counts`) reads what a probe counted; [`Scores`] are a sub-task's, over one file or several
//!   ([`Aggregate`]).
//! - [`Performance::best_rule`] is the single best neuron, and [`Performance::accuracy_of`] how it does on another split.
//! - [`Ranking`] orders each layer's neurons, best first, over one sub-task or the union of several.
//! - [`MadeRanking`] is one that was made elsewhere; a list of neurons or an array of marks made elsewhere is a mask too
//!   ([`MadeRanking::marks`]).
//! - [`Mask`] marks a [`Share`] of them; it is the file `info/<task>/0.05`.
//!
//! Scores are compared as exact fractions, so that equal ones tie however the files are ordered; ties go to
//! the lower index. Nothing here depends on a model.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use skn_artifact::{Array, TensorBundle, TensorFile};
//! use skn_select::{Aggregate, Mask, Performance, Ranking, ScoreRule, Scores, Share};
//!
//! // Of 10 texts, how many each of four neurons of one layer gets right at each of two positions.
//! let mut bundle = TensorBundle::new();
//! bundle.insert("correct", Array::i64(vec![1, 2, 4], vec![5, 9, 4, 5, 6, 5, 5, 1])?);
//! bundle.insert("total", Array::i64(vec![1], vec![10])?);
//! let file = TensorFile::from_bytes("dev_perf.safetensors".as_ref(), bundle.to_bytes()?)?;
//!
//! let scores = Scores::of_group(&[Performance::read(&file)?], Aggregate::Mean, None, ScoreRule::Accuracy)?;
//! assert_eq!(scores[0].score(), [0.1, 0.4, 0.1, 0.4], "a neuron that is wrong 9 times of 10 predicts as well");
//!
//! let ranking = Ranking::new(&scores)?;
//! assert_eq!(ranking.order(), [[1, 3, 0, 2]]);
//! let mask = ranking.mask("0.75".parse::<Share>()?);
//! assert_eq!(mask.neurons(), [[0, 1, 3]]);
//!
//! let bytes = mask.to_bundle(&BTreeMap::new())?.to_bytes()?;
//! let file = TensorFile::from_bytes("0.75.safetensors".as_ref(), bytes)?;
//! assert_eq!(Mask::read(&file)?, mask);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod exact;
mod list;
mod made;
mod mask;
mod npy;
mod ranking;
mod scores;
mod share;
mod stability;

pub use crate::error::{Result, SelectError};
pub use crate::made::MadeRanking;
pub use crate::mask::Mask;
pub use crate::ranking::Ranking;
pub use crate::scores::{Aggregate, Scores};
pub use crate::share::Share;
pub use crate::stability::Stability;
pub use skn_counts::{Performance, Rule, ScoreRule};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
