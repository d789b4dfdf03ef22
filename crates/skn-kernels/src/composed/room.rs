//! What is composed of candle's operations, as a room.

use candle_core::{Result, Tensor};

use super::{attention, dropout, gated, layer_norm, linear, rms_norm, turn};
use crate::activation::Activation;
use crate::attention::AttentionForm;
use crate::check::expect_cpu_precision;
use crate::linear::Linear;
use crate::mask::Dropout;
use crate::norm::LayerNorm;
use crate::operations::Operations;
use crate::packing::RowSelection;
use crate::rms_norm::RmsNorm;
use crate::rotary::Turned;

pub(crate) struct Composed;

impl Operations for Composed {
    fn linear(&self, layer: &Linear, x: &Tensor, activation: Activation) -> Result<Tensor> {
        expect_cpu_precision(layer.precision())?;
        linear(x, &layer.weight()?, layer.bias(), activation)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
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
    ) -> Result<Tensor> {
        attention(q, k, v, queries.packing(), queries, form, dropout)
    }

    fn absorbs(&self) -> bool {
        false
    }

    fn dropout(&self, x: &Tensor, rows: &RowSelection, mask: &Dropout) -> Result<Tensor> {
        dropout(x, rows, mask)
    }
}
