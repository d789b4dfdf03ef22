//! What each room computes.

use candle_core::{Result, Tensor};

use crate::activation::Activation;
use crate::attention::AttentionForm;
use crate::linear::Linear;
use crate::mask::Dropout;
use crate::norm::LayerNorm;
use crate::packing::RowSelection;
use crate::rms_norm::RmsNorm;
use crate::rotary::Turned;
use crate::row_groups::{ColumnNumbers, Misfit, RowGroups, RowNumbers, RowRuns};
use crate::running::{Running, RunningMoments, RunningSums, SharesOf};

/// Every operation, of arguments that are checked.
pub(crate) trait Operations {
    /// See [`Linear::forward_for`]; `rounded` says whether the reader rounds what it reads to bf16.
    fn linear(&self, layer: &Linear, x: &Tensor, activation: Activation, rounded: bool) -> Result<Tensor>;

    /// See [`Linear::forward_gated_for`]; `rounded` as above.
    fn gated_linear(
        &self,
        [gate, up]: [&Linear; 2],
        x: &Tensor,
        activation: Activation,
        rounded: bool,
    ) -> Result<Tensor> {
        let gate = self.linear(gate, x, Activation::Identity, false)?;
        self.gated(&gate, &self.linear(up, x, Activation::Identity, false)?, activation, rounded)
    }

    /// See [`gated`](crate::gated()); `rounded` as above.
    fn gated(&self, gate: &Tensor, up: &Tensor, activation: Activation, rounded: bool) -> Result<Tensor>;

    /// See [`LayerNorm::forward`].
    fn layer_norm(&self, norm: &LayerNorm, x: &Tensor) -> Result<Tensor>;

    /// See [`LayerNorm::forward_residual`].
    fn layer_norm_of_sum(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        residual: &Tensor,
        dropped: Option<(&RowSelection, &Dropout)>,
    ) -> Result<Tensor>;

    /// See [`RmsNorm::forward_heads`].
    fn rms_norm(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor>;

    /// See [`Rotary::apply`](crate::Rotary::apply).
    fn rotary(&self, turned: Turned, x: &Tensor) -> Result<Tensor>;

    /// See [`attention`](crate::attention()); the packing is that of the queries, and `rounded` as above.
    fn attention(
        &self,
        q_k_v: [&Tensor; 3],
        queries: &RowSelection,
        form: &AttentionForm,
        dropout: Option<&Dropout>,
        rounded: bool,
    ) -> Result<Tensor>;

    /// Whether self-attention of one row of each sequence absorbs keys and values; see
    /// [`SelfAttention`](crate::SelfAttention).
    fn absorbs(&self) -> bool;

    /// See [`dropout`](crate::dropout()).
    fn dropout(&self, x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor>;

    /// See [`ColumnSums::add`](crate::ColumnSums::add); there is something to add.
    fn add_columns(
        &self,
        sums: &mut RunningSums,
        x: &Tensor,
        rows: &RowGroups,
        misfit: &mut Misfit,
    ) -> Result<()>;

    /// See [`ColumnCounts::add`](crate::ColumnCounts::add); there is something to count.
    fn count_columns(
        &self,
        counts: &mut Running,
        x: &Tensor,
        rows: &RowGroups,
        threshold: &Tensor,
        misfit: &mut Misfit,
    ) -> Result<()>;

    /// See [`pack_above`](crate::pack_above()); there is something to compare.
    fn pack_above(
        &self,
        x: &Tensor,
        rows: &RowGroups,
        threshold: &Tensor,
        misfit: &mut Misfit,
    ) -> Result<Tensor>;

    /// See [`pool_rows`](crate::pool_rows()); there is something to pool.
    fn pool_rows(
        &self,
        x: &Tensor,
        runs: &RowRuns,
        wanted: [bool; 2],
        misfit: &mut Misfit,
    ) -> Result<[Option<Tensor>; 2]>;

    /// See [`ColumnMoments::add`](crate::ColumnMoments::add); there is something to add.
    fn add_moments(
        &self,
        moments: &mut RunningMoments,
        x: &Tensor,
        rows: &RowGroups,
        numbers: Option<&RowNumbers>,
        misfit: &mut Misfit,
    ) -> Result<()>;

    /// See [`ColumnBins::add`](crate::ColumnBins::add); there is something to count.
    fn count_bins(
        &self,
        counts: &mut Running,
        classes: usize,
        x: &Tensor,
        rows: &RowGroups,
        ends: &Tensor,
        misfit: &mut Misfit,
    ) -> Result<()>;

    /// See [`pick_columns`](crate::pick_columns()); there is something to pick.
    fn pick_columns(
        &self,
        x: &Tensor,
        rows: &RowGroups,
        columns: &ColumnNumbers,
        misfit: &mut Misfit,
    ) -> Result<Tensor>;

    /// See [`ColumnShares::add`](crate::ColumnShares::add); there is something to add.
    fn add_shares(
        &self,
        sums: &mut Running,
        x: &Tensor,
        rows: &RowGroups,
        of: SharesOf<'_>,
        misfit: &mut Misfit,
    ) -> Result<()>;

    /// See [`row_norms`](crate::row_norms()); there are rows.
    fn row_norms(&self, x: &Tensor) -> Result<Tensor>;
}
