//! Every operation against its composition of candle's operations, and its gradients against finite differences; bits
//! that do not depend on neighbours; masks that do not depend on the batch.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

mod attention;
mod common;
mod decoder_attention;
mod dropout;
mod forms;
mod gated;
mod linear;
mod norm;
mod reductions;
mod rms_norm;
mod rotary;
mod rows;
mod self_attention;

/// Before a test makes its first tensor: nothing. The same tests are in `tests/played`, which does something.
fn prepare() {}
