//! What varies between models in attention.

use std::ops::Range;

use candle_core::{Result, bail};

/// The form of an attention: how its heads are cut, how scores are made, and what a row sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionForm {
    /// Heads that ask.
    pub heads: usize,
    /// Heads of keys and values, which divide `heads`: head `h` reads the keys of head `h / (heads / key_value_heads)`.
    pub key_value_heads: usize,
    /// Numbers of a query, of a key and of a value of one head.
    pub head_width: usize,
    /// What the product of query and key is multiplied with: above 0.
    pub scale: f32,
    /// Above 0: a scaled score `s` becomes `soft_cap * tanh(s / soft_cap)`.
    pub soft_cap: Option<f32>,
    /// Which rows of its sequence a row sees.
    pub sees: Sees,
}

/// Which rows of its sequence a row sees: itself, and so many before and after it. `None` is all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sees {
    /// The most positions before itself: the window less 1 of Mistral, half the window of ModernBERT's local layers.
    pub before: Option<usize>,
    /// The most positions after itself.
    pub after: Option<usize>,
}

impl Sees {
    /// Every row, as encoders do.
    pub const ALL: Self = Self { before: None, after: None };

    /// Itself and every row before it, as decoders do.
    pub const CAUSAL: Self = Self { before: None, after: Some(0) };

    /// The positions that the row at `position` of a sequence of `rows` sees.
    pub(crate) fn from(self, position: usize, rows: usize) -> Range<usize> {
        let start = self.before.map_or(0, |before| position.saturating_sub(before));
        let end = self.after.map_or(rows, |after| rows.min(position.saturating_add(after).saturating_add(1)));
        start..end
    }
}

impl AttentionForm {
    /// The form of an encoder: heads that share `hidden` equally, the scale `1 / sqrt(width of a head)`, and rows that see
    /// all.
    ///
    /// # Errors
    /// If the number of heads does not divide `hidden`.
    pub fn encoder(hidden: usize, heads: usize) -> Result<Self> {
        if heads == 0 || !hidden.is_multiple_of(heads) {
            bail!("attention: expected a number of heads that divides {hidden}, found {heads}");
        }
        let head_width = hidden / heads;
        let scale = 1.0 / (head_width as f32).sqrt();
        Ok(Self { heads, key_value_heads: heads, head_width, scale, soft_cap: None, sees: Sees::ALL })
    }

    /// Numbers of a row of queries.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Numbers of a row of keys, or of values.
    pub(crate) fn key_width(&self) -> usize {
        self.key_value_heads * self.head_width
    }

    /// Heads that ask the same keys.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.key_value_heads
    }

    /// Refuses what is no form.
    pub(crate) fn check(&self) -> Result<()> {
        if self.heads == 0 || self.key_value_heads == 0 || !self.heads.is_multiple_of(self.key_value_heads) {
            bail!(
                "attention: expected heads of keys and values that divide the heads that ask, found {} and {}",
                self.key_value_heads,
                self.heads
            );
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
        if let Some(cap) = self.soft_cap.filter(|cap| !cap.is_finite() || *cap <= 0.0) {
            bail!("attention: expected a soft cap above 0, found {cap}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_see_themselves_and_what_they_should() {
        assert_eq!(Sees::default(), Sees::ALL);
        assert_eq!((Sees::ALL.from(3, 9), Sees::CAUSAL.from(3, 9)), (0..9, 0..4));
        let window = Sees { before: Some(2), after: Some(0) };
        assert_eq!((window.from(0, 9), window.from(1, 9), window.from(8, 9)), (0..1, 0..2, 6..9));
        let local = Sees { before: Some(2), after: Some(2) };
        assert_eq!((local.from(0, 9), local.from(4, 9), local.from(8, 9)), (0..3, 2..7, 6..9));
        let wide = Sees { before: Some(usize::MAX), after: Some(usize::MAX) };
        assert_eq!(wide.from(4, 9), 0..9);
    }
}
