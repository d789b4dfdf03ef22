//! Kernels for GPUs, and what launches them.
//!
//! The kernels are CUDA C++ (`cuda/kernels/`), embedded, and compiled by NVRTC, a file when a device first needs it. Matrix products are
//! cuBLASLt's. The same files are compiled for the host by the tests, where a program plays blocks and threads
//! ([`play_on_host`]): then every operation of this crate on CPU tensors is computed by them.
//!
//! Sums inside a kernel have an order that depends on nothing but their length, and no float is added atomically. Matrix
//! products are cuBLASLt's, which may choose another order of sums for another number of rows.

#[cfg(any(test, feature = "cuda"))]
mod architecture;
mod attention;
#[cfg(feature = "cuda")]
mod captured;
#[cfg(feature = "cuda")]
mod device;
mod elementwise;
mod launch;
mod linear;
#[cfg(feature = "cuda")]
mod lt;
mod node;
mod norm;
mod player;
mod product;
mod reductions;
mod rows;
mod run;
mod weight;

use candle_core::{Result, Tensor};

use crate::activation::Activation;
use crate::attention::AttentionForm;
use crate::linear::Linear;
use crate::mask::Dropout;
use crate::norm::LayerNorm;
use crate::operations::Operations;
use crate::packing::RowSelection;
use crate::rms_norm::RmsNorm;
use crate::rotary::Turned;
use crate::row_groups::{ColumnNumbers, Misfit, RowGroups, RowNumbers, RowRuns};
use crate::running::{Running, RunningMoments, RunningSums, SharesOf};
#[cfg(feature = "cuda")]
pub(crate) use captured::{Captured, uploaded, uploaded_over};
#[cfg(feature = "cuda")]
pub(crate) use device::{card, too_old};
pub use player::play_on_host;
pub(crate) use player::plays;
pub(crate) use product::rounded;
pub(crate) use rows::{at_positions, of_numbers, of_selection};
pub(crate) use run::no_numbers;
pub(crate) use weight::OnCard;

pub(crate) struct Cuda;

impl Operations for Cuda {
    fn linear(&self, layer: &Linear, x: &Tensor, activation: Activation, rounded: bool) -> Result<Tensor> {
        linear::forward(layer, x, activation, rounded)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor, activation: Activation, rounded: bool) -> Result<Tensor> {
        elementwise::gated(gate, up, activation, rounded)
    }

    fn layer_norm(&self, norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
        norm::layer_norm(norm, x)
    }

    fn layer_norm_of_sum(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor> {
        norm::layer_norm_of_sum(norm, x, residual, dropped)
    }

    fn rms_norm(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        norm::rms_norm(norm, x)
    }

    fn rotary(&self, turned: Turned, x: &Tensor) -> Result<Tensor> {
        elementwise::rotary(turned, x)
    }

    fn attention(
        &self,
        q_k_v: [&Tensor; 3],
        queries: &RowSelection,
        form: &AttentionForm,
        dropout: Option<&Dropout>,
        rounded: bool,
    ) -> Result<Tensor> {
        attention::forward(q_k_v, queries, form, dropout, rounded)
    }

    /// No: what is absorbed on a processor spares products of single rows, which a GPU makes beside others.
    fn absorbs(&self) -> bool {
        false
    }

    fn dropout(&self, x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor> {
        elementwise::dropout(x, rows, dropout)
    }

    fn add_columns(
        &self,
        sums: &mut RunningSums,
        x: &Tensor,
        rows: &RowGroups,
        misfit: &mut Misfit,
    ) -> Result<()> {
        reductions::add_columns(sums, x, rows, misfit)
    }

    fn count_columns(
        &self,
        counts: &mut Running,
        x: &Tensor,
        rows: &RowGroups,
        threshold: &Tensor,
        misfit: &mut Misfit,
    ) -> Result<()> {
        reductions::count_columns(counts, x, rows, threshold, misfit)
    }

    fn pack_above(
        &self,
        x: &Tensor,
        rows: &RowGroups,
        threshold: &Tensor,
        misfit: &mut Misfit,
    ) -> Result<Tensor> {
        reductions::pack_above(x, rows, threshold, misfit)
    }

    fn pool_rows(
        &self,
        x: &Tensor,
        runs: &RowRuns,
        wanted: [bool; 2],
        misfit: &mut Misfit,
    ) -> Result<[Option<Tensor>; 2]> {
        reductions::pool_rows(x, runs, wanted, misfit)
    }

    fn add_moments(
        &self,
        moments: &mut RunningMoments,
        x: &Tensor,
        rows: &RowGroups,
        numbers: Option<&RowNumbers>,
        misfit: &mut Misfit,
    ) -> Result<()> {
        reductions::add_moments(moments, x, rows, numbers, misfit)
    }

    fn count_bins(
        &self,
        counts: &mut Running,
        classes: usize,
        x: &Tensor,
        rows: &RowGroups,
        ends: &Tensor,
        misfit: &mut Misfit,
    ) -> Result<()> {
        reductions::count_bins(counts, classes, x, rows, ends, misfit)
    }

    fn pick_columns(
        &self,
        x: &Tensor,
        rows: &RowGroups,
        columns: &ColumnNumbers,
        misfit: &mut Misfit,
    ) -> Result<Tensor> {
        reductions::pick_columns(x, rows, columns, misfit)
    }

    fn add_shares(
        &self,
        sums: &mut Running,
        x: &Tensor,
        rows: &RowGroups,
        of: SharesOf<'_>,
        misfit: &mut Misfit,
    ) -> Result<()> {
        reductions::add_shares(sums, x, rows, of, misfit)
    }

    fn row_norms(&self, x: &Tensor) -> Result<Tensor> {
        reductions::row_norms(x)
    }
}
