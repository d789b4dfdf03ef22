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

/// Every operation, of arguments that are checked.
pub(crate) trait Operations {
    /// See [`Linear::forward`].
    fn linear(&self, layer: &Linear, x: &Tensor, activation: Activation) -> Result<Tensor>;

    /// See [`Linear::forward_gated`].
    fn gated_linear(&self, [gate, up]: [&Linear; 2], x: &Tensor, activation: Activation) -> Result<Tensor> {
        let gate = self.linear(gate, x, Activation::Identity)?;
        self.gated(&gate, &self.linear(up, x, Activation::Identity)?, activation)
    }

    /// See [`gated`](crate::gated()).
    fn gated(&self, gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor>;

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

    /// See [`attention`](crate::attention()); the packing is that of the queries.
    fn attention(
        &self,
        q_k_v: [&Tensor; 3],
        queries: &RowSelection,
        form: &AttentionForm,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor>;

    /// Whether self-attention of one row of each sequence absorbs keys and values; see
    /// [`SelfAttention`](crate::SelfAttention).
    fn absorbs(&self) -> bool;

    /// See [`dropout`](crate::dropout()).
    fn dropout(&self, x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor>;
}
