use candle_core::Tensor;
use skn_kernels::{
    Activation, AttentionForm, Linear, Precision, RowSelection, Sees, SelfAttention, dropout, select_rows,
};

use super::adapter::Adapter;
use super::batch::{Batch, DropoutSite};
use super::norm::{Join, Norm};
use super::supply::TensorSupply;
use crate::architecture::{LayerPart, Part};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::site::Site;
use crate::tuning::adapter_of;

/// Looks at a factor of a gated FFN's neurons, or replaces it.
pub(super) type LookAtFactors<'a> = &'a mut dyn FnMut(Site, Tensor) -> Result<Tensor>;

/// Looks at what an FFN makes of its neurons.
pub(super) type LookAtOutput<'a> = &'a mut dyn FnMut(&Tensor) -> Result<()>;

/// A transformer layer, in two parts: up to the neurons, and on to its output. Which norms it has, and where, says its family.
pub(super) struct Layer {
    input_norm: Option<Norm>,
    attention: SelfAttention,
    attention_output: Linear,
    attention_join: Join,
    /// Whether the FFN reads what attention reads, and not what it gives.
    parallel: bool,
    ffn_norm: Option<Norm>,
    activation: Activation,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    ffn_join: Join,
    adapter: Option<Adapter>,
}

impl Layer {
    pub(super) fn new(supply: &mut TensorSupply<'_>, layer: usize, config: &Config) -> Result<Self> {
        let part = |part| Part::Layer(layer, part);
        let query = supply.dense(part(LayerPart::Query))?;
        let key = supply.dense(part(LayerPart::Key))?;
        let value = supply.dense(part(LayerPart::Value))?;
        let (how, sizes) = (&config.architecture, &config.architecture.attention);
        let form = AttentionForm {
            heads: sizes.heads,
            key_value_heads: sizes.key_value_heads,
            head_width: sizes.head_width,
            scale: sizes.scale,
            soft_cap: sizes.cap,
            sees: how.layers.get(layer).map_or(Sees::ALL, |form| form.sees),
        };
        let mut attention = SelfAttention::new(query, key, value, form)?;
        let [query, key] = [LayerPart::QueryNorm, LayerPart::KeyNorm].map(|of| supply.norm_if_any(part(of)));
        if let (Some(Norm::Rms(query)), Some(Norm::Rms(key))) = (query?, key?) {
            attention = attention.with_norms(query, key)?;
        }
        if let Some(rotary) = supply.rotary(layer)? {
            attention = attention.with_rotary(rotary)?;
        }
        Ok(Self {
            input_norm: supply.norm_if_any(part(LayerPart::InputNorm))?,
            attention,
            attention_output: supply.dense(part(LayerPart::AttentionOutput))?,
            attention_join: Join {
                end: supply.norm_if_any(part(LayerPart::AttentionEndNorm))?,
                sum: supply.norm_if_any(part(LayerPart::AttentionSumNorm))?,
            },
            parallel: config.architecture.parallel,
            ffn_norm: supply.norm_if_any(part(LayerPart::FfnNorm))?,
            activation: config.activation(),
            gate: supply.dense_if_any(part(LayerPart::Gate))?,
            up: supply.dense(part(LayerPart::Up))?,
            down: supply.dense(part(LayerPart::Down))?,
            ffn_join: Join {
                end: supply.norm_if_any(part(LayerPart::FfnEndNorm))?,
                sum: supply.norm_if_any(part(LayerPart::FfnSumNorm))?,
            },
            adapter: Adapter::new(supply, &adapter_of(config, layer))?,
        })
    }

    fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let all = [&mut self.attention_output, &mut self.up, &mut self.down];
        all.into_iter().chain(self.gate.as_mut())
    }

    /// Packs its frozen weights, the last layer's for answers alone.
    pub(super) fn pack(&self, answers_only: bool) -> Result<()> {
        self.attention.pack(answers_only)?;
        let all = [&self.attention_output, &self.up, &self.down];
        all.into_iter().chain(self.gate.as_ref()).try_for_each(Linear::pack)?;
        Ok(())
    }

    /// Bytes that its matrices take now.
    pub(super) fn weight_bytes(&self) -> usize {
        let all = [&self.attention_output, &self.up, &self.down];
        let own: usize = all.into_iter().chain(self.gate.as_ref()).map(Linear::weight_bytes).sum();
        own + self.attention.weight_bytes() + self.adapter.as_ref().map_or(0, Adapter::weight_bytes)
    }

    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.attention.set_precision(precision);
        self.linears().for_each(|linear| linear.set_precision(precision));
        self.adapter.iter_mut().for_each(|adapter| adapter.set_precision(precision));
    }

    /// The first part of the layer, computed for `rows` of its input `x` `[all rows, hidden]`: what the FFN is added to,
    /// `[rows, hidden]`, and the FFN's neurons, `[rows, width]`. `look` is given what a gated FFN's neurons are products of,
    /// `[rows, width]` each, and returns what is multiplied. Neurons that are not `looked_at` by anybody but
    /// the rest of the layer may be rounded as that reads them.
    pub(super) fn neurons(
        &self,
        index: usize,
        x: Tensor,
        rows: &RowSelection,
        batch: &Batch<'_>,
        look: Option<LookAtFactors<'_>>,
        looked_at: bool,
    ) -> Result<(Tensor, Tensor)> {
        let residual = select_rows(&x, rows)?;
        let (mask, reader) = (batch.attention_mask(index)?, Some(&self.attention_output));
        let mixed = match &self.input_norm {
            None => self.attention.forward_for(&x, &residual, rows, mask.as_ref(), reader)?,
            Some(norm) => {
                let normed = norm.forward(&x)?;
                let asking = select_rows(&normed, rows)?;
                self.attention.forward_for(&normed, &asking, rows, mask.as_ref(), reader)?
            }
        };
        drop(x);
        let mask = batch.hidden_mask(index, DropoutSite::AttentionOutput)?;
        let dropped = mask.as_ref().map(|mask| (rows, mask));
        let middle = self.attention_join.forward_linear(&self.attention_output, mixed, &residual, dropped)?;
        let read = if self.parallel { &residual } else { &middle };
        let normed = self.ffn_norm.as_ref().map(|norm| norm.forward(read)).transpose()?;
        let read = normed.as_ref().unwrap_or(read);
        let reader = (!looked_at).then_some(&self.down);
        let neurons = match (&self.gate, look) {
            (None, None) => self.up.forward_for(read, self.activation, reader)?,
            (None, Some(_)) => {
                let found = "a plain one, whose neurons are no products";
                return Err(ModelError::input(format!("FFN of layer {index}"), "a gated one", found));
            }
            (Some(gate), None) => gate.forward_gated_for(&self.up, read, self.activation, reader)?,
            (Some(gate), Some(look)) => {
                let gate = look(Site::FfnGate { layer: index }, gate.forward(read, self.activation)?)?;
                let up = self.up.forward(read, Activation::Identity)?;
                let up = look(Site::FfnUp { layer: index }, up)?;
                // A card launches nothing for no elements.
                if up.elem_count() == 0 { up } else { (gate * up)? }
            }
        };
        Ok((middle, neurons))
    }

    /// What the FFN makes of its neurons `[rows, width]`, before anything is added: `[rows, hidden]`.
    pub(super) fn ffn_output(&self, neurons: &Tensor) -> Result<Tensor> {
        Ok(self.down.forward(neurons, Activation::Identity)?)
    }

    /// The rest of the layer, from its neurons `[rows, width]` to its output `[rows, hidden]`. `look` is given what
    /// [`Self::ffn_output`] gives.
    pub(super) fn output(
        &self,
        index: usize,
        neurons: Tensor,
        middle: &Tensor,
        rows: &RowSelection,
        batch: &Batch<'_>,
        look: Option<LookAtOutput<'_>>,
    ) -> Result<Tensor> {
        let mask = batch.hidden_mask(index, DropoutSite::Output)?;
        let dropped = mask.as_ref().map(|mask| (rows, mask));
        if self.adapter.is_none() && look.is_none() {
            return self.ffn_join.forward_linear(&self.down, neurons, middle, dropped);
        }
        let output = self.ffn_output(&neurons)?;
        drop(neurons);
        look.map_or(Ok(()), |look| look(&output))?;
        let Some(adapter) = &self.adapter else { return self.ffn_join.forward(&output, middle, dropped) };
        let Join { end: None, sum: Some(norm) } = &self.ffn_join else {
            return Err(ModelError::input("adapters", "a layer with a norm of its sum", "another"));
        };
        match dropped {
            None => adapter.forward(&output, middle, norm),
            Some((rows, mask)) => adapter.forward(&dropout(&output, rows, mask)?, middle, norm),
        }
    }
}
