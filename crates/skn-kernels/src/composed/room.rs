//! What is composed of candle's operations, as a room.

use candle_core::{Device, Result, Tensor};

use super::{attention, dropout, gated, layer_norm, linear, rms_norm, turn};
use crate::activation::Activation;
use crate::attention::AttentionForm;
use crate::check::expect_cpu_precision;
use crate::cpu::Cpu;
use crate::linear::Linear;
use crate::mask::Dropout;
use crate::norm::LayerNorm;
use crate::operations::Operations;
use crate::packing::RowSelection;
use crate::rms_norm::RmsNorm;
use crate::rotary::Turned;
use crate::row_groups::{ColumnNumbers, Misfit, RowGroups, RowNumbers, RowRuns};
use crate::running::{Running, RunningMoments, RunningSums, SharesOf};

pub(crate) struct Composed;

impl Operations for Composed {
    fn linear(&self, layer: &Linear, x: &Tensor, activation: Activation, _: bool) -> Result<Tensor> {
        expect_cpu_precision(layer.precision())?;
        linear(x, &layer.weight()?, layer.bias(), activation)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor, activation: Activation, _: bool) -> Result<Tensor> {
        gated(gate, up, activation)
    }

    fn layer_norm(&self, norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &norm.weight, &norm.bias, norm.epsilon)
    }

    fn layer_norm_of_sum(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor> {
        let sum = match dropped {
            None => (x + residual)?,
            Some((rows, mask)) => (dropout(x, rows, mask)? + residual)?,
        };
        self.layer_norm(norm, &sum)
    }

    fn rms_norm(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        rms_norm(x, &norm.weight, norm.epsilon)
    }

    fn rotary(&self, turned: Turned, x: &Tensor) -> Result<Tensor> {
        turn(&turned, x)
    }

    fn attention(
        &self,
        [q, k, v]: [&Tensor; 3],
        queries: &RowSelection,
        form: &AttentionForm,
        dropout: Option<&Dropout>,
        _: bool,
    ) -> Result<Tensor> {
        attention(q, k, v, queries.packing(), queries, form, dropout)
    }

    fn absorbs(&self) -> bool {
        false
    }

    fn dropout(&self, x: &Tensor, rows: &RowSelection, mask: &Dropout) -> Result<Tensor> {
        dropout(x, rows, mask)
    }

    // Candle has no operations for what follows: it is done on the host.
    fn add_columns(
        &self,
        sums: &mut RunningSums,
        x: &Tensor,
        rows: &RowGroups,
        misfit: &mut Misfit,
    ) -> Result<()> {
        Cpu.add_columns(sums, &on_host(x)?, rows, misfit)
    }

    fn count_columns(
        &self,
        counts: &mut Running,
        x: &Tensor,
        rows: &RowGroups,
        threshold: &Tensor,
        misfit: &mut Misfit,
    ) -> Result<()> {
        Cpu.count_columns(counts, &on_host(x)?, rows, &on_host(threshold)?, misfit)
    }

    fn pack_above(
        &self,
        x: &Tensor,
        rows: &RowGroups,
        threshold: &Tensor,
        misfit: &mut Misfit,
    ) -> Result<Tensor> {
        Cpu.pack_above(&on_host(x)?, rows, &on_host(threshold)?, misfit)?.to_device(x.device())
    }

    fn pool_rows(
        &self,
        x: &Tensor,
        runs: &RowRuns,
        wanted: [bool; 2],
        misfit: &mut Misfit,
    ) -> Result<[Option<Tensor>; 2]> {
        let made = Cpu.pool_rows(&on_host(x)?, runs, wanted, misfit)?;
        let back = |made: Option<Tensor>| made.map(|made| made.to_device(x.device())).transpose();
        let [mean, max] = made;
        Ok([back(mean)?, back(max)?])
    }

    fn add_moments(
        &self,
        moments: &mut RunningMoments,
        x: &Tensor,
        rows: &RowGroups,
        numbers: Option<&RowNumbers>,
        misfit: &mut Misfit,
    ) -> Result<()> {
        Cpu.add_moments(moments, &on_host(x)?, rows, numbers, misfit)
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
        Cpu.count_bins(counts, classes, &on_host(x)?, rows, &on_host(ends)?, misfit)
    }

    fn pick_columns(
        &self,
        x: &Tensor,
        rows: &RowGroups,
        columns: &ColumnNumbers,
        misfit: &mut Misfit,
    ) -> Result<Tensor> {
        Cpu.pick_columns(&on_host(x)?, rows, columns, misfit)?.to_device(x.device())
    }

    fn add_shares(
        &self,
        sums: &mut Running,
        x: &Tensor,
        rows: &RowGroups,
        of: SharesOf<'_>,
        misfit: &mut Misfit,
    ) -> Result<()> {
        let (columns, norms) = (on_host(of.columns)?, of.norms.map(on_host).transpose()?);
        let of = SharesOf { columns: &columns, norms: norms.as_ref() };
        Cpu.add_shares(sums, &on_host(x)?, rows, of, misfit)
    }

    fn row_norms(&self, x: &Tensor) -> Result<Tensor> {
        Cpu.row_norms(&on_host(x)?)?.to_device(x.device())
    }
}

fn on_host(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)
}
