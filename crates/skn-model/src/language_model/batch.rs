use skn_kernels::{Dropout, Packing};
use skn_random::{Key, Purpose};

use crate::error::Result;
use crate::pass::TrainingDropout;

/// What every layer of a pass needs to know.
#[derive(Clone)]
pub(super) struct Batch<'a> {
    pub(super) packing: Packing,
    pub(super) samples: &'a [u64],
    pub(super) dropout: Option<TrainingDropout>,
}

/// Where dropout falls; together with the layer, part of the key of its mask.
#[derive(Clone, Copy)]
pub(super) enum DropoutSite {
    Attention = 0,
    AttentionOutput = 1,
    Output = 2,
    Embeddings = 3,
}

impl Batch<'_> {
    /// The dropout of attention weights in a layer, if there is any.
    pub(super) fn attention_mask(&self, layer: usize) -> Result<Option<Dropout>> {
        self.mask(self.dropout.map_or(0.0, |training| training.attention), layer, DropoutSite::Attention)
    }

    /// The dropout of hidden states at a site, if there is any.
    pub(super) fn hidden_mask(&self, layer: usize, site: DropoutSite) -> Result<Option<Dropout>> {
        self.mask(self.dropout.map_or(0.0, |training| training.hidden), layer, site)
    }

    fn mask(&self, probability: f32, layer: usize, site: DropoutSite) -> Result<Option<Dropout>> {
        let Some(training) = self.dropout.filter(|_| probability > 0.0) else { return Ok(None) };
        let key = Key::new(training.seed, Purpose::Dropout)
            .step(training.step)
            .layer((layer * 4) as u32 + site as u32);
        let keys = self.samples.iter().map(|&sample| key.sample(sample).bytes()).collect();
        Ok(Some(Dropout::new(probability, keys)?))
    }
}
