//! Kernels for processors, compiled for AVX-512, for AVX2 and portably.

mod absorbed;
mod activation;
mod attention;
mod dropout;
mod element;
mod gated;
mod linear;
mod memory;
mod norm;
mod operand;
mod panels;
mod product;
mod reductions;
mod rms_norm;
mod rotary;
mod simd;
mod slices;
mod transpose;
mod view;

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
pub(crate) use absorbed::Absorbed;
pub(crate) use linear::{Original, Packed, product_of};
pub use simd::Isa;
pub(crate) use slices::with_slices;

pub(crate) struct Cpu;

impl Operations for Cpu {
    fn linear(&self, layer: &Linear, x: &Tensor, activation: Activation, _: bool) -> Result<Tensor> {
        linear::forward(layer, x, activation)
    }

    fn gated_linear(
        &self,
        layers: [&Linear; 2],
        x: &Tensor,
        activation: Activation,
        _: bool,
    ) -> Result<Tensor> {
        linear::forward_gated(layers, x, activation)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor, activation: Activation, _: bool) -> Result<Tensor> {
        gated::forward(gate, up, activation)
    }

    fn layer_norm(&self, norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
        norm::forward(norm, x)
    }

    fn layer_norm_of_sum(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor> {
        norm::forward_residual(norm, x, residual, dropped)
    }

    fn rms_norm(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        rms_norm::forward(norm, x)
    }

    fn rotary(&self, turned: Turned, x: &Tensor) -> Result<Tensor> {
        rotary::forward(turned, x)
    }

    fn attention(
        &self,
        q_k_v: [&Tensor; 3],
        queries: &RowSelection,
        form: &AttentionForm,
        dropout: Option<&Dropout>,
        _: bool,
    ) -> Result<Tensor> {
        attention::forward(q_k_v, queries, form, dropout)
    }

    fn absorbs(&self) -> bool {
        true
    }

    fn dropout(&self, x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor> {
        dropout::forward(x, rows, dropout)
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
