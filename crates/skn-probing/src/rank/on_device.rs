use candle_core::Tensor;
use skn_kernels::{ColumnBins, ColumnCounts, ColumnMoments, ColumnShares, Misfit, RowNumbers, numbers_on};

use super::ranking::Ranking;
use super::tally::{Compared, Tally};
use crate::error::{ProbingError, Result};
use crate::statistic::Block;
use crate::watch::Dims;

/// What a ranking counts or adds up of a layer where a device has the activations.
pub(super) enum OnDevice {
    Fired { threshold: Tensor, counts: ColumnCounts },
    Moments(ColumnMoments),
    Bins(ColumnBins),
    Shares(ColumnShares),
}

/// What it is made for.
pub(super) struct For<'a> {
    pub(super) ranking: Ranking,
    pub(super) dims: &'a Dims,
    pub(super) classes: usize,
    pub(super) compared: &'a Compared,
    /// Whether activations are multiplied with a number of each text.
    pub(super) with_numbers: bool,
}

/// Whether a ranking can be counted or added up on a device: others need gradients, all activations at once, or none.
pub(super) fn is_reduced(ranking: Ranking) -> bool {
    match ranking {
        Ranking::Predictivity
        | Ranking::Lape
        | Ranking::Auc
        | Ranking::MeanDifference
        | Ranking::Correlation
        | Ranking::Cett => true,
        Ranking::Taylor
        | Ranking::Gradient
        | Ranking::IntegratedGradients
        | Ranking::L1
        | Ranking::Random => false,
    }
}

impl OnDevice {
    /// Of nothing yet, for the layer of a block.
    pub(super) fn new(of: &For<'_>, block: &Block<'_>) -> Result<Self> {
        let (shape, device) = ([block.rows.groups(), block.values.dim(1)?], block.values.device());
        Ok(match of.ranking {
            Ranking::Predictivity | Ranking::Lape => {
                let threshold = of.dims.of_layer(&of.compared.threshold, block.layer, shape);
                Self::Fired {
                    threshold: numbers_on(threshold, shape.to_vec(), device)?,
                    counts: ColumnCounts::new(of.classes, shape, device)?,
                }
            }
            Ranking::Auc => {
                let ends = of.compared.ends.of_layer(of.dims, block.layer, shape);
                let ends = numbers_on(ends, vec![5, shape[0], shape[1]], device)?;
                Self::Bins(ColumnBins::new(of.classes, shape, ends)?)
            }
            Ranking::Cett => {
                let columns = &of.compared.columns[block.layer * of.compared.width..][..shape[1]];
                Self::Shares(ColumnShares::new(shape[0], numbers_on(columns.to_vec(), shape[1], device)?)?)
            }
            // With the sums of numbers no class has sums of its own.
            _ if of.with_numbers => Self::Moments(ColumnMoments::new(None, shape, [true, true], device)?),
            ranking => {
                let squares = ranking == Ranking::Correlation;
                Self::Moments(ColumnMoments::new(Some(of.classes), shape, [false, squares], device)?)
            }
        })
    }

    pub(super) fn take(
        &mut self,
        block: &Block<'_>,
        numbers: Option<&RowNumbers>,
        misfit: &mut Misfit,
    ) -> Result<()> {
        match self {
            Self::Fired { threshold, counts } => counts.add(block.values, block.rows, threshold, misfit)?,
            Self::Moments(moments) => moments.add(block.values, block.rows, numbers, misfit)?,
            Self::Bins(bins) => bins.add(block.values, block.rows, misfit)?,
            Self::Shares(shares) => shares.add(block.values, block.rows, block.output_norms, misfit)?,
        }
        Ok(())
    }

    /// Adds what was taken of a layer to what there is of all.
    pub(super) fn add_to(&self, tally: &mut Tally, layer: usize, dims: &Dims) -> Result<()> {
        let places = dims.elements();
        // Each position of a layer in arrays `[.., positions, width]`, and where it stands among all places.
        let each = |[positions, width]: [usize; 2], length: usize| {
            let all = length.checked_div(width).unwrap_or(0);
            (0..all).map(move |row| {
                let (outer, position) = (row / positions, row % positions);
                (outer * places + dims.place(layer, position), row * width..(row + 1) * width)
            })
        };
        match (self, tally) {
            (Self::Fired { counts, .. }, Tally::Fired(fired)) => {
                let (shape, counts) = (counts.shape(), counts.counts()?);
                for (at, own) in each(shape, counts.len()) {
                    let counts = &counts[own];
                    let to = &mut fired[at..][..counts.len()];
                    to.iter_mut().zip(counts).for_each(|(count, part)| *count += part);
                }
            }
            (Self::Moments(moments), Tally::Sums { of_class, squares }) => {
                let (shape, totals) = (moments.shape(), moments.totals()?);
                for (at, own) in each(shape, totals.sums.len()) {
                    of_class.add_sums_at(at, &totals.sums[own])?;
                }
                if let (Some(squares), Some(sums)) = (squares, &totals.squares) {
                    for (at, own) in each(shape, sums.len()) {
                        squares.add_sums_at(at, &sums[own])?;
                    }
                }
            }
            (Self::Moments(moments), Tally::Moments { sum, product, squares, .. }) => {
                let (shape, totals) = (moments.shape(), moments.totals()?);
                for (at, own) in each(shape, totals.sums.len()) {
                    sum.add_sums_at(at, &totals.sums[own.clone()])?;
                    if let (Some(of_products), Some(of_squares)) = (&totals.products, &totals.squares) {
                        product.add_sums_at(at, &of_products[own.clone()])?;
                        squares.add_sums_at(at, &of_squares[own])?;
                    }
                }
            }
            (Self::Shares(shares), Tally::Weighted(all)) => {
                let (shape, sums) = (shares.shape(), shares.sums()?);
                for (at, own) in each(shape, sums.len()) {
                    all.add_sums_at(at, &sums[own])?;
                }
            }
            (Self::Bins(bins), Tally::Histogram(histogram)) => {
                let ([positions, width], counts) = (bins.shape(), bins.counts()?);
                let of_position = counts.len() / positions.max(1);
                for position in 0..if width == 0 { 0 } else { positions } {
                    let own = &counts[position * of_position..][..of_position];
                    histogram.add_counts(dims.place(layer, position), own)?;
                }
            }
            _ => return Err(ProbingError::mismatch("ranking of a device", "the same sums", "others")),
        }
        Ok(())
    }
}
