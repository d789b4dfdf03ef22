//! What the benchmarks share: a model of RoBERTa-base's shape with random weights, pruned forms of it, texts with the
//! lengths of real data, a clock for taking turns, and the most that the CPU gives.
//!
//! Everything random is keyed, so every run measures the same work. Random weights are as good as trained ones here:
//! no operation of the forward pass takes longer for some finite numbers than for others. (Subnormal ones would, and
//! there are none.)
//!
//! ```
//! use skn_bench::Lengths;
//!
//! let texts = Lengths::Sst2Dev.texts(3);
//! assert_eq!(texts, Lengths::Sst2Dev.texts(3));
//! assert_eq!(texts[0].ids.first(), Some(&0)); // <s>
//! ```

mod model;
mod peak;
mod ratios;
mod texts;
mod turns;

pub use crate::model::{Backbone, CUT_LAYERS, MASK, PRUNED_NEURONS, VERBALIZER, VOCABULARY};
pub use crate::peak::multiply_adds;
pub use crate::ratios::Ratios;
pub use crate::texts::{Lengths, PROMPT_ROWS, rows};
pub use crate::turns::{Clock, Turns, measures};

/// Calls in the pages of the repository are doc tests: here, as those of a published crate may read no file beside it.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/how-to/library.md")]
    struct Library;
}
