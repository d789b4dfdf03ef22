use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::composed;
use crate::cpu::{expect_f32, slice, with_slices};
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
        // At most 2^32 - 256: the largest f32 below 1 is 1 - 2^-24.
        let threshold = (f64::from(probability) * 2f64.powi(32)).ceil() as u32;
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
    pub(crate) fn row_factors(&self, rows: &Rows, width: usize) -> Result<Vec<f32>> {
        let mut factors = vec![0f32; rows.len() * width];
        for (row, factors) in factors.chunks_exact_mut(width.max(1)).enumerate() {
            let first = u64::from(rows.position()[row]) * width as u64;
            self.factors(rows.sequence()[row] as usize, first, factors)?;
        }
        Ok(factors)
    }
}

/// Drops elements of `x` `[rows, width]`; the one in column `j` of the row at position `p` of its sequence is number
/// `p * width + j` of the sequence.
///
/// # Errors
/// If there are not as many `rows` as `x` has, a sequence has no key, or `x` is not f32.
pub fn dropout(x: &Tensor, rows: &Rows, dropout: &Dropout) -> Result<Tensor> {
    Drop::new(x, rows, dropout)?.forward(x)
}

/// The factors are made again for the gradient: that takes less than keeping them would take memory.
pub(crate) struct Drop {
    rows: Rows,
    dropout: Dropout,
}

impl Drop {
    /// Dropout of `x` `[rows, width]`.
    pub(crate) fn new(x: &Tensor, rows: &Rows, dropout: &Dropout) -> Result<Self> {
        match x.dims() {
            [count, _] if *count == rows.len() => {}
            found => bail!("dropout: expected [{}, width], found {found:?}", rows.len()),
        }
        expect_f32("dropout", x)?;
        Ok(Self { rows: rows.clone(), dropout: dropout.clone() })
    }

    pub(crate) fn forward(self, x: &Tensor) -> Result<Tensor> {
        if !x.device().is_cpu() {
            return composed::dropout(x, &self.rows, &self.dropout);
        }
        x.contiguous()?.apply_op1(self)
    }

    /// What each number is multiplied with.
    pub(crate) fn factors(&self, width: usize) -> Result<Vec<f32>> {
        self.dropout.row_factors(&self.rows, width)
    }

    fn apply(&self, x: &[f32], width: usize) -> Result<Vec<f32>> {
        let mut values = self.factors(width)?;
        values.iter_mut().zip(x).for_each(|(value, x)| *value *= x);
        Ok(values)
    }
}

impl CustomOp1 for Drop {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = self.apply(slice(x, layout)?, layout.shape().dims2()?.1)?;
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let width = x.dim(1)?;
        let values = with_slices([gradient], |[gradient]| self.apply(gradient, width))?;
        Ok(Some(Tensor::from_vec(values, x.shape(), x.device())?))
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
