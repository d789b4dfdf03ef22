//! The model against the golden case: logits, activations and gradients that Hugging Face transformers computed in
//! float64, and the folders that it is read from and written to.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

mod branches;
mod case;
#[cfg(feature = "cuda")]
mod cuda;
mod folders;
mod foreign;
mod foreign_tunings;
mod forward;
mod gradients;
mod numbers;
mod tunings;

/// Before a test reads its model: nothing. Some of these tests are in `tests/played` too, which does something.
fn prepare() {}
