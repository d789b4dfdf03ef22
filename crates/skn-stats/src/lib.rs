//! Statistics of probing, on slices: no tensors, no model, no files.
//!
//! - [`MeanAccumulator`] and [`FireAccumulator`] add up activations and count how often they pass a threshold. Sums are
//!   exact (fixed point), so results do not depend on the order of the rows, on threads or on shards.
//! - [`accuracy`], [`predictivity`] and [`distance`] score a neuron; [`best`] finds the best one.
//! - [`wilson`], [`area`], [`student`] and [`bootstrap`] are intervals, [`fisher_exact`], [`mcnemar`], [`rank_sum`], [`sign_flip`] and
//!   [`benjamini_hochberg`] tests, [`spearman`], [`auc`] and [`jaccard`] measures of agreement.
//! - [`class_scores`], [`calibration_error`], [`brier`] and [`negative_log_likelihood`] say how good answers and their
//!   probabilities are; [`fit_temperature`] makes probabilities better.
//!
//! ```
//! use skn_stats::{FireAccumulator, MeanAccumulator, predictivity};
//!
//! // Activations of two neurons for four texts, and the texts' labels.
//! let (texts, labels) = ([[0.0, 1.0], [4.0, 0.5], [0.5, 1.0], [3.5, 0.5]], [0, 1, 0, 1]);
//! let mut mean = MeanAccumulator::new(2);
//! for text in &texts {
//!     mean.add_row_at(0, text)?;
//! }
//! mean.add_rows(4)?;
//! let thresholds = mean.mean()?;
//! assert_eq!(thresholds, [2.0, 0.75]);
//!
//! let mut fires = FireAccumulator::new(2, 2)?;
//! for (text, label) in texts.iter().zip(labels) {
//!     fires.add(label, 0, text, &thresholds)?;
//!     fires.add_row_label(label)?;
//! }
//! let correct: Vec<u64> = fires.correct(1)?.collect();
//! assert_eq!(correct, [4, 0], "the second neuron fires for the other label");
//! assert_eq!(predictivity(correct[1], 4), 1.0);
//! # Ok::<(), skn_stats::StatsError>(())
//! ```

mod agreement;
mod classification;
mod error;
mod fire;
mod fisher;
mod interval;
mod lasso;
mod mean;
mod paired;
mod rank_sum;
mod score;
mod significance;
mod squares;
mod temperature;
mod vectorised;

pub use crate::agreement::{auc, jaccard, ranks, spearman};
pub use crate::classification::{ClassScores, brier, calibration_error, class_scores};
pub use crate::error::{Result, StatsError};
pub use crate::fire::{FireAccumulator, count_above};
pub use crate::fisher::{FisherTest, fisher_exact};
pub use crate::interval::{area, bootstrap, student, wilson};
pub use crate::lasso::{Labelled, Logistic};
pub use crate::mean::{MAX_ACTIVATION, MeanAccumulator, STEPS_PER_UNIT};
pub use crate::paired::sign_flip;
pub use crate::rank_sum::{rank_sum, rank_sum_of};
pub use crate::score::{accuracy, best, distance, predictivity};
pub use crate::significance::{benjamini_hochberg, binomial_upper, mcnemar};
pub use crate::squares::{LEAST_VARIANCE, SquareAccumulator, variance};
pub use crate::temperature::{fit_temperature, negative_log_likelihood, softmax};
pub use crate::vectorised::{Loop, vectorised};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
