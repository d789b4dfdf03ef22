//! The masks of dropout.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::on_device::OnDevice;
use crate::packing::RowSelection;
use crate::upload::upload;

/// Dropout (Srivastava et al., 2014) whose masks are functions of a key for each sequence.
///
/// Number `i` of a sequence is kept if word `i` of its key's ChaCha8 stream, as a fraction of 2^32, is at least the
/// probability; what is kept is divided by one minus it. So a mask depends neither on the batch nor on which rows
/// are computed.
#[derive(Clone, Debug)]
pub struct Dropout {
    probability: f32,
    threshold: u32,
    keys: Arc<[[u8; 32]]>,
    /// The keys for kernels of a GPU, `[sequences, 8]`.
    on_device: OnDevice<Tensor>,
}

impl Dropout {
    /// Drops with `probability` in `[0, 1)`, with one key for each sequence of the batch.
    ///
    /// # Errors
    /// If the probability is not in that range.
    pub fn new(probability: f32, keys: Vec<[u8; 32]>) -> Result<Self> {
        if !(0.0..1.0).contains(&probability) {
            bail!("dropout: expected a probability from 0 to below 1, found {probability}");
        }
        // At most 2^32 - 256: the largest f32 below 1 is 1 - 2^-24.
        let threshold = (f64::from(probability) * 2f64.powi(32)).ceil() as u32;
        Ok(Self { probability, threshold, keys: keys.into(), on_device: OnDevice::default() })
    }

    /// A number is kept if its word is at least this.
    pub(crate) fn threshold(&self) -> u32 {
        self.threshold
    }

    /// What is kept is multiplied with this.
    pub(crate) fn factor(&self) -> f32 {
        1.0 / (1.0 - self.probability)
    }

    /// The keys as words `[sequences, 8]` on a device.
    pub(crate) fn keys_on(&self, device: &Device) -> Result<&Tensor> {
        self.on_device.or_make(device, || {
            let words = self.keys.iter().flat_map(|key| key.as_chunks::<4>().0);
            let words: Vec<u32> = words.map(|word| u32::from_le_bytes(*word)).collect();
            upload(words, (self.keys.len(), 8), device)
        })
    }

    /// Refuses rows of a sequence that has no key.
    pub(crate) fn check_keys(&self, rows: &RowSelection) -> Result<()> {
        match rows.sequence().iter().max() {
            Some(&last) if last as usize >= self.keys.len() => {
                bail!(
                    "dropout: expected a key for each sequence, found {} for sequence {last}",
                    self.keys.len()
                )
            }
            _ => Ok(()),
        }
    }

    /// The factors, 0 or `1 / (1 - probability)`, of numbers `first..first + factors.len()` of a sequence.
    pub(crate) fn factors(&self, sequence: usize, first: u64, factors: &mut [f32]) -> Result<()> {
        let Some(key) = self.keys.get(sequence) else {
            bail!(
                "dropout: expected a key for each sequence, found {} for sequence {sequence}",
                self.keys.len()
            );
        };
        let mut stream = ChaCha8Rng::from_seed(*key);
        stream.set_word_pos(u128::from(first));
        let scale = self.factor();
        let mut bytes = [0u8; 256];
        for factors in factors.chunks_mut(bytes.len() / 4) {
            let bytes = &mut bytes[..4 * factors.len()];
            stream.fill_bytes(bytes);
            for (factor, word) in factors.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *factor = if u32::from_le_bytes(*word) >= self.threshold { scale } else { 0.0 };
            }
        }
        Ok(())
    }

    /// The factors of `rows` of `width` numbers each.
    pub(crate) fn row_factors(&self, rows: &RowSelection, width: usize) -> Result<Vec<f32>> {
        let mut factors = vec![0f32; rows.len() * width];
        for (row, factors) in factors.chunks_exact_mut(width.max(1)).enumerate() {
            let first = u64::from(rows.position()[row]) * width as u64;
            self.factors(rows.sequence()[row] as usize, first, factors)?;
        }
        Ok(factors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_at_the_threshold_are_kept() {
        let key = [7u8; 32];
        let mut stream = ChaCha8Rng::from_seed(key);
        let words: Vec<u32> = (0..200).map(|_| stream.next_u32()).collect();
        for probability in [0.0, 0.1, 0.5, 1e-6, 1.0 - f32::EPSILON] {
            let dropout = Dropout::new(probability, vec![key]).unwrap();
            let mut factors = vec![0f32; 187];
            dropout.factors(0, 13, &mut factors).unwrap();
            for (factor, word) in factors.iter().zip(&words[13..]) {
                let kept = f64::from(*word) >= f64::from(probability) * 2f64.powi(32);
                assert_eq!(*factor, if kept { 1.0 / (1.0 - probability) } else { 0.0 });
            }
        }
    }

    #[test]
    fn wrong_probabilities_are_refused() {
        for probability in [1.0, -0.1, f32::NAN, f32::INFINITY] {
            assert!(Dropout::new(probability, vec![]).is_err());
        }
    }
}
