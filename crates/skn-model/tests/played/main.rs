//! The golden numbers once more, computed by the kernels of GPUs, which the host plays.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

#[path = "../golden/case.rs"]
#[allow(dead_code, reason = "other tests of the golden case use more of it")]
mod case;
#[path = "../../../skn-kernels/tests/host/compile.rs"]
mod compile;
mod graphs;
#[path = "../golden/numbers.rs"]
mod numbers;
mod passes;

/// Before a test reads its model.
fn prepare() {
    compile::play();
}

#[test]
fn the_kernels_of_gpus_compute() {
    prepare();
    if compile::program().is_some() {
        assert_eq!(skn_model::Backend::of(&candle_core::Device::Cpu), skn_model::Backend::Cuda);
    }
}
