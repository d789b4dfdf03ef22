//! Training on the golden model: numbers, gradients, the loop, and resuming it.
#![allow(clippy::unwrap_used)] // test support is not seen as test code

mod golden;
mod gradients;
mod loops;
mod resume;
mod support;
