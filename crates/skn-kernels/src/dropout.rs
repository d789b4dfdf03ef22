use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::packing::Rows;

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
        let threshold = (f64::from(probability) * 2f64.powi(32)) as u32;
        Ok(Self { probability, threshold, keys: keys.into() })
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
        let scale = 1.0 / (1.0 - self.probability);
        factors.fill_with(|| if stream.next_u32() >= self.threshold { scale } else { 0.0 });
        Ok(())
    }
}

/// Drops elements of `x` `[rows, width]`; the one in column `j` of the row at position `p` of its sequence is number
/// `p * width + j` of the sequence.
///
/// # Errors
/// If there are not as many `rows` as `x` has, or a sequence has no key.
pub fn dropout(x: &Tensor, rows: &Rows, dropout: &Dropout) -> Result<Tensor> {
    let (count, width) = x.dims2()?;
    if count != rows.len() {
        bail!("dropout: expected {} rows, found {count}", rows.len());
    }
    let mut factors = vec![0f32; count * width];
    for (row, factors) in factors.chunks_exact_mut(width.max(1)).enumerate() {
        let first = u64::from(rows.position()[row]) * width as u64;
        dropout.factors(rows.sequence()[row] as usize, first, factors)?;
    }
    x * Tensor::from_vec(factors, (count, width), x.device())?
}
