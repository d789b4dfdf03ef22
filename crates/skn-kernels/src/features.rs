use std::ops::Range;

use candle_core::Result;

/// Inputs and outputs of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

/// Appends some rows of a weight `[out, in]` to a vector.
pub(crate) type ReadRows = dyn Fn(Range<usize>, &mut Vec<f32>) -> Result<()> + Send + Sync;
