//! How often each neuron's rule is right, what that says of the neuron, and which neuron is the best: one reader of the
//! files of counts (`dev_perf`, `test_mean_perf`, ..), one order, one interval, for whoever probes, selects or reports.
//!
//! Of two classes a neuron has one rule at each position: `activation > average => label 1`. Of more it has one for each
//! class against the rest. [`Performance`] counts for how many texts each is right, and for how many of the class the neuron
//! fires ([`ByClass`]); a [`Rule`] names one of them.
//!
//! What right answers come to is a [`ScoreRule`]: accuracy, balanced accuracy where classes are not of one size, or,
//! with [`Areas`], the area under the ROC curve.
//!
//! How surprising each rule's counts are says [`Performance::tested`]. From the bits of single texts ([`FireBits`]) comes what the best neuron has by chance ([`NullOfBest`]).
//!
//! Rules are compared as exact fractions: a neuron that is right for 90 of 100 texts ties with one that is wrong for 90 of
//! 100. Of equals the first in the order of class, layer, position and index is the best.
//!
//! ```
//! use skn_artifact::{Array, TensorBundle, TensorFile};
//! use skn_counts::Performance;
//!
//! // Of 10 texts, how many each of two neurons gets right at each of two positions.
//! let mut bundle = TensorBundle::new();
//! bundle.insert("correct", Array::i64(vec![1, 2, 2], vec![5, 9, 1, 6])?);
//! bundle.insert("total", Array::i64(vec![1], vec![10])?);
//! let dev = Performance::read(&TensorFile::from_bytes("dev_perf.safetensors".as_ref(), bundle.to_bytes()?)?)?;
//!
//! let score = dev.usual_score();
//! let best = dev.best_rule(score)?;
//! assert_eq!((best.position, best.index, best.silent), (0, 1, false), "the neuron that is silent ties, and comes later");
//! assert_eq!(dev.accuracy_of(&best, score)?, 0.9);
//! let [low, high] = dev.interval_of(&best, score, 0.95)?;
//! assert!(low < 0.9 && 0.9 < high);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod areas;
mod bit_count;
#[cfg(test)]
mod calibration;
mod class_score;
mod correlation;
mod error;
mod file;
mod fire_bits;
mod fire_counts;
mod fraction;
mod null;
mod order;
mod performance;
mod pool;
mod resample;
mod rule;
mod score_rule;
mod significance;
mod top_texts;
mod votes;
mod with_areas;

pub use crate::areas::Areas;
pub use crate::correlation::Correlation;
pub use crate::error::{CountsError, Result};
pub use crate::fire_bits::{FireBits, PositionBits};
pub use crate::fraction::Fraction;
pub use crate::null::NullOfBest;
pub use crate::order::Predictor;
pub use crate::performance::{ByClass, Performance};
pub use crate::pool::Pool;
pub use crate::resample::Resampled;
pub use crate::rule::{Distances, Rule};
pub use crate::score_rule::ScoreRule;
pub use crate::significance::{Significance, Tested};
pub use crate::top_texts::{NeuronPlace, TopText, TopTexts};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
