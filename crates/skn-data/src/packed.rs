use std::cmp::Reverse;
use std::ops::Range;

use skn_artifact::ArtifactError;

use crate::batch::{Batch, Limits};
use crate::encode::Encoded;
use crate::error::{DataError, Result};
use crate::stored::{List, TextFile, TextList};

/// Texts as [`pack`] divides them into batches, of which each is made when it is asked for: beside the texts there are a few bytes for
/// each, and not all their tokens once more.
///
/// Those of a store ([`TextStore`](crate::TextStore)) are divided round by round of it, and read when they are asked for.
///
/// ```
/// use skn_data::{Encoded, Packed, pack};
///
/// let text = |row, length| Encoded { ids: vec![7; length].into(), second: length, label: 0, row };
/// let texts = [text(0, 5), text(1, 2), text(2, 3)];
/// let packed = Packed::new(&texts, 1, 8, 16, 1)?;
/// let batches = (0..packed.len()).map(|number| packed.batch(number)).collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(batches, pack(&texts, 1, 8, 16, 1));
/// # Ok::<(), skn_data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Packed<'t>(Batches<'t>);

#[derive(Clone, Debug)]
enum Batches<'t> {
    Here(Order<'t>),
    /// Stretches of the file.
    File(&'t TextFile, Vec<Range<u64>>),
}

/// Texts in memory: where those of the batches stand, batch by batch.
#[derive(Clone, Debug)]
struct Order<'t> {
    texts: &'t [Encoded],
    order: Vec<usize>,
    ranges: Vec<Range<usize>>,
}

impl<'t> Packed<'t> {
    /// Divides texts as [`pack`] does.
    ///
    /// # Errors
    ///
    /// If they are stored and can't be read.
    pub fn new(
        texts: impl Into<TextList<'t>>,
        extra_rows: usize,
        token_budget: usize,
        max_sequences: usize,
        batches: usize,
    ) -> Result<Self, ArtifactError> {
        let limits = Limits { token_budget, max_sequences };
        Ok(Self(match texts.into().0 {
            List::Here(texts) => Batches::Here(Order::by_length(texts, extra_rows, limits, batches)),
            List::File(file) => Batches::File(file, file.divide(extra_rows, limits, batches)?),
        }))
    }

    /// How many batches there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Batches::Here(of) => of.ranges.len(),
            Batches::File(_, stretches) => stretches.len(),
        }
    }

    /// Whether there is no batch, as there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A batch by its number, from 0.
    ///
    /// # Errors
    ///
    /// If its texts are stored and can't be read.
    ///
    /// # Panics
    ///
    /// If there is none of this number.
    pub fn batch(&self, number: usize) -> Result<Batch, ArtifactError> {
        match &self.0 {
            Batches::Here(of) => Ok(of.batch(number)),
            Batches::File(file, stretches) => file.batch(&stretches[number]),
        }
    }
}

impl<'t> Order<'t> {
    fn by_length(texts: &'t [Encoded], extra_rows: usize, limits: Limits, batches: usize) -> Self {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        // Equal ones stay as they stand.
        order.sort_unstable_by_key(|&place| (Reverse(texts[place].ids.len()), texts[place].row, place));
        Self::divided(texts, order, extra_rows, limits, batches)
    }

    fn divided(
        texts: &'t [Encoded],
        order: Vec<usize>,
        extra_rows: usize,
        limits: Limits,
        batches: usize,
    ) -> Self {
        let costs: Vec<usize> =
            order.iter().map(|&place| texts[place].ids.len().saturating_add(extra_rows)).collect();
        let ranges = limits.divide(&costs, batches);
        Self { texts, order, ranges }
    }

    fn batch(&self, number: usize) -> Batch {
        Batch::of(self.texts, &self.order[self.ranges[number].clone()])
    }

    fn batches(&self) -> Vec<Batch> {
        (0..self.ranges.len()).map(|number| self.batch(number)).collect()
    }
}

/// Packs texts for a pass whose result does not depend on their order: sorted by length (equal ones by row), so
/// that a batch holds texts of similar cost, the longest first: where threads take one batch after the other, a long one at the
/// end would leave the others waiting.
///
/// A batch has at most `max_sequences` texts and `token_budget` rows, of which each text takes its tokens and
/// `extra_rows` (the prompt); a text that is longer than the budget has a batch for itself. There are as many batches as that
/// needs, or `batches` if those are more, and their rows are divided as evenly as texts can be.
///
/// ```
/// use skn_data::{Encoded, pack};
///
/// let text = |row, length| Encoded { ids: vec![7; length].into(), second: length, label: 0, row };
/// let batches = pack(&[text(0, 5), text(1, 2), text(2, 3)], 1, 8, 16, 1);
/// let rows: Vec<&[u64]> = batches.iter().map(|batch| batch.rows.as_slice()).collect();
/// assert_eq!(rows, [&[0][..], &[2, 1]]);
/// ```
pub fn pack(
    texts: &[Encoded],
    extra_rows: usize,
    token_budget: usize,
    max_sequences: usize,
    batches: usize,
) -> Vec<Batch> {
    Order::by_length(texts, extra_rows, Limits { token_budget, max_sequences }, batches).batches()
}

/// Packs the texts of one training step as micro-batches of at most `token_budget` rows, in the order given:
/// `order` holds indexes into `texts`. There are as few as that needs, and their rows are divided as evenly as texts can be.
///
/// # Errors
///
/// [`DataError::Row`] for an index beyond `texts`.
pub fn pack_in_order(
    texts: &[Encoded],
    order: &[u32],
    extra_rows: usize,
    token_budget: usize,
) -> Result<Vec<Batch>> {
    let place = |index: &u32| match *index as usize {
        place if place < texts.len() => Ok(place),
        _ => Err(DataError::Row {
            row: u64::from(*index),
            reason: format!("does not exist: there are {} texts", texts.len()),
        }),
    };
    let order = order.iter().map(place).collect::<Result<Vec<_>>>()?;
    let limits = Limits { token_budget, max_sequences: usize::MAX };
    Ok(Order::divided(texts, order, extra_rows, limits, 1).batches())
}
