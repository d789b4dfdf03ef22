use candle_core::{Device, Tensor};
use skn_model::{Hook, ModelError, Reads, Rows, Site};
use skn_random::{Key, Purpose};

use crate::edit::Edit;
use crate::error::Result;
use crate::perturbation::Perturbation;
use crate::text_noise::TextNoise;

/// Does what a [`Perturbation`] says, at every row that is computed. Made by [`Perturbation::hook`].
///
/// A neuron that is held at a value is replaced, not multiplied: NaN or infinity in it does not come through.
#[derive(Clone, Copy, Debug)]
pub struct PerturbHook<'a> {
    perturbation: &'a Perturbation,
}

impl Perturbation {
    /// The hook that does it; it keeps nothing from batch to batch.
    pub fn hook(&self) -> PerturbHook<'_> {
        PerturbHook { perturbation: self }
    }
}

impl<'a> PerturbHook<'a> {
    /// The neurons to edit at a site.
    fn neurons(&self, site: Site) -> &'a [u32] {
        match site {
            Site::FfnAct { layer } => self.perturbation.neurons().get(layer).map_or(&[], Vec::as_slice),
            _ => &[],
        }
    }

    /// The activations after the edit.
    fn edit(&self, layer: usize, rows: &Rows<'_>, x: &Tensor) -> skn_model::Result<Tensor> {
        let site = Site::FfnAct { layer };
        let neurons = self.neurons(site);
        let width =
            self.perturbation.check_width(layer, x.dim(1)?).map_err(|error| ModelError::hook(site, error))?;
        let noise = match self.perturbation.edit() {
            Edit::Zero => return Ok(hold(x, neurons, vec![0.0; width])?),
            Edit::Mean { values } => return Ok(hold(x, neurons, values[layer][..width].to_vec())?),
            Edit::Gaussian { alpha, seed, per_token } => {
                let key = Key::new(*seed, Purpose::Noise)
                    .step(self.perturbation.repeat_number())
                    .layer(layer as u32);
                noise(rows, width, neurons, |sample| {
                    Ok(TextNoise::drawn(*alpha, key.sample(sample), *per_token, width))
                })
            }
            Edit::GivenNoise { alpha, noise: given } => {
                let of_text = |sample| Ok(TextNoise::Given { alpha: *alpha, row: given.of(sample, layer)? });
                noise(rows, width, neurons, of_text)
            }
        };
        let noise = noise.map_err(|error| ModelError::hook(site, error))?;
        Ok((x + Tensor::from_vec(noise, x.shape(), &Device::Cpu)?.to_device(x.device())?)?)
    }
}

/// What is added to activations `[rows, width]`: 0 where nothing is. `of_text` gives the noise of a text by its number.
fn noise<'a>(
    rows: &Rows<'_>,
    width: usize,
    neurons: &[u32],
    of_text: impl Fn(u64) -> Result<TextNoise<'a>>,
) -> Result<Vec<f32>> {
    let mut noise = vec![0f32; rows.len() * width];
    let mut current: Option<(u32, TextNoise<'a>)> = None;
    let places = rows.sequence().iter().zip(rows.position());
    for (row, (&sequence, &position)) in noise.chunks_exact_mut(width).zip(places) {
        let (_, source) = match current.take() {
            Some(same) if same.0 == sequence => current.insert(same),
            _ => current.insert((sequence, of_text(rows.samples()[sequence as usize])?)),
        };
        source.at(position, neurons, row);
    }
    Ok(noise)
}

impl Hook for PerturbHook<'_> {
    fn reads(&self, site: Site) -> Reads {
        if self.neurons(site).is_empty() { Reads::Nothing } else { Reads::Answer }
    }

    fn on(&mut self, site: Site, rows: &Rows<'_>, x: Tensor) -> skn_model::Result<Tensor> {
        if self.neurons(site).is_empty() {
            return Ok(x);
        }
        self.edit(site.layer(), rows, &x)
    }
}

/// `x` `[rows, width]` with the chosen columns replaced by `held` `[width]`.
fn hold(x: &Tensor, neurons: &[u32], held: Vec<f32>) -> candle_core::Result<Tensor> {
    let width = held.len();
    let mut chosen = vec![0u8; width];
    for &neuron in neurons {
        chosen[neuron as usize] = 1;
    }
    // Spread out first: `where_cond` is many times slower on strided operands.
    let spread = |row: Tensor| row.to_device(x.device())?.broadcast_as(x.shape())?.contiguous();
    let chosen = spread(Tensor::from_vec(chosen, width, &Device::Cpu)?)?;
    let held = spread(Tensor::from_vec(held, width, &Device::Cpu)?)?;
    chosen.where_cond(&held, x)
}
