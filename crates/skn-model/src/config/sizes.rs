//! The sizes that every model has, and what else its family's reader finds.

use skn_kernels::Activation;

use super::fields::Fields;
use crate::architecture::Architecture;
use crate::error::Result;
use crate::family::Family;

/// Numbers above these are not of this world, and are refused before anything is allocated for them.
pub(super) const MAX_VOCABULARY: u64 = 16_000_000;
pub(super) const MAX_WIDTH: u64 = 1 << 20;
const MAX_LAYERS: u64 = 4096;

/// What a family calls its sizes.
pub(super) struct SizeNames {
    layers: &'static str,
    hidden: &'static str,
    heads: &'static str,
    pub(super) width: &'static str,
    positions: &'static str,
    /// How many times the hidden size the FFN is wide if nothing is said.
    usual_width: Option<usize>,
}

impl SizeNames {
    pub(super) const USUAL: Self = Self {
        layers: "num_hidden_layers",
        hidden: "hidden_size",
        heads: "num_attention_heads",
        width: "intermediate_size",
        positions: "max_position_embeddings",
        usual_width: None,
    };
    pub(super) const GPT2: Self = Self {
        layers: "n_layer",
        hidden: "n_embd",
        heads: "n_head",
        width: "n_inner",
        positions: "n_positions",
        usual_width: Some(4),
    };

    /// Those of a family.
    pub(super) fn of(family: Family) -> &'static Self {
        if family == Family::Gpt2 { &Self::GPT2 } else { &Self::USUAL }
    }
}

/// The sizes that every model has.
pub(super) struct Sizes {
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) width: usize,
    pub(super) positions: usize,
    heads_field: &'static str,
    hidden_field: &'static str,
}

impl Sizes {
    pub(super) fn read(fields: &Fields<'_>, names: &SizeNames) -> Result<Self> {
        let hidden = fields.integer(names.hidden, 1..=MAX_WIDTH)?;
        Ok(Self {
            layers: fields.integer(names.layers, 1..=MAX_LAYERS)?,
            heads: fields.integer(names.heads, 1..=MAX_WIDTH)?,
            width: match names.usual_width {
                Some(times) => fields.integer_or(names.width, 1..=MAX_WIDTH, times * hidden)?,
                None => fields.integer(names.width, 1..=MAX_WIDTH)?,
            },
            positions: fields.integer(names.positions, 1..=MAX_VOCABULARY)?,
            hidden,
            heads_field: names.heads,
            hidden_field: names.hidden,
        })
    }

    /// The width of a head where all heads together are as wide as the hidden states.
    pub(super) fn head_width(&self, fields: &Fields<'_>) -> Result<usize> {
        if self.hidden.is_multiple_of(self.heads) {
            return Ok(self.hidden / self.heads);
        }
        let expected = format!("a divisor of {} {}", self.hidden_field, self.hidden);
        Err(fields.error(self.heads_field, expected, self.heads))
    }
}

/// What else a configuration says.
pub(super) struct Rest {
    pub(super) type_vocab_size: usize,
    pub(super) norm_eps: f64,
    pub(super) hidden_dropout: f32,
    pub(super) attention_dropout: f32,
    pub(super) first_position: usize,
    pub(super) activation: Activation,
    pub(super) architecture: Architecture,
}
