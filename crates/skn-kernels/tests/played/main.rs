//! The tests of every operation once more, computed by the kernels of GPUs, which the host plays; and those kernels that no
//! operation uses.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

#[path = "../operations/attention.rs"]
mod attention;
mod client;
#[path = "../operations/common.rs"]
mod common;
#[path = "../host/compile.rs"]
mod compile;
#[path = "../operations/decoder_attention.rs"]
mod decoder_attention;
#[path = "../operations/dropout.rs"]
mod dropout;
#[path = "../operations/forms.rs"]
mod forms;
#[path = "../operations/gated.rs"]
mod gated;
mod graphs;
#[path = "../operations/linear.rs"]
mod linear;
#[path = "../operations/norm.rs"]
mod norm;
mod precision;
#[path = "../operations/reductions.rs"]
mod reductions;
#[path = "../operations/rms_norm.rs"]
mod rms_norm;
#[path = "../operations/rotary.rs"]
mod rotary;
#[path = "../operations/rows.rs"]
mod rows;
#[path = "../operations/self_attention.rs"]
mod self_attention;
mod statistics;
mod uploads;

/// Before a test makes its first tensor.
fn prepare() {
    compile::play();
}

#[test]
fn the_kernels_of_gpus_compute() {
    prepare();
    if compile::program().is_some() {
        assert_eq!(skn_kernels::Backend::of(&candle_core::Device::Cpu), skn_kernels::Backend::Cuda);
    }
}
