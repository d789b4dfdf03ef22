//! What varies between models in attention.

use candle_core::{Result, bail};

/// The form of an attention: how its heads are cut, and how scores are scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionForm {
    /// Heads that ask.
    pub heads: usize,
    /// Numbers of a query, of a key and of a value of one head.
    pub head_width: usize,
    /// What the product of query and key is multiplied with: above 0.
    pub scale: f32,
}

impl AttentionForm {
    /// The form of an encoder: heads that share `hidden` equally, and the scale `1 / sqrt(width of a head)`.
    ///
    /// # Errors
    /// If the number of heads does not divide `hidden`.
    pub fn encoder(hidden: usize, heads: usize) -> Result<Self> {
        if heads == 0 || !hidden.is_multiple_of(heads) {
            bail!("attention: expected a number of heads that divides {hidden}, found {heads}");
        }
        let head_width = hidden / heads;
        Ok(Self { heads, head_width, scale: 1.0 / (head_width as f32).sqrt() })
    }

    /// Refuses what is no form.
    pub(crate) fn check(&self) -> Result<()> {
        if self.heads == 0 {
            bail!("attention: expected at least one head, found none");
        }
        if self.heads.checked_mul(self.head_width).is_none() {
            bail!(
                "attention: expected heads that fit into memory, found {} of {}",
                self.heads,
                self.head_width
            );
        }
        // Of heads without width, which have no scores, the scale is infinite.
        if self.scale.is_nan() || self.scale <= 0.0 || (self.scale.is_infinite() && self.head_width > 0) {
            bail!("attention: expected a scale above 0, found {}", self.scale);
        }
        Ok(())
    }
}
