use candle_core::Tensor;
use skn_kernels::{
    Activation, AttentionForm, LayerNorm, Linear, Precision, RowSelection, SelfAttention, dropout,
    select_rows,
};

use super::adapter::Adapter;
use super::batch::{Batch, DropoutSite};
use super::supply::TensorSupply;
use crate::architecture::{LayerPart, Part};
use crate::config::Config;
use crate::error::Result;
use crate::tuning::adapter_of;

/// A post-LN transformer layer, in two parts: up to the neurons, and on to its output.
pub(super) struct Layer {
    activation: Activation,
    attention: SelfAttention,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    adapter: Option<Adapter>,
}

impl Layer {
    pub(super) fn new(supply: &mut TensorSupply<'_>, layer: usize, config: &Config) -> Result<Self> {
        let part = |part| Part::Layer(layer, part);
        let query = supply.dense(part(LayerPart::Query))?;
        let key = supply.dense(part(LayerPart::Key))?;
        let value = supply.dense(part(LayerPart::Value))?;
        let form = AttentionForm::encoder(config.hidden_size, config.num_attention_heads)?;
        Ok(Self {
            activation: config.activation(),
            attention: SelfAttention::new(query, key, value, form)?,
            attention_output: supply.dense(part(LayerPart::AttentionOutput))?,
            attention_norm: supply.norm(part(LayerPart::AttentionNorm))?,
            intermediate: supply.dense(part(LayerPart::Up))?,
            output: supply.dense(part(LayerPart::Down))?,
            output_norm: supply.norm(part(LayerPart::OutputNorm))?,
            adapter: Adapter::new(supply, &adapter_of(config, layer))?,
        })
    }

    /// Packs its frozen weights, the last layer's for answers alone.
    pub(super) fn pack(&self, answers_only: bool) -> Result<()> {
        self.attention.pack(answers_only)?;
        [&self.attention_output, &self.intermediate, &self.output].into_iter().try_for_each(Linear::pack)?;
        Ok(())
    }

    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.attention.set_precision(precision);
        let linears = [&mut self.attention_output, &mut self.intermediate, &mut self.output];
        linears.into_iter().for_each(|linear| linear.set_precision(precision));
        self.adapter.iter_mut().for_each(|adapter| adapter.set_precision(precision));
    }

    /// The first part of the layer, computed for `rows` of its input `x` `[all rows, hidden]`: what the FFN is added to,
    /// `[rows, hidden]`, and the FFN's neurons, `[rows, width]`.
    pub(super) fn neurons(
        &self,
        index: usize,
        x: Tensor,
        rows: &RowSelection,
        batch: &Batch<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let residual = select_rows(&x, rows)?;
        let attended = self.attend(index, &x, &residual, rows, batch)?;
        drop(x);
        let mask = batch.hidden_mask(index, DropoutSite::AttentionOutput)?;
        let dropped = mask.as_ref().map(|mask| (rows, mask));
        let middle = self.attention_norm.forward_residual(&attended, &residual, dropped)?;
        let neurons = self.intermediate.forward(&middle, self.activation)?;
        Ok((middle, neurons))
    }

    /// The rest of the layer, from what [`Self::neurons`] gave to its output `[rows, hidden]`.
    pub(super) fn output(
        &self,
        index: usize,
        neurons: Tensor,
        middle: &Tensor,
        rows: &RowSelection,
        batch: &Batch<'_>,
    ) -> Result<Tensor> {
        let output = self.output.forward(&neurons, Activation::Identity)?;
        drop(neurons);
        let mask = batch.hidden_mask(index, DropoutSite::Output)?;
        let dropped = mask.as_ref().map(|mask| (rows, mask));
        match (&self.adapter, dropped) {
            (None, dropped) => Ok(self.output_norm.forward_residual(&output, middle, dropped)?),
            (Some(adapter), None) => adapter.forward(&output, middle, &self.output_norm),
            (Some(adapter), Some((rows, mask))) => {
                adapter.forward(&dropout(&output, rows, mask)?, middle, &self.output_norm)
            }
        }
    }

    fn attend(
        &self,
        index: usize,
        x: &Tensor,
        residual: &Tensor,
        rows: &RowSelection,
        batch: &Batch<'_>,
    ) -> Result<Tensor> {
        let mask = batch.attention_mask(index)?;
        let mixed = self.attention.forward(x, residual, rows, mask.as_ref())?;
        Ok(self.attention_output.forward(&mixed, Activation::Identity)?)
    }
}
