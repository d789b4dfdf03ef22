use candle_core::{Device, Tensor};
use skn_kernels::{RowSelection, dropout, rows_at_positions, rows_of};

use super::batch::{Batch, DropoutSite};
use super::norm::Norm;
use super::supply::TensorSupply;
use crate::architecture::Part;
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::layout::Layout;
use crate::sequences::Sequences;
use crate::tuning::{Method, PROMPT_NAME, PromptPlace};
use crate::weights::Table;

/// What rows are before the first layer: the prompt's, and those of words.
pub(super) struct Embeddings {
    device: Device,
    words: Table,
    /// What words' embeddings are multiplied with.
    scale: Option<f32>,
    positions: Option<Tensor>,
    first_position: usize,
    token_types: Option<Tensor>,
    segments: bool,
    prefix: Vec<Tensor>,
    layout: Layout,
    norm: Option<Norm>,
}

impl Embeddings {
    /// `mask` is the id of the `<mask>` token.
    pub(super) fn new(supply: &mut TensorSupply<'_>, config: &Config, mask: Option<u32>) -> Result<Self> {
        let words = supply.table(Part::Words)?;
        let prefix = prefix(supply, &words, mask, config)?;
        let prompt_rows = prefix.iter().map(|rows| rows.dim(0)).sum::<candle_core::Result<usize>>()?;
        Ok(Self {
            device: supply.weights().device().clone(),
            words,
            scale: config.architecture.word_scale,
            positions: supply.small_table(Part::Positions)?,
            first_position: config.first_position,
            token_types: supply.small_table(Part::TokenTypes)?,
            segments: config.segments(),
            prefix,
            layout: match (config.is_decoder(), supply.tuning().place()) {
                (false, _) => Layout::front(prompt_rows),
                (true, PromptPlace::Front) => Layout::blind(prompt_rows),
                (true, PromptPlace::After) => Layout::behind(prompt_rows),
            },
            norm: supply.norm_if_any(Part::EmbeddingNorm)?,
        })
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// The table of words, by which tokens are scored too.
    pub(super) fn words(&self) -> &Table {
        &self.words
    }

    /// Where the prompt stands, and where the answer is read.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Embeddings `[rows, hidden]`: prompt rows and words, plus position and token type, then norm and dropout, if there are
    /// such.
    pub(super) fn embed(&self, batch: Sequences<'_>, info: &Batch<'_>) -> Result<Tensor> {
        let (texts, rows) = (self.words.rows(batch.ids)?, info.packing.all_rows());
        if rows.is_empty() {
            return Ok(texts);
        }
        let texts = match self.scale {
            // Empty texts have prompt rows alone, and a card launches nothing for no elements.
            Some(scale) if texts.elem_count() > 0 => (texts * f64::from(scale))?,
            _ => texts,
        };
        let embedded = if self.prefix.is_empty() {
            texts
        } else {
            let mut sources = self.prefix.clone();
            sources.push(texts);
            rows_of(&Tensor::cat(&sources, 0)?, &self.places(&rows))?
        };
        let embedded = self.add_positions(embedded, &rows)?;
        let embedded = self.add_types(embedded, self.row_types(batch, &rows))?;
        let normalised = match &self.norm {
            Some(norm) => norm.forward(&embedded)?,
            None => embedded,
        };
        Ok(match info.hidden_mask(0, DropoutSite::Embeddings)? {
            Some(mask) => dropout(&normalised, &rows, &mask)?,
            None => normalised,
        })
    }

    fn add_positions(&self, embedded: Tensor, rows: &RowSelection) -> Result<Tensor> {
        let Some(table) = &self.positions else { return Ok(embedded) };
        let count = table.dim(0)?.saturating_sub(self.first_position);
        let table = table.narrow(0, self.first_position, count)?;
        Ok((embedded + rows_at_positions(&table, rows)?)?)
    }

    fn add_types(&self, embedded: Tensor, types: Option<Vec<u32>>) -> Result<Tensor> {
        let Some(table) = &self.token_types else { return Ok(embedded) };
        Ok(match types {
            None => embedded.broadcast_add(&table.narrow(0, 0, 1)?)?,
            Some(types) => (embedded + rows_of(table, &types)?)?,
        })
    }

    /// For each row 1 if it belongs to the second text of a pair, else 0; nothing if no row does, or the model can't tell.
    fn row_types(&self, batch: Sequences<'_>, rows: &RowSelection) -> Option<Vec<u32>> {
        let ends = batch.starts.iter().skip(1);
        if !self.segments || batch.seconds.iter().zip(ends.clone()).all(|(second, end)| second == end) {
            return None;
        }
        let first_rows: Vec<usize> = batch
            .starts
            .iter()
            .zip(batch.seconds)
            .map(|(start, second)| self.layout.rows_in_front() + second - start)
            .collect();
        let each = rows.sequence().iter().zip(rows.position());
        Some(
            each.map(|(&text, &position)| u32::from(position as usize >= first_rows[text as usize]))
                .collect(),
        )
    }

    /// For each row of the packed batch its place in `[prompt rows; text rows]`.
    fn places(&self, rows: &RowSelection) -> Vec<u32> {
        let (front, prompt) = (self.layout.rows_in_front() as u32, self.layout.prompt_rows() as u32);
        let each = rows.sequence().iter().zip(rows.position()).zip(rows.number());
        each.map(|((&sequence, &position), number)| {
            let all = rows.packing().range(sequence as usize).len();
            match self.layout.prompt_place(position as usize, all) {
                Some(place) => place as u32,
                // A text row's number counts the prompts of all earlier sequences and what stands before it in its own; only one
                // prompt is there.
                None => prompt + number - sequence * prompt - front,
            }
        })
        .collect()
    }
}

/// The prompt's rows: nothing for pre-training, else the `<mask>` row (unless a foreign prompt stands for it, or a decoder
/// answers at its last row) and the prompt.
fn prefix(
    supply: &mut TensorSupply<'_>,
    words: &Table,
    mask: Option<u32>,
    config: &Config,
) -> Result<Vec<Tensor>> {
    let mut rows = Vec::new();
    if supply.tuning().has_mask_row() {
        if config.is_decoder() {
            return Err(ModelError::input("tuning", "no <mask> row: a decoder has none", "one"));
        }
        let known = mask.filter(|&mask| (mask as usize) < config.vocab_size);
        let Some(known) = known else {
            let expected = format!("less than vocab_size {}", config.vocab_size);
            let found = mask.map_or_else(|| "none".into(), |mask| mask.to_string());
            return Err(ModelError::input("id of the <mask> token", expected, found));
        };
        rows.push(words.row(known)?);
    }
    if supply.tuning().method() == Some(Method::Prompt) {
        rows.push(supply.get(PROMPT_NAME)?);
    }
    Ok(rows)
}
